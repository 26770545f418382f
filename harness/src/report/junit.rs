//! A report in JUnit's XML form: one test case a property, skipped where it was not looked at.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as JunitReport, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use crate::property::{Property, Verdict};

/// The report as JUnit's XML.
///
/// # Errors
///
/// When the text cannot be written as XML.
pub fn render(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut suite = TestSuite::new(format!("poolproof {}", report.sut));
    suite.set_time(Duration::try_from_secs_f64(report.seconds).unwrap_or_default());
    suite.add_test_cases(Property::ALL.into_iter().map(|property| test_case(report, property)));
    if report.verdict == Verdict::Unknown {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("unknown: not everything was exercised").set_description(report.missing.join("\n"));
        suite.add_test_case(TestCase::new("exercised", status));
    }
    let mut junit = JunitReport::new("poolproof");
    junit.add_test_suite(suite);
    junit.to_string()
}

fn test_case(report: &Report, property: Property) -> TestCase {
    let broken: Vec<_> = report.violations.iter().filter(|violation| violation.property == property).collect();
    let unchecked = report.unchecked.iter().find(|(unchecked, _)| *unchecked == property);
    let mut status = match (broken.first(), unchecked) {
        (Some(_), _) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        (None, Some(_)) => TestCaseStatus::skipped(),
        (None, None) => TestCaseStatus::success(),
    };
    if let (true, Some((_, why))) = (broken.is_empty(), unchecked) {
        status.set_message(*why);
    }
    if let Some(first) = broken.first() {
        let details = broken.iter().map(|one| format!("{}\n{}{}\n", one.message, one.scenario, one.reproduce));
        status.set_message(first.message.clone()).set_description(details.collect::<String>());
    }
    let mut case = TestCase::new(property.name(), status);
    case.set_classname(report.sut.clone());
    case
}
