//! What the tasks need installed: components, cargo-fuzz, and a toolchain for fuzzing. What is missing is installed if
//! that needs no decision of the person (a component, cargo-fuzz), and named otherwise. Nothing is silently left out.

use std::path::PathBuf;
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
    pub(crate) name: Option<String>,
    nightly: bool,
    /// Target triple of the machine. cargo-fuzz takes the one it was itself built for, which differs for downloaded
    /// binaries.
    pub(crate) host: String,
    /// Major version of the LLVM that the compiler is made with.
    pub(crate) llvm: u32,
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
        let llvm = field("LLVM version:").and_then(|version| version.split('.').next()?.parse().ok());
        let (Some(release), Some(host), Some(llvm)) = (field("release:"), field("host:"), llvm) else {
            bail!("`rustc --version --verbose` names no release, host and LLVM: {version:?}");
        };
        Ok(Self {
            name: name.map(String::from),
            nightly: release.contains("-nightly") || release.contains("-dev"),
            host: host.to_owned(),
            llvm,
        })
    }

    fn plus_name(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("+{name}"))
    }

    /// Its cargo.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.args(self.plus_name());
        command
    }

    /// Where rustup puts its LLVM tools; they need not be there.
    pub(crate) fn tools(&self) -> Result<PathBuf> {
        let mut command = Command::new("rustc");
        let output = command.args(self.plus_name()).args(["--print", "sysroot"]).output();
        let output = output.context("cannot start rustc")?;
        ensure!(output.status.success(), "`rustc --print sysroot` failed");
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        Ok(sysroot.join("lib/rustlib").join(&self.host).join("bin"))
    }

    /// Adds a component with rustup; says how that went.
    pub(crate) fn add_component(&self, component: &str) -> &'static str {
        let toolchain = self.name.iter().flat_map(|name| ["--toolchain", name]);
        match Command::new("rustup").args(["component", "add", component]).args(toolchain).status() {
            Ok(status) if status.success() => "they were added",
            Ok(_) => "rustup could not add them",
            Err(_) => "rustup cannot be started",
        }
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
    pub(crate) fn cargo_fuzz(&self, subcommand: &str, sanitizer: &str) -> Vec<String> {
        let mut words = vec!["cargo".to_owned()];
        words.extend(self.plus_name());
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
        process::succeeds(self.cargo().args(["fuzz", "--version"]))
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
        let words = stable.cargo_fuzz("run", stable.sanitizer());
        assert_eq!(words.join(" "), "cargo fuzz run --sanitizer none");
    }

    #[test]
    fn nightly_runs_with_the_address_sanitizer() {
        let version = STABLE.replace("release: 1.95.0", "release: 1.97.0-nightly");
        let nightly = Toolchain::parse(Some("nightly"), &version).unwrap();
        let words = nightly.cargo_fuzz("build", nightly.sanitizer());
        assert_eq!(words.join(" "), "cargo +nightly fuzz build --sanitizer address");
    }

    #[test]
    fn a_version_without_host_is_refused() {
        assert!(Toolchain::parse(None, "release: 1.95.0").is_err());
    }
}
