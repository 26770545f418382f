//! What only a file can do: outlive its handle, be shared by handles and processes, and be the wrong file.

mod common;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{address, any, drain, kind, named, seen, spec, with_pools};
use poolproof_allocator::{
    Allocator, Error, ErrorKind, Policy, Repeat, Request, SqliteAllocator, SqliteOptions, Strategy, Usage,
};

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}

fn impatient(path: &Path) -> SqliteAllocator {
    let options = SqliteOptions { busy_timeout: Duration::from_millis(1), ..SqliteOptions::default() };
    Allocator::open_with(path, options).unwrap()
}

#[test]
fn durable_what_was_acknowledged_survives_a_restart() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    allocator.advance_to(7).unwrap();
    allocator.allocate("🦀", &[Request::any("p0"), Request::any("p1")], Some(3)).unwrap();
    let before = seen(&mut allocator);
    drop(allocator);
    let mut allocator = Allocator::open(&path).unwrap();
    assert_eq!(seen(&mut allocator), before);
    allocator.advance_to(10).unwrap();
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

#[test]
fn durable_policies_quarantines_and_generations_survive_a_restart() {
    let (_folder, path) = fresh();
    let policy = Policy { strategy: Strategy::Next, repeat: Repeat::Same, quarantine_ms: 9 };
    let requests = [Request::several("p0", 2), Request::block("p0", 30)];
    let mut allocator = Allocator::open(&path).unwrap();
    allocator.create_pool("p0", &spec("10.0.0.0/28").with_space("red").with_policy(policy)).unwrap();
    let granted = allocator.allocate("a", &requests, Some(5)).unwrap();
    allocator.release("p0", granted.grants[0].resource, "a").unwrap();
    let before = seen(&mut allocator);
    drop(allocator);

    let mut allocator = Allocator::open(&path).unwrap();
    assert_eq!(seen(&mut allocator), before);
    let again = allocator.allocate("a", &requests, None).unwrap();
    assert_eq!(again.grants[0], granted.grants[1], "it holds but this one of two");
    assert_eq!(again.grants[1].resource, address("10.0.0.10").into(), "the one above the last");
    assert!(again.grants[1].generation > granted.grants[2].generation);
    assert_eq!(kind(allocator.create_pool("p1", &spec("10.0.0.0/8").with_space("red"))), ErrorKind::Conflict);
    allocator.advance_to(9).unwrap();
    assert_eq!(allocator.usage("p0").unwrap(), Usage { allocatable: 14, allocated: 6, quarantined: 0 });
}

#[test]
fn durable_an_open_transaction_is_rolled_back_by_dropping_the_allocator() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    let before = seen(&mut allocator);
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    allocator.create_pool("p2", &spec("10.2.0.0/24")).unwrap();
    drop(allocator);
    let mut allocator = Allocator::open(&path).unwrap();
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(kind(allocator.usage("p2")), ErrorKind::NotFound);
}

#[test]
fn exclusive_handles_on_one_file_see_each_others_allocations() {
    let (_folder, path) = fresh();
    let mut one = with_pools(Allocator::open(&path).unwrap());
    let mut other = Allocator::open(&path).unwrap();
    assert_eq!(any(&mut one, "a", "p0").unwrap(), "10.0.0.2");
    assert_eq!(any(&mut other, "b", "p0").unwrap(), "10.0.0.3");
    assert_eq!(kind(other.release("p0", address("10.0.0.2"), "b")), ErrorKind::NotOwner);
    drain(&mut one, "p0");
    assert_eq!(kind(any(&mut other, "b", "p0")), ErrorKind::Exhausted);
    one.release("p0", address("10.0.0.2"), "a").unwrap();
    assert_eq!(any(&mut other, "b", "p0").unwrap(), "10.0.0.2");
    assert_eq!(one.advance_to(50).unwrap(), 50);
    assert_eq!(other.now_ms().unwrap(), 50);
    other.reset().unwrap();
    assert_eq!(one.list(None).unwrap(), []);
}

#[test]
fn classified_a_handle_that_waits_too_long_is_busy_and_recovers() {
    let (_folder, path) = fresh();
    let mut one = with_pools(impatient(&path));
    let mut other = impatient(&path);
    one.begin().unwrap();
    any(&mut one, "a", "p0").unwrap();
    let busy = any(&mut other, "b", "p0").unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert!(busy.source().is_some());
    assert_eq!(kind(other.begin()), ErrorKind::Busy);
    assert_eq!(other.list(None).unwrap(), [], "a reader neither waits nor sees what is not committed");
    one.commit().unwrap();
    assert_eq!(any(&mut other, "b", "p0").unwrap(), "10.0.0.3");
}

#[test]
fn linearizable_threads_with_handles_of_their_own_never_share_an_address() {
    let (_folder, path) = fresh();
    let mut allocator = Allocator::open(&path).unwrap();
    allocator.create_pool("p0", &spec("10.0.0.0/24")).unwrap();
    let claim = |owner: String| {
        let mut allocator = Allocator::open(&path).unwrap();
        (0..20).map(|_| any(&mut allocator, &owner, "p0").unwrap()).collect::<Vec<_>>()
    };
    let mut granted: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || claim(format!("thread {thread}")))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    granted.sort();
    granted.dedup();
    assert_eq!(granted.len(), 80);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 80);
}

#[test]
fn linearizable_many_may_create_one_file_at_once() {
    for _ in 0..10 {
        let (_folder, path) = fresh();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Allocator::open(&path).unwrap().list(None).unwrap());
            }
        });
    }
}

/// The other process of the test below: this test binary again, told by the environment what to do.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os("POOLPROOF_ALLOCATOR_TEST_FILE") else {
        return;
    };
    let mut allocator = Allocator::open(path).unwrap();
    assert_eq!(any(&mut allocator, "child", "p0").unwrap(), "10.0.0.3");
    allocator.begin().unwrap();
    any(&mut allocator, "child", "p0").unwrap();
    // Dies with a transaction open and without running a destructor.
    std::process::abort();
}

#[test]
fn durable_another_process_allocates_and_dies_in_a_transaction() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    assert_eq!(any(&mut allocator, "parent", "p0").unwrap(), "10.0.0.2");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process"])
        .env("POOLPROOF_ALLOCATOR_TEST_FILE", &path)
        .output()
        .unwrap();
    assert!(!child.status.success());
    let owners: Vec<_> = allocator.list(None).unwrap().into_iter().map(|one| one.owner.to_string()).collect();
    assert_eq!(owners, ["parent", "child"]);
    assert_eq!(any(&mut allocator, "parent", "p0").unwrap(), "10.0.0.4");
}

#[test]
fn durable_a_newer_file_is_refused_and_left_alone() {
    let (_folder, path) = fresh();
    drop(with_pools(Allocator::open(&path).unwrap()));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 1000").unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = Allocator::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "the file was written by a newer version");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn durable_a_file_of_no_version_is_refused_for_what_it_is() {
    let (_folder, path) = fresh();
    drop(with_pools(Allocator::open(&path).unwrap()));
    for version in [0, -1] {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        drop(connection);
        assert_eq!(Allocator::open(&path).unwrap_err().to_string(), "the file belongs to something else");
    }
}

#[test]
fn classified_a_file_that_somebody_is_making_is_waited_for_and_then_busy() {
    let (_folder, path) = fresh();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let open = |busy_timeout| Allocator::open_with(&path, SqliteOptions { busy_timeout, ..SqliteOptions::default() });
    assert_eq!(kind(open(Duration::from_millis(20))), ErrorKind::Busy);
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        other.execute_batch("ROLLBACK").unwrap();
    });
    open(Duration::from_secs(60)).unwrap();
    ending.join().unwrap();
}

#[test]
fn total_files_of_something_else_are_refused_and_left_alone() {
    let (folder, path) = fresh();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(kind(Allocator::open(&path)), ErrorKind::Unsupported);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no database at all, but long enough to have a header".repeat(10)).unwrap();
    assert_eq!(kind(Allocator::open(&text)), ErrorKind::Storage);
    assert_eq!(kind(Allocator::open(folder.path())), ErrorKind::Storage);
    for memory in [":memory:", ""] {
        // Nothing that vanishes with its handle may pass for a file.
        assert_eq!(kind(Allocator::open(memory)), ErrorKind::Unsupported);
    }
}

#[test]
fn discreet_a_failure_names_no_path_but_keeps_its_cause() {
    let error = Allocator::open("/nonexistent/secret/state.db").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.to_string(), "the store failed, the call did not happen");
    assert!(error.source().unwrap().to_string().contains("secret"));
}

/// A deferred foreign key is the one thing that makes SQLite refuse at COMMIT, whatever the disk does.
const REFUSE_COMMITS: &str = "CREATE TABLE dangling (pool REFERENCES pool (id) DEFERRABLE INITIALLY DEFERRED); \
                              CREATE TRIGGER refuse AFTER INSERT ON allocation \
                              BEGIN INSERT INTO dangling VALUES (99); END";

#[test]
fn classified_a_commit_that_fails_did_not_happen_and_leaves_nothing_open() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    let before = seen(&mut allocator);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(REFUSE_COMMITS).unwrap();
    let error = any(&mut allocator, "a", "p0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.source().is_some());
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    assert_eq!(kind(allocator.commit()), ErrorKind::Storage);
    connection.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

#[test]
fn classified_a_commit_whose_place_in_the_log_cannot_be_taken_is_in_doubt_and_nothing_is_told_until_it_can() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    let before = seen(&mut allocator);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(REFUSE_COMMITS).unwrap();
    let refuse_more = "CREATE TRIGGER refuse_more BEFORE UPDATE ON state BEGIN SELECT RAISE(ABORT, 'no'); END";
    connection.execute_batch(refuse_more).unwrap();
    assert_eq!(kind(any(&mut allocator, "a", "p0")), ErrorKind::UnknownOutcome);
    assert_eq!(kind(allocator.list(None)), ErrorKind::Storage);
    assert_eq!(kind(allocator.begin()), ErrorKind::Storage);
    connection.execute_batch("DROP TRIGGER refuse; DROP TRIGGER refuse_more").unwrap();
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

#[test]
fn total_any_busy_timeout_is_accepted() {
    let (_folder, path) = fresh();
    for busy_timeout in [Duration::ZERO, Duration::MAX] {
        let options = SqliteOptions { busy_timeout, ..SqliteOptions::default() };
        Allocator::open_with(&path, options).unwrap();
    }
}

#[test]
fn classified_damage_is_storage_and_undoes_the_call() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    let refuse =
        "CREATE TRIGGER refuse BEFORE INSERT ON allocation WHEN new.pool = 2 BEGIN SELECT raise(ABORT, 'x'); END";
    connection.execute_batch(refuse).unwrap();
    let before = seen(&mut allocator);
    let both = [Request::any("p0"), Request::any("p1")];
    assert_eq!(kind(allocator.allocate("a", &both, None)), ErrorKind::Storage);
    assert_eq!(seen(&mut allocator), before);
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    assert_eq!(kind(allocator.allocate("a", &both, None)), ErrorKind::Storage);
    allocator.commit().unwrap();
    assert_eq!(allocator.list(None).unwrap().len(), 1);
    // SQLite gives up the whole transaction here: nothing may slip out of it afterwards.
    connection.execute_batch(&refuse.replace("refuse", "end_all").replace("ABORT", "ROLLBACK")).unwrap();
    connection.execute_batch("DROP TRIGGER refuse").unwrap();
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    assert_eq!(kind(any(&mut allocator, "a", "p1")), ErrorKind::Storage);
    assert_eq!(kind(named(&mut allocator, "a", "p0", "10.0.0.6")), ErrorKind::Storage);
    let error = allocator.commit().unwrap_err();
    assert!(matches!(error, Error::Storage(_)));
    assert_eq!(allocator.list(None).unwrap().len(), 1);
}

#[test]
fn accounted_both_checks_tell_what_is_wrong_in_a_file() {
    let (_folder, path) = fresh();
    let mut allocator = with_pools(Allocator::open(&path).unwrap());
    any(&mut allocator, "a", "p0").unwrap();
    assert_eq!(allocator.audit().unwrap(), []);
    assert_eq!(allocator.integrity_check().unwrap(), [""; 0]);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE pool SET allocated = allocatable WHERE name = 'p0'").unwrap();
    assert_eq!(allocator.audit().unwrap().len(), 1);
    connection.execute_batch("PRAGMA ignore_check_constraints = ON; UPDATE pool SET quarantine_ms = -1").unwrap();
    assert_eq!(allocator.integrity_check().unwrap(), ["CHECK constraint failed in pool"; 2]);
}
