//! `expiring`: a lease is held until its last millisecond and free from its end on.
//!
//! Coverage counts calls, not leases that end, so these suites also watch the clock pass the ends.

use poolproof::engine::run::{Judged, Watch};
use poolproof::operation::Answer;
use poolproof::sut::memory::Memory;
use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

/// What the clock did to leases.
#[derive(Default)]
struct Ends {
    /// The ends that the present scenario was told of.
    told: Vec<u64>,
    /// How often the clock stopped one millisecond before an end, at it, and after it.
    before: u64,
    at: u64,
    after: u64,
}

impl Watch for Ends {
    fn answered(&mut self, call: &Judged<'_>) {
        if call.step == 0 {
            self.told.clear();
        }
        match call.response {
            Ok(Answer::Granted { expires_ms: Some(end), .. } | Answer::Renewed { expires_ms: end }) => {
                self.told.push(*end);
            }
            Ok(Answer::Now { now_ms }) => {
                let (before, at, after) = (now_ms.saturating_add(1), *now_ms, now_ms.saturating_sub(1));
                self.before += u64::from(self.told.contains(&before));
                self.at += u64::from(self.told.contains(&at));
                self.after += u64::from(self.told.iter().any(|end| *end <= after));
                self.told.retain(|end| end > now_ms);
            }
            _ => {}
        }
    }
}

impl Ends {
    fn assert_all_seen(&self) {
        let Ends { before, at, after, .. } = self;
        assert!(*before.min(at).min(after) >= 5, "{before} times just before an end, {at} at it, {after} after it");
    }
}

#[test]
fn in_memory() {
    let mut ends = Ends::default();
    Suite::leases().holds_watched(&mut Memory::new(), 4_000, &mut ends);
    ends.assert_all_seen();
}

#[test]
fn on_sqlite() {
    let mut ends = Ends::default();
    Suite::leases().holds_watched(&mut Sqlite::temporary().unwrap(), 120, &mut ends);
    ends.assert_all_seen();
}
