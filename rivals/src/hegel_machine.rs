//! hegel's state machines: one rule an operation, drawing its operands as it goes; what was granted is a pool of values
//! that later rules draw from.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hegel::generators as gs;
use hegel::generators::{DefaultGenerator, PrintableGenerator};
use hegel::stateful::{Pool as Values, machine, pool};
use hegel::{HealthCheck, Hegel, Settings, TestCase, Verbosity};
use poolproof::engine::run::Finding;
use poolproof::engine::session::Session;
use poolproof::operation::{Operation, Text};
use poolproof::scenario::{GrantRef, Operand, Spelling, Step};
use poolproof::sut::Failure;

use crate::alphabet::{Op, Pool, Time, Writer};
use crate::trial::Trial;

pub fn run(trial: &'static Trial, seed: u64, budget: u32) {
    let settings = Settings::new()
        .test_cases(u64::from(budget))
        .seed(Some(seed))
        .database(None)
        .verbosity(Verbosity::Quiet)
        .suppress_health_check(HealthCheck::all());
    // It ends with a panic when a test has failed, which the trial knows already.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        Hegel::new(|tc: TestCase| {
            trial.test_begins();
            machine(Allocator::new(trial, &tc)).run(tc);
            trial.test_ends(None);
        })
        .settings(settings)
        .run();
    }));
}

fn draw<T: DefaultGenerator>(tc: &TestCase) -> T
where
    T::Generator: PrintableGenerator<T>,
{
    tc.draw(gs::default::<T>())
}

/// Something granted.
#[derive(Clone, Debug)]
struct Granted {
    grant: GrantRef,
    owner: Text,
    pool: Text,
}

/// The allocator under test.
struct Allocator {
    trial: &'static Trial,
    session: Session,
    writer: Writer,
    granted: Values<Granted>,
    in_transaction: bool,
}

impl Allocator {
    fn new(trial: &'static Trial, tc: &TestCase) -> Allocator {
        let session = Session::begin(trial.sut()).expect("a mutant can be tried");
        let mut new = Allocator { trial, session, writer: Writer::default(), granted: pool(tc), in_transaction: false };
        new.take(&Op::CreatePool { pool: Pool::First, spec: draw(tc) });
        if tc.draw(gs::booleans()) {
            new.take(&Op::CreatePool { pool: Pool::Second, spec: draw(tc) });
        }
        new
    }

    fn take(&mut self, op: &Op) {
        let step = self.writer.write(op);
        self.take_step(step);
    }

    fn take_step(&mut self, step: Step) {
        let taken = self.session.take(step);
        self.judge(taken);
        self.remember();
    }

    fn judge(&self, taken: Result<Option<Finding>, Failure>) {
        if let Some(finding) = taken.expect("a mutant can be tried") {
            self.trial.test_ends(Some((&finding.violation, self.session.scenario().steps.len())));
            panic!("{}", finding.violation);
        }
    }

    /// What the last step was granted may be drawn from now on.
    fn remember(&mut self) {
        let step = self.session.scenario().steps.len() as u32 - 1;
        let granted = self.session.granted().len() as u32;
        let (owner, pools) = match &self.session.scenario().steps[step as usize] {
            Step::Call(Operation::Allocate { owner, requests, .. }) => {
                (owner.clone(), requests.iter().map(|request| request.pool.clone()).collect::<Vec<_>>())
            }
            Step::Fill { owner, pool, .. } => (owner.clone(), vec![pool.clone()]),
            _ => return,
        };
        for (nth, pool) in (0..granted).zip(pools) {
            self.granted.add(Granted { grant: GrantRef { step, nth }, owner: owner.clone(), pool });
        }
    }
}

#[hegel::state_machine]
impl Allocator {
    #[rule]
    fn create_pool(&mut self, tc: TestCase) {
        let op = Op::CreatePool { pool: draw(&tc), spec: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn update_pool(&mut self, tc: TestCase) {
        let op = Op::UpdatePool { pool: draw(&tc), net: draw(&tc), shape: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn delete_pool(&mut self, tc: TestCase) {
        self.take(&Op::DeletePool { pool: draw(&tc) });
    }

    #[rule(weight = 4.0)]
    fn allocate(&mut self, tc: TestCase) {
        let op = Op::Allocate { owner: draw(&tc), pool: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule(weight = 2.0)]
    fn allocate_named(&mut self, tc: TestCase) {
        let op = Op::AllocateNamed { owner: draw(&tc), pool: draw(&tc), address: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn allocate_block(&mut self, tc: TestCase) {
        let op =
            Op::AllocateBlock { owner: draw(&tc), pool: draw(&tc), family: draw(&tc), size: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn allocate_several(&mut self, tc: TestCase) {
        let op = Op::AllocateSeveral { owner: draw(&tc), first: draw(&tc), second: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule(weight = 3.0)]
    fn release(&mut self, tc: TestCase) {
        let Granted { grant, owner, pool } = tc.draw(self.granted.values_reusable()).clone();
        let address = Operand::Granted(grant, Spelling::Plain);
        self.writer.skip();
        self.take_step(Step::Call(Operation::Release { pool, address, owner: Some(owner) }));
    }

    #[rule]
    fn release_anything(&mut self, tc: TestCase) {
        let op = Op::Release { pool: draw(&tc), address: draw(&tc), owner: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn release_owner(&mut self, tc: TestCase) {
        self.take(&Op::ReleaseOwner { owner: draw(&tc) });
    }

    #[rule]
    fn renew(&mut self, tc: TestCase) {
        let Granted { grant, owner, pool } = tc.draw(self.granted.values_reusable()).clone();
        let address = Operand::Granted(grant, Spelling::Plain);
        let ttl: Time = draw(&tc);
        self.writer.skip();
        self.take_step(Step::Call(Operation::Renew { pool, address, owner, ttl_ms: ttl.ms() }));
    }

    #[rule]
    fn renew_anything(&mut self, tc: TestCase) {
        let op = Op::Renew { pool: draw(&tc), address: draw(&tc), owner: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn begin(&mut self, tc: TestCase) {
        tc.assume(!self.in_transaction);
        self.take(&Op::Begin);
        self.in_transaction = true;
    }

    #[rule]
    fn commit_or_roll_back(&mut self, tc: TestCase) {
        // Now and then one that is not open.
        tc.assume(self.in_transaction || tc.draw(gs::integers::<u8>().max_value(7)) == 7);
        self.take(if tc.draw(gs::booleans()) { &Op::Commit } else { &Op::Rollback });
        self.in_transaction = false;
    }

    #[rule]
    fn list(&mut self, tc: TestCase) {
        self.take(&Op::List { pool: draw(&tc) });
    }

    #[rule]
    fn usage(&mut self, tc: TestCase) {
        self.take(&Op::Usage { pool: draw(&tc) });
    }

    #[rule]
    fn advance(&mut self, tc: TestCase) {
        self.take(&Op::Advance { ms: draw(&tc) });
    }

    #[rule]
    fn advance_to_end(&mut self, tc: TestCase) {
        self.take(&Op::AdvanceToEnd { lease: draw(&tc), side: draw(&tc) });
    }

    #[rule]
    fn fill(&mut self, tc: TestCase) {
        let op = Op::Fill { pool: draw(&tc), owner: draw(&tc), count: draw(&tc), ttl: draw(&tc) };
        self.take(&op);
    }

    #[rule]
    fn drain(&mut self, tc: TestCase) {
        self.take(&Op::Drain { pool: draw(&tc), count: draw(&tc) });
    }

    #[rule]
    fn replay(&mut self, tc: TestCase) {
        self.take(&Op::Replay { call: draw(&tc) });
    }

    #[rule]
    fn restart(&mut self, _tc: TestCase) {
        self.take(&Op::Restart);
        self.in_transaction = false;
    }

    #[rule]
    fn crash(&mut self, _tc: TestCase) {
        self.take(&Op::Crash);
        self.in_transaction = false;
    }

    #[invariant]
    fn state_is_as_it_must_be(&mut self, _tc: TestCase) {
        let audited = self.session.audit();
        self.judge(audited);
    }
}
