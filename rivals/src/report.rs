//! What the comparison came to: a summary, a table of all mutants, and a plot.
//!
//! A tool's figure for a mutant is the median over its seeds. A trial that found nothing counts with the tests that it
//! ran, as if the next one had failed: that favours the tool.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use plotters::prelude::*;

use crate::compare::{Row, Tool};

/// Writes `RESULTS.md` and `plot.svg` into a folder, and the summary to stdout.
pub fn write(rows: &[Row], budget: u32, out: &Path) -> Result<()> {
    let scores = scores(rows);
    let summary = summary(&scores, rows);
    print!("{summary}");
    fs::write(out.join("RESULTS.md"), format!("{}{summary}\n{}", heading(rows, budget), table(&scores)))?;
    plot(rows, budget, &out.join("plot.svg"))
}

/// One mutant, with each tool's trials.
struct Score<'a> {
    mutant: &'a str,
    /// In the order of [`tools`].
    trials: Vec<Trials<'a>>,
}

/// The trials of one tool on one mutant.
struct Trials<'a> {
    tool: Tool,
    rows: Vec<&'a Row>,
}

fn tools(rows: &[Row]) -> impl Iterator<Item = Tool> {
    Tool::value_variants().iter().copied().filter(|tool| rows.iter().any(|row| row.tool == *tool))
}

fn scores(rows: &[Row]) -> Vec<Score<'_>> {
    let mut mutants: Vec<&str> = rows.iter().map(|row| row.mutant.as_str()).collect();
    mutants.sort_unstable();
    mutants.dedup();
    let score = |mutant| Score {
        mutant,
        trials: tools(rows)
            .map(|tool| Trials {
                tool,
                rows: rows.iter().filter(|row| row.mutant == mutant && row.tool == tool).collect(),
            })
            .collect(),
    };
    mutants.into_iter().map(score).collect()
}

impl Trials<'_> {
    fn found(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome.property.is_some()).count()
    }

    /// With most seeds?
    fn is_found(&self) -> bool {
        2 * self.found() > self.rows.len()
    }

    fn executions(&self) -> f64 {
        median(self.rows.iter().map(|row| row.outcome.executions as f64).collect())
    }

    fn seconds(&self) -> f64 {
        median(self.rows.iter().map(|row| row.outcome.seconds).collect())
    }

    fn steps(&self) -> Option<f64> {
        let steps: Vec<f64> = self.rows.iter().filter_map(|row| Some(row.outcome.steps? as f64)).collect();
        (!steps.is_empty()).then(|| median(steps))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    f64::exp(sum / count)
}

impl Tool {
    fn title(self) -> &'static str {
        match self {
            Tool::Poolproof => "Poolproof",
            Tool::Proptest => "proptest",
            Tool::StateMachine => "proptest-state-machine",
            Tool::Hegel => "hegel",
            Tool::Bolero => "bolero, random",
            Tool::Libfuzzer => "libFuzzer, derived",
        }
    }
}

fn heading(rows: &[Row], budget: u32) -> String {
    let seeds = rows.iter().map(|row| row.seed).max().unwrap_or_default();
    format!(
        "# Poolproof beside other tools\n\nWritten by `cargo xtask rivals`: {seeds} seeds, at most {budget} tests each. Not found counts with the\n\
         tests that were run.\n\n"
    )
}

/// One line a tool.
fn summary(scores: &[Score<'_>], rows: &[Row]) -> String {
    let of = |score: &Score<'_>, tool: Tool, figure: &dyn Fn(&Trials<'_>) -> Option<f64>| {
        score.trials.iter().find(|trials| trials.tool == tool).and_then(figure)
    };
    let ours = |score: &Score<'_>, figure: &dyn Fn(&Trials<'_>) -> Option<f64>| of(score, Tool::Poolproof, figure);
    let base = geometric_mean(scores.iter().filter_map(|score| ours(score, &|trials| Some(trials.executions()))));
    let mut text = String::from(
        "| tool | mutants found with most seeds | trials that found | executions, geometric mean | against Poolproof | \
         ms to the first failure, median | shrunk longer / as long / shorter than Poolproof's |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for tool in tools(rows) {
        let trials: Vec<&Trials<'_>> =
            scores.iter().filter_map(|score| score.trials.iter().find(|trials| trials.tool == tool)).collect();
        let executions = geometric_mean(trials.iter().map(|trials| trials.executions()));
        let found = trials.iter().filter(|trials| trials.is_found()).count();
        let seconds = median(trials.iter().map(|trials| trials.seconds()).collect());
        let lengths = |order: std::cmp::Ordering| {
            let compared = scores.iter().filter_map(|score| {
                let steps = |trials: &Trials<'_>| trials.steps();
                Some(of(score, tool, &steps)?.total_cmp(&ours(score, &steps)?))
            });
            compared.filter(|found| *found == order).count()
        };
        let (longer, equal, shorter) = (
            lengths(std::cmp::Ordering::Greater),
            lengths(std::cmp::Ordering::Equal),
            lengths(std::cmp::Ordering::Less),
        );
        let all: usize = trials.iter().map(|trials| trials.found()).sum();
        let count: usize = trials.iter().map(|trials| trials.rows.len()).sum();
        let _ = writeln!(
            text,
            "| {} | {found} of {} | {all} of {count} | {executions:.1} | {:.1}x | {:.1} | {longer} / {equal} / {shorter} |",
            tool.title(),
            trials.len(),
            executions / base,
            seconds * 1e3,
        );
    }
    text
}

/// One line a mutant: executions and steps of each tool.
fn table(scores: &[Score<'_>]) -> String {
    let Some(first) = scores.first() else { return String::new() };
    let mut text = String::from(
        "Executions to the first failure, and steps of the shrunk one; medians. A number in brackets: so many trials found nothing.\n\n| mutant |",
    );
    for trials in &first.trials {
        let _ = write!(text, " {} |", trials.tool.title());
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(first.trials.len()));
    text.push('\n');
    for score in scores {
        let _ = write!(text, "| {} |", score.mutant);
        for trials in &score.trials {
            let _ = write!(text, " {} |", cell(trials));
        }
        text.push('\n');
    }
    text
}

fn cell(trials: &Trials<'_>) -> String {
    let missed = trials.rows.len() - trials.found();
    let steps = trials.steps().map(|steps| format!(", {steps}")).unwrap_or_default();
    match (trials.found(), missed) {
        (0, _) => "not found".to_owned(),
        (_, 0) => format!("{}{steps}", trials.executions()),
        (_, _) => format!("{}{steps} ({missed})", trials.executions()),
    }
}

/// The share of trials that found something within so many executions.
fn plot(rows: &[Row], budget: u32, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("cannot draw the plot: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((1.0..f64::from(budget)).log_scale(), 0.0..100.0)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("tests until the first failure")
        .y_desc("% of trials that found their mutant")
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    for (index, tool) in tools(rows).enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let style = ShapeStyle { color: colour, filled: false, stroke_width: if index == 0 { 4 } else { 2 } };
        chart
            .draw_series(LineSeries::new(curve(rows, tool, budget), style))
            .map_err(|error| failed(&error))?
            .label(tool.title())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().context("cannot write the plot")
}

fn curve(rows: &[Row], tool: Tool, budget: u32) -> Vec<(f64, f64)> {
    let own: Vec<&Row> = rows.iter().filter(|row| row.tool == tool).collect();
    let mut found: Vec<f64> =
        own.iter().filter(|row| row.outcome.property.is_some()).map(|row| row.outcome.executions as f64).collect();
    found.sort_by(f64::total_cmp);
    let share = |count: usize| 100.0 * count as f64 / own.len() as f64;
    let mut points = vec![(1.0, 0.0)];
    for (count, executions) in found.iter().enumerate() {
        points.extend([(*executions, share(count)), (*executions, share(count + 1))]);
    }
    points.push((f64::from(budget), share(found.len())));
    points
}
