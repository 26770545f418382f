//! The text that names a system on the command line: `sqlite`, `stdio:python3 server.py`, …
//!
//! [`FORMS`] is the one list of adapters. To add one, add a line.

#[cfg(feature = "process")]
use std::io::Write;
#[cfg(feature = "reference")]
use std::path::Path;

use super::{Failure, Sut};
#[cfg(feature = "process")]
use crate::address::Family;
#[cfg(feature = "reference")]
use crate::contract::Contract;

/// A way to name a system.
pub struct Form {
    /// What comes before the colon and the question mark; the whole text where there is neither.
    pub name: &'static str,
    /// The form as shown in help texts.
    pub form: &'static str,
    /// One line on what it is.
    pub help: &'static str,
    /// Starts it, given what comes after the question mark, and after the colon.
    start: Start,
}

type Start = fn(Option<&str>, Option<&str>) -> Result<Box<dyn Sut>, Failure>;

/// Every way to name a system.
pub const FORMS: &[Form] = &[
    #[cfg(feature = "reference")]
    Form {
        name: "sqlite",
        form: "sqlite[?OPTION,…][:PATH]",
        help: "the reference allocator on an SQLite file: a new one at PATH, or in a temporary directory",
        start: sqlite,
    },
    #[cfg(feature = "reference")]
    Form { name: "memory", form: "memory[?OPTION,…]", help: "the reference allocator in memory", start: memory },
    #[cfg(feature = "reference")]
    Form {
        name: "simulated",
        form: "simulated[?OPTION,…]",
        help: "the reference allocator on SQLite, on a simulated disk that can fail",
        start: simulated,
    },
    #[cfg(feature = "mutants")]
    Form {
        name: "mutant",
        form: "mutant[?bug=off]:ID",
        help: "a faulty allocator, with its defect or, for comparison, without",
        start: mutant,
    },
    #[cfg(feature = "process")]
    Form {
        name: "stdio",
        form: "stdio:COMMAND ARG…",
        help: "any program that speaks the protocol on its standard input and output",
        start: stdio,
    },
    #[cfg(feature = "process")]
    Form { name: "cni", form: "cni:PLUGIN", help: "a CNI IPAM plugin, such as /usr/lib/cni/host-local", start: cni },
    #[cfg(feature = "process")]
    Form {
        name: "dhcp4",
        form: "dhcp4:SERVER",
        help: "a DHCPv4 server, started here: kea-dhcp4 or dnsmasq",
        start: dhcp4,
    },
    #[cfg(feature = "process")]
    Form { name: "dhcp6", form: "dhcp6:SERVER", help: "a DHCPv6 server, started here: kea-dhcp6", start: dhcp6 },
];

/// Starts the system that the text names.
///
/// # Errors
///
/// [`Failure::Unable`] for a text that names none, or one that cannot be started;
/// [`Failure::Misbehaved`] for one that starts and does not behave.
pub fn start(text: &str) -> Result<Box<dyn Sut>, Failure> {
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    };
    let (name, options) = match name.split_once('?') {
        Some((name, options)) => (name, Some(options)),
        None => (name, None),
    };
    match FORMS.iter().find(|form| form.name == name) {
        Some(form) => (form.start)(options, rest),
        None => {
            let forms: Vec<&str> = FORMS.iter().map(|form| form.form).collect();
            Err(Failure::Unable(format!("there is no system `{text}`; a system is one of {}", forms.join(", "))))
        }
    }
}

/// Starts the system that the text names for [`serve`](super::serve): `sqlite` keeps its file in this folder, which other
/// processes may share. What others keep ends with this process, whatever they promise here.
///
/// # Errors
///
/// As [`start`], and for what is a process itself.
#[cfg(feature = "reference")]
pub fn start_for_others(text: &str, folder: &Path) -> Result<(Box<dyn Sut>, Contract), Failure> {
    let (name, options) = text.split_once('?').map_or((text, None), |(name, options)| (name, Some(options)));
    if name == "sqlite" && !text.contains(':') {
        let sut = super::sqlite::Sqlite::beside_others(&folder.join("allocator.db"), variant(options)?)?;
        let contract = sut.contract().clone();
        return Ok((Box::new(sut), contract));
    }
    if ["stdio:", "cni:"].iter().any(|form| text.starts_with(form)) {
        return Err(Failure::Unable(format!("`{text}` is no system inside this process, and cannot be served")));
    }
    let sut = start(text)?;
    let contract = Contract { durable: false, shared: false, ..sut.contract().clone() };
    Ok((sut, contract))
}

#[cfg(feature = "reference")]
fn memory(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    match rest {
        None => Ok(Box::new(super::memory::Memory::with(variant(options)?))),
        Some(_) => Err(Failure::Unable("`memory` takes no colon; options come after a question mark".to_owned())),
    }
}

#[cfg(feature = "reference")]
fn sqlite(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    use super::sqlite::Sqlite;
    let variant = variant(options)?;
    Ok(Box::new(match rest {
        None => Sqlite::temporary_with(variant)?,
        Some("") => return Err(Failure::Unable("`sqlite:` needs a path after it".to_owned())),
        Some(path) => Sqlite::at(path.as_ref(), variant)?,
    }))
}

#[cfg(feature = "reference")]
fn simulated(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    match rest {
        None => Ok(Box::new(super::simulated::Simulated::new(variant(options)?)?)),
        Some(_) => Err(Failure::Unable("`simulated` takes no colon; options come after a question mark".to_owned())),
    }
}

#[cfg(feature = "reference")]
fn variant(options: Option<&str>) -> Result<super::reference::Variant, Failure> {
    options.map_or(Ok(super::reference::Variant::default()), super::reference::Variant::parse)
}

#[cfg(feature = "mutants")]
fn mutant(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    use poolproof_mutants::{Bug, find};
    let bug = match options {
        None | Some("bug=on") => Bug::On,
        Some("bug=off") => Bug::Off,
        Some(other) => return Err(Failure::Unable(format!("mutants have no option `{other}`; they have bug=on|off"))),
    };
    let id = rest.unwrap_or_default();
    match find(id) {
        Some(mutant) => Ok(mutant.sut(bug)),
        None => Err(Failure::Unable(format!("there is no mutant `{id}`; `poolproof mutants --list` names them all"))),
    }
}

/// Most systems have no options.
#[cfg(feature = "process")]
fn refuse_options(name: &str, options: Option<&str>) -> Result<(), Failure> {
    options.map_or(Ok(()), |options| Err(Failure::Unable(format!("`{name}` has no options, such as `{options}`"))))
}

#[cfg(feature = "process")]
fn stdio(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    refuse_options("stdio", options)?;
    let words = shell_words::split(rest.unwrap_or_default())
        .map_err(|error| Failure::Unable(format!("the command after `stdio:` cannot be split into words: {error}")))?;
    if words.is_empty() {
        return Err(Failure::Unable("`stdio:` needs a command after it: 'stdio:python3 server.py'".to_owned()));
    }
    let stdio = super::stdio::Stdio::start(words, None)?;
    for warning in stdio.warnings() {
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr(), "poolproof: {warning}");
    }
    Ok(Box::new(stdio))
}

#[cfg(feature = "process")]
fn cni(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    refuse_options("cni", options)?;
    match rest {
        None | Some("") => {
            Err(Failure::Unable("`cni:` needs a plugin after it: cni:/usr/lib/cni/host-local".to_owned()))
        }
        Some(path) => Ok(Box::new(super::cni::Cni::new(path.into())?)),
    }
}

#[cfg(feature = "process")]
fn dhcp4(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    refuse_options("dhcp4", options)?;
    match rest {
        None | Some("") => Err(Failure::Unable("`dhcp4:` needs a server after it: dhcp4:kea-dhcp4".to_owned())),
        Some(program) => Ok(Box::new(super::dhcp::Dhcp::start(program.as_ref(), Family::V4)?)),
    }
}

#[cfg(feature = "process")]
fn dhcp6(options: Option<&str>, rest: Option<&str>) -> Result<Box<dyn Sut>, Failure> {
    refuse_options("dhcp6", options)?;
    match rest {
        None | Some("") => Err(Failure::Unable("`dhcp6:` needs a server after it: dhcp6:kea-dhcp6".to_owned())),
        Some(program) => Ok(Box::new(super::dhcp::Dhcp::start(program.as_ref(), Family::V6)?)),
    }
}
