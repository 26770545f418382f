//! Pictures of histories: what the page says, and what a browser makes of it.
//!
//! Without Chromium the tests that need it print `skipped`; with POOLPROOF_REQUIRE_CHROMIUM set they fail instead.
#![cfg(all(feature = "process", feature = "cli", feature = "mutants"))]

mod common;
#[path = "common/histories.rs"]
mod histories;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use common::Home;
use histories::{Size, wrong};
use poolproof::history::lines::{Found, read};
use poolproof::history::{Bounds, History, Judgement, judge};
use poolproof::report::picture::render;

/// What is highlighted has this colour, with a light background or a dark one.
const HIGHLIGHT: Colour = [0xb3, 0x47, 0x00];

/// What has the highlight's colour and fewer pixels is the inside of a letter.
const SMALLEST_BAR: usize = 500;

const WINDOW: (u32, u32) = (1400, 900);

/// So many calls of a long history are drawn.
const SHOWN: usize = 24;

/// 10.0.0.1 is granted to `a` and to `b`, who call at the same time, while `c` does something else.
const TWICE: &str = r#"{"process":"setup","type":"invoke","method":"pool.create","params":{"pool":"p0","prefix":"10.0.0.0/29"}}
{"process":"setup","type":"return","result":{}}
{"process":"x","type":"invoke","method":"allocate","params":{"owner":"a","requests":[{"pool":"p0"}]}}
{"process":"y","type":"invoke","method":"allocate","params":{"owner":"b","requests":[{"pool":"p0"}]}}
{"process":"z","type":"invoke","method":"allocate","params":{"owner":"c","requests":[{"pool":"p0"}]}}
{"process":"y","type":"return","result":{"granted":["10.0.0.1"]}}
{"process":"z","type":"return","result":{"granted":["10.0.0.2"]}}
{"process":"x","type":"return","result":{"granted":["10.0.0.1"]}}
"#;

fn history(lines: &str) -> Found {
    read(lines.as_bytes()).unwrap()
}

fn judged(found: &Found) -> Judgement {
    judge(&found.history, &found.contract, Bounds::default())
}

fn page(lines: &str) -> String {
    let found = history(lines);
    render(&found.history, &judged(&found), "line")
}

/// The same, as if there were an order.
fn plain_page(lines: &str) -> String {
    render(&history(lines).history, &Judgement::Linearizable { order: Vec::new() }, "line")
}

fn count(page: &str, part: &str) -> usize {
    page.matches(part).count()
}

/// Calls that are drawn.
fn bars(page: &str) -> usize {
    count(page, "class=\"call\"") + count(page, "class=\"call ")
}

#[test]
fn each_caller_has_a_row_and_each_call_that_cannot_be_ordered_a_highlight() {
    let page = page(TWICE);
    assert!(page.contains("10.0.0.1 in `p0` was granted while somebody held it."), "{page}");
    assert_eq!(count(&page, "class=\"call core\""), 2, "{page}");
    assert_eq!(count(&page, "class=\"call\""), 2, "{page}");
    assert_eq!(count(&page, "class=\"caller\""), 4, "{page}");
    assert_eq!(count(&page, "class=\"row\""), 4, "{page}");
    assert_eq!(count(&page, "class=\"event\""), 8, "{page}");
    for tick in 1..=8 {
        assert_eq!(count(&page, &format!("\">{tick}</div>")), 1, "{tick} in {page}");
    }
}

#[test]
fn what_is_no_violation_is_drawn_without_highlights() {
    let page = plain_page(TWICE);
    assert!(page.contains("pass: linearizable") && page.contains("There is an order"), "{page}");
    assert!(!page.contains("call core"), "{page}");
    let why = "it takes too long".to_owned();
    let page = render(&history(TWICE).history, &Judgement::Unknown { why }, "line");
    assert!(page.contains("unknown: linearizable") && page.contains("it takes too long"), "{page}");
    assert!(!page.contains("call core"), "{page}");
    let page = render(&History::default(), &Judgement::Linearizable { order: Vec::new() }, "line");
    assert!(page.contains("</html>"), "{page}");
}

/// A call of unknown outcome is open to the right; what its caller does meanwhile has a row of its own below.
#[test]
fn calls_without_an_end_are_open() {
    let unknown = r#"{"process":"x","type":"invoke","method":"allocate","params":{"owner":"a","requests":[{"pool":"p0"}]}}
{"process":"x","type":"unknown"}
{"process":"x","type":"invoke","method":"allocate","params":{"owner":"b","requests":[{"pool":"p0"}]}}
{"process":"x","type":"unknown"}
"#;
    let page = plain_page(unknown);
    assert_eq!(count(&page, "class=\"call open\""), 2, "{page}");
    assert_eq!(count(&page, "class=\"caller\""), 1, "{page}");
    assert!(page.contains("grid-area: 2 / 2 / 3 / -1") && page.contains("grid-area: 3 / 3 / 4 / -1"), "{page}");
    assert!(page.contains("nobody knows") && page.contains("no known end"), "{page}");
}

#[test]
fn pages_need_nothing_else() {
    let page = page(TWICE).to_lowercase();
    for part in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe", "//"] {
        assert!(!page.contains(part), "{part} in {page}");
    }
    assert!(page.contains("default-src 'none'"), "{page}");
}

/// All that is known of a history is told with the calls that cannot be ordered, and a few of ten thousand.
#[test]
fn pages_of_long_histories_are_short() {
    for callers in [2, 32, 1_000] {
        let size = Size { calls: 10_000, callers, addresses: 64 };
        let history = History::new(wrong(size, 3));
        let contract = history_contract();
        let judgement = judge(&history, &contract, Bounds::default());
        let Judgement::Violated(conflict) = &judgement else { panic!("{callers} callers: {judgement:?}") };
        let page = render(&history, &judgement, "time");
        assert!(page.len() < 64 << 10, "{callers} callers: {} bytes", page.len());
        assert_eq!(count(&page, "class=\"call core\""), conflict.core.len(), "{page}");
        assert_eq!(bars(&page), SHOWN, "{page}");
        assert!(page.contains(&format!("{} calls are left out", history.calls().len() - SHOWN)), "{page}");
    }
}

fn history_contract() -> poolproof::contract::Contract {
    history(TWICE).contract
}

/// Times that are long are counted from the first one; the table has them in full.
#[test]
fn long_times_are_short_on_the_axis() {
    let timed = r#"{"process":"x","type":"invoke","time":1732690000000000007,"method":"list","params":{}}
{"process":"x","type":"return","time":1732690000000000049,"result":{"allocations":[]}}
"#;
    let page = plain_page(timed);
    assert!(page.contains(">+42<") && page.contains(">+0<"), "{page}");
    assert!(page.contains("<td>1732690000000000049</td>"), "{page}");
}

/// Texts that would be markup, would turn the direction of writing, or never end.
fn hostile() -> String {
    let script = "<script>document.title='owned'</script>";
    let image = "\\\"'><img src=x onerror=document.title='owned'>";
    let turned = "\\u202egnp.exe\\u0007\\u0000</style></title><b>";
    TWICE
        .replace("\"x\"", &format!("\"{script}\""))
        .replace("\"y\"", &format!("\"{image}\""))
        .replace("\"z\"", &format!("\"{turned}{}\"", "z".repeat(5_000)))
        .replace("\"owner\":\"a\"", &format!("\"owner\":\"{script}\""))
}

#[test]
fn what_a_history_says_is_text() {
    let page = page(&hostile());
    assert!(page.contains("&lt;script&gt;document.title"), "{page}");
    for part in ["<script", "<img", "<b>", "\u{202e}", "\u{7}", "\u{0}", &"z".repeat(1_000)] {
        assert!(!page.contains(part), "{part:?} in {page}");
    }
    assert_eq!((count(&page, "</style>"), count(&page, "</title>")), (1, 1), "{page}");
    assert_eq!(count(&page, "class=\"call core\""), 2, "{page}");
}

/// `history` writes the page that was asked for, and says beforehand if it cannot.
#[test]
fn the_tool_draws_what_it_judges() {
    let home = Home::new();
    home.write("twice.jsonl", TWICE);
    let ended = home.poolproof(&["history", "twice.jsonl", "--picture", "twice.html"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(home.work().join("twice.html")).unwrap(), page(TWICE));
    let ended = home.poolproof(&["history", "twice.jsonl", "--picture", "nowhere/twice.html"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("there is no folder nowhere"), "{}", ended.stderr);
    assert_eq!(home.poolproof(&["history", "twice.jsonl", "--picture", "twice.jsonl"]).code, Some(2));
    assert_eq!(fs::read_to_string(home.work().join("twice.jsonl")).unwrap(), TWICE);
    home.assert_clean();
}

/// The picture beside a counterexample of `race` is of the counterexample, not of what was found first.
#[test]
fn the_tool_draws_counterexamples() {
    let home = Home::new();
    let race = ["race", "--sut", "mutant:read-pick-insert", "--seed", "1", "--runs", "20000"];
    let ended = home.poolproof(&[&race[..], &["--format", "json"]].concat());
    let report = ended.json().unwrap();
    assert_eq!(ended.code, Some(1), "{report}");
    let found = &report["violations"][0];
    let (file, drawn) = (found["file"].as_str().unwrap(), found["picture"].as_str().unwrap());
    assert_eq!(Path::new(file).with_extension("html"), Path::new(drawn));
    let page = fs::read_to_string(home.work().join(drawn)).unwrap();
    let calls = count(found["scenario"].as_str().unwrap(), "\nallocate");
    assert!(calls > 0 && bars(&page) <= calls + 1, "{found:#} {page}");
    assert!(count(&page, "class=\"call core\"") >= 2, "{page}");
    assert_eq!(home.counterexamples().len(), 3);
    // The history says the same to whoever judges it again.
    let judged = home.poolproof(&["history", found["history"].as_str().unwrap(), "--format", "json"]);
    let again = judged.json().unwrap();
    assert_eq!((judged.code, &again["verdict"]), (Some(1), &"violated".into()), "{again}");
    assert!(found["message"].as_str().unwrap().starts_with(again["message"].as_str().unwrap()), "{found} {again}");
    // For people, and where somebody else has saved it.
    let ended = home.poolproof(&["shrink", file, "--sut", "mutant:read-pick-insert", "--output", "small"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("small.html"), "{}", ended.stdout);
    assert_eq!(fs::read_to_string(home.work().join("small.html")).unwrap(), page);
    let clash = ["shrink", file, "--sut", "mutant:read-pick-insert", "--output", "small", "--junit", "small.html"];
    assert_eq!(home.poolproof(&clash).code, Some(2));
    // What is only replayed stays as it is.
    let ended = home.poolproof(&["replay", "small", "--sut", "mutant:read-pick-insert"]);
    assert!(!ended.stdout.contains("html"), "{}", ended.stdout);
    home.assert_clean();
}

/// In a browser the calls that cannot be ordered are highlighted, each in the row of its caller, and they overlap as in time.
#[test]
fn a_browser_shows_what_cannot_be_ordered() {
    let Some(browser) = Browser::find() else { return };
    for dark in [&[][..], &["--force-dark-mode"]] {
        let shown = browser.screenshot(&page(TWICE), WINDOW, dark);
        let [x, y] = shown.areas(HIGHLIGHT)[..] else { panic!("{:?}", shown.areas(HIGHLIGHT)) };
        assert!(x.bottom < y.top, "not in rows: {x:?} {y:?}");
        assert!(x.left < y.left && y.right < x.right, "not within: {x:?} {y:?}");
        assert!(y.right < WINDOW.0 as usize && y.bottom < WINDOW.1 as usize, "not to be seen: {y:?}");
        assert_eq!(shown.is_dark(), !dark.is_empty());
        // The same without a conflict, so that the colour means it.
        let plain = browser.screenshot(&plain_page(TWICE), WINDOW, dark);
        assert_eq!(plain.pixels(HIGHLIGHT), 0);
        assert_eq!(plain.is_dark(), !dark.is_empty());
    }
}

/// All of a long history that is to be seen can be seen, each bar in a place of its own.
#[test]
fn a_browser_shows_long_histories() {
    let Some(browser) = Browser::find() else { return };
    let history = History::new(wrong(Size { calls: 10_000, callers: 8, addresses: 64 }, 3));
    let judgement = judge(&history, &history_contract(), Bounds::default());
    let Judgement::Violated(conflict) = &judgement else { panic!("{judgement:?}") };
    let shown = browser.screenshot(&render(&history, &judgement, "time"), (1400, 2000), &[]);
    let areas = shown.areas(HIGHLIGHT);
    assert_eq!(areas.len(), conflict.core.len(), "{areas:?}");
    assert_eq!(shown.areas(CALL).len(), SHOWN - conflict.core.len(), "{:?}", shown.areas(CALL));
}

/// Other calls, with a light background.
const CALL: Colour = [0xcf, 0xd9, 0xe4];

/// Nothing that a history says is run; neither would it be if it were markup.
#[test]
fn a_browser_runs_nothing() {
    let Some(browser) = Browser::find() else { return };
    let page = page(&hostile());
    let title = |dom: &str| dom.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0.to_owned();
    let dom = browser.dom(&page);
    assert_eq!(title(&dom), "violated: linearizable");
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
    // That this test could fail: the page forbids what its own markup would do, and without both it is done.
    let script = "<script>document.title='owned'</script></body>";
    let infected = page.replace("</body>", script);
    assert_eq!(title(&browser.dom(&infected)), "violated: linearizable");
    assert_eq!(title(&browser.dom(&infected.replace("default-src 'none'; ", ""))), "owned");
}

/// Red, green and blue.
type Colour = [u8; 3];

/// Chromium without a window and without a network.
struct Browser {
    program: &'static str,
}

impl Browser {
    fn find() -> Option<Browser> {
        let runs = |program: &&str| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(runs);
        assert!(
            found.is_some() || std::env::var_os("POOLPROOF_REQUIRE_CHROMIUM").is_none(),
            "Chromium is not installed"
        );
        if found.is_none() {
            println!("skipped: Chromium is not installed");
        }
        found.map(|program| Browser { program })
    }

    /// Opens the page and gives what was printed, and the file that was written.
    fn open(&self, page: &str, options: &[&str]) -> (String, Option<Screenshot>) {
        let home = Home::new();
        home.write("page.html", page);
        let work = home.work();
        let at = |name: &str| work.join(name).to_str().unwrap().to_owned();
        let mut command = home.command("timeout");
        command.env("HOME", &work).args(["--kill-after=5", "60", self.program, "--headless", "--no-sandbox"]);
        command.args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run"]);
        command.args(["--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"]);
        command
            .arg(format!("--user-data-dir={}", at("profile")))
            .args(options)
            .arg(format!("file://{}", at("page.html")));
        let ended = home.finish(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let screenshot = File::open(work.join("screenshot.png")).ok().map(Screenshot::read);
        home.assert_clean();
        (ended.stdout, screenshot)
    }

    fn dom(&self, page: &str) -> String {
        self.open(page, &["--dump-dom"]).0
    }

    fn screenshot(&self, page: &str, (width, height): (u32, u32), options: &[&str]) -> Screenshot {
        let size = format!("--window-size={width},{height}");
        let options = [&["--screenshot=screenshot.png", &size], options].concat();
        self.open(page, &options).1.expect("there is a screenshot")
    }
}

/// What a browser shows.
struct Screenshot {
    width: usize,
    pixels: Vec<Colour>,
}

/// The edges of a coloured area.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Screenshot {
    fn read(file: File) -> Screenshot {
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let pixels = bytes.chunks(info.color_type.samples()).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Screenshot { width: info.width as usize, pixels }
    }

    fn pixels(&self, colour: Colour) -> usize {
        self.pixels.iter().filter(|pixel| **pixel == colour).count()
    }

    /// Is most of it dark?
    fn is_dark(&self) -> bool {
        let dark = self.pixels.iter().filter(|[red, ..]| *red < 0x40).count();
        2 * dark > self.pixels.len()
    }

    /// Where this colour is: connected areas as large as bars, from top to bottom.
    fn areas(&self, colour: Colour) -> Vec<Area> {
        let mut is_open: Vec<bool> = self.pixels.iter().map(|pixel| *pixel == colour).collect();
        let starts = 0..is_open.len();
        starts.filter_map(|start| self.area(start, &mut is_open)).collect()
    }

    /// Walks over the area that begins here, and closes it.
    fn area(&self, start: usize, is_open: &mut [bool]) -> Option<Area> {
        let (mut size, mut next) = (0, vec![start]);
        let mut area = Area { left: usize::MAX, right: 0, top: usize::MAX, bottom: 0 };
        while let Some(place) = next.pop() {
            if !is_open.get(place).copied().unwrap_or(false) {
                continue;
            }
            is_open[place] = false;
            size += 1;
            let (x, y) = (place % self.width, place / self.width);
            area = Area {
                left: area.left.min(x),
                right: area.right.max(x),
                top: area.top.min(y),
                bottom: area.bottom.max(y),
            };
            next.extend([place + 1, place + self.width, place.wrapping_sub(1), place.wrapping_sub(self.width)]);
        }
        (size >= SMALLEST_BAR).then_some(area)
    }
}
