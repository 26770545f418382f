//! A history as a picture: one HTML page with a time line for each caller, which shows at a glance what cannot be ordered.
//!
//! The page stands alone. It loads nothing, runs no script, and tells the browser to allow neither; all that the history
//! says is text in it. Of a long history it shows the calls that cannot be ordered and those nearest to them.
//!
//! Events are as far apart as their labels need, not as they were in time: what a history says is which call ended before
//! which began, and that is what can be seen.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::human::{ended, printable};
use crate::history::{Call, Event, History, Judgement};
use crate::property::Property;

/// So many calls are shown at most, but all that cannot be ordered: more do not fit on a screen.
const MOST_CALLS: usize = 24;

/// More events than this have their times written from top to bottom, which takes less room.
const MOST_ROOMY: usize = 16;

/// Letters of a text, in bars and elsewhere; there is more to say than fits on a page.
const LONGEST_LABEL: usize = 60;
const LONGEST_TEXT: usize = 500;

/// Times above this are counted from the first one shown.
const WIDEST_TIME: u64 = 999_999;

/// What the browser may do with the page: nothing but to show it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2530; --paper: #fff; --row: #eef2f6; --call: #cfd9e4; --rule: #aab7c4;
  --core: #b34700; --on-core: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf0; --paper: #12171d; --row: #1c232b; --call: #3b4857; --rule: #51606f }
}
body { margin: 1.5rem; font: 15px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { margin: 0; font-size: 1.2rem }
h2 { margin: 1.5rem 0 .4rem; font-size: 1rem }
p { max-width: 60rem; margin: .4rem 0 }
summary { margin: 1.5rem 0 .4rem; cursor: pointer }
.why { font-size: 1.2rem }
.frame { margin: 1rem 0; overflow-x: auto }
.lines { display: grid; row-gap: 2px; font-size: .8rem; line-height: 1.25 }
.axis, .caller { position: sticky; left: 0; z-index: 1; padding: .3rem .8rem .3rem .4rem; background: var(--paper) }
.caller { align-content: center; font-weight: bold; background: var(--row) }
.row { background: var(--row) }
.event { padding: .3rem .4rem; border-left: 1px dotted var(--rule); font-variant-numeric: tabular-nums }
.dense .event { padding: .3rem 0; writing-mode: vertical-lr }
.dense .axis { min-height: 6rem; align-content: end }
.skip { border-left: 4px double var(--rule) }
.call { margin: .3rem 0; padding: .25rem .4rem; border: 2px solid var(--rule); border-radius: 4px; background: var(--call) }
.call span { display: block }
.core { border-color: var(--ink); color: var(--on-core); background: var(--core) }
.open { border-right: 0; border-style: dashed; border-radius: 4px 0 0 4px }
.mark { display: inline-block; min-width: 1.3em; padding: 0 .2em; border-radius: 1em; font-weight: bold; text-align: center;
  color: var(--core); background: var(--on-core) }
span, td, .caller { unicode-bidi: isolate }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top }
th { white-space: nowrap }
td { overflow-wrap: anywhere }
";

/// The page of a history, and of what judging it came to; `unit` is what its times are: "time", "line", "event".
pub fn render(history: &History, judgement: &Judgement, unit: &str) -> String {
    let (verdict, why) = told(judgement);
    let title = format!("{verdict}: {}", Property::Linearizable);
    let picture = Picture::new(history, judgement);
    let (core, others): (Vec<&Bar<'_>>, Vec<&Bar<'_>>) = picture.bars.iter().partition(|bar| bar.mark.is_some());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.why { (cut(&why, LONGEST_TEXT)) }
                (legend(&picture, core.len()))
                (lines(&picture, unit))
                @if !core.is_empty() {
                    h2 { "The calls that cannot be ordered" }
                    (table(&core, unit))
                }
                @if !others.is_empty() {
                    details { summary { "The other calls shown: " (others.len()) } (table(&others, unit)) }
                }
            }
        }
    };
    page.into_string()
}

/// The verdict, and the reason in a sentence.
fn told(judgement: &Judgement) -> (&'static str, String) {
    match judgement {
        Judgement::Violated(conflict) => ("violated", format!("{}.", conflict.why.trim_end_matches('.'))),
        Judgement::Linearizable { .. } => {
            ("pass", "There is an order of the calls that explains all answers.".to_owned())
        }
        Judgement::Unknown { why } => {
            ("unknown", format!("It is not known whether any order explains the answers: {why}."))
        }
    }
}

/// What the picture means.
fn legend(picture: &Picture<'_>, core: usize) -> Markup {
    html! {
        p {
            "Each row is a caller, each bar a call from its invocation to its return. Further left is earlier; how wide a bar "
            "is says nothing. Each call takes effect at one instant within its bar: "
            @match core {
                0 => "nothing is highlighted.",
                1 => "whatever instants the others have, there is none at which the numbered call could be answered so.",
                _ => "for the numbered ones there are no instants at which they could be answered so.",
            }
        }
        @if picture.bars.iter().any(|bar| !bar.call.has_returned()) {
            p { "A bar that is open to the right has no known end: the call may take effect at any time, or never." }
        }
        @if picture.left_out > 0 {
            p {
                (picture.left_out) " calls are left out; shown are "
                @if core == 0 { "the first ones." } @else { "those that cannot be ordered, and the nearest to them." }
                " A double line in the time line is where some are missing."
            }
        }
    }
}

/// A call in the picture.
struct Bar<'a> {
    call: &'a Call,
    /// Its number among the calls that cannot be ordered.
    mark: Option<usize>,
    /// The row of the grid.
    row: usize,
}

/// A caller: its rows of the grid. There are several where its calls overlap.
struct Caller<'a> {
    name: &'a str,
    first_row: usize,
    /// When the last call in each row returned.
    ends: Vec<Event>,
}

/// An event, and its time.
struct Tick {
    event: Event,
    time: u64,
    /// Are there events before it that are not shown?
    is_after_gap: bool,
}

/// What is shown, and where.
struct Picture<'a> {
    bars: Vec<Bar<'a>>,
    callers: Vec<Caller<'a>>,
    ticks: Vec<Tick>,
    left_out: usize,
}

impl<'a> Picture<'a> {
    fn new(history: &'a History, judgement: &Judgement) -> Picture<'a> {
        let calls = history.calls();
        let core: &[usize] = match judgement {
            Judgement::Violated(conflict) => &conflict.core,
            Judgement::Linearizable { .. } | Judgement::Unknown { .. } => &[],
        };
        let places = chosen(calls, core);
        // Whose calls cannot be ordered comes first.
        let mut callers = callers(core.iter().chain(&places).map(|place| &calls[*place]));
        let tracks: Vec<(usize, usize)> = places.iter().map(|place| track(&mut callers, &calls[*place])).collect();
        let mut next = FIRST_ROW;
        for caller in &mut callers {
            caller.first_row = next;
            next += caller.ends.len();
        }
        let bar = |(place, (caller, track)): (&usize, (usize, usize))| {
            let mark = core.iter().position(|marked| marked == place).map(|index| index + 1);
            Bar { call: &calls[*place], mark, row: callers[caller].first_row + track }
        };
        let bars: Vec<Bar<'a>> = places.iter().zip(tracks).map(bar).collect();
        let ticks = ticks(&bars);
        Picture { bars, callers, ticks, left_out: calls.len() - places.len() }
    }

    /// The line of the grid at which an event is; the last one for what never happens.
    fn line(&self, event: Event) -> usize {
        FIRST_LINE + self.ticks.partition_point(|tick| tick.event < event)
    }
}

/// The first line of the grid that is an event; before it are the callers' names.
const FIRST_LINE: usize = 2;

/// The first row of the grid that is a caller's; above it are the times.
const FIRST_ROW: usize = 2;

/// Places of the calls to show, ascending: those of the core, and the nearest to them.
fn chosen(calls: &[Call], core: &[usize]) -> Vec<usize> {
    let distance = |call: &Call| core.iter().map(|place| gap(call, &calls[*place])).min().unwrap_or(0);
    let ranked = calls.iter().enumerate().map(|(place, call)| (!core.contains(&place), distance(call), place));
    let mut ranked: Vec<(bool, u64, usize)> = ranked.collect();
    let most = MOST_CALLS.max(core.len());
    if ranked.len() > most {
        ranked.select_nth_unstable(most);
        ranked.truncate(most);
    }
    let mut places: Vec<usize> = ranked.into_iter().map(|(.., place)| place).collect();
    places.sort_unstable();
    places
}

/// How many events are between two calls; none where they overlap.
fn gap(one: &Call, other: &Call) -> u64 {
    one.invoked.saturating_sub(other.returned).max(other.invoked.saturating_sub(one.returned))
}

/// Who makes these calls, in their order; still without rows.
fn callers<'a>(calls: impl Iterator<Item = &'a Call>) -> Vec<Caller<'a>> {
    let mut callers: Vec<Caller<'a>> = Vec::new();
    for call in calls {
        let name: &str = &call.recorded.process;
        if callers.iter().all(|caller| caller.name != name) {
            callers.push(Caller { name, first_row: 0, ends: Vec::new() });
        }
    }
    callers
}

/// The place of a call's caller, and the first of its rows where there is room for the call after those before it.
fn track(callers: &mut [Caller<'_>], call: &Call) -> (usize, usize) {
    let is_caller = |caller: &Caller<'_>| caller.name == &*call.recorded.process;
    let place = callers.iter().position(is_caller).expect("whoever calls is among the callers");
    let ends = &mut callers[place].ends;
    let track = ends.iter().position(|end| *end < call.invoked).unwrap_or(ends.len());
    if track == ends.len() {
        ends.push(0);
    }
    ends[track] = call.returned;
    (place, track)
}

/// The events of these calls, in order.
fn ticks(bars: &[Bar<'_>]) -> Vec<Tick> {
    let calls = bars.iter().map(|bar| bar.call);
    let invocations = calls.clone().map(|call| (call.invoked, call.recorded.invoked));
    let returns = calls.filter(|call| call.has_returned());
    let returns = returns.map(|call| (call.returned, call.recorded.returned.unwrap_or(call.recorded.invoked)));
    let mut events: Vec<(Event, u64)> = invocations.chain(returns).collect();
    events.sort_unstable();
    let mut before = 0;
    let tick = |(event, time)| Tick { event, time, is_after_gap: std::mem::replace(&mut before, event) + 1 < event };
    events.into_iter().map(tick).collect()
}

fn lines(picture: &Picture<'_>, unit: &str) -> Markup {
    let columns = format!("grid-template-columns: max-content repeat({}, auto)", picture.ticks.len().max(1));
    let bottom = picture.callers.last().map_or(FIRST_ROW, |caller| caller.first_row + caller.ends.len());
    let first = picture.ticks.first().map_or(0, |tick| tick.time);
    let base = if picture.ticks.iter().any(|tick| tick.time > WIDEST_TIME) { first } else { 0 };
    html! {
        div.frame {
            div.lines.dense[picture.ticks.len() > MOST_ROOMY] style=(columns) {
                @for caller in &picture.callers {
                    div.row style=(area(caller.first_row, 1, caller.first_row + caller.ends.len(), None)) {}
                }
                @for (index, tick) in picture.ticks.iter().enumerate() {
                    @let at = FIRST_LINE + index;
                    div.event.skip[tick.is_after_gap] style=(area(1, at, bottom, Some(at + 1))) {
                        @if base > 0 { "+" } (tick.time.saturating_sub(base))
                    }
                }
                div.axis style=(area(1, 1, 2, Some(2))) { "caller ↓ " (unit) " →" @if base > 0 { " " (base) } }
                @for caller in &picture.callers {
                    @let (top, below) = (caller.first_row, caller.first_row + caller.ends.len());
                    div.caller style=(area(top, 1, below, Some(2))) title=(cut(caller.name, LONGEST_TEXT)) {
                        (cut(caller.name, LONGEST_LABEL))
                    }
                }
                @for bar in &picture.bars { (drawn(picture, bar)) }
            }
        }
    }
}

fn drawn(picture: &Picture<'_>, bar: &Bar<'_>) -> Markup {
    let (call, outcome) = (bar.call.recorded.operation.to_string(), ended(&bar.call.recorded.outcome));
    let (left, right) =
        (picture.line(bar.call.invoked), bar.call.has_returned().then(|| picture.line(bar.call.returned)));
    html! {
        div.call.core[bar.mark.is_some()].open[right.is_none()]
            style=(area(bar.row, left, bar.row + 1, right))
            title=(cut(&format!("{call}: {outcome}"), LONGEST_TEXT))
        {
            span {
                @if let Some(number) = bar.mark { b.mark { (number) } " " }
                (cut(&call, LONGEST_LABEL))
            }
            span { "→ " (cut(&outcome, LONGEST_LABEL)) }
        }
    }
}

/// A place in the grid; up to its right edge, if nothing else is said.
fn area(top: usize, left: usize, bottom: usize, right: Option<usize>) -> String {
    let right = right.map_or("-1".to_owned(), |right| right.to_string());
    format!("grid-area: {top} / {left} / {bottom} / {right}")
}

fn table(bars: &[&Bar<'_>], unit: &str) -> Markup {
    html! {
        table {
            tr {
                @if bars.iter().any(|bar| bar.mark.is_some()) { th { "number" } }
                th { "caller" } th { "invoked (" (unit) ")" } th { "returned" } th { "call" } th { "what came of it" }
            }
            @for bar in bars {
                @let recorded = &bar.call.recorded;
                tr {
                    @if let Some(number) = bar.mark { td { (number) } }
                    td { (cut(&recorded.process, LONGEST_TEXT)) }
                    td { (recorded.invoked) }
                    td { @match recorded.returned { Some(returned) => (returned), None => "not known" } }
                    td { (cut(&recorded.operation.to_string(), LONGEST_TEXT)) }
                    td { (cut(&ended(&recorded.outcome), LONGEST_TEXT)) }
                }
            }
        }
    }
}

/// A text from outside as it can be shown, cut where it is long.
fn cut(text: &str, most: usize) -> String {
    let shown = printable(text);
    match shown.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}
