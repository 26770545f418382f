//! What is known while something goes wrong within a call.
//!
//! A call that ends in a fault may have happened or not, and nobody was told which. The model then goes on with every state
//! in which the system may be, each a [`World`]; what the system answers from then on must fit one of them, and those that
//! it does not fit are dropped. A call that is *in doubt* has two: whole, and absent.

use super::{Epoch, Event, Model, Moment, State};
use crate::address::Grant;
use crate::contract::Repeat;
use crate::fault::FaultKind;
use crate::operation::{Allocation, Answer, Kind, Operation, Refusal, Request, Response, Text, Want};
use crate::property::{Property, Violation};

/// A state in which the system may be.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    state: State,
    now: Moment,
    epoch: Option<Epoch>,
    last: Event,
    is_lost: bool,
}

impl World {
    /// The process has ended.
    pub(super) fn roll_back(&mut self) {
        self.state.roll_back();
        (self.last, self.is_lost) = (Event::Restarted, false);
    }
}

impl Model {
    /// The present world.
    fn world(&self) -> World {
        World { state: self.state.clone(), now: self.now, epoch: self.epoch, last: self.last, is_lost: self.is_lost }
    }

    fn enter(&mut self, world: World) {
        World { state: self.state, now: self.now, epoch: self.epoch, last: self.last, is_lost: self.is_lost } = world;
    }

    /// Judges an answer in every world, and keeps those that it fits.
    pub(super) fn judge_worlds(&mut self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        let before = self.world();
        let verdict = self.judge_here(operation, response);
        let mut fitting: Vec<World> = verdict.is_ok().then(|| self.world()).into_iter().collect();
        let coverage = self.coverage.clone();
        for world in std::mem::take(&mut self.others) {
            self.enter(world);
            if self.judge_here(operation, response).is_ok() {
                fitting.push(self.world());
            }
        }
        // It was one call, however many worlds there are.
        self.coverage = coverage;
        if fitting.is_empty() {
            self.enter(before);
            return verdict;
        }
        self.enter(fitting.remove(0));
        self.others = fitting;
        Ok(())
    }

    /// Judges the refusal of a call in which a fault of this kind struck first: it must tell of that, and of nothing else.
    /// `listing` is what is held afterwards, where the system can say.
    pub fn judge_struck(
        &mut self,
        operation: &Operation,
        refusal: &Refusal,
        fault: FaultKind,
        listing: Option<&[Allocation]>,
    ) -> Result<(), Violation> {
        let rightful: &[Kind] = match fault {
            FaultKind::Busy => &[Kind::Busy],
            // Whoever was interrupted may try again.
            FaultKind::Interrupted => &[Kind::Storage, Kind::Busy],
            _ => &[Kind::Storage],
        };
        if !rightful.contains(&refusal.kind) && refusal.kind != Kind::UnknownOutcome {
            // It may have another reason altogether.
            return self.judge(operation, &Err(refusal.clone()));
        }
        self.coverage.count_call(operation.method(), super::Outcome::of(&Err(refusal.clone())));
        self.judge_text(operation, refusal)?;
        let worlds: Vec<World> = std::iter::once(self.world()).chain(std::mem::take(&mut self.others)).collect();
        let mut after = Vec::new();
        for world in worlds {
            self.enter(world);
            after.extend(self.after_failure(operation, refusal.kind, listing));
        }
        self.enter(after.remove(0));
        self.others = after;
        Ok(())
    }

    /// The process ended within a call. `listing` is what is held once it runs again.
    pub fn died_within(&mut self, operation: &Operation, listing: Option<&[Allocation]>) {
        let worlds: Vec<World> = std::iter::once(self.world()).chain(std::mem::take(&mut self.others)).collect();
        let mut after = Vec::new();
        for world in worlds {
            self.enter(world.clone());
            self.state.roll_back();
            (self.last, self.is_lost) = (Event::Restarted, false);
            after.push(self.world());
            self.enter(world);
            let is_committed = !self.in_transaction() || *operation == Operation::Commit;
            if is_committed && self.happens(operation, listing) {
                self.last = Event::Restarted;
                after.push(self.world());
            }
        }
        self.enter(after.remove(0));
        self.others = after;
    }

    /// The worlds after a call that failed in this one.
    fn after_failure(&mut self, operation: &Operation, kind: Kind, listing: Option<&[Allocation]>) -> Vec<World> {
        let before = self.world();
        let mut after = Vec::new();
        self.last = Event::Refused;
        after.push(self.world());
        let ends = matches!(operation, Operation::Commit | Operation::Rollback);
        if self.in_transaction() {
            // The store may have given up all of the transaction. It is over then, or lost until its caller ends it.
            self.state.roll_back();
            self.last = Event::RolledBack;
            self.is_lost = !ends;
            if !ends {
                self.state.begin();
            }
            after.push(self.world());
        }
        self.enter(before);
        if kind == Kind::UnknownOutcome && self.happens(operation, listing) {
            after.push(self.world());
        }
        after
    }

    /// Lets a call happen, as far as a later listing tells how. Says whether that is possible.
    fn happens(&mut self, operation: &Operation, listing: Option<&[Allocation]>) -> bool {
        let Some(answer) = self.supposed(operation, listing) else { return false };
        let coverage = self.coverage.clone();
        let happened = self.judge_here(operation, &Ok(answer)).is_ok();
        self.coverage = coverage;
        happened
    }

    /// What a call would have answered if it had happened.
    fn supposed(&self, operation: &Operation, listing: Option<&[Allocation]>) -> Option<Answer> {
        Some(match operation {
            Operation::CreatePool { .. }
            | Operation::UpdatePool { .. }
            | Operation::DeletePool { .. }
            | Operation::Release { .. }
            | Operation::Commit
            | Operation::Rollback => Answer::Done,
            Operation::Allocate { owner, requests, .. } => self.supposed_grants(owner, requests, listing?)?,
            Operation::ReleaseOwner { owner } => {
                let held = self.state.held_by(owner).into_iter();
                Answer::Released(held.map(|(pool, held)| (pool, held.grant)).collect())
            }
            Operation::Renew { ttl_ms, .. } => Answer::Renewed { expires_ms: self.told(self.now.plus(*ttl_ms))? },
            Operation::Advance { ms } => Answer::Now { now_ms: self.told(self.now.plus(*ms))? },
            Operation::Begin | Operation::List { .. } | Operation::Usage { .. } | Operation::Raw { .. } => return None,
        })
    }

    /// What the system's clock reads at an instant, where that is known exactly.
    fn told(&self, at: Moment) -> Option<u64> {
        let epoch = self.epoch.map_or(0, |epoch| epoch.earliest);
        u64::try_from(epoch + i128::from(at.earliest)).ok()
    }

    /// The grants that an allocation must have had, given who holds what afterwards.
    fn supposed_grants(&self, owner: &Text, requests: &[Request], listing: &[Allocation]) -> Option<Answer> {
        let is_new = |line: &&Allocation| {
            let pool = self.state.pools().get(&line.pool);
            pool.is_some_and(|pool| pool.holder_of(line.address.span()).is_none())
        };
        let own: Vec<&Allocation> = listing.iter().filter(|line| line.owner == *owner).collect();
        let mut fresh: Vec<&Allocation> = own.iter().copied().filter(is_new).collect();
        let mut lines: Vec<Option<&Allocation>> = requests.iter().map(|_| None).collect();
        // What asks for most takes first: a name, a block, then any address.
        let rank = |request: &Request| match request.want {
            Want::Named(_) => 0,
            Want::Block(_) => 1,
            Want::Any => 2,
        };
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|index| rank(&requests[*index]));
        for index in order {
            let request = &requests[index];
            let fits = |line: &&Allocation| -> bool {
                line.pool == request.pool
                    && match &request.want {
                        Want::Any => matches!(line.address, Grant::Address(_)),
                        Want::Named(address) => address.meaning() == Some(line.address),
                        Want::Block(length) => {
                            matches!(line.address, Grant::Block(block) if block.prefix_len() == *length)
                        }
                    }
            };
            lines[index] = match fresh.iter().position(fits) {
                Some(place) => Some(fresh.remove(place)),
                None if self.contract.repeat == Repeat::Same => own.iter().find(|line| fits(line)).copied(),
                None => None,
            };
        }
        let lines: Vec<&Allocation> = lines.into_iter().collect::<Option<_>>()?;
        let grants = lines.iter().map(|line| line.address).collect();
        Some(Answer::Granted { grants, expires_ms: lines.first()?.expires_ms })
    }

    /// Judges a call in a transaction that the store has lost: all that is left is to end it.
    pub(super) fn judge_lost(&mut self, operation: &Operation, response: &Response) -> Result<(), Violation> {
        let is_right = match (operation, response) {
            (Operation::Rollback, Ok(Answer::Done)) => true,
            (Operation::Rollback, _) => false,
            (_, Err(refusal)) => matches!(refusal.kind, Kind::Storage | Kind::Invalid | Kind::NotFound),
            (_, Ok(_)) => false,
        };
        if !is_right {
            let message = format!("`{operation}` goes on in a transaction that an earlier failure undid");
            return Err(Violation::new(Property::Atomic, message));
        }
        if matches!(operation, Operation::Rollback | Operation::Commit) {
            self.state.commit();
            self.is_lost = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Clock, Contract, Methods};
    use crate::operation::{PoolShape, Written};
    use crate::scenario::text;

    const LIST: Operation = Operation::List { pool: None };

    fn model() -> Model {
        let contract =
            Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, ..Contract::default() };
        let mut model = Model::new(contract);
        for (pool, prefix) in [("p0", "10.0.0.0/29"), ("p1", "10.0.1.0/29")] {
            let create = Operation::CreatePool { pool: text(pool), prefix: text(prefix), shape: PoolShape::default() };
            model.judge(&create, &Ok(Answer::Done)).unwrap();
        }
        model
    }

    fn address(address: &str) -> Grant {
        Grant::Address(address.parse().unwrap())
    }

    fn line(pool: &str, held: &str) -> Allocation {
        Allocation { pool: text(pool), address: address(held), owner: text("a"), expires_ms: None }
    }

    fn from_both() -> Operation {
        let requests = ["p0", "p1"].map(|pool| Request { pool: text(pool), want: Want::Any });
        Operation::Allocate { owner: text("a"), requests: requests.into_iter().collect(), ttl_ms: None }
    }

    /// What the model says of a listing after the process ended within a call.
    fn after_death(call: &Operation, listed: &[Allocation]) -> Result<Model, Violation> {
        let mut model = model();
        model.died_within(call, Some(listed));
        model.judge(&LIST, &Ok(Answer::Listed(listed.to_vec()))).map(|()| model)
    }

    #[test]
    fn a_call_in_doubt_is_whole_or_absent() {
        let whole = [line("p0", "10.0.0.1"), line("p1", "10.0.1.1")];
        assert_eq!(after_death(&from_both(), &whole).unwrap().held().count(), 2);
        assert_eq!(after_death(&from_both(), &[]).unwrap().held().count(), 0);
        for half in &whole {
            let violation = after_death(&from_both(), std::slice::from_ref(half)).unwrap_err();
            assert_eq!(violation.property, Property::Durable);
        }
        // Nor may anything come that was not asked for.
        let more = [whole[0].clone(), whole[1].clone(), line("p0", "10.0.0.2")];
        assert!(after_death(&from_both(), &more).is_err());
        let edge = [line("p0", "10.0.0.0"), whole[1].clone()];
        assert!(after_death(&from_both(), &edge).is_err(), "it must be one that may be had");
    }

    #[test]
    fn what_cannot_be_seen_stays_in_doubt_until_it_shows() {
        let delete = Operation::DeletePool { pool: text("p1") };
        for is_there in [true, false] {
            let mut model = after_death(&delete, &[]).unwrap();
            let usage = Operation::Usage { pool: text("p1") };
            let count = crate::address::Count::from;
            let told = match is_there {
                true => Ok(Answer::Usage { allocatable: count(6), allocated: count(0) }),
                false => Err(Refusal { kind: Kind::NotFound, message: "no such pool".into() }),
            };
            model.judge(&usage, &told).unwrap();
            assert_eq!(model.pool("p1").is_some(), is_there);
            let other = match is_there {
                true => Err(Refusal { kind: Kind::NotFound, message: "no such pool".into() }),
                false => Ok(Answer::Usage { allocatable: count(6), allocated: count(0) }),
            };
            model.judge(&usage, &other).unwrap_err();
        }
    }

    fn refused(kind: Kind) -> Refusal {
        Refusal { kind, message: "it failed".into() }
    }

    #[test]
    fn a_failed_call_did_not_happen_and_only_an_unknown_outcome_may_have() {
        let whole = [line("p0", "10.0.0.1"), line("p1", "10.0.1.1")];
        let seen = Ok(Answer::Listed(whole.to_vec()));
        for (kind, is_rightful) in [(Kind::Storage, false), (Kind::UnknownOutcome, true)] {
            let mut model = model();
            model.judge_struck(&from_both(), &refused(kind), FaultKind::Error, Some(&whole)).unwrap();
            assert_eq!(model.judge(&LIST, &seen).is_ok(), is_rightful, "{kind}");
        }
    }

    #[test]
    fn the_first_cause_is_told() {
        let told = |kind, fault| model().judge_struck(&from_both(), &refused(kind), fault, Some(&[]));
        told(Kind::Busy, FaultKind::Busy).unwrap();
        assert_eq!(told(Kind::Storage, FaultKind::Busy).unwrap_err().property, Property::Classified);
        told(Kind::Storage, FaultKind::Full).unwrap();
        assert!(told(Kind::Busy, FaultKind::Full).is_err());
        assert!(told(Kind::Exhausted, FaultKind::Error).is_err());
    }

    #[test]
    fn a_lost_transaction_is_only_ended() {
        let lost = || {
            let mut model = model();
            model.judge(&Operation::Begin, &Ok(Answer::Done)).unwrap();
            model.judge_struck(&from_both(), &refused(Kind::Storage), FaultKind::Error, None).unwrap();
            // It says of a call that nothing else is wrong with that the transaction is lost.
            model.judge(&LIST, &Err(refused(Kind::Storage))).unwrap();
            model
        };
        let granted =
            Ok(Answer::Granted { grants: vec![address("10.0.0.1"), address("10.0.1.1")].into(), expires_ms: None });
        assert_eq!(lost().judge(&from_both(), &granted).unwrap_err().property, Property::Atomic);
        let mut model = lost();
        model.judge(&Operation::Rollback, &Ok(Answer::Done)).unwrap();
        model.judge(&from_both(), &granted).unwrap();
        let release = Operation::Release {
            pool: text("p0"),
            address: Written::Plain(address("10.0.0.1")),
            owner: Some(text("a")),
        };
        model.judge(&release, &Ok(Answer::Done)).unwrap();
    }
}
