//! What takes effect at one instant: a call, or all calls of a transaction together.
//!
//! A transaction belongs to the caller that began it, and what the others do comes before all of it or after. Its calls are
//! answered as they would be in the state in which it takes effect. One that is rolled back changes nothing, but its answers
//! must be explained all the same; so must those of one whose end nobody knows, which is committed or is not.

use std::collections::{HashMap, HashSet};

use super::{Call, Event, NEVER, Outcome};
use crate::model::Model;
use crate::operation::{Answer, Operation, Text};

/// Calls that take effect at one instant.
pub(super) struct Unit {
    /// In their order: places in the history. The end of a transaction is one of them where it is known.
    pub(super) calls: Vec<usize>,
    pub(super) began: Event,
    /// Until here it has taken effect; [`NEVER`] where it need not.
    pub(super) ended: Event,
    /// Is it a call of unknown outcome, which need not have happened?
    pub(super) is_open: bool,
    fate: Fate,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// As its last call says, or it is no transaction.
    Told,
    /// Its caller is gone: it is rolled back.
    RolledBack,
    /// Nobody knows whether it was committed.
    Unknown,
}

impl Unit {
    /// The states in which it may leave the system.
    pub(super) fn ends(&self, model: Model) -> Vec<Model> {
        let ways: &[Operation] = match self.fate {
            Fate::Told => return vec![model],
            Fate::RolledBack => &[Operation::Rollback],
            Fate::Unknown => &[Operation::Commit, Operation::Rollback],
        };
        let ended = |how: &Operation| {
            let mut model = model.clone();
            model.judge(how, &Ok(Answer::Done)).is_ok().then_some(model)
        };
        ways.iter().filter_map(ended).collect()
    }
}

/// All units of the calls from one on.
///
/// # Errors
///
/// Why they cannot be told apart.
pub(super) fn units(calls: &[Call], from: usize) -> Result<Vec<Unit>, &'static str> {
    let last = calls.iter().map(|call| call.returned).filter(|event| *event != NEVER).max().unwrap_or_default();
    let (mut units, mut open): (Vec<Unit>, HashMap<Text, usize>) = (Vec::new(), HashMap::new());
    // The last calls of callers who do not know what became of them, in a transaction: if no other call follows, it is gone.
    let mut last_words: HashMap<&Text, usize> = HashMap::new();
    // Callers who do not know whether they have a transaction.
    let mut lost: HashSet<&Text> = HashSet::new();
    for (index, call) in calls.iter().enumerate().skip(from).filter(|(_, call)| !call.says_nothing()) {
        let (process, outcome) = (&call.recorded.process, &call.recorded.outcome);
        let is_known = *outcome != Outcome::Unknown;
        let is_done = matches!(outcome, Outcome::Answered(Ok(_)));
        let begins = call.recorded.operation == Operation::Begin;
        if lost.remove(process) && !(begins && is_done) {
            return Err("what a caller does who does not know whether it has a transaction is not judged");
        }
        let Some(unit) = open.get(process).copied() else {
            if begins && !is_known {
                lost.insert(process);
                continue;
            }
            if begins && is_done {
                open.insert(process.clone(), units.len());
            }
            let (is_open, ended) = (!is_known, call.returned);
            units.push(Unit { calls: vec![index], began: call.invoked, ended, is_open, fate: Fate::Told });
            continue;
        };
        let unit = &mut units[unit];
        unit.calls.extend(last_words.remove(process));
        match (&call.recorded.operation, outcome) {
            (Operation::Commit | Operation::Rollback, Outcome::Answered(Ok(_))) => {
                open.remove(process);
            }
            (Operation::Commit, Outcome::Unknown) => {
                open.remove(process);
                lost.insert(process);
                (unit.fate, unit.ended) = (Fate::Unknown, last + 1);
                continue;
            }
            (Operation::Rollback, Outcome::Unknown) => {
                open.remove(process);
                lost.insert(process);
                unit.fate = Fate::RolledBack;
                continue;
            }
            // If its caller is gone, so is the transaction.
            (_, Outcome::Unknown) => {
                last_words.insert(process, index);
                continue;
            }
            _ => {}
        }
        unit.calls.push(index);
        unit.ended = call.returned;
    }
    open.into_values().for_each(|unit| units[unit].fate = Fate::RolledBack);
    Ok(units)
}
