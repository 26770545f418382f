//! Text to scenario: linear in the text, never panics, and says line and column.
//!
//! ```text
//! poolproof scenario 1
//! # a comment
//! pool p0 10.0.0.0/29 range 10.0.0.2 10.0.0.5 gateway 10.0.0.1 exclude 10.0.0.4
//! allocate "a" p0 ttl 60000       any address, as a lease
//! allocate "a" p0 10.0.0.3        this one
//! allocate "a" p0 + p1 [5] + p2 /28    three requests; [5]: sixth address of the prefix
//! release p0 @3 "a"               what step 3 was granted; @7.2 is step 7's second grant
//! renew p0 @3~upper "a" ttl 5     in another spelling
//! advance @3-1                    to one millisecond before step 3's lease ends
//! fill p0 "b" 8
//! ```

use std::fmt;
use std::sync::Arc;

use super::print::{is_address_byte, is_bare_address, is_bare_name, is_name_byte};
use super::{GrantRef, HEADER, Operand, Scenario, Spelling, Step, text};
use crate::operation::{Operation, PoolShape, Request, Requests, Text, Want};

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Reads a scenario.
pub fn parse(source: &str) -> Result<Scenario, ParseError> {
    let mut lines = source.lines().enumerate();
    let mut steps = Vec::new();
    let mut has_header = false;
    for (index, content) in &mut lines {
        let mut line = Line { number: index + 1, content, at: 0 };
        line.skip_space();
        if line.is_done() {
            continue;
        }
        if has_header {
            steps.push(line.step()?);
        } else {
            line.header()?;
            has_header = true;
        }
        line.end()?;
    }
    if has_header {
        return Ok(Scenario { steps });
    }
    Err(ParseError { line: 1, column: 1, message: format!("an empty text is no scenario; it begins with `{HEADER}`") })
}

/// One line and how far it has been read.
struct Line<'a> {
    number: usize,
    content: &'a str,
    /// Byte offset, always on a character's boundary.
    at: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Line<'a> {
    fn rest(&self) -> &'a str {
        &self.content[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.content.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    /// Is there nothing left but a comment?
    fn is_done(&self) -> bool {
        matches!(self.peek(), None | Some(b'#'))
    }

    fn end(&mut self) -> Parsed<()> {
        self.skip_space();
        if self.is_done() { Ok(()) } else { Err(self.error("the step should end here; a comment starts with `#`")) }
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        let column = self.content[..at].chars().count() + 1;
        ParseError { line: self.number, column, message: message.into() }
    }

    fn header(&mut self) -> Parsed<()> {
        let found = self.rest().split('#').next().unwrap_or_default().trim_end();
        if found == HEADER {
            self.at += found.len();
            return Ok(());
        }
        let message = match found.strip_prefix("poolproof scenario ") {
            Some(version) => format!("version `{version}` is not known here; this program reads version 1"),
            None => format!("a scenario begins with the line `{HEADER}`"),
        };
        Err(self.error(message))
    }

    fn step(&mut self) -> Parsed<Step> {
        let start = self.at;
        let operation = match self.word() {
            "pool" => Operation::CreatePool { pool: self.name()?, prefix: self.address_text()?, shape: self.shape()? },
            "update" => Operation::UpdatePool { pool: self.name()?, shape: self.shape()? },
            "delete" => Operation::DeletePool { pool: self.name()? },
            "allocate" => {
                Operation::Allocate { owner: self.quoted_text()?, requests: self.requests()?, ttl_ms: self.ttl()? }
            }
            "release" => Operation::Release {
                pool: self.name()?,
                address: self.operand()?,
                owner: if self.next_is(b'"') { Some(self.quoted_text()?) } else { None },
            },
            "release-owner" => Operation::ReleaseOwner { owner: self.quoted_text()? },
            "renew" => Operation::Renew {
                pool: self.name()?,
                address: self.operand()?,
                owner: self.quoted_text()?,
                ttl_ms: self.ttl()?.ok_or_else(|| self.error("expected `ttl` and milliseconds"))?,
            },
            "begin" => Operation::Begin,
            "commit" => Operation::Commit,
            "rollback" => Operation::Rollback,
            "list" => Operation::List { pool: if self.at_end() { None } else { Some(self.name()?) } },
            "usage" => Operation::Usage { pool: self.name()? },
            "raw" => Operation::Raw { line: Arc::from(self.quoted_bytes()?) },
            _ => return self.special_step(start),
        };
        Ok(Step::Call(operation))
    }

    /// Steps that are not one call.
    fn special_step(&mut self, start: usize) -> Parsed<Step> {
        self.at = start;
        Ok(match self.word() {
            "advance" if self.next_is(b'@') => Step::AdvanceTo { lease: self.grant()?, offset_ms: self.offset()? },
            "advance" => Step::Call(Operation::Advance { ms: self.number()? }),
            "fill" => Step::Fill {
                pool: self.name()?,
                owner: self.quoted_text()?,
                count: self.number()?,
                ttl_ms: self.ttl()?,
            },
            "drain" => Step::Drain { pool: self.name()?, count: self.number()? },
            "replay" => Step::Replay { step: self.step_reference()? },
            "restart" => Step::Restart,
            "crash" => Step::Crash,
            word => {
                let message = format!(
                    "`{}` is no step; steps are pool, update, delete, allocate, release, release-owner, renew, \
                     begin, commit, rollback, list, usage, advance, restart, crash, fill, drain, replay, raw",
                    word.escape_debug()
                );
                return Err(self.error_at(start, message));
            }
        })
    }

    /// The next run of characters up to a space, without judging it.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        let start = self.at;
        self.at += self.rest().find([' ', '\t', '#']).unwrap_or(self.rest().len());
        &self.content[start..self.at]
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.is_done()
    }

    /// Is this the next byte after spaces?
    fn next_is(&mut self, byte: u8) -> bool {
        self.skip_space();
        self.peek() == Some(byte)
    }

    /// Takes this byte where it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes this keyword where it comes next as a whole word.
    fn take_word(&mut self, keyword: &str) -> bool {
        self.skip_space();
        let start = self.at;
        let found = self.word() == keyword;
        if !found {
            self.at = start;
        }
        found
    }

    fn run(&mut self, belongs: fn(u8) -> bool) -> &'a str {
        let start = self.at;
        self.at += self.rest().bytes().take_while(|byte| belongs(*byte)).count();
        &self.content[start..self.at]
    }

    fn name(&mut self) -> Parsed<Text> {
        if self.next_is(b'"') {
            return self.quoted_text();
        }
        let start = self.at;
        let name = self.run(is_name_byte);
        if is_bare_name(name) {
            return Ok(text(name));
        }
        Err(self.error_at(start, "expected a pool's name: p0, or any text in quotes"))
    }

    fn address_text(&mut self) -> Parsed<Text> {
        if self.next_is(b'"') {
            return self.quoted_text();
        }
        let start = self.at;
        let address = self.run(is_address_byte);
        if is_bare_address(address) {
            return Ok(text(address));
        }
        Err(self.error_at(start, "expected an address or prefix: 10.0.0.1, fd00::/64, or any text in quotes"))
    }

    fn shape(&mut self) -> Parsed<PoolShape> {
        let mut shape = PoolShape::default();
        while !self.at_end() {
            let start = self.at;
            match self.word() {
                "range" => shape.ranges.push((self.address_text()?, self.address_text()?)),
                "gateway" if shape.gateway.is_none() => shape.gateway = Some(self.address_text()?),
                "gateway" => return Err(self.error_at(start, "a pool has one gateway")),
                "exclude" => shape.exclude.push(self.address_text()?),
                _ => {
                    let message = "expected `range FIRST LAST`, `gateway ADDRESS` or `exclude WHAT`";
                    return Err(self.error_at(start, message));
                }
            }
        }
        Ok(shape)
    }

    /// Requests joined by `+`; none at all is a call that a system must refuse.
    fn requests(&mut self) -> Parsed<Requests<Operand>> {
        let mut requests = Requests::new();
        self.skip_space();
        let start = self.at;
        if self.at_end() || self.word() == "ttl" {
            self.at = start;
            return Ok(requests);
        }
        self.at = start;
        loop {
            requests.push(Request { pool: self.name()?, want: self.want()? });
            self.skip_space();
            if !self.take(b'+') {
                return Ok(requests);
            }
        }
    }

    fn want(&mut self) -> Parsed<Want<Operand>> {
        self.skip_space();
        if self.take(b'/') {
            return self.number().map(Want::Block);
        }
        match self.peek() {
            Some(b'@' | b'[' | b'"' | b':') => self.operand().map(Want::Named),
            Some(byte) if byte.is_ascii_hexdigit() => self.operand().map(Want::Named),
            _ => Ok(Want::Any),
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        self.skip_space();
        match self.peek() {
            Some(b'@') => Ok(Operand::Granted(self.grant()?, self.spelling()?)),
            Some(b'[') => {
                self.at += 1;
                let place = self.number()?;
                if !self.take(b']') {
                    return Err(self.error("expected `]`"));
                }
                Ok(Operand::Nth(place, self.spelling()?))
            }
            _ => self.address_text().map(Operand::Literal),
        }
    }

    fn grant(&mut self) -> Parsed<GrantRef> {
        let step = self.step_reference()?;
        if !self.take(b'.') {
            return Ok(GrantRef { step, nth: 0 });
        }
        let nth = self.counted_from_one()?;
        Ok(GrantRef { step, nth })
    }

    fn step_reference(&mut self) -> Parsed<u32> {
        self.skip_space();
        if self.take(b'@') { self.counted_from_one() } else { Err(self.error("expected a step: @1 is the first")) }
    }

    fn counted_from_one(&mut self) -> Parsed<u32> {
        let start = self.at;
        let number: u64 = self.number()?;
        let index = number.checked_sub(1).and_then(|index| u32::try_from(index).ok());
        index.ok_or_else(|| self.error_at(start, "steps and grants are counted from 1 to 4294967296"))
    }

    fn spelling(&mut self) -> Parsed<Spelling> {
        if !self.take(b'~') {
            return Ok(Spelling::Plain);
        }
        let start = self.at;
        let name = self.run(|byte| byte.is_ascii_lowercase());
        let found = Spelling::ALL.into_iter().find(|spelling| spelling.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Spelling::ALL.iter().map(|spelling| spelling.name()).collect();
            self.error_at(start, format!("spellings are {}", names.join(", ")))
        })
    }

    fn offset(&mut self) -> Parsed<i64> {
        if self.is_done() || matches!(self.peek(), Some(b' ' | b'\t')) { Ok(0) } else { self.number() }
    }

    fn ttl(&mut self) -> Parsed<Option<u64>> {
        if self.take_word("ttl") { self.number().map(Some) } else { Ok(None) }
    }

    /// A decimal number of any integer type, with a sign where the type has one.
    fn number<N: std::str::FromStr>(&mut self) -> Parsed<N> {
        self.skip_space();
        let start = self.at;
        if matches!(self.peek(), Some(b'-' | b'+')) {
            self.at += 1;
        }
        self.run(|byte| byte.is_ascii_digit());
        self.content[start..self.at].parse().map_err(|_| {
            let size = 8 * size_of::<N>();
            self.error_at(start, format!("expected a whole decimal number of at most {size} bits"))
        })
    }

    fn quoted_text(&mut self) -> Parsed<Text> {
        self.skip_space();
        let start = self.at;
        let bytes = self.quoted_bytes()?;
        let decoded = String::from_utf8(bytes);
        decoded.map(Text::from).map_err(|_| self.error_at(start, "this text must be UTF-8; only `raw` takes any bytes"))
    }

    fn quoted_bytes(&mut self) -> Parsed<Vec<u8>> {
        self.skip_space();
        if !self.take(b'"') {
            return Err(self.error("expected a text in quotes"));
        }
        let mut bytes = Vec::new();
        loop {
            let literal = self.rest().find(['"', '\\']).unwrap_or(self.rest().len());
            bytes.extend_from_slice(&self.rest().as_bytes()[..literal]);
            self.at += literal;
            if self.take(b'"') {
                return Ok(bytes);
            }
            if !self.take(b'\\') {
                return Err(self.error("the text in quotes does not end"));
            }
            self.escape(&mut bytes)?;
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Parsed<()> {
        let start = self.at.saturating_sub(1);
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\')) => byte,
            Some(b'x') => {
                let digits = self.rest().get(1..3).unwrap_or_default();
                let strict = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = u8::from_str_radix(digits, 16).ok().filter(|_| strict);
                self.at += digits.len();
                value.ok_or_else(|| self.error_at(start, "`\\x` takes two hexadecimal digits"))?
            }
            Some(b'u') => {
                let digits = self.rest()[1..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let digits = digits.map(|(digits, _)| digits).filter(|digits| digits.len() <= 6).unwrap_or_default();
                let strict = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = u32::from_str_radix(digits, 16).ok().filter(|_| strict).and_then(char::from_u32);
                let skip = digits.len() + 3;
                let c =
                    value.ok_or_else(|| self.error_at(start, "`\\u{…}` takes a character's number in hexadecimal"))?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += skip;
                return Ok(());
            }
            _ => return Err(self.error_at(start, "escapes are \\\" \\\\ \\xHH and \\u{H…}")),
        };
        self.at += 1;
        bytes.push(byte);
        Ok(())
    }
}
