//! One scenario, run and then looked at from outside: promises that no single run can show.
//!
//! `unpredictable` needs statistics ([`chance`](super::chance)) and a second instance of the system:
//! the same choices again, where there were 2^40 ways to choose, are no chance. `bounded` needs a
//! second scenario: the same steps on small pools must take as long. A campaign spends only a part
//! of its time on such second looks.

use std::time::{Duration, Instant};

use super::blame::without_suspects;
use super::chance::{CHANCE_BITS, Choices};
use super::heap;
use super::minimise::kinship;
use super::run::{Finding, Run, Runner, Unwatched};
use super::watchdog::OnHang;
use crate::contract::Clock;
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::shrink::with_small_pools;
use crate::sut::{Failure, Resources, Sut};

/// A call that takes less than this needs no second look; the second is for systems whose calls take
/// a microsecond.
const LONG_CALL: Duration = Duration::from_millis(20);
const LONG_FAST_CALL: Duration = Duration::from_millis(2);

/// What a [`Border`] begins with.
const LARGEST_RATIO: u32 = 20;

/// So many pairs of runs, on large and on small pools, must all say the same: a system that pauses now
/// and then does so on small pools, too. Fewer where they take long.
const PAIRS: usize = 16;
const FEWEST_PAIRS: usize = 4;
const TIME_FOR_PAIRS: Duration = Duration::from_secs(2);

/// Of a system that chooses at random, so many runs in a row must say the same.
const BLAME_TIMES: u32 = 8;

/// A campaign compares instances so often, because most start anew for it.
const COMPARISONS: u32 = 3;

/// A campaign looks after the memory of one scenario in so many; of a fast system it sees more of them.
const MEMORY_PERIOD: u64 = 64;
const FAST_MEMORY_PERIOD: u64 = 256;

/// A campaign may spend one part in so many of its time on looking at long calls, and this much to
/// begin with.
const TIME_SHARE: u32 = 4;
const FIRST_SHARE: Duration = Duration::from_secs(2);

/// Where calls begin to be too long.
#[derive(Clone, Copy)]
struct Border {
    /// What takes less than this is no long call.
    long_call: Duration,
    /// How much longer the same steps may take on a large pool than on a small one.
    ratio: u32,
    /// So many pairs of runs must say so.
    pairs: usize,
}

impl Border {
    /// Did the same steps take much longer on large pools than on small ones?
    fn is_passed(self, large: &Run, small: &Run) -> bool {
        // Calls that are refused only on small pools are quick, and say nothing about large ones.
        small.accepted >= large.accepted / 2 && large.time_in_calls >= small.time_in_calls * self.ratio
    }
}

/// Why a property cannot be broken by this system, or would not be seen: a campaign says nothing of
/// it. `None` for what is looked at.
pub fn unchecked(sut: &dyn Sut, property: Property) -> Option<&'static str> {
    let contract = sut.contract();
    let (is_checked, why) = match property {
        Property::Linearizable => (false, "only scenarios with lanes show it, which `race` draws"),
        Property::Tidy => (is_countable(sut), "what this system has hold of cannot be counted"),
        Property::Unpredictable => (contract.unpredictable, "its contract does not promise random choice"),
        Property::Durable => (contract.durable, "its contract does not promise durability"),
        Property::Expiring => (contract.clock != Clock::None, "it has no leases"),
        _ => return None,
    };
    (!is_checked).then_some(why)
}

/// Runs scenarios and looks at them.
pub struct Examiner {
    /// Runs them, and holds the coverage.
    pub runner: Runner,
    /// How many more comparisons of two instances.
    comparisons: u32,
    /// How many scenarios come before the memory of one is looked after.
    until_memory: u64,
    /// What takes less than this is no long call.
    long_call: Duration,
    /// So many times as clear as usual must be what is measured or left to chance.
    margin: u32,
    /// Is the time for long calls limited?
    is_sparing: bool,
    started: Instant,
    /// Time spent on long calls.
    spent: Duration,
}

impl Examiner {
    /// For a campaign of many scenarios: a few second looks.
    pub fn sparing(sut: &dyn Sut) -> Examiner {
        let thorough = Examiner::thorough(sut);
        let runner = if sut.is_fast() { thorough.runner.trusting_resets() } else { thorough.runner };
        Examiner { runner, comparisons: COMPARISONS, is_sparing: true, ..thorough }
    }

    /// The same for one scenario in many variations: only now and then it is looked at whether what should be gone is gone.
    pub fn trusting_resets(self) -> Examiner {
        Examiner { runner: self.runner.trusting_resets(), ..self }
    }

    /// The same, which looks after every scenario whether what should be gone is gone, and knows then in which state the
    /// scenario ended. Where equal states are visited once, what is not seen here is not seen at all.
    pub fn keeping_state(self) -> Examiner {
        Examiner { runner: self.runner.keeping_state(), ..self }
    }

    /// For single scenarios: as many second looks as there is reason for.
    pub fn thorough(sut: &dyn Sut) -> Examiner {
        Examiner {
            runner: Runner::new(sut),
            comparisons: u32::MAX,
            until_memory: 0,
            long_call: if sut.is_fast() { LONG_FAST_CALL } else { LONG_CALL },
            margin: 1,
            is_sparing: false,
            started: Instant::now(),
            spent: Duration::ZERO,
        }
    }

    /// The same with a [watched](Runner::watched) runner.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn watched(self, sut: &dyn Sut, on_hang: OnHang) -> Result<Examiner, Failure> {
        Ok(Examiner { runner: self.runner.watched(sut, on_hang)?, ..self })
    }

    /// From now on, what is measured or left to chance must be so many times as clear as usual: what
    /// is only just a violation here is none on the next machine.
    pub fn demand(&mut self, margin: u32) {
        self.margin = margin;
    }

    /// So improbable must be what is no chance.
    fn chance_bits(&self) -> f64 {
        CHANCE_BITS * f64::from(self.margin)
    }

    /// Runs a scenario from the empty state.
    ///
    /// # Errors
    ///
    /// The harness's or the user's own; whatever the system does wrong is a finding.
    pub fn examine(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Run, Failure> {
        if scenario.has_lanes()
            && let Some(run) = self.race(sut, scenario)?
        {
            return Ok(run);
        }
        let mut run = self.runner.run(sut, scenario, &mut Unwatched)?;
        if run.finding.is_none() {
            let mut violation = self.predictable(sut, scenario, &run.choices)?;
            if violation.is_none() {
                violation = self.untidy(sut, scenario, run.at_start)?;
            }
            if violation.is_none() && self.is_memory_due(sut) {
                violation = self.hoards(sut, scenario)?;
            }
            if violation.is_none() {
                violation = self.unbounded(sut, scenario, &run)?;
            }
            run.finding = violation.map(|violation| Finding::new(scenario.steps.len(), violation));
        } else if let Some(finding) = &mut run.finding
            && tells_the_deed(finding.violation.property)
        {
            self.blame(sut, scenario, finding)?;
        }
        Ok(run)
    }

    /// Names the promise that is broken after what makes it break, where that is a name or a spelling.
    fn blame(&mut self, sut: &mut dyn Sut, scenario: &Scenario, finding: &mut Finding) -> Result<(), Failure> {
        // What is drawn may pass by chance, too.
        let times = if sut.contract().unpredictable { BLAME_TIMES } else { 1 };
        for (property, plain) in without_suspects(scenario) {
            let mut passes = true;
            for _ in 0..times {
                passes = passes && self.uncounted(|runner| runner.run(sut, &plain, &mut Unwatched))?.finding.is_none();
            }
            if passes {
                finding.violation.property = property;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Are choices that are promised to be random no random ones, or the same in two fresh instances?
    fn predictable(
        &mut self,
        sut: &mut dyn Sut,
        scenario: &Scenario,
        choices: &Choices,
    ) -> Result<Option<Violation>, Failure> {
        let violation = |message| Ok(Some(Violation::new(Property::Unpredictable, message)));
        if let Some(suspicion) = choices.suspicion(self.chance_bits()) {
            return violation(suspicion);
        }
        if choices.bits < self.chance_bits() || self.comparisons == 0 {
            return Ok(None);
        }
        self.comparisons = self.comparisons.saturating_sub(1);
        let two = self.uncounted(|runner| choices_of_two(runner, sut, scenario))?;
        let Some((first, second)) = two else { return Ok(None) };
        if choices.can_be_tested() {
            self.runner.model.coverage.tested_choices += 1;
        }
        if first.grants != second.grants || first.bits < self.chance_bits() {
            return Ok(None);
        }
        let shown: Vec<String> = first.grants.iter().take(4).map(ToString::to_string).collect();
        violation(format!(
            "two fresh instances choose the same {} addresses ({}, …) among 2^{:.0} possibilities",
            first.grants.len(),
            shown.join(", "),
            first.bits
        ))
    }

    /// Do the same steps take much longer on large pools than on small ones?
    fn unbounded(&mut self, sut: &mut dyn Sut, scenario: &Scenario, run: &Run) -> Result<Option<Violation>, Failure> {
        // What must be clearer takes fewer pairs to see; what comes of it is looked at again in the usual way.
        let pairs = if self.margin > 1 { FEWEST_PAIRS } else { PAIRS };
        let border = Border { long_call: self.long_call * self.margin, ratio: LARGEST_RATIO * self.margin, pairs };
        if run.longest_call < border.long_call || !self.has_time() {
            return Ok(None);
        }
        let Some(small) = with_small_pools(scenario) else { return Ok(None) };
        let started = Instant::now();
        let compared = self.uncounted(|runner| compare_times(runner, sut, (scenario, run), &small, border));
        self.spent += started.elapsed();
        Ok(compared?.map(|message| Violation::new(Property::Bounded, message)))
    }

    /// Does it look after many scenarios?
    pub(super) fn is_sparing(&self) -> bool {
        self.is_sparing
    }

    /// May long calls be looked at again?
    fn has_time(&self) -> bool {
        !self.is_sparing || self.spent < FIRST_SHARE + self.started.elapsed() / TIME_SHARE
    }

    /// Is it time to look after the memory of a system in this process?
    fn is_memory_due(&mut self, sut: &dyn Sut) -> bool {
        if !keeps_memory_here(sut) {
            return false;
        }
        let is_due = self.until_memory == 0;
        self.until_memory = match (self.is_sparing, is_due) {
            (false, _) => 0,
            (true, true) if sut.is_fast() => FAST_MEMORY_PERIOD - 1,
            (true, true) => MEMORY_PERIOD - 1,
            (true, false) => self.until_memory - 1,
        };
        is_due
    }

    /// A second look: what it exercises was exercised before, it tells a fuzzer nothing, and its steps of I/O are not those
    /// of the scenario.
    pub(super) fn uncounted<T>(&mut self, look: impl FnOnce(&mut Runner) -> T) -> T {
        let Runner { counted, feedback, model, .. } = &mut self.runner;
        let (coverage, counted, feedback) = (model.coverage.clone(), counted.take(), feedback.take());
        let seen = look(&mut self.runner);
        self.runner.model.coverage = coverage;
        (self.runner.counted, self.runner.feedback) = (counted, feedback);
        seen
    }
}

/// Can anything that it has hold of be counted?
fn is_countable(sut: &dyn Sut) -> bool {
    sut.resources() != Resources::UNKNOWN || keeps_memory_here(sut)
}

/// Is its memory this process's, and counted?
fn keeps_memory_here(sut: &dyn Sut) -> bool {
    // Whoever can end a call that takes too long talks to another process.
    heap::IS_COUNTED && !sut.ends_late_calls()
}

/// What two fresh instances choose, where there can be such.
fn choices_of_two(
    runner: &mut Runner,
    sut: &mut dyn Sut,
    scenario: &Scenario,
) -> Result<Option<(Choices, Choices)>, Failure> {
    let mut fresh = || match sut.forget() {
        true => runner.run(sut, scenario, &mut Unwatched).map(|run| Some(run.choices)),
        false => Ok(None),
    };
    Ok(fresh()?.zip(fresh()?))
}

/// Why the steps take too long, given how they ran first, and the same steps on small pools.
fn compare_times(
    runner: &mut Runner,
    sut: &mut dyn Sut,
    (scenario, run): (&Scenario, &Run),
    small: &Scenario,
    border: Border,
) -> Result<Option<String>, Failure> {
    // Once on small pools tells most long calls for what they are; twice, because the machine may have had something else to do.
    let mut small_runs = vec![runner.run_timed(sut, small)?];
    if !border.is_passed(run, &small_runs[0]) {
        insert(&mut small_runs, runner.run_timed(sut, small)?);
    }
    let mut large = run.clone();
    let started = Instant::now();
    for pair in 0..border.pairs {
        if !border.is_passed(&large, &small_runs[0]) {
            return Ok(None);
        }
        if pair >= FEWEST_PAIRS && started.elapsed() >= TIME_FOR_PAIRS {
            break;
        }
        let again = runner.run_timed(sut, scenario)?;
        // It may have been many short calls, or a machine that was busy then.
        if again.longest_call < border.long_call {
            return Ok(None);
        }
        if pair == 0 || again.time_in_calls < large.time_in_calls {
            large = again;
        }
        insert(&mut small_runs, runner.run_timed(sut, small)?);
    }
    // Neither a quick nor a slow one is typical.
    let typical = &small_runs[small_runs.len() / 2];
    if !border.is_passed(&large, typical) {
        return Ok(None);
    }
    let (large_time, small_time) = (large.time_in_calls, typical.time_in_calls);
    Ok(Some(format!("the calls take {large_time:.1?}, but {small_time:.1?} with every prefix cut to 256 addresses")))
}

/// Does the model see what was done wrong here, rather than why?
fn tells_the_deed(property: Property) -> bool {
    kinship(property).is_some() && !matches!(property, Property::Inert | Property::Canonical)
}

/// Keeps the runs in order, the quickest first.
fn insert(runs: &mut Vec<Run>, run: Run) {
    let place = runs.partition_point(|other| other.time_in_calls < run.time_in_calls);
    runs.insert(place, run);
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::scenario::parse;
    use crate::sut::memory::Memory;
    use crate::sut::reference::Variant;

    #[test]
    fn second_looks_count_no_steps_of_io() {
        let mut sut = Memory::with(Variant::parse("strategy=random").unwrap());
        let scenario = parse("poolproof scenario 1\npool p0 fd00::/64\nfill p0 \"a\" 4\n").unwrap();
        let mut examiner = Examiner::sparing(&sut);
        examiner.runner.counted = Some(Vec::new());
        examiner.examine(&mut sut, &scenario).unwrap();
        assert_eq!(examiner.comparisons, COMPARISONS - 1, "two instances were compared");
        assert_eq!(examiner.runner.counted.map(|io| io.len()), Some(scenario.steps.len()));
    }
}
