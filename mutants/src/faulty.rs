//! What a mutant is, and how it becomes a system under test.

use std::sync::Arc;

use poolproof_allocator::{Policy, Repeat, Strategy};
use poolproof_core::contract::Contract;
use poolproof_core::fault::{Counted, Fault, IoStep};
use poolproof_core::operation::{Operation, Response};
use poolproof_core::property::Property;
use poolproof_core::sut::reference::Variant;
use poolproof_core::sut::{Failure, Resource, Resources, Sut};

use crate::base::Base;
use crate::io::Disk;
use crate::racing::{Common, Raced, Racing};

/// Whether a mutant's defect is there. Without it the mutant is right, which shows that it is this one defect that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// It is there.
    On,
    /// It is mended.
    Off,
}

impl Bug {
    /// Is it there?
    pub fn is_on(self) -> bool {
        self == Bug::On
    }
}

/// An allocator with a defect: whatever it does not say, it does as it should be done.
///
/// A new one is made for each scenario.
pub trait Faulty {
    /// A call.
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let _ = bug;
        base.call(operation)
    }

    /// A clean restart; an open transaction is rolled back already.
    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        let _ = (base, bug);
        Ok(())
    }

    /// A sudden death and a new start; an open transaction is rolled back already.
    fn crash(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        self.restart(base, bug)
    }

    /// How many files it has open.
    fn open_files(&self) -> Option<u64> {
        None
    }
}

/// A mutant that remembers nothing, and so is but a function.
pub struct Calls(pub fn(&mut Base, &Operation, Bug) -> Response);

impl Faulty for Calls {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        (self.0)(base, operation, bug)
    }
}

/// One mutant, as it is listed.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// Its name on the command line.
    pub id: &'static str,
    /// The properties it breaks, any of which may show first.
    pub breaks: &'static [Property],
    /// The length of the shortest scenario that shows it, where that is known.
    pub shortest: Option<usize>,
    /// What shows it.
    pub engine: Engine,
    /// How it is set up.
    pub setting: Setting,
    /// Makes one.
    pub make: Make,
}

/// How a mutant is made.
#[derive(Clone, Copy)]
pub enum Make {
    /// For one caller.
    Alone(fn() -> Box<dyn Faulty>),
    /// For each of several callers.
    Together(fn() -> Box<dyn Racing>),
}

/// The engine that shows a defect, by what has to happen for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Calls, and restarts between them.
    Check,
    /// I/O that fails within a call.
    Crash,
    /// Callers at the same time.
    Race,
}

impl Engine {
    /// The command that runs it.
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Check => "check",
            Engine::Crash => "crash",
            Engine::Race => "race",
        }
    }
}

/// What a mutant promises.
#[derive(Clone, Copy)]
pub struct Setting {
    /// How the allocator below it is set up.
    pub variant: Variant,
    /// What it promises otherwise.
    pub promise: fn(Contract) -> Contract,
}

impl Setting {
    /// The reference allocator as it is by default.
    pub const USUAL: Setting =
        Setting::of(Policy { strategy: Strategy::Lowest, repeat: Repeat::Another, quarantine_ms: 0 });
    /// An owner gets again what it has.
    pub const SAME: Setting = Setting::of(Policy { repeat: Repeat::Same, ..Setting::USUAL.variant.policy });
    /// One address after the other.
    pub const NEXT: Setting = Setting::of(Policy { strategy: Strategy::Next, ..Setting::USUAL.variant.policy });
    /// Random choice.
    pub const RANDOM: Setting = Setting::of(Policy { strategy: Strategy::Random, ..Setting::USUAL.variant.policy });

    const fn of(policy: Policy) -> Setting {
        Setting { variant: Variant { policy, pools_overlap: false, one_handle: false }, promise: |contract| contract }
    }

    /// The same with a changed promise.
    pub const fn promising(self, promise: fn(Contract) -> Contract) -> Setting {
        Setting { promise, ..self }
    }
}

impl Mutant {
    /// A mutant in the usual setting, which calls show.
    pub const fn new(id: &'static str, breaks: &'static [Property], make: fn() -> Box<dyn Faulty>) -> Mutant {
        let make = Make::Alone(make);
        Mutant { id, breaks, shortest: None, engine: Engine::Check, setting: Setting::USUAL, make }
    }

    /// A mutant in the usual setting, which callers at the same time show.
    pub const fn racing(id: &'static str, breaks: &'static [Property], make: fn() -> Box<dyn Racing>) -> Mutant {
        let make = Make::Together(make);
        Mutant { id, breaks, shortest: None, engine: Engine::Race, setting: Setting::USUAL, make }
    }

    /// The same in another setting.
    pub const fn set(self, setting: Setting) -> Mutant {
        Mutant { setting, ..self }
    }

    /// The same, which so many steps are enough to show.
    pub const fn in_steps(self, shortest: usize) -> Mutant {
        Mutant { shortest: Some(shortest), ..self }
    }

    /// The same, which only faults within a call show.
    pub const fn in_crash(self) -> Mutant {
        Mutant { engine: Engine::Crash, ..self }
    }

    /// The mutant as a system under test.
    pub fn sut(&self, bug: Bug) -> Box<dyn Sut> {
        let Setting { variant, promise } = self.setting;
        match self.make {
            Make::Alone(make) => {
                let contract = promise(variant.contract(true));
                Box::new(Running { mutant: *self, make, bug, contract, faulty: make(), base: Base::new(variant) })
            }
            Make::Together(make) => {
                let contract = promise(variant.contract(false));
                Box::new(Raced { make, variant, bug, contract, caller: make(), common: Arc::new(Common::new(variant)) })
            }
        }
    }
}

/// A mutant under test.
struct Running {
    mutant: Mutant,
    make: fn() -> Box<dyn Faulty>,
    bug: Bug,
    contract: Contract,
    faulty: Box<dyn Faulty>,
    base: Base,
}

impl Running {
    fn roll_back(&mut self) {
        // There may be nothing to roll back.
        let _ = self.base.call(&Operation::Rollback);
    }
}

impl Sut for Running {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.faulty = (self.make)();
        // After a panic nothing inside is to be trusted.
        if self.base.allocator().reset().is_err() {
            self.base = Base::new(self.mutant.setting.variant);
        }
        self.base.disk = Disk::default();
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(self.faulty.call(&mut self.base, operation, self.bug))
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.roll_back();
        self.faulty.restart(&mut self.base, self.bug)
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.base.disk.start();
        self.roll_back();
        self.faulty.crash(&mut self.base, self.bug)
    }

    fn forget(&mut self) -> bool {
        self.faulty = (self.make)();
        self.base = Base::new(self.mutant.setting.variant);
        true
    }

    fn is_fast(&self) -> bool {
        true
    }

    fn resources(&self) -> Resources {
        Resources::UNKNOWN.with(Resource::Files, self.faulty.open_files())
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        if self.mutant.engine != Engine::Crash {
            return Err(Failure::Unable("this mutant has no steps of I/O".to_owned()));
        }
        self.base.disk.arm(faults);
        Ok(())
    }

    fn disarm(&mut self) -> Counted {
        let steps = IoStep::numbered(self.base.disk.steps());
        self.base.disk.disarm();
        Counted { steps, allocations: 0 }
    }

    fn struck(&self) -> Vec<Fault> {
        self.base.disk.struck().to_vec()
    }

    fn is_down(&self) -> bool {
        self.base.disk.is_down()
    }
}
