//! Text to scenario: linear in the text, never panics, and says line and column.
//!
//! ```text
//! poolproof scenario 2
//! # a comment
//! pool p0 10.0.0.0/29 range 10.0.0.2 10.0.0.5 gateway 10.0.0.1 exclude 10.0.0.4
//! allocate "a" p0 ttl 60000       any address, as a lease
//! allocate "a" p0 10.0.0.3        this one
//! allocate "a" p0 + p1 [5] + p2 /28    three requests; [5]: sixth address of the prefix
//! release p0 @3 "a"               what step 3 was granted; @7.2 is step 7's second grant
//! renew p0 @3~upper "a" ttl 5     in another spelling
//! advance @3-1                    to one millisecond before step 3's lease ends
//! fill p0 "b" 8
//! repeat @3                       the same call again, as it was sent then
//! audit                           everything is listed and counted
//! fault kill before 3             the process dies before the third I/O step of the next step
//! fault error before write 2        the second system call `write` of the next step fails, in a process of its own
//! fault power-loss 7 after 3      the power goes after it; what that takes is drawn with seed 7
//! fault no-memory-once before 9   the ninth allocation of the next step fails; without `-once`, those after it, too
//! ```
//!
//! Tokens stand apart: between any two is a blank (a space or a tab), only the `+` between requests
//! needs none. Lines may end as on Windows; a byte order mark is refused.

use std::fmt;
use std::sync::Arc;

use super::request::is_request;
use super::{FORMAT, GrantRef, HEADER, Operand, Scenario, Spelling, Step, text, version};
use crate::fault::{Fault, FaultKind, Moment, SystemCall};
use crate::operation::{Operation, PoolShape, Request, Requests, Text, Want};
use poolproof_core::text::{is_address_byte, is_bare_address, is_bare_name, is_name_byte};

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

/// Some editors put this before a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How many characters of what was found a message shows.
const LONGEST_FOUND: usize = 24;

/// Reads a scenario.
pub fn parse(source: &str) -> Result<Scenario, ParseError> {
    if source.starts_with(BYTE_ORDER_MARK) {
        let message = "the text begins with a byte order mark (U+FEFF); save it as UTF-8 without one";
        return Err(ParseError { line: 1, column: 1, message: message.to_owned() });
    }
    let mut lines = source.lines().enumerate();
    let mut steps = Vec::new();
    let mut version = None;
    for (index, content) in &mut lines {
        let mut line = Line { number: index + 1, content, at: 0, version: version.unwrap_or_default() };
        line.skip_space();
        if line.is_done() {
            continue;
        }
        match version {
            Some(_) => steps.push(line.step()?),
            None => version = Some(line.header()?),
        }
        line.end()?;
    }
    if version.is_some() {
        return Ok(Scenario { steps });
    }
    Err(ParseError { line: 1, column: 1, message: format!("an empty text is no scenario; it begins with `{HEADER}`") })
}

/// The beginning of what was found, fit for a message.
fn shown(found: &str) -> String {
    let mut characters = found.chars();
    let beginning: String = characters.by_ref().take(LONGEST_FOUND).collect();
    let more = if characters.next().is_some() { "…" } else { "" };
    format!("{}{more}", beginning.escape_debug())
}

/// One line and how far it has been read.
struct Line<'a> {
    number: usize,
    content: &'a str,
    /// Byte offset, always on a character's boundary.
    at: usize,
    /// Of the text.
    version: u32,
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

    /// Nothing may follow but a comment.
    fn end(&mut self) -> Parsed<()> {
        self.gap()?;
        if self.is_done() { Ok(()) } else { Err(self.expected("the end of the step (a comment starts with `#`)")) }
    }

    /// A token begins here: it must not touch the one before it.
    fn gap(&mut self) -> Parsed<()> {
        let before = self.content[..self.at].bytes().next_back();
        let is_apart = matches!(before, None | Some(b' ' | b'\t' | b'+'));
        if is_apart || self.is_done() || matches!(self.peek(), Some(b' ' | b'\t')) {
            self.skip_space();
            return Ok(());
        }
        Err(self.expected("a blank"))
    }

    /// What would be right here, and what was found.
    fn expected(&self, what: &str) -> ParseError {
        self.expected_at(self.at, what)
    }

    fn expected_at(&self, at: usize, what: &str) -> ParseError {
        let rest = &self.content[at..];
        let found = match rest.bytes().next() {
            None => "the end of the line".to_owned(),
            Some(b' ' | b'\t') => "a blank".to_owned(),
            Some(b'#') => "a comment".to_owned(),
            Some(_) => format!("`{}`", shown(rest.split([' ', '\t', '#']).next().unwrap_or_default())),
        };
        self.error_at(at, format!("expected {what}, found {found}"))
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        let column = self.content[..at].chars().count() + 1;
        ParseError { line: self.number, column, message: message.into() }
    }

    /// The text's version.
    fn header(&mut self) -> Parsed<u32> {
        let found = self.rest().split('#').next().unwrap_or_default().trim_end();
        let Some(number) = found.strip_prefix(FORMAT) else {
            return Err(self.error(format!("a scenario begins with the line `{HEADER}`")));
        };
        let is_this = |version: &u32| version.to_string() == number;
        let version = (1..=version::NEWEST).find(is_this).ok_or_else(|| {
            let newest = version::NEWEST;
            self.error(format!(
                "version `{}` is not known here; this program reads versions 1 to {newest}",
                shown(number)
            ))
        })?;
        self.at += found.len();
        Ok(version)
    }

    fn step(&mut self) -> Parsed<Step> {
        let start = self.at;
        let word = version::upgraded(self.version, self.word()).map_err(|why| self.error_at(start, why))?;
        let operation = match word {
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
                ttl_ms: self.ttl()?.ok_or_else(|| self.expected("`ttl` and milliseconds"))?,
            },
            "begin" => Operation::Begin,
            "commit" => Operation::Commit,
            "rollback" => Operation::Rollback,
            "list" => Operation::List { pool: if self.at_end() { None } else { Some(self.name()?) } },
            "usage" => Operation::Usage { pool: self.name()? },
            "raw" => Operation::Raw { line: self.malformed_line()? },
            _ => return self.special_step(start, word),
        };
        Ok(Step::Call(operation))
    }

    /// Steps that are not one call.
    fn special_step(&mut self, start: usize, word: &str) -> Parsed<Step> {
        Ok(match word {
            "advance" if self.next_is(b'@') => Step::AdvanceTo { lease: self.grant()?, offset_ms: self.offset()? },
            "advance" => Step::Call(Operation::Advance { ms: self.number()? }),
            "fill" => Step::Fill {
                pool: self.name()?,
                owner: self.quoted_text()?,
                count: self.number()?,
                ttl_ms: self.ttl()?,
            },
            "drain" => Step::Drain { pool: self.name()?, count: self.number()? },
            "repeat" => Step::Repeat { step: self.step_reference()? },
            "audit" => Step::Audit,
            "restart" => Step::Restart,
            "crash" => Step::Crash,
            "fault" => Step::Fault(self.fault()?),
            "turns" => Step::Turns(self.turns()?),
            "lane" => Step::Lane,
            "join" => Step::Join,
            word => {
                let message = format!(
                    "`{}` is no step; steps are pool, update, delete, allocate, release, release-owner, renew, \
                     begin, commit, rollback, list, usage, advance, restart, crash, fault, fill, drain, repeat, audit, raw, turns, lane, join",
                    shown(word)
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
        self.gap()?;
        if self.next_is(b'"') {
            return self.quoted_text();
        }
        let start = self.at;
        let name = self.run(is_name_byte);
        if is_bare_name(name) {
            return Ok(text(name));
        }
        Err(self.expected_at(start, "a pool's name (p0, or any text in quotes)"))
    }

    fn address_text(&mut self) -> Parsed<Text> {
        self.gap()?;
        if self.next_is(b'"') {
            return self.quoted_text();
        }
        let start = self.at;
        let address = self.run(is_address_byte);
        if is_bare_address(address) {
            return Ok(text(address));
        }
        Err(self.expected_at(start, "an address or prefix (10.0.0.1, fd00::/64, or any text in quotes)"))
    }

    fn shape(&mut self) -> Parsed<PoolShape> {
        let mut shape = PoolShape::default();
        while !self.at_end() {
            self.gap()?;
            let start = self.at;
            match self.word() {
                "range" => shape.ranges.push((self.address_text()?, self.address_text()?)),
                "gateway" if shape.gateway.is_none() => shape.gateway = Some(self.address_text()?),
                "gateway" => return Err(self.error_at(start, "a pool has one gateway")),
                "exclude" => shape.exclude.push(self.address_text()?),
                _ => {
                    return Err(self.expected_at(start, "`range FIRST LAST`, `gateway ADDRESS` or `exclude WHAT`"));
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
        if self.peek() == Some(b'/') {
            self.gap()?;
            self.at += 1;
            return self.digits().map(Want::Block);
        }
        match self.peek() {
            Some(b'@' | b'[' | b'"' | b':') => self.operand().map(Want::Named),
            Some(byte) if byte.is_ascii_hexdigit() => self.operand().map(Want::Named),
            _ => Ok(Want::Any),
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        self.gap()?;
        match self.peek() {
            Some(b'@') => Ok(Operand::Granted(self.grant()?, self.spelling()?)),
            Some(b'[') => {
                self.at += 1;
                let place = self.digits()?;
                if !self.take(b']') {
                    return Err(self.expected("`]`"));
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
        self.gap()?;
        if self.take(b'@') { self.counted_from_one() } else { Err(self.expected("a step (@1 is the first)")) }
    }

    fn counted_from_one(&mut self) -> Parsed<u32> {
        let start = self.at;
        let number: u64 = self.digits()?;
        let index = number.checked_sub(1).and_then(|index| u32::try_from(index).ok());
        index.ok_or_else(|| self.error_at(start, "steps, grants and I/O steps are counted from 1 to 4294967296"))
    }

    fn fault(&mut self) -> Parsed<Fault> {
        let kind = self.one_of(&FaultKind::ALL, "a kind of fault", FaultKind::name)?;
        let kind = if kind.seed().is_some() { kind.seeded(self.number()?) } else { kind };
        let moment = self.one_of(&[Moment::Before, Moment::After], "a moment", Moment::name)?;
        self.gap()?;
        let call = match self.peek() {
            Some(byte) if byte.is_ascii_digit() => None,
            _ => Some(self.system_call()?),
        };
        Ok(Fault { kind, moment, call, step: self.counted_from_one()? })
    }

    /// The name of a system call, with the space behind it.
    fn system_call(&mut self) -> Parsed<SystemCall> {
        let start = self.at;
        let call = SystemCall::named(self.word());
        let call =
            call.ok_or_else(|| self.expected_at(start, "the number of a step, or a system call and its number"))?;
        self.gap()?;
        Ok(call)
    }

    /// The next word, which must be the name of one of these.
    fn one_of<T: Copy>(&mut self, choices: &[T], what: &str, name: fn(T) -> &'static str) -> Parsed<T> {
        self.skip_space();
        let start = self.at;
        let word = self.word();
        let found = choices.iter().copied().find(|choice| name(*choice) == word);
        found.ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|choice| name(*choice)).collect();
            self.expected_at(start, &format!("{what} ({})", names.join(", ")))
        })
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
            self.expected_at(start, &format!("a spelling ({})", names.join(", ")))
        })
    }

    fn offset(&mut self) -> Parsed<i64> {
        match self.peek() {
            Some(b'+' | b'-') => self.digits(),
            _ => Ok(0),
        }
    }

    fn ttl(&mut self) -> Parsed<Option<u64>> {
        self.gap()?;
        if self.take_word("ttl") { self.number().map(Some) } else { Ok(None) }
    }

    /// Numbers of lanes, from 1, up to the end of the line.
    fn turns(&mut self) -> Parsed<Vec<u8>> {
        let mut order = Vec::new();
        while !self.at_end() {
            self.gap()?;
            let start = self.at;
            let lane: u16 = self.digits()?;
            let from_zero = lane.checked_sub(1).and_then(|lane| u8::try_from(lane).ok());
            order.push(from_zero.ok_or_else(|| self.expected_at(start, "the number of a lane, from 1 to 256"))?);
        }
        Ok(order)
    }

    /// A number that is a token of its own.
    fn number<N: std::str::FromStr>(&mut self) -> Parsed<N> {
        self.gap()?;
        self.digits()
    }

    /// A decimal number of any integer type, with a sign where the type has one.
    fn digits<N: std::str::FromStr>(&mut self) -> Parsed<N> {
        let start = self.at;
        if matches!(self.peek(), Some(b'-' | b'+')) {
            self.at += 1;
        }
        self.run(|byte| byte.is_ascii_digit());
        self.content[start..self.at].parse().map_err(|_| {
            let size = 8 * size_of::<N>();
            self.expected_at(start, &format!("a whole decimal number of at most {size} bits"))
        })
    }

    /// A line that a system must refuse. One that is a request would be judged as if it were none.
    fn malformed_line(&mut self) -> Parsed<Arc<[u8]>> {
        self.skip_space();
        let start = self.at;
        let line = self.quoted_bytes()?;
        if is_request(&line) {
            let advice = "this line is a well-formed request, and `raw` takes only lines that must be refused; \
                          write it as an ordinary step";
            return Err(self.error_at(start, advice));
        }
        Ok(Arc::from(line))
    }

    fn quoted_text(&mut self) -> Parsed<Text> {
        self.skip_space();
        let start = self.at;
        let bytes = self.quoted_bytes()?;
        let decoded = String::from_utf8(bytes);
        decoded.map(Text::from).map_err(|_| self.error_at(start, "this text must be UTF-8; only `raw` takes any bytes"))
    }

    fn quoted_bytes(&mut self) -> Parsed<Vec<u8>> {
        self.gap()?;
        if !self.take(b'"') {
            return Err(self.expected("a text in quotes"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: &str) -> ParseError {
        let source = format!("{HEADER}\n{step}\n");
        parse(&source).expect_err(step)
    }

    #[test]
    fn tokens_stand_apart() {
        for (step, column, found) in [
            ("allocate \"a\"p0", 13, "p0"),
            ("allocate \"a\" \"p0\"[5]", 18, "[5]"),
            ("allocate \"a\" p0[5]", 16, "[5]"),
            ("allocate \"a\" p0/28", 16, "/28"),
            ("allocate \"a\" p0 /28x", 20, "x"),
            ("allocate \"a\" p0 [5]x", 20, "x"),
            ("allocate \"a\" p0 @3\"x\"", 19, "\\\"x\\\""),
            ("allocate \"a\"ttl 5", 13, "ttl"),
            ("allocate \"a\" p0 ttl 5ms", 22, "ms"),
            ("release p0 @3\"a\"", 14, "\\\"a\\\""),
            ("renew p0 @3 \"a\"ttl 5", 16, "ttl"),
            ("fill p0 \"b\"8", 12, "8"),
            ("fill p0 \"b\" 8ttl 5", 14, "ttl"),
            ("drain p0 8junk", 11, "junk"),
            ("drain p0+8", 9, "+8"),
            ("advance 5x", 10, "x"),
            ("advance @3x", 11, "x"),
            ("repeat @3.1", 10, ".1"),
            ("raw \"x\"y", 8, "y"),
            ("list p0\u{a0}", 8, "\\u{a0}"),
            ("pool p0 10.0.0.0/29range 10.0.0.1 10.0.0.2", 20, "range"),
            ("pool \"p0\"10.0.0.0/29", 10, "10.0.0.0/29"),
            ("update p0\"x\"", 10, "\\\"x\\\""),
        ] {
            let error = refused(step);
            assert_eq!((error.line, error.column), (2, column), "{step}: {error}");
            assert_eq!(error.message, format!("expected a blank, found `{found}`"), "{step}");
        }
        assert!(refused("allocate \"a\" p0 [5]~octalx").message.ends_with("found `octalx`"));
        assert!(refused("allocate \"a\" p0 [5x]").message.contains("`]`, found `x]`"));
    }

    #[test]
    fn blanks_and_comments_are_free_elsewhere() {
        let wide = format!("{HEADER}#x\n \tallocate\t \"a\"  p0  +  p1 [5]~upper\tttl 5  # end\nbegin#x\n\n#\n");
        let narrow = format!("{HEADER}\nallocate \"a\" p0+p1 [5]~upper ttl 5\nbegin");
        assert_eq!(parse(&wide).unwrap(), parse(&narrow).unwrap());
    }

    #[test]
    fn errors_say_what_was_found() {
        for (step, message) in [
            (
                "pool p0",
                "expected an address or prefix (10.0.0.1, fd00::/64, or any text in quotes), found the end of the line",
            ),
            ("drain p0 # eight", "expected a whole decimal number of at most 32 bits, found a comment"),
            ("release-owner a", "expected a text in quotes, found `a`"),
            ("begin now", "expected the end of the step (a comment starts with `#`), found `now`"),
            ("repeat 3", "expected a step (@1 is the first), found `3`"),
        ] {
            assert_eq!(refused(step).message, message, "{step}");
        }
        assert!(refused(&"x".repeat(1 << 20)).message.len() < 300);
    }

    #[test]
    fn windows_line_ends_are_taken_and_byte_order_marks_explained() {
        let unix = format!("{HEADER}\n\npool p0 10.0.0.0/29 # comment\nallocate \"a\" p0\n");
        assert_eq!(parse(&unix.replace('\n', "\r\n")).unwrap(), parse(&unix).unwrap());
        let error = parse(&format!("{BYTE_ORDER_MARK}{unix}")).unwrap_err();
        assert!((error.line, error.column) == (1, 1) && error.message.contains("byte order mark"), "{error}");
    }

    #[test]
    fn raw_takes_no_request() {
        let request =
            r#"{"jsonrpc":"2.0","id":$id,"method":"allocate","params":{"owner":"a","requests":[{"pool":"p0"}]}}"#;
        let step = |line: &str| format!("raw \"{}\"", line.replace('"', "\\\""));
        let error = refused(&step(request));
        assert!(error.column == 5 && error.message.contains("write it as an ordinary step"), "{error}");
        parse(&format!("{HEADER}\n{}", step(&request.replace("\"p0\"", "7")))).unwrap();
    }
}
