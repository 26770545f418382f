//! Mutants to which a character in a name is more than that.

use poolproof_core::operation::{Answer, Kind, Operation, Response};
use poolproof_core::property::Property::{Accounted, Inert, Owned};

use crate::base::{Base, is_refused, meant};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("inert-patterns", &[Inert, Owned, Accounted], || Box::new(Calls(patterns))).in_steps(3),
    Mutant::new("inert-trimmed", &[Inert, Owned], || Box::new(Calls(trimmed))).in_steps(3),
    Mutant::new("inert-escaped-twice", &[Inert, Accounted], || Box::new(Calls(escaped_twice))).in_steps(2),
];

/// Owners are looked for with LIKE.
fn patterns(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::ReleaseOwner { owner } = operation
        && bug.is_on()
        && response.is_ok()
    {
        for held in base.all_held() {
            if is_like(&held.owner, owner) {
                base.end(&held);
            }
        }
    }
    response
}

/// As SQL has it: `%` is anything, `_` any character.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let mut ends = text.char_indices().map(|(index, _)| index).chain([text.len()]);
    match (first, text.chars().next()) {
        ('%', _) => ends.any(|end| is_like(&text[end..], rest)),
        (_, Some(one)) if first == '_' || first == one => is_like(&text[one.len_utf8()..], rest),
        _ => false,
    }
}

/// Space around a name does not count.
fn trimmed(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Release { pool, address, owner: Some(owner) } = operation
        && bug.is_on()
        && is_refused(&response, Kind::NotOwner)
        && let Some(resource) = meant(address)
        && let Some(held) = base.held(pool).into_iter().find(|one| one.resource == resource)
        && held.owner.trim() == owner.trim()
    {
        base.end(&held);
        return Ok(Answer::Done);
    }
    response
}

/// Quotation marks in names come back with a stroke before them.
fn escaped_twice(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match base.call(operation) {
        Ok(Answer::Listed(mut rows)) if bug.is_on() => {
            for row in rows.iter_mut().filter(|row| row.owner.contains('"')) {
                row.owner = row.owner.replace('"', "\\\"").into();
            }
            Ok(Answer::Listed(rows))
        }
        response => response,
    }
}
