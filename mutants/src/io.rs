//! The steps of I/O of a mutant, each of which fails when it is told to.
//!
//! Nothing is read or written here. A step is a place in a call at which something may go wrong, with what it does or does
//! not do then. What it did is kept for good at once, so the loss of power takes no more than a kill.

use poolproof_core::fault::{Fault, FaultKind, Io, Moment};
use poolproof_core::operation::{Kind, Operation, Refusal, Response};

use crate::base::{Base, refusal, refuse};

/// What goes wrong, and what was done so far.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    faults: Vec<Fault>,
    steps: Vec<Io>,
    struck: Vec<Fault>,
    is_down: bool,
    /// Are steps counted? Else nothing is kept of them.
    is_armed: bool,
}

impl Disk {
    /// Sets the faults to come, and counts steps anew.
    pub(crate) fn arm(&mut self, faults: &[Fault]) {
        let is_down = self.is_down;
        *self = Disk { faults: faults.to_vec(), is_down, is_armed: true, ..Disk::default() };
    }

    /// From now on nothing goes wrong, and nothing is counted.
    pub(crate) fn disarm(&mut self) {
        *self = Disk { is_down: self.is_down, ..Disk::default() };
    }

    /// The steps since then.
    pub(crate) fn steps(&self) -> &[Io] {
        &self.steps
    }

    /// The faults that have struck since then.
    pub(crate) fn struck(&self) -> &[Fault] {
        &self.struck
    }

    /// Has the process ended?
    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    /// From now on there is a process again.
    pub(crate) fn start(&mut self) {
        self.is_down = false;
    }

    /// Counts a step, and tells which fault strikes at it.
    fn next(&mut self, io: Io) -> Option<Fault> {
        if !self.is_armed {
            return None;
        }
        let step = self.steps.len() as u32;
        self.steps.push(io);
        let is_due = |fault: &&Fault| {
            let is_now = fault.step == step || (fault.kind.lasts() && fault.step < step);
            is_now && fault.call.is_none() && fault.kind.strikes(io, fault.moment)
        };
        let fault = self.faults.iter().find(is_due).copied()?;
        self.struck.push(fault);
        self.is_down = fault.kind.ends_the_process();
        Some(fault)
    }
}

/// Each of these is one step of I/O. Where it fails, its caller cannot tell whether it was done. Once the process has ended
/// no step does anything.
impl Base {
    /// Takes a lock, which somebody else may have.
    pub fn lock(&mut self) -> Result<(), Refusal> {
        self.step(Io::Lock, |_| ())
    }

    /// Writes something that has no effect on what is held.
    pub fn note(&mut self) -> Result<(), Refusal> {
        self.write(|_| ())
    }

    /// Writes, with this effect.
    pub fn write<T>(&mut self, effect: impl FnOnce(&mut Base) -> T) -> Result<T, Refusal> {
        self.step(Io::Write, effect)
    }

    /// Does a call by one write, and says so when it cannot tell whether it was done.
    pub fn commit(&mut self, operation: &Operation) -> Response {
        let written = self.write(|base| base.call(operation));
        written.unwrap_or_else(|_| refuse(Kind::UnknownOutcome))
    }

    fn step<T>(&mut self, io: Io, effect: impl FnOnce(&mut Base) -> T) -> Result<T, Refusal> {
        if self.disk.is_down {
            return Err(refusal(Kind::Storage));
        }
        let Some(fault) = self.disk.next(io) else { return Ok(effect(self)) };
        if fault.moment == Moment::After {
            effect(self);
        }
        Err(refusal(if fault.kind == FaultKind::Busy { Kind::Busy } else { Kind::Storage }))
    }
}

#[cfg(test)]
mod tests {
    use poolproof_core::sut::reference::Variant;

    use super::*;

    /// What comes of two writes after a lock: how each ended, and what was done.
    fn struck_by(kind: FaultKind, moment: Moment, step: u32) -> (Vec<Option<Kind>>, Vec<u8>, Disk) {
        let mut base = Base::new(Variant::default());
        base.disk.arm(&[Fault { kind, moment, step, call: None }]);
        let mut done = Vec::new();
        let ended = [base.lock(), base.write(|_| done.push(1)), base.write(|_| done.push(2))];
        (ended.into_iter().map(|ended| ended.err().map(|refusal| refusal.kind)).collect(), done, base.disk)
    }

    #[test]
    fn a_step_that_fails_is_done_or_not() {
        for (moment, done) in [(Moment::Before, vec![2]), (Moment::After, vec![1, 2])] {
            let (ended, seen, disk) = struck_by(FaultKind::Error, moment, 1);
            assert_eq!((ended, seen), (vec![None, Some(Kind::Storage), None], done));
            assert_eq!((disk.steps(), disk.struck().len()), (&[Io::Lock, Io::Write, Io::Write][..], 1));
        }
    }

    #[test]
    fn what_lasts_strikes_wherever_it_can() {
        let (ended, done, disk) = struck_by(FaultKind::Full, Moment::Before, 0);
        assert_eq!((ended, done), (vec![None, Some(Kind::Storage), Some(Kind::Storage)], vec![]));
        assert_eq!(disk.struck().len(), 2);
        let (ended, ..) = struck_by(FaultKind::Busy, Moment::Before, 0);
        assert_eq!(ended, [Some(Kind::Busy), None, None]);
    }

    #[test]
    fn nothing_is_done_after_the_end_of_the_process() {
        let (ended, done, mut disk) = struck_by(FaultKind::Kill, Moment::After, 1);
        assert_eq!((ended, done), (vec![None, Some(Kind::Storage), Some(Kind::Storage)], vec![1]));
        assert_eq!((disk.is_down(), disk.steps().len()), (true, 2));
        disk.start();
        assert!(!disk.is_down());
    }
}
