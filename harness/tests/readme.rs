//! What the README shows is what is there.

const README: &str = include_str!("../../README.md");

#[test]
fn the_python_example_is_the_tested_server() {
    let server = include_str!("../../suts/python/minimal.py");
    assert!(README.contains(&format!("```python\n{server}```")), "README.md shows another minimal.py");
}

#[test]
fn the_rust_example_is_an_excerpt() {
    let example = include_str!("../examples/own_allocator.rs");
    let shown = README.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for line in shown.lines().map(|line| line.split("//").next().unwrap_or(line).trim()) {
        assert!(example.contains(line), "not in own_allocator.rs: {line}");
    }
}

/// The history that is shown is violated, for the reason that is given.
#[test]
fn the_history_example_is_judged_as_it_says() {
    let shown = README.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let found = poolproof::history::lines::read(shown.as_bytes()).unwrap();
    let judgement = poolproof::history::judge(&found.history, &found.contract, Default::default());
    let poolproof::history::Judgement::Violated(conflict) = judgement else { panic!("{judgement:?}") };
    assert!(conflict.why.contains("exhausted") && conflict.why.contains("free"), "{}", conflict.why);
}

#[test]
fn every_file_that_is_linked_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // Every other part lies between fences, and is code.
    let prose: String = README.split("```").step_by(2).collect();
    let links: Vec<&str> = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(root.join(link).exists(), "{link}");
    }
}
