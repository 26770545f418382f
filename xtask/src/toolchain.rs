//! What the tasks need installed: components, cargo-fuzz, and a toolchain for fuzzing. What is missing is installed if
//! that needs no decision of the person (a component, cargo-fuzz), and named otherwise. Nothing is silently left out.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// The version that is installed where there is none; one that is already there is used as it is.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Makes sure that `cargo SUBCOMMAND` works, if need be by installing its rustup component.
pub(crate) fn require_component(component: &str, subcommand: &str) -> Result<()> {
    let works = || process::succeeds(Command::new("cargo").args([subcommand, "--version"]));
    if works() {
        return Ok(());
    }
    eprintln!("{component} is missing: running `rustup component add {component}`");
    let status = Command::new("rustup").args(["component", "add", component]).status();
    ensure!(
        status.is_ok_and(|status| status.success()) && works(),
        "`cargo {subcommand}` does not work and `rustup component add {component}` did not help: \
         install {component} for the Rust toolchain in use (`rustc --version`), then run this again"
    );
    Ok(())
}

/// A toolchain that builds the fuzz targets.
#[derive(Debug, PartialEq)]
pub(crate) struct Toolchain {
    /// As in `cargo +NAME`; none for the one that plain `cargo` uses.
    name: Option<String>,
    nightly: bool,
    /// Target triple of the machine. cargo-fuzz takes the one it was itself built for, which differs for downloaded
    /// binaries.
    pub(crate) host: String,
}

impl Toolchain {
    /// The toolchain asked for; else nightly, for its sanitizers; else the one that plain `cargo` uses.
    pub(crate) fn for_fuzzing(requested: Option<&str>) -> Result<Self> {
        match requested {
            Some(name) => Self::probe(Some(name)).with_context(|| {
                format!("toolchain `{name}` is not installed: `rustup toolchain install {name}`, or choose another")
            }),
            None => Self::probe(Some("nightly"))
                .or_else(|_| Self::probe(None))
                .context("no Rust toolchain found: `rustc --version --verbose` does not work"),
        }
    }

    fn probe(name: Option<&str>) -> Result<Self> {
        let output = Command::new("rustc")
            .args(name.map(|name| format!("+{name}")))
            .args(["--version", "--verbose"])
            .env("RUSTUP_AUTO_INSTALL", "0") // asking what is there must not install it
            .output()
            .context("cannot start rustc")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", errors.lines().next().unwrap_or_default());
        Self::parse(name, &String::from_utf8_lossy(&output.stdout))
    }

    fn parse(name: Option<&str>, version: &str) -> Result<Self> {
        let field = |key| version.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let (Some(release), Some(host)) = (field("release:"), field("host:")) else {
            bail!("`rustc --version --verbose` names no release and host: {version:?}");
        };
        Ok(Self {
            name: name.map(String::from),
            nightly: release.contains("-nightly") || release.contains("-dev"),
            host: host.to_owned(),
        })
    }

    /// Stable compilers refuse `-Zsanitizer`, while the coverage instrumentation that guides libFuzzer works on them.
    pub(crate) fn sanitizer(&self) -> &'static str {
        if self.nightly { "address" } else { "none" }
    }

    pub(crate) fn describe(&self) -> String {
        let name = self.name.as_deref().unwrap_or("default");
        if self.nightly {
            format!("the {name} toolchain with the address sanitizer")
        } else {
            format!("the {name} toolchain without a sanitizer (leaks go unseen, a stack overflow leaves no input)")
        }
    }

    /// The words of `cargo +NAME fuzz SUBCOMMAND --sanitizer …`: to run, and to print for a person to run.
    pub(crate) fn cargo_fuzz(&self, subcommand: &str) -> Vec<String> {
        self.cargo_fuzz_with(subcommand, self.sanitizer())
    }

    /// The same without a sanitizer, which halves the speed at least.
    pub(crate) fn cargo_fuzz_without_sanitizer(&self, subcommand: &str) -> Vec<String> {
        self.cargo_fuzz_with(subcommand, "none")
    }

    fn cargo_fuzz_with(&self, subcommand: &str, sanitizer: &str) -> Vec<String> {
        let mut words = vec!["cargo".to_owned()];
        words.extend(self.name.as_ref().map(|name| format!("+{name}")));
        words.extend(["fuzz", subcommand, "--sanitizer", sanitizer].map(String::from));
        words
    }

    /// Installs cargo-fuzz if this toolchain's cargo does not find it.
    pub(crate) fn require_cargo_fuzz(&self) -> Result<()> {
        if self.has_cargo_fuzz() {
            return Ok(());
        }
        let install = format!("cargo install cargo-fuzz --locked --version {CARGO_FUZZ_VERSION}");
        eprintln!("cargo-fuzz is missing: running `{install}`");
        let status = Command::new("cargo")
            .args(install.split(' ').skip(1))
            .stdin(Stdio::null())
            .status()
            .context("cannot start cargo")?;
        ensure!(
            status.success() && self.has_cargo_fuzz(),
            "cargo-fuzz could not be installed: see above, then try `{install}` by hand"
        );
        Ok(())
    }

    fn has_cargo_fuzz(&self) -> bool {
        let plus_name = self.name.as_ref().map(|name| format!("+{name}"));
        process::succeeds(Command::new("cargo").args(plus_name).args(["fuzz", "--version"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                          release: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn stable_runs_without_a_sanitizer() {
        let stable = Toolchain::parse(None, STABLE).unwrap();
        assert_eq!(stable.host, "x86_64-unknown-linux-gnu");
        assert_eq!(stable.cargo_fuzz("run").join(" "), "cargo fuzz run --sanitizer none");
    }

    #[test]
    fn nightly_runs_with_the_address_sanitizer() {
        let version = STABLE.replace("release: 1.95.0", "release: 1.97.0-nightly");
        let nightly = Toolchain::parse(Some("nightly"), &version).unwrap();
        assert_eq!(nightly.cargo_fuzz("build").join(" "), "cargo +nightly fuzz build --sanitizer address");
    }

    #[test]
    fn a_version_without_host_is_refused() {
        assert!(Toolchain::parse(None, "release: 1.95.0").is_err());
    }
}
