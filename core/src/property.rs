//! The properties: what is promised, by name, and what it looks like when a promise is broken.

use std::fmt;

/// A named promise. Names are stable: they appear in output, in JUnit and in file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// No address is held twice.
    Exclusive,
    /// Only allocatable addresses are handed out.
    Contained,
    /// Exhausted only when nothing is free.
    Complete,
    /// Only the owner changes an allocation.
    Owned,
    /// What is released can be had again.
    Released,
    /// All or nothing.
    Atomic,
    /// Repeated calls do what the contract says.
    Idempotent,
    /// Listing and usage equal the model.
    Accounted,
    /// Pools, families and owners are apart.
    Scoped,
    /// Spellings of one address are one address.
    Canonical,
    /// Pools can be changed safely.
    Reconfigurable,
    /// A lease is held or free, never both.
    Expiring,
    /// What was acknowledged survives.
    Durable,
    /// Concurrent histories have an order.
    Linearizable,
    /// Any input is answered.
    Total,
    /// Cost does not grow with the prefix.
    Bounded,
    /// Each failure has its right kind.
    Classified,
    /// Texts for callers give nothing away.
    Discreet,
    /// Metacharacters are data.
    Inert,
    /// Resources are given back.
    Tidy,
    /// Random choice is random.
    Unpredictable,
}

impl Property {
    /// Every property, in the order of the documentation.
    pub const ALL: [Property; 21] = [
        Property::Exclusive,
        Property::Contained,
        Property::Complete,
        Property::Owned,
        Property::Released,
        Property::Atomic,
        Property::Idempotent,
        Property::Accounted,
        Property::Scoped,
        Property::Canonical,
        Property::Reconfigurable,
        Property::Expiring,
        Property::Durable,
        Property::Linearizable,
        Property::Total,
        Property::Bounded,
        Property::Classified,
        Property::Discreet,
        Property::Inert,
        Property::Tidy,
        Property::Unpredictable,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Property::Exclusive => "exclusive",
            Property::Contained => "contained",
            Property::Complete => "complete",
            Property::Owned => "owned",
            Property::Released => "released",
            Property::Atomic => "atomic",
            Property::Idempotent => "idempotent",
            Property::Accounted => "accounted",
            Property::Scoped => "scoped",
            Property::Canonical => "canonical",
            Property::Reconfigurable => "reconfigurable",
            Property::Expiring => "expiring",
            Property::Durable => "durable",
            Property::Linearizable => "linearizable",
            Property::Total => "total",
            Property::Bounded => "bounded",
            Property::Classified => "classified",
            Property::Discreet => "discreet",
            Property::Inert => "inert",
            Property::Tidy => "tidy",
            Property::Unpredictable => "unpredictable",
        }
    }

    /// The property with this name.
    pub fn from_name(name: &str) -> Option<Property> {
        Property::ALL.into_iter().find(|property| property.name() == name)
    }

    /// The promise, in a sentence.
    pub fn promise(self) -> &'static str {
        match self {
            Property::Exclusive => "no address is held twice and no two blocks overlap, compared as addresses",
            Property::Contained => {
                "only allocatable addresses are handed out: never outside the pool, an edge, the gateway or an exclusion"
            }
            Property::Complete => "exhausted only when nothing eligible is free",
            Property::Owned => {
                "only the present owner changes an allocation; stale and strangers' calls change nothing"
            }
            Property::Released => "what is released can be had again; a drained pool yields its capacity",
            Property::Atomic => "a refused call, a failed one and a rolled-back transaction leave everything as it was",
            Property::Idempotent => "repeated calls do what the contract says, and nothing else",
            Property::Accounted => "list and usage equal the model, always",
            Property::Scoped => "pools, families and owners do not leak into each other",
            Property::Canonical => "spellings of one address are one address",
            Property::Reconfigurable => {
                "changing, deleting and creating pools again neither loses nor resurrects anything"
            }
            Property::Expiring => "at each instant a lease is exactly one of held and free",
            Property::Durable => {
                "what was acknowledged survives restart and crash; what was not is whole or absent; start-up succeeds"
            }
            Property::Linearizable => "every concurrent history has a legal sequential order",
            Property::Total => "any input is answered: no panic, abort, hang or overflow",
            Property::Bounded => "the cost of a call does not grow with the prefix",
            Property::Classified => "each failure has its right kind; the first cause is kept",
            Property::Discreet => "texts for callers hold no SQL, paths, source positions or other owners' names",
            Property::Inert => "metacharacters in names are data",
            Property::Tidy => {
                "locks, transactions, descriptors, threads and files are back to the base line after every call"
            }
            Property::Unpredictable => "where random choice is promised it passes statistical tests",
        }
    }

    /// The weakness that it answers, as a CWE number where there is one.
    pub fn weakness(self) -> Option<&'static str> {
        match self {
            Property::Contained | Property::Canonical => Some("CWE-20"),
            Property::Owned => Some("CWE-863"),
            Property::Released | Property::Durable => Some("CWE-404"),
            Property::Atomic => Some("CWE-404, CWE-703"),
            Property::Linearizable => Some("CWE-362"),
            Property::Total => Some("CWE-20, CWE-248"),
            Property::Bounded => Some("CWE-400"),
            Property::Classified => Some("CWE-703, CWE-755"),
            Property::Discreet => Some("CWE-209"),
            Property::Inert => Some("CWE-89"),
            Property::Tidy => Some("CWE-404, CWE-772"),
            Property::Unpredictable => Some("CWE-330"),
            _ => None,
        }
    }

    /// Which engines check it, or `None` where none does yet. Some look only at certain systems:
    /// `unchecked` of the engines.
    pub fn checked_by(self) -> &'static str {
        match self {
            Property::Linearizable => "race, history",
            Property::Atomic | Property::Durable | Property::Tidy => "check, replay, crash",
            _ => "check, replay",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A broken property with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// What was seen, and what the model allowed.
    pub message: String,
}

impl Violation {
    /// A violation of this property.
    pub fn new(property: Property, message: impl Into<String>) -> Violation {
        Violation { property, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.message)
    }
}

/// What a run says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was exercised and every property held.
    Pass,
    /// A property was broken.
    Violated,
    /// Nothing was broken, but something that should have been exercised never was.
    Unknown,
}

impl Verdict {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Violated => "violated",
            Verdict::Unknown => "unknown",
        }
    }

    /// The exit code of the command line.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Violated => 1,
            Verdict::Unknown => 3,
        }
    }
}
