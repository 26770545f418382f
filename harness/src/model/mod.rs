//! The model: judges answers, does not predict them.
//!
//! An allocator may hand out any free address, so the model never says which. It takes a call with
//! its answer and either moves on or names the property that the answer breaks:
//!
//! 1. collect the reasons for which the call may, or must, be refused (`reason`);
//! 2. a refusal must have one of them; a result must have none that is compelling;
//! 3. check what the result says against the state, then change the state.
//!
//! [`judge`](Model::judge) dispatches; `pools`, `allocations` and `reads` hold the rules, one method
//! of the protocol each; `state`, [`pool`] and [`layout`] are the state. However much is held, judging
//! a call takes time by what the call says and lists, but for the logarithm.

mod allocations;
pub(crate) mod company;
pub mod coverage;
mod discreet;
mod doubt;
mod epoch;
mod index;
pub mod layout;
mod placement;
pub mod pool;
mod pools;
mod reads;
mod reason;
pub(crate) mod spans;
mod state;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use rustc_hash::FxHashSet;

use crate::address::Grant;
use crate::contract::{Clock, Contract};
use crate::operation::{Answer, Kind, Operation, Refusal, Response, Text, is_name};
use crate::property::{Property, Violation};
use coverage::{Coverage, Outcome};
use discreet::Owners;
use doubt::World;
use epoch::Epoch;
use pool::{Freed, Moment, Pool};
pub(crate) use reason::is_plain_name;
use reason::{Reason, Reasons};
use state::State;

/// Whole JSON numbers are exact up to here; a system may refuse times beyond.
pub const MAX_TIME_MS: u64 = (1 << 53) - 1;

/// A clock of real time that has not told it yet may show anything; later than this it is not believed.
const LATEST_START_MS: u64 = 1 << 52;

/// Slack, in milliseconds, given to systems on real time for rounding and for the way of a message.
const WALL_SLACK_MS: u64 = 3;

/// Two clocks of real time drift apart by less than one part in so many.
const WALL_DRIFT: u64 = 1_000;

/// So far beside a time told on real time, rounding and slack leave no doubt any more.
const WALL_MARGIN_MS: i128 = 4 * WALL_SLACK_MS as i128;

/// A raw line with this in it names a method, so that more than one thing may be wrong with it.
const METHOD_FIELD: &[u8] = b"\"method\"";

/// The judged state of a system.
#[derive(Clone, Debug)]
pub struct Model {
    contract: Contract,
    state: State,
    now: Moment,
    /// What the system's clock read when the model's read 0; learned from the times told.
    epoch: Option<Epoch>,
    /// Owners met in this scenario; they are nobody else's business.
    owners: Owners,
    /// Constant texts, by place and length, that were found to show nothing of the inside.
    discreet: FxHashSet<(usize, usize)>,
    /// What last changed or should not have changed the state.
    last: Event,
    /// Has the system lost the open transaction to a failure?
    is_lost: bool,
    /// The other states in which the system may be, after a call that may have happened or not.
    others: Vec<World>,
    /// A call was refused that may have been done in part; nothing is known from here on.
    uncertain: bool,
    /// Is it asked to say what it allows?
    explains: bool,
    /// What the last call was allowed to come to, where it is asked to say.
    allowed: String,
    /// What was exercised, over all scenarios.
    pub coverage: Coverage,
}

/// What happened last to the state; tells which promise a wrong listing breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Event {
    #[default]
    Changed,
    Refused,
    RolledBack,
    Restarted,
    Advanced,
    Reshaped,
}

impl Model {
    /// The model of an empty system with this contract.
    pub fn new(contract: Contract) -> Model {
        Model {
            contract,
            state: State::default(),
            now: Moment::default(),
            epoch: None,
            owners: Owners::default(),
            discreet: FxHashSet::default(),
            last: Event::Changed,
            is_lost: false,
            others: Vec::new(),
            uncertain: false,
            explains: false,
            allowed: String::new(),
            coverage: Coverage::default(),
        }
    }

    /// Back to the empty state; coverage is kept.
    pub fn reset(&mut self) {
        self.state.clear();
        self.now = Moment::default();
        self.epoch = None;
        self.owners.clear();
        self.last = Event::Changed;
        self.is_lost = false;
        self.others.clear();
        self.uncertain = false;
    }

    /// The same model, which from now on says what it allows; costs a little each call.
    pub fn explaining(self) -> Model {
        Model { explains: true, ..self }
    }

    /// What the last call was allowed to come to; empty unless it is [`explaining`](Model::explaining).
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// The contract by which it judges.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The pool with this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.state.pools().get(name)
    }

    /// Does an owner hold something in a pool?
    pub fn holds(&self, pool: &Text, owner: &Text) -> bool {
        self.state.held_in(pool, owner).next().is_some()
    }

    /// The names of all pools.
    pub fn pools(&self) -> impl Iterator<Item = &Text> {
        self.state.pools().keys()
    }

    /// Can nothing more be said, because a call may have been done in part?
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Is a transaction open?
    pub fn in_transaction(&self) -> bool {
        self.state.in_transaction()
    }

    /// The virtual clock since the scenario began.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The virtual clock since the scenario began, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now.earliest
    }

    /// What the system's clock will read so much later, if it has ever told what it reads.
    pub(crate) fn told_after(&self, ms: u64) -> Option<u64> {
        let epoch = self.epoch?;
        u64::try_from(epoch.earliest + i128::from(self.now.earliest) + i128::from(ms)).ok()
    }

    /// What it has learnt from answers that no state shows: where the clock began, and whether it has lost track.
    pub(crate) fn learnt(&self) -> (Option<i128>, bool) {
        (self.epoch.map(|epoch| epoch.earliest), self.uncertain)
    }

    /// Are there pools that have addresses in common?
    pub(crate) fn has_overlapping_pools(&self) -> bool {
        layout::overlap(self.state.pools().values().map(|pool| &pool.layout))
    }

    /// The instant on the model's own clock that lies `offset_ms` beside a time told for an expiry. On
    /// real time, where that is not known exactly, one that lies surely before it, or surely not before it.
    pub fn instant_of(&self, told_ms: u64, offset_ms: i64) -> Option<u64> {
        let (epoch, told_ms) = (self.epoch?, i128::from(told_ms));
        let instant = match self.contract.clock {
            Clock::Wall if offset_ms < 0 => told_ms - epoch.latest - WALL_MARGIN_MS,
            Clock::Wall => told_ms - epoch.earliest + WALL_MARGIN_MS,
            _ => told_ms - epoch.earliest,
        };
        u64::try_from(instant).ok().map(|instant| instant.saturating_add_signed(offset_ms))
    }

    /// On a clock of real time: the next call was sent and answered between these instants,
    /// milliseconds since the scenario began.
    pub fn observe_wall_clock(&mut self, sent_ms: u64, answered_ms: u64) {
        let slack = WALL_SLACK_MS + answered_ms / WALL_DRIFT;
        // A data base may read its clock at `begin` and once only; for it, time stands still until the end.
        let earliest = if self.in_transaction() { self.now.earliest } else { sent_ms.saturating_sub(slack) };
        self.now = Moment { earliest, latest: answered_ms.saturating_add(slack) };
        self.state.sweep(self.now);
    }

    /// On a clock of real time: some of it passed between two calls.
    pub fn let_time_pass(&mut self) {
        self.last = Event::Advanced;
    }

    /// Something happened after which nothing can be said any more.
    pub fn lose_track(&mut self) {
        self.uncertain = true;
    }

    /// Judges the answer to a call, and moves on with it.
    pub fn judge(&mut self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        self.coverage.count_call(operation.method(), Outcome::of(response));
        if self.uncertain {
            return Ok(());
        }
        if let Err(refusal) = response {
            self.judge_text(operation, refusal)?;
        }
        if self.others.is_empty() {
            self.judge_here(operation, response)
        } else {
            self.judge_worlds(operation, response)
        }
    }

    /// Judges the answer in the present world.
    fn judge_here(&mut self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        if self.is_lost {
            return self.judge_lost(operation, response);
        }
        match operation {
            Operation::CreatePool { pool, prefix, shape } => {
                self.create_pool(operation, response, pool, prefix, shape)?;
            }
            Operation::UpdatePool { pool, shape } => self.update_pool(operation, response, pool, shape)?,
            Operation::DeletePool { pool } => self.delete_pool(operation, response, pool)?,
            Operation::Allocate { owner, requests, ttl_ms } => {
                self.allocate(operation, response, owner, requests, *ttl_ms)?;
            }
            Operation::Release { pool, address, owner } => {
                self.release(operation, response, pool, address, owner.as_ref())?;
            }
            Operation::ReleaseOwner { owner } => self.release_owner(operation, response, owner)?,
            Operation::Renew { pool, address, owner, ttl_ms } => {
                self.renew(operation, response, (pool, address, owner), *ttl_ms)?;
            }
            Operation::Begin | Operation::Commit | Operation::Rollback => self.transact(operation, response)?,
            Operation::List { pool } => return self.list(operation, response, pool.as_ref()),
            Operation::Usage { pool } => return self.usage(operation, response, pool),
            Operation::Advance { ms } => self.advance(operation, response, *ms)?,
            Operation::Raw { line } => self.raw(operation, response, line)?,
        }
        if response.is_err() {
            self.last = Event::Refused;
        }
        Ok(())
    }

    /// What is held, with the pool's name and the owner's.
    pub fn held(&self) -> impl Iterator<Item = (Text, Grant, Text)> {
        let pools = self.state.pools().iter();
        pools.flat_map(|(name, pool)| pool.iter().map(|held| (name.clone(), held.grant, held.owner.clone())))
    }

    /// How much is held.
    pub(crate) fn count_held(&self) -> usize {
        self.state.pools().values().map(Pool::len).sum()
    }

    /// A number that two models share only if they allow the same from here on, but for a chance of one in
    /// 2^64.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut pools: Vec<_> = self.state.pools().iter().collect();
        pools.sort_by_key(|(name, _)| *name);
        for (name, pool) in pools {
            (name, format!("{:?}", pool.layout), pool.len()).hash(&mut hasher);
            for held in pool.iter() {
                (held.grant, &held.owner, held.expires.map(|expiry| expiry.at.earliest)).hash(&mut hasher);
            }
        }
        (self.now.earliest, self.state.undo_notes()).hash(&mut hasher);
        hasher.finish()
    }

    /// The system was restarted, or crashed and started again.
    pub fn restarted(&mut self, crashed: bool) {
        self.state.roll_back();
        self.is_lost = false;
        self.others.iter_mut().for_each(World::roll_back);
        if !self.contract.durable {
            self.state = State::default();
        }
        // A clock of real time may count from when the process started.
        if let Some(epoch) = &mut self.epoch {
            epoch.is_outdated = self.contract.clock == Clock::Wall;
        }
        self.last = Event::Restarted;
        let count = if crashed { &mut self.coverage.crashes } else { &mut self.coverage.restarts };
        *count += 1;
    }

    /// `begin`, `commit` and `rollback`.
    fn transact(&mut self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        let is_open = self.in_transaction();
        let mut reasons = Reasons::new();
        match operation {
            Operation::Begin if is_open => {
                reasons.push(Reason::must(Kind::Invalid, Property::Classified, "a transaction is open already"))
            }
            Operation::Begin => {}
            _ if is_open => {}
            _ => reasons.push(Reason::must(Kind::Invalid, Property::Classified, "no transaction is open")),
        }
        if self.settle(operation, response, &reasons)?.is_none() {
            return Ok(());
        }
        match operation {
            Operation::Begin => self.state.begin(),
            Operation::Commit => self.state.commit(),
            _ => self.roll_back(),
        }
        self.expect_done(operation, response)
    }

    fn roll_back(&mut self) {
        self.state.roll_back();
        self.state.set_freed(Freed::Undone);
        self.last = Event::RolledBack;
    }

    fn advance(&mut self, operation: &Operation, response: &Response, ms: u64) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        if self.contract.clock != Clock::Virtual {
            reasons.push(Reason::may(Kind::Invalid));
            reasons.push(Reason::may(Kind::Unsupported));
        }
        if self.in_transaction() {
            let why = "the clock does not move inside a transaction";
            reasons.push(Reason::must(Kind::Invalid, Property::Classified, why));
        }
        if self.passes_the_end_of_time(ms) {
            reasons.push(Reason::may(Kind::Invalid));
        }
        let Some(answer) = self.settle(operation, response, &reasons)? else { return Ok(()) };
        let Answer::Now { now_ms } = answer else { return Err(self.wrong_answer(operation)) };
        self.now = self.now.plus(ms);
        if !self.agrees(*now_ms, self.now) {
            let message =
                format!("`{operation}` answered that it is now {now_ms} ms, which does not fit earlier times");
            return Err(Violation::new(Property::Expiring, message));
        }
        self.last = Event::Advanced;
        self.state.sweep(self.now);
        Ok(())
    }

    fn raw(&mut self, operation: &Operation, response: &Response, line: &[u8]) -> Result<(), Violation> {
        let why = "it is malformed";
        let mut reasons = Reasons::new();
        reasons.push(Reason::must(Kind::Invalid, Property::Classified, why));
        reasons.push(Reason::may(Kind::Unsupported));
        reasons.push(Reason::may(Kind::NotFound));
        // One field may be malformed and another ask for what cannot be; any refusal that applies is right.
        if line.windows(METHOD_FIELD.len()).any(|window| window == METHOD_FIELD) {
            reasons.extend([Kind::Exhausted, Kind::Conflict, Kind::InUse, Kind::NotOwner].map(Reason::may));
        }
        self.settle(operation, response, &reasons).map(|_| ())
    }

    /// Would `ms` from now be beyond what a system must represent?
    fn passes_the_end_of_time(&self, ms: u64) -> bool {
        if self.epoch.is_none() && self.contract.clock == Clock::Virtual {
            // It may begin anywhere, and go on over a reset: before it tells a time, any may be its last.
            return ms > 0;
        }
        let epoch = self.epoch.map_or(LATEST_START_MS, |epoch| u64::try_from(epoch.latest).unwrap_or(0));
        let end = self.now.latest.checked_add(ms).and_then(|end| end.checked_add(epoch));
        end.is_none_or(|end| end > MAX_TIME_MS)
    }

    /// Does a time told by the system fit this instant and the times told before?
    fn agrees(&mut self, told_ms: u64, at: Moment) -> bool {
        let told = Epoch::of(told_ms, at);
        let known = self.epoch.filter(|epoch| !epoch.is_outdated);
        let Some(epoch) = known.map_or(Some(told), |known| known.narrowed(told)) else { return false };
        // A process that measures real time since its own start began after the model did.
        if epoch.earliest < 0 && self.contract.clock != Clock::Wall {
            return false;
        }
        self.epoch = Some(epoch);
        true
    }

    /// A refusal must have a reason, a result must have no compelling one. Gives the result, or
    /// `None` for a rightful refusal.
    fn settle<'r>(
        &mut self,
        operation: &Operation,
        response: &'r Response,
        reasons: &Reasons,
    ) -> Result<Option<&'r Answer>, Violation> {
        if self.explains {
            self.allowed = reason::explain(reasons);
        }
        match response {
            Ok(answer) => reason::judge_result(operation, reasons).map(|()| Some(answer)),
            Err(refusal) => match reason::judge_refusal(operation, refusal, reasons) {
                reason::Refused::Rightly => Ok(None),
                reason::Refused::Wrongly(violation) => Err(violation),
                reason::Refused::WithoutReason => Err(self.without_reason(operation, refusal)),
            },
        }
    }

    fn expect_done(&self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        match response {
            Ok(Answer::Done) | Err(_) => Ok(()),
            Ok(_) => Err(self.wrong_answer(operation)),
        }
    }

    fn wrong_answer(&self, operation: &Operation) -> Violation {
        Violation::new(Property::Total, format!("`{operation}` was answered with the result of another method"))
    }

    /// The text of a refusal is for the caller's eyes.
    fn judge_text(&mut self, operation: &Operation, refusal: &Refusal) -> Result<(), Violation> {
        match refusal.message {
            // Systems of this process refuse by the million, with a handful of constants. Those are
            // looked through once; and they name nobody.
            Cow::Borrowed(text) => {
                let constant = (text.as_ptr().addr(), text.len());
                if !self.discreet.contains(&constant) {
                    self.check_for_insides(operation, text)?;
                    self.discreet.insert(constant);
                }
                Ok(())
            }
            Cow::Owned(ref text) => {
                self.check_for_insides(operation, text)?;
                self.check_for_owners(operation, text)
            }
        }
    }

    fn check_for_insides(&self, operation: &Operation, message: &str) -> Result<(), Violation> {
        if discreet::insides(message, &[]).is_none() {
            return Ok(());
        }
        // What the caller itself sent may come back, and pools are no secret.
        let sent = operation.to_string();
        let known: Vec<&str> = self.state.pools().keys().map(|pool| &**pool).chain([&*sent]).collect();
        let Some((pattern, what)) = discreet::insides(message, &known) else { return Ok(()) };
        let message = format!("the text of `{operation}`'s refusal shows {what} (`{pattern}`): {message}");
        Err(Violation::new(Property::Discreet, message))
    }

    fn check_for_owners(&self, operation: &Operation, message: &str) -> Result<(), Violation> {
        if let Operation::Raw { .. } = operation {
            // Whatever the line holds may come back; it is refused before anybody is looked up.
            return Ok(());
        }
        let mut known = discreet::names_in(operation);
        known.extend(self.state.pools().keys());
        match self.owners.named_in(message, &known) {
            None => Ok(()),
            Some(owner) => {
                let message = format!("the text of `{operation}`'s refusal names another owner, {owner:?}: {message}");
                Err(Violation::new(Property::Discreet, message))
            }
        }
    }
}

/// The reason against a malformed owner's or pool's name.
fn name_reason(reasons: &mut Reasons, name: &Text, why: &'static str) {
    if !is_name(name) {
        reasons.push(Reason::must(Kind::Invalid, Property::Classified, why));
    }
}
