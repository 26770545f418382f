//! proptest-state-machine: a reference state decides what makes sense next; the system follows step by step.
//!
//! The reference state knows what was asked for, not what was granted: transitions are drawn before the system runs.

use std::sync::OnceLock;

use poolproof::engine::run::Finding;
use poolproof::engine::session::Session;
use poolproof::sut::Failure;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any};
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use crate::alphabet::{Address, Count, Earlier, HostBits, Net, Op, Owner, Pool, PoolSpec, Shape, Side, Time, Writer};
use crate::proptest_vec::op;
use crate::trial::Trial;

/// The traits have no place for it.
static TRIAL: OnceLock<&'static Trial> = OnceLock::new();

pub fn run(trial: &'static Trial, seed: u64, budget: u32) {
    let trial = *TRIAL.get_or_init(|| trial);
    let config =
        Config { cases: budget, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    // Whether it failed stands in the trial.
    let _ =
        TestRunner::new(config.clone()).run(&Allocator::sequential_strategy(1..50), |(state, transitions, seen)| {
            trial.test_begins();
            Allocator::test_sequential(config.clone(), state, transitions, seen);
            trial.test_ends(None);
            Ok(())
        });
}

/// The allocator as a state machine.
struct Allocator;

/// What is known before anything is answered.
#[derive(Clone, Debug)]
struct State {
    /// The pools to begin with.
    pools: Vec<Op>,
    /// The pools that there are, with their nets.
    there: Vec<(Pool, Net)>,
    in_transaction: bool,
    writer: Writer,
}

impl State {
    fn new(first: PoolSpec, second: Option<PoolSpec>) -> State {
        let pools = [(Pool::First, Some(first)), (Pool::Second, second)];
        let pools = pools.into_iter().filter_map(|(pool, spec)| Some(Op::CreatePool { pool, spec: spec? })).collect();
        let mut state = State { pools, there: Vec::new(), in_transaction: false, writer: Writer::default() };
        for op in state.pools.clone() {
            state.follow(&op);
        }
        state
    }

    fn follow(&mut self, op: &Op) {
        self.writer.write(op);
        match op {
            Op::CreatePool { pool, spec } if self.there.iter().all(|(there, _)| there != pool) => {
                self.there.push((*pool, spec.prefix.net()));
            }
            Op::DeletePool { pool } => self.there.retain(|(there, _)| there != pool),
            Op::Begin => self.in_transaction = true,
            Op::Commit | Op::Rollback | Op::Restart | Op::Crash => self.in_transaction = false,
            _ => {}
        }
    }
}

impl ReferenceStateMachine for Allocator {
    type State = State;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<State> {
        (any::<PoolSpec>(), option::of(any::<PoolSpec>())).prop_map(|(first, second)| State::new(first, second)).boxed()
    }

    /// Mostly what makes sense; the rest is anything.
    fn transitions(state: &State) -> BoxedStrategy<Op> {
        let anything = op();
        if state.there.is_empty() {
            let create = (any::<Pool>(), any::<PoolSpec>()).prop_map(|(pool, spec)| Op::CreatePool { pool, spec });
            return proptest::prop_oneof![3 => create, 1 => anything].boxed();
        }
        let there = select(state.there.clone());
        let ttl = || any::<Option<Time>>();
        let owner = any::<Owner>;
        let allocate = (owner(), there.clone(), ttl());
        let named = (owner(), there.clone(), any::<Address>(), ttl());
        let block = (owner(), there.clone(), any::<HostBits>(), ttl());
        let update = (there.clone(), any::<Shape>());
        let fill = (owner(), there.clone(), any::<Count>(), ttl());
        let drain = (there.clone(), any::<Count>());
        let ends = if state.in_transaction { vec![Op::Commit, Op::Rollback] } else { vec![Op::Begin] };
        let granted = u32::from(state.writer.grants() > 0);
        proptest::prop_oneof![
            6 => allocate.prop_map(|(owner, (pool, _), ttl)| Op::Allocate { owner, pool, ttl }),
            3 => named.prop_map(|(owner, (pool, _), address, ttl)| Op::AllocateNamed { owner, pool, address, ttl }),
            2 => block.prop_map(|(owner, (pool, family), size, ttl)| {
                Op::AllocateBlock { owner, pool, family, size, ttl }
            }),
            1 => update.prop_map(|((pool, net), shape)| Op::UpdatePool { pool, net, shape }),
            2 => fill.prop_map(|(owner, (pool, _), count, ttl)| Op::Fill { pool, owner, count, ttl }),
            1 => drain.prop_map(|((pool, _), count)| Op::Drain { pool, count }),
            2 => select(ends),
            1 + 4 * granted => any::<Earlier>().prop_map(|grant| Op::ReleaseGranted { grant }),
            1 + granted => any::<(Earlier, Time)>().prop_map(|(grant, ttl)| Op::RenewGranted { grant, ttl }),
            1 + granted => any::<(Earlier, Side)>().prop_map(|(lease, side)| Op::AdvanceToEnd { lease, side }),
            1 => Just(Op::Restart),
            8 => anything,
        ]
        .boxed()
    }

    fn apply(mut state: State, op: &Op) -> State {
        state.follow(op);
        state
    }
}

/// The system under test, with what has been done to it.
struct System {
    session: Session,
    writer: Writer,
}

impl System {
    fn take(&mut self, op: &Op) {
        let step = self.writer.write(op);
        let taken = self.session.take(step);
        self.judge(taken);
    }

    fn judge(&self, taken: Result<Option<Finding>, Failure>) {
        let finding = taken.expect("a mutant can be tried");
        if let (Some(finding), Some(trial)) = (finding, TRIAL.get()) {
            trial.test_ends(Some((&finding.violation, self.session.scenario().steps.len())));
            panic!("{}", finding.violation);
        }
    }
}

impl StateMachineTest for Allocator {
    type SystemUnderTest = System;
    type Reference = Allocator;

    fn init_test(state: &State) -> System {
        let sut = TRIAL.get().expect("a trial has begun").sut();
        let mut system =
            System { session: Session::begin(sut).expect("a mutant can be tried"), writer: Writer::default() };
        state.pools.iter().for_each(|op| system.take(op));
        system
    }

    fn apply(mut system: System, _state: &State, op: Op) -> System {
        system.take(&op);
        system
    }

    fn teardown(mut system: System, _state: State) {
        let finished = system.session.finish();
        system.judge(finished);
    }
}
