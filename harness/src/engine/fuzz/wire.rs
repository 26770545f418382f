//! Lines of the protocol from whoever may be at the other end: a process that claims to be an allocator, and a client that
//! claims to be a harness.
//!
//! Input is lines. The same ones are taken for answers and for requests, as either must be refused politely.

use std::io::Cursor;

use serde_json::Value;

use super::super::run::{Runner, Unwatched};
use super::assert_is_fit_to_print;
use crate::contract::Contract;
use crate::generate::tour;
use crate::operation::{Operation, Response, numbered};
use crate::property::{Property, Violation};
use crate::sut::call::{encode_answer, encode_refusal};
use crate::sut::memory::Memory;
use crate::sut::protocol::{self, Absent, decode, decode_initialize, decode_no_version, decode_reset};
use crate::sut::serve::{Ended, serve};
use crate::sut::{Failure, Sut};

/// A line that stands for what the reference allocator would answer, so that what follows it has something to build on.
const HONEST: &[u8] = b"=";

/// Takes the input for answers and for requests.
///
/// # Panics
///
/// When either is not refused or read as the protocol has it.
pub fn run(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    read_introductions(&lines);
    take_for_answers(&lines);
    take_for_requests(input);
}

fn read_introductions(lines: &[&[u8]]) {
    for line in lines {
        let line = &numbered(line, 1);
        let checked =
            [decode_initialize(1, line).map(|_| ()), decode_reset(1, line).map(|_| ()), decode_no_version(1, line)];
        checked.into_iter().filter_map(Result::err).for_each(|violation| assert_is_fit(&violation, line));
    }
}

/// Runs a tour, which the number of lines chooses, on a process that answers with these lines. What it does wrong is a finding, and never ours.
fn take_for_answers(lines: &[&[u8]]) {
    let honest = Memory::new();
    let tours = tour(honest.contract());
    let scenario = &tours[lines.len() % tours.len()];
    let mut process = Hostile { lines: lines.iter().map(|line| line.to_vec()).collect(), next: 0, honest };
    let run = Runner::new(&process).run(&mut process, scenario, &mut Unwatched);
    match run {
        Ok(run) => {
            let ours = run.finding.filter(|finding| finding.violation.message.contains("the system panicked"));
            assert_eq!(ours.map(|finding| finding.violation.message), None, "the harness panicked");
        }
        Err(failure) => panic!("cannot go on: {failure}"),
    }
}

/// Serves requests: each line has an answer, which is one line of the protocol.
fn take_for_requests(input: &[u8]) {
    let (mut memory, mut output) = (Memory::new(), Vec::new());
    let contract = memory.contract().clone();
    match serve(&mut memory, &contract, Cursor::new(input), &mut output) {
        Ok(()) => {}
        // What comes after it is not read.
        Err(Ended::TooLong) => return,
        Err(ended) => panic!("serving ended: {ended}"),
    }
    let answers = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut count = 0;
    for answer in answers {
        let value: Value = serde_json::from_slice(answer).expect("an answer is JSON");
        assert_eq!(value.get("jsonrpc").and_then(Value::as_str), Some("2.0"));
        assert_ne!(value.get("result").is_some(), value.get("error").is_some(), "{value}");
        count += 1;
    }
    let lines = input.split_inclusive(|byte| *byte == b'\n').count();
    assert_eq!(count, lines, "each line has one answer");
}

/// A process that answers with the lines it was given, and honestly after the last.
struct Hostile {
    lines: Vec<Vec<u8>>,
    next: usize,
    honest: Memory,
}

impl Sut for Hostile {
    fn contract(&self) -> &Contract {
        self.honest.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.honest.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let response = self.honest.call(operation)?;
        let id = self.next as u64 + 1;
        let line = match self.lines.get(self.next) {
            Some(line) if line != HONEST => numbered(line, id),
            _ => encoded(id, &response),
        };
        self.next += 1;
        match decode(id, operation, &line) {
            Ok(decoded) => {
                assert_eq!(decode(id, operation, &encoded(id, &decoded)), Ok(decoded.clone()), "not read as written");
                Ok(decoded)
            }
            Err(violation) => {
                assert_is_fit(&violation, &line);
                Err(Failure::Misbehaved(violation))
            }
        }
    }
}

/// A response as a line.
fn encoded(id: u64, response: &Response) -> Vec<u8> {
    let (name, value) = match response {
        Ok(answer) => ("result", encode_answer(answer)),
        Err(refusal) => ("error", encode_refusal(refusal)),
    };
    serde_json::json!({ "jsonrpc": "2.0", "id": id, name: value }).to_string().into_bytes()
}

/// What is said of a line can be printed, and is about how it answers.
fn assert_is_fit(violation: &Violation, line: &[u8]) {
    assert_is_fit_to_print(&violation.message, line);
    assert!(matches!(violation.property, Property::Total | Property::Classified), "{:?}", violation.property);
}

/// A system in this process, behind the protocol: every call goes through a request line and an answer line.
pub struct Wired<S> {
    sut: S,
    next: u64,
}

impl<S: Sut> Wired<S> {
    /// Puts a system behind the protocol.
    pub fn new(sut: S) -> Wired<S> {
        Wired { sut, next: 0 }
    }
}

impl<S: Sut> Sut for Wired<S> {
    fn contract(&self) -> &Contract {
        self.sut.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        self.next += 1;
        let absent = if self.next.is_multiple_of(2) { Absent::LeftOut } else { Absent::WrittenOut };
        let (request, mut answer) = (protocol::encode(self.next, operation, absent), Vec::new());
        let contract = self.sut.contract().clone();
        serve(&mut self.sut, &contract, Cursor::new(request), &mut answer)
            .map_err(|ended| Failure::Unable(ended.to_string()))?;
        decode(self.next, operation, answer.trim_ascii_end()).map_err(Failure::Misbehaved)
    }

    fn forget(&mut self) -> bool {
        self.sut.forget()
    }

    fn is_fast(&self) -> bool {
        self.sut.is_fast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_and_honest_lines_are_read_without_a_panic() {
        for input in [
            &b""[..],
            b"=\n=\n",
            b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{}}",
            b"=\n{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"granted\":[\"10.0.0.1\"]}}",
            b"\x1b[31m\n\xff",
        ] {
            run(input);
        }
    }

    #[test]
    fn behind_the_protocol_a_system_is_the_same() {
        use crate::generate::Generator;
        let mut sut = Wired::new(Memory::new());
        let generator = Generator::new(sut.contract());
        let mut runner = Runner::new(&sut);
        for seed in 0..40 {
            let run = runner.run(&mut sut, &generator.scenario(seed), &mut Unwatched).unwrap();
            assert_eq!(run.finding, None, "{seed}");
        }
    }
}
