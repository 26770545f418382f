//! The fuzz targets: those of `fuzz/Cargo.toml`, so a new one needs no line here, and the files that belong to each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::root;

const MANIFEST: &str = "fuzz/Cargo.toml";

/// Folders of scenarios that people keep, for every target that takes scenarios.
const FOR_ALL: [&str; 4] = ["corpus/rules", "corpus/regressions", "corpus/lanes", "corpus/faults"];

/// A fuzz target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Are its inputs scenarios? Of others, bytes are the subject.
    pub(crate) takes_scenarios: bool,
    /// Does it put the harness to the test, and not only an allocator?
    pub(crate) tests_harness: bool,
}

impl Target {
    /// The committed inputs that fuzzers found for it. It need not be there.
    pub(crate) fn committed_folder(&self) -> String {
        format!("corpus/{}", self.name)
    }

    /// What a fuzzer on this machine has collected. Not committed.
    pub(crate) fn own_folder(&self) -> String {
        format!("fuzz/corpus/{}", self.name)
    }

    /// Where inputs go that break something.
    pub(crate) fn artifacts(&self) -> String {
        format!("fuzz/artifacts/{}", self.name)
    }

    /// Committed folders that people keep, which this target takes, too.
    pub(crate) fn kept_folders(&self) -> Vec<String> {
        let kept = match self.takes_scenarios {
            true => FOR_ALL.map(String::from).to_vec(),
            false => vec![format!("corpus/regressions/{}", self.name)],
        };
        kept.into_iter().filter(|folder| root().join(folder).is_dir()).collect()
    }

    /// The folders of committed inputs, as far as there are any: libFuzzer refuses missing ones.
    pub(crate) fn committed_folders(&self) -> Vec<String> {
        let own = Some(self.committed_folder()).filter(|folder| root().join(folder).is_dir());
        own.into_iter().chain(self.kept_folders()).collect()
    }

    pub(crate) fn committed_inputs(&self) -> Result<Vec<PathBuf>> {
        let mut inputs = Vec::new();
        for folder in self.committed_folders() {
            inputs.extend(files(&root().join(folder))?);
        }
        Ok(inputs)
    }

    /// Words that its inputs are made of, where there is a list of them.
    pub(crate) fn dictionary(&self) -> Option<String> {
        Some(format!("fuzz/dictionaries/{}.dict", self.name)).filter(|path| root().join(path).is_file())
    }
}

/// The targets of these names, or all where none is named, in the order of the manifest.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Target>> {
    let manifest = fs::read_to_string(root().join(MANIFEST)).with_context(|| format!("cannot read {MANIFEST}"))?;
    select(&declared(&manifest)?, names)
}

/// The binaries that the fuzz crate declares, in its order.
fn declared(manifest: &str) -> Result<Vec<Target>> {
    let manifest: toml::Table = manifest.parse().with_context(|| format!("{MANIFEST} is not valid TOML"))?;
    let package = manifest.get("package").and_then(|package| package.get("metadata"));
    let is_listed = |list: &str, name: &str| {
        let names = package.and_then(|metadata| metadata.get("poolproof")?.get(list)?.as_array());
        names.is_some_and(|names| names.iter().any(|one| one.as_str() == Some(name)))
    };
    let binaries = manifest.get("bin").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let names = binaries.iter().filter_map(|binary| binary.get("name")?.as_str());
    let target = |name: &str| Target {
        name: name.to_owned(),
        takes_scenarios: !is_listed("bytes", name),
        tests_harness: is_listed("harness", name),
    };
    let targets: Vec<_> = names.map(target).collect();
    ensure!(!targets.is_empty(), "{MANIFEST} declares no fuzz target: add a [[bin]] with a name and a path");
    Ok(targets)
}

fn select(declared: &[Target], requested: &[String]) -> Result<Vec<Target>> {
    if let Some(unknown) = requested.iter().find(|name| !declared.iter().any(|target| target.name == **name)) {
        let names: Vec<_> = declared.iter().map(|target| &*target.name).collect();
        bail!("no fuzz target is named `{unknown}`: {MANIFEST} declares {}", names.join(", "));
    }
    let wanted = |target: &&Target| requested.is_empty() || requested.contains(&target.name);
    Ok(declared.iter().filter(wanted).cloned().collect())
}

/// The full path of a folder that somebody named, who may be anywhere.
pub(crate) fn there(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))
}

/// All files below a folder, as libFuzzer reads them; none where there is no such folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package.metadata.poolproof]\nbytes = [\"protocol\"]\nharness = [\"protocol\"]\n\
                            [[bin]]\nname = \"memory\"\npath = \"a.rs\"\n[[bin]]\nname = \"protocol\"\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().copied().map(String::from).collect()
    }

    #[test]
    fn targets_are_read_from_the_manifest() {
        let target = |name: &str, takes_scenarios, tests_harness| Target {
            name: name.to_owned(),
            takes_scenarios,
            tests_harness,
        };
        assert_eq!(declared(MANIFEST).unwrap(), [target("memory", true, false), target("protocol", false, true)]);
        assert!(declared("[package]\n").is_err());
        assert!(declared("[[bin\n").is_err());
    }

    #[test]
    fn targets_are_selected_by_name() {
        let declared = declared(MANIFEST).unwrap();
        assert_eq!(select(&declared, &[]).unwrap(), declared);
        assert_eq!(select(&declared, &names(&["protocol"])).unwrap(), declared[1..]);
        let message = select(&declared, &names(&["protocoll"])).unwrap_err().to_string();
        assert!(message.contains("protocoll") && message.contains("memory"), "{message}");
    }

    #[test]
    fn each_name_in_the_metadata_is_one_of_a_target() {
        let manifest = fs::read_to_string(root().join(super::MANIFEST)).unwrap();
        let targets = declared(&manifest).unwrap();
        let count = |is_one: fn(&Target) -> bool| targets.iter().filter(|target| is_one(target)).count();
        let metadata = &manifest.parse::<toml::Table>().unwrap()["package"]["metadata"]["poolproof"];
        assert_eq!(metadata["bytes"].as_array().unwrap().len(), count(|target| !target.takes_scenarios));
        assert_eq!(metadata["harness"].as_array().unwrap().len(), count(|target| target.tests_harness));
    }

    /// libFuzzer refuses a dictionary in which anything else stands.
    #[test]
    fn dictionaries_have_quoted_printable_words_and_comments() {
        for file in files(&root().join("fuzz/dictionaries")).unwrap() {
            for line in fs::read_to_string(&file).unwrap().lines().filter(|line| !line.is_empty()) {
                let is_word = line.len() > 2 && line.starts_with('"') && line.ends_with('"');
                let is_fine =
                    line.starts_with('#') || (is_word && line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                assert!(is_fine, "{}: {line:?}", file.display());
            }
        }
    }

    #[test]
    fn targets_of_bytes_take_no_scenarios() {
        let [memory, protocol] = ["memory", "protocol"].map(|name| chosen(&names(&[name])).unwrap().remove(0));
        assert!(memory.kept_folders().contains(&"corpus/rules".to_owned()));
        assert_eq!(protocol.kept_folders(), ["corpus/regressions/protocol"], "finds of its own only");
    }
}
