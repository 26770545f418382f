//! Verdicts in JUnit's XML form. Of a report it is one test case a property, skipped where that was not looked at; of a
//! history one; of mutants one each.
//!
//! There is no standard, but two schemas that tools go by: that of Ant's JUnit task, and that of Jenkins' xUnit plugin. What is
//! written here is valid against both. The first knows no attributes of the whole document and demands much of each suite that
//! says little: a host, a package, output.

use std::time::{Duration, SystemTime};

use quick_junit::{NonSuccessKind, Property as JunitProperty, Report as JunitReport, SerializeError};
use quick_junit::{TestCase, TestCaseStatus, TestSuite};

use super::Report;
use crate::history::Judgement;
use crate::property::{Property, Verdict};

/// Test cases that belong together, with figures that are said of all of them.
#[derive(Clone, Debug)]
pub struct Suite(TestSuite);

/// What became of a test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It was not looked at, for this reason.
    Skipped(String),
    /// Something is wrong with what was tested: what, and the details.
    Failed(String, String),
    /// It could not be tested: why, and the details.
    Error(String, String),
}

impl Suite {
    /// A suite without cases, which took so many seconds.
    pub fn new(name: &str, seconds: f64) -> Suite {
        let mut suite = TestSuite::new(name);
        suite.set_time(duration(seconds)).set_system_out("").set_system_err("");
        suite.add_property(JunitProperty::new("version", env!("CARGO_PKG_VERSION")));
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        for (name, value) in [("timestamp", now.trim_end_matches('Z')), ("hostname", "localhost"), ("package", name)] {
            suite.extra.insert(name.into(), value.into());
        }
        Suite(suite)
    }

    /// The suite with a figure.
    #[must_use]
    pub fn with_property(mut self, name: &str, value: &str) -> Suite {
        self.0.add_property(JunitProperty::new(name, value));
        self
    }

    /// The suite with one more case, which took so many seconds.
    #[must_use]
    pub fn with_case(mut self, class: &str, name: &str, seconds: f64, outcome: Outcome) -> Suite {
        let mut case = TestCase::new(name, status(outcome));
        case.set_classname(class).set_time(duration(seconds));
        self.0.add_test_case(case);
        self
    }
}

fn status(outcome: Outcome) -> TestCaseStatus {
    let (kind, message, details) = match outcome {
        Outcome::Passed => return TestCaseStatus::success(),
        Outcome::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why);
            return status;
        }
        Outcome::Failed(message, details) => (NonSuccessKind::Failure, message, details),
        Outcome::Error(message, details) => (NonSuccessKind::Error, message, details),
    };
    let mut status = TestCaseStatus::non_success(kind);
    let kind = if kind == NonSuccessKind::Failure { "violated" } else { "unknown" };
    status.set_type(kind).set_message(message).set_description(details);
    status
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The suites as a document.
///
/// # Errors
///
/// When the text cannot be written as XML.
pub fn document(suites: impl IntoIterator<Item = Suite>) -> Result<String, SerializeError> {
    let mut junit = JunitReport::new("poolproof");
    for (number, Suite(mut suite)) in suites.into_iter().enumerate() {
        suite.extra.insert("id".into(), number.to_string().into());
        junit.add_test_suite(suite);
    }
    Ok(without_attributes(&junit.to_string()?, "<testsuites"))
}

/// The text with the attributes of this tag, where it stands first, left out. In a value, `>` is written `&gt;`.
fn without_attributes(xml: &str, tag: &str) -> String {
    let Some((before, after)) = xml.split_once(tag) else { return xml.to_owned() };
    format!("{before}{tag}{}", &after[after.find('>').unwrap_or_default()..])
}

/// The report as JUnit's XML.
///
/// # Errors
///
/// When the text cannot be written as XML.
pub fn render(report: &Report) -> Result<String, SerializeError> {
    let mut suite = Suite::new(&format!("poolproof {}", report.sut), report.seconds)
        .with_property("scenarios", &report.scenarios.to_string())
        .with_property("operations", &report.operations.to_string());
    for property in Property::ALL {
        suite = suite.with_case(&report.sut, property.name(), 0.0, outcome(report, property));
    }
    if report.verdict == Verdict::Unknown {
        let unknown = Outcome::Error("not everything was exercised".to_owned(), report.missing.join("\n"));
        suite = suite.with_case(&report.sut, "exercised", 0.0, unknown);
    }
    document([suite])
}

fn outcome(report: &Report, property: Property) -> Outcome {
    let mut broken = report.violations.iter().filter(|violation| violation.property == property).peekable();
    if let Some(first) = broken.peek() {
        let message = first.message.clone();
        let details = broken.map(|one| format!("{}\n{}{}\n", one.message, one.scenario, one.reproduce));
        return Outcome::Failed(message, details.collect());
    }
    match report.unchecked.iter().find(|(unchecked, _)| *unchecked == property) {
        Some((_, why)) => Outcome::Skipped((*why).to_owned()),
        None => Outcome::Passed,
    }
}

/// What a recorded history was judged to be; `name` says which it was.
///
/// # Errors
///
/// When the text cannot be written as XML.
pub fn render_judgement(name: &str, judgement: &Judgement, seconds: f64) -> Result<String, SerializeError> {
    let outcome = match judgement {
        Judgement::Linearizable { .. } => Outcome::Passed,
        Judgement::Violated(conflict) => Outcome::Failed(conflict.why.clone(), String::new()),
        Judgement::Unknown { why } => Outcome::Error(why.clone(), String::new()),
    };
    document([Suite::new("poolproof history", seconds).with_case(
        name,
        Property::Linearizable.name(),
        seconds,
        outcome,
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_what_both_schemas_demand_and_nothing_that_one_forbids() {
        let suite = Suite::new("a <suite>", 1.5)
            .with_property("figure", "7")
            .with_case("c", "passed", 0.0, Outcome::Passed)
            .with_case("c", "skipped", 0.0, Outcome::Skipped("why".to_owned()))
            .with_case("c", "failed", 0.25, Outcome::Failed("a > b".to_owned(), "details".to_owned()))
            .with_case("c", "error", 0.0, Outcome::Error("no".to_owned(), String::new()));
        let xml = document([suite.clone(), suite]).unwrap();
        assert!(xml.contains("\n<testsuites>\n"), "{xml}");
        for part in [
            r#"<testsuite name="a &lt;suite&gt;" tests="4" skipped="1" errors="1" failures="1" time="1.500""#,
            r#" hostname="localhost" package="a &lt;suite&gt;" id="0">"#,
            r#" id="1">"#,
            r#"<property name="figure" value="7"/>"#,
            r#"<testcase name="passed" classname="c" time="0.000"/>"#,
            r#"<skipped message="why"/>"#,
            r#"<failure message="a &gt; b" type="violated">details</failure>"#,
            r#"<error message="no" type="unknown">"#,
            "<system-out></system-out>",
            "<system-err></system-err>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
        // Without a time zone.
        let timestamp = xml.split_once("timestamp=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
        assert!(timestamp.len() == "2026-01-01T00:00:00".len() && !timestamp.ends_with('Z'), "{timestamp}");
    }

    #[test]
    fn a_document_of_nothing_is_one() {
        assert!(document([]).unwrap().ends_with("<testsuites>\n</testsuites>\n"), "{:?}", document([]));
    }
}
