//! SQLite itself on the simulated disk: what it promises must hold at every step, and what it does not must be seen to fail.

use poolproof_disk::{Disk, Fault, FaultKind, Io, Moment, Snapshot};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

const WAL_FULL: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4";
const WAL_NORMAL: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4";
const JOURNAL_EXTRA: &str = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA";
const JOURNAL_FULL: &str = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL";
const JOURNAL_OFF: &str = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF";

/// So many rows are inserted, one a transaction, each of more than a sector.
const ROWS: i64 = 6;

fn open(disk: &Disk, setting: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags_and_vfs(disk.path("a.db"), OpenFlags::default(), Disk::VFS)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.execute_batch(setting)?;
    Ok(connection)
}

/// A disk with an empty table on it.
fn formatted(setting: &str) -> (Disk, Snapshot) {
    let disk = Disk::new().unwrap();
    open(&disk, setting).unwrap().execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY, y)").unwrap();
    let snapshot = disk.snapshot();
    (disk, snapshot)
}

/// Inserts rows until one fails, and tells how many were acknowledged.
fn insert(disk: &Disk, setting: &str) -> i64 {
    let Ok(connection) = open(disk, setting) else { return 0 };
    let insert = |row| connection.execute("INSERT INTO t VALUES (?1, zeroblob(700))", [row]);
    (0..ROWS).take_while(|row| insert(*row).is_ok()).count() as i64
}

/// How many rows there are after a new start, or why it is no sound file.
fn rows(disk: &Disk, setting: &str) -> Result<i64, String> {
    let looked = || -> rusqlite::Result<(i64, String)> {
        let connection = open(disk, setting)?;
        let count = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?;
        Ok((count, connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
    };
    match looked() {
        Ok((count, verdict)) if verdict == "ok" => Ok(count),
        Ok((_, verdict)) => Err(verdict),
        Err(error) => Err(error.to_string()),
    }
}

/// What is wrong after a fault.
#[derive(Debug, PartialEq)]
struct Wrong {
    fault: Fault,
    acknowledged: i64,
    found: Result<i64, String>,
}

/// Runs with each fault of these kinds at each step; says how many struck, and what is wrong afterwards.
fn strike(setting: &str, kinds: &[FaultKind]) -> (usize, Vec<Wrong>) {
    let (disk, snapshot) = formatted(setting);
    disk.start();
    disk.arm(&[]);
    assert_eq!(insert(&disk, setting), ROWS);
    let steps = disk.steps();
    let (mut struck, mut wrong) = (0, Vec::new());
    for (step, io) in (0..).zip(&steps) {
        for kind in kinds {
            for moment in [Moment::Before, Moment::After].into_iter().filter(|moment| kind.strikes(*io, *moment)) {
                let fault = Fault { kind: *kind, step, moment, call: None };
                disk.restore(&snapshot);
                disk.start();
                disk.arm(&[fault]);
                let acknowledged = insert(&disk, setting);
                struck += disk.struck().len();
                if !disk.is_down() {
                    disk.kill();
                }
                disk.arm(&[]);
                disk.start();
                let found = rows(&disk, setting);
                // The one that failed may have happened; those before it did.
                if !matches!(found, Ok(found) if found == acknowledged || found == acknowledged + 1) {
                    wrong.push(Wrong { fault, acknowledged, found });
                }
            }
        }
    }
    (struck, wrong)
}

const LOSSES: [FaultKind; 6] = [
    FaultKind::PowerLoss(0),
    FaultKind::PowerLoss(1),
    FaultKind::PowerLoss(2),
    FaultKind::PowerLoss(3),
    FaultKind::PowerLoss(4),
    FaultKind::PowerLoss(5),
];

#[test]
fn what_is_acknowledged_survives_a_kill_at_every_step() {
    for setting in [WAL_FULL, WAL_NORMAL, JOURNAL_EXTRA, JOURNAL_FULL, JOURNAL_OFF] {
        let (struck, wrong) = strike(setting, &[FaultKind::Kill]);
        assert!(struck > 100, "{struck}");
        assert_eq!(wrong.first(), None, "{setting}");
    }
}

#[test]
fn what_is_acknowledged_survives_a_loss_of_power_at_every_step() {
    for setting in [WAL_FULL, JOURNAL_EXTRA] {
        let (struck, wrong) = strike(setting, &LOSSES);
        assert!(struck > 600, "{struck}");
        assert_eq!(wrong.first(), None, "{setting}");
    }
}

/// The disk can lose something: who does not synchronise is found out, by as much as SQLite says:
/// <https://www.sqlite.org/pragma.html#pragma_synchronous>.
#[test]
fn without_synchronisation_power_takes_what_was_acknowledged() {
    // Commits of a log are synchronised with FULL only; the removal of a journal with EXTRA only.
    for setting in [WAL_NORMAL, JOURNAL_FULL] {
        let (_, wrong) = strike(setting, &LOSSES);
        let is_lost = |wrong: &Wrong| wrong.found.as_ref().is_ok_and(|found| *found < wrong.acknowledged);
        assert!(wrong.iter().any(is_lost), "{setting}");
        let is_damaged = |wrong: &&Wrong| matches!(&wrong.found, Err(why) if why != "no such table: t");
        let damaged = wrong.iter().find(is_damaged);
        assert_eq!(damaged, None, "{setting}");
    }
    let (_, wrong) = strike(JOURNAL_OFF, &LOSSES);
    assert!(wrong.iter().any(|wrong| wrong.found.is_err()));
}

#[test]
fn errors_lose_nothing_that_was_acknowledged() {
    let kinds =
        [FaultKind::Error, FaultKind::Full, FaultKind::Busy, FaultKind::SyncFailure(0), FaultKind::SyncFailure(7)];
    for setting in [WAL_FULL, JOURNAL_FULL] {
        let (struck, wrong) = strike(setting, &kinds);
        assert!(struck > 100, "{struck}");
        assert_eq!(wrong.first(), None, "{setting}");
    }
}

#[test]
fn the_same_steps_come_again() {
    let (disk, snapshot) = formatted(WAL_FULL);
    let steps = || -> Vec<Io> {
        disk.restore(&snapshot);
        disk.start();
        insert(&disk, WAL_FULL);
        disk.steps()
    };
    assert_eq!(steps(), steps());
}

#[test]
fn two_connections_keep_out_of_each_others_way() {
    let (disk, _) = formatted(WAL_FULL);
    let (one, two) = (open(&disk, WAL_FULL).unwrap(), open(&disk, WAL_FULL).unwrap());
    one.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 1)").unwrap();
    let count =
        |connection: &Connection| connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(count(&two), Ok(0), "a reader sees what was committed");
    let refused = two.execute_batch("BEGIN IMMEDIATE");
    assert!(
        matches!(refused, Err(Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy),
        "{refused:?}"
    );
    one.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&two), Ok(1));
    two.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2, 2); COMMIT").unwrap();
    assert_eq!(count(&one), Ok(2));
}

#[test]
fn nothing_stays_open_or_locked() {
    let (disk, _) = formatted(WAL_FULL);
    let connection = open(&disk, WAL_FULL).unwrap();
    let at_rest = (disk.open_files(), disk.locks());
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(disk.locks() > at_rest.1);
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!((disk.open_files(), disk.locks()), at_rest);
    drop(connection);
    assert_eq!((disk.open_files(), disk.locks()), (0, 0));
}

/// Every allocation of a run refused, once or from then on: nothing that was acknowledged is lost, and all of them strike.
#[test]
fn refused_memory_loses_nothing_that_was_acknowledged() {
    let (disk, snapshot) = formatted(WAL_FULL);
    let run = |faults: &[Fault]| {
        disk.restore(&snapshot);
        disk.start();
        disk.arm(faults);
        insert(&disk, WAL_FULL)
    };
    assert_eq!(run(&[]), ROWS);
    let allocations = disk.allocations();
    assert_eq!(run(&[]), ROWS);
    assert_eq!(disk.allocations(), allocations, "the same allocations come again");
    // Few would mean that SQLite takes from lookaside memory what it takes for small things.
    assert!(allocations > 300, "{allocations}");
    let mut refused = 0;
    for kind in [FaultKind::NoMemory, FaultKind::NoMemoryOnce] {
        for step in 0..allocations {
            let fault = Fault { kind, step, moment: Moment::Before, call: None };
            let acknowledged = run(&[fault]);
            assert!(disk.struck().first() == Some(&fault), "{fault} did not strike");
            refused += u32::from(acknowledged < ROWS);
            disk.arm(&[]);
            disk.start();
            let found = rows(&disk, WAL_FULL).unwrap();
            assert!(found == acknowledged || found == acknowledged + 1, "{fault}: {found} of {acknowledged}");
            assert_eq!((disk.open_files(), disk.locks()), (0, 0), "{fault}");
        }
    }
    // Some it can do without.
    assert!(refused > allocations, "{refused} of {allocations}, twice");
}
