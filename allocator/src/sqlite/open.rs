//! How a file is opened: as ours, of this version, and with what it survives.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::values::add_arithmetic;
use super::{SqliteStore, failure};
use crate::error::{Error, Result};
use crate::store::Access;

/// Marks a file as ours in its header: the bytes of "PoPr".
const APPLICATION_ID: i64 = 0x506F_5072;

/// The version of the tables, in the file's header. A file with a higher one is refused.
const VERSION: i64 = 3;

/// SQLite counts the milliseconds it waits in 31 bits. Longer than this day is no different.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// More than there are statements, so that each is compiled once.
const STATEMENTS: usize = 128;

/// A commit writes whole pages, and a call changes a row each in four trees: small pages make it a quarter of the bytes. They
/// are for new files; others stay as they are. The log is copied back after as many bytes as SQLite lets it have by itself.
const PAGES: &str = "PRAGMA page_size = 1024; PRAGMA wal_autocheckpoint = 4000";

pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// How an SQLite file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// What an acknowledged change survives.
    pub synchronous: Synchronous,
    /// How long a call waits for others that hold the file before it is [`Error::Busy`].
    pub busy_timeout: Duration,
    /// Opens the file only to look at it: it must exist in this version, and every call that would change something is
    /// [`Error::Unsupported`]. Others may write meanwhile. SQLite still needs to create the `-shm` file beside it, if no other
    /// process has it open.
    pub read_only: bool,
    /// Looks at all of the file before anything else is done with it, as [`integrity_check`](SqliteStore::integrity_check) and
    /// [`audit`](crate::Allocator::audit) do. Damage is [`Error::Storage`] then. Without it, damage shows when something
    /// comes upon it, or never. O(n log n) in all that is stored.
    pub verify: bool,
    /// The file system that SQLite finds the file in: one that was registered with it, `None` for that of the machine.
    pub vfs: Option<&'static str>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(2),
            read_only: false,
            verify: false,
            vfs: None,
        }
    }
}

/// What an acknowledged change survives. The process may crash at any time: neither level loses anything by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// Every commit waits until the disk has it. A power failure or a crash of the operating system loses nothing, as
    /// long as the disk keeps what it says it has.
    Full,
    /// Commits wait for the disk only when the log is copied back into the file, about every four megabytes. A power failure
    /// or a crash of the operating system undoes the commits since, the last ones first, and nothing else: what is left is
    /// a state that was, but addresses that were handed out since are free in it, and may be handed out twice.
    Normal,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Nothing,
    Version1,
    Version2,
    Present,
}

impl SqliteStore {
    /// Opens a file, creating it or bringing it up to this version unless it is only to be read. It is left as it was if it
    /// is not one of ours.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        // Without SQLITE_OPEN_URI a path is a path, whatever it looks like.
        let access = match options.read_only {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if options.vfs.is_none() {
            demand_file_beside_log(path)?;
        }
        let opened = match options.vfs {
            None => Connection::open_with_flags(path, flags),
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        };
        let connection = opened.map_err(failure)?;
        connection.busy_timeout(options.busy_timeout.min(LONGEST_WAIT)).map_err(failure)?;
        let mut store = Self::over(connection, options.read_only)?;
        let layout = store.within(Access::Read, |store| store.layout())?;
        if options.read_only {
            return match layout {
                Layout::Present => store.verified(options.verify),
                _ => Err(Error::Unsupported("the file has no tables of this version, and was opened for reading only")),
            };
        }
        store.connection.execute_batch(PAGES).map_err(failure)?;
        store.use_write_ahead_log(options.busy_timeout)?;
        store.run(
            match options.synchronous {
                Synchronous::Full => "PRAGMA synchronous = FULL",
                Synchronous::Normal => "PRAGMA synchronous = NORMAL",
            },
            [],
        )?;
        if layout != Layout::Present {
            store.within(Access::Write, Self::bring_up)?;
        }
        if options.synchronous == Synchronous::Full {
            store.harden()?;
        }
        store.verified(options.verify)
    }

    /// Makes what is in the log last. A process that died may have left a commit there that the disk does not have yet:
    /// whoever is told of it shall find it after a power failure, too. SQLite synchronises the log before it copies from it.
    fn harden(&self) -> Result<()> {
        self.row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map(|_| ())
    }

    /// The store, if nothing is wrong with its file or nobody asks.
    fn verified(mut self, is_asked: bool) -> Result<Self> {
        if is_asked {
            let lines = self.integrity_check()?;
            if !lines.is_empty() {
                return Err(Error::storage("the file is damaged: SQLite finds faults in it"));
            }
            let differences = self.within(Access::Read, |store| store.differences())?;
            if !differences.is_empty() {
                return Err(Error::storage("the file is damaged: what it says in two places differs"));
            }
        }
        Ok(self)
    }

    /// A store over a connection that has its tables, or is about to get them.
    pub(super) fn over(connection: Connection, is_read_only: bool) -> Result<Self> {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Without this guarantee SQLite compiles a search anew for each value, in case another plan suits it better.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failure)?;
        add_arithmetic(&connection).map_err(failure)?;
        Ok(Self { connection, is_read_only, is_in_doubt: false, seen: None })
    }

    /// Creates the tables, or brings those of version 1 up to this one.
    pub(super) fn bring_up(&mut self) -> Result<()> {
        // Somebody else may have done so since the first look.
        match self.layout()? {
            Layout::Nothing => self.connection.execute_batch(SCHEMA).map_err(failure),
            Layout::Version1 => self.migrate_version_1(),
            Layout::Version2 => self.migrate_version_2(),
            Layout::Present => Ok(()),
        }
    }

    /// What is in the file.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a file that this version must not touch.
    fn layout(&self) -> Result<Layout> {
        let number = |sql| self.row(sql, [], |row| row.get::<_, i64>(0)).map(|value| value.unwrap_or(0));
        let application = number("PRAGMA application_id")?;
        let version = number("PRAGMA user_version")?;
        if application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(Layout::Nothing);
        }
        match (application, version) {
            (APPLICATION_ID, 1) => Ok(Layout::Version1),
            (APPLICATION_ID, 2) => Ok(Layout::Version2),
            (APPLICATION_ID, VERSION) => Ok(Layout::Present),
            (APPLICATION_ID, VERSION..) => Err(Error::Unsupported("the file was written by a newer version")),
            _ => Err(Error::Unsupported("the file belongs to something else")),
        }
    }

    /// Turns on the write-ahead log. SQLite does not wait for locks in every part of that, so this does.
    fn use_write_ahead_log(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
                Ok(Some(mode)) if mode == "wal" => return Ok(()),
                Ok(_) => return Err(Error::Unsupported("the file cannot have a write-ahead log")),
                Err(Error::Busy(_)) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        }
    }

    /// What SQLite finds wrong with the file itself, a line each and at most a hundred: damaged pages, indexes that do not
    /// match their tables, values that break a constraint. Nothing in a sound file. O(n log n) in all that is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] if the damage keeps it from looking; [`Error::Busy`].
    pub fn integrity_check(&mut self) -> Result<Vec<String>> {
        let mut lines = self.rows("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }
}

/// SQLite takes a file that is empty or not there for a new one, and removes its log, which may hold all that was committed. A
/// log is only made when there is something in the file, so that is no state of ours. One byte is none to SQLite, which has to
/// write it on some file systems.
fn demand_file_beside_log(path: &Path) -> Result<()> {
    let is_empty = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()) <= 1;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // First the log: whoever makes both at this moment makes it last.
    if !is_empty(Path::new(&log)) && is_empty(path) {
        return Err(Error::storage(
            "the file is empty or missing, but not its log (-wal): it is damaged, or was removed alone",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::policy::Strategy;
    use crate::resource::Extent;
    use crate::sqlite::tests::{pool, span};
    use crate::store::{Filter, Store};

    const READ_ONLY: SqliteOptions = SqliteOptions {
        synchronous: Synchronous::Full,
        busy_timeout: Duration::ZERO,
        read_only: true,
        verify: false,
        vfs: None,
    };

    fn kind<T>(answer: Result<T>) -> Option<ErrorKind> {
        answer.err().map(|error| error.kind())
    }

    #[test]
    fn a_reader_sees_what_others_commit_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut writer = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let mut reader = SqliteStore::open(&path, READ_ONLY).unwrap();
        writer.begin(Access::Write).unwrap();
        let pool = pool(&mut writer, "p0", span(0, 9), Strategy::Random);
        writer.hold(pool, Extent::address(3), "a", None, None).unwrap();
        let held = |reader: &mut SqliteStore| {
            reader.within(Access::Read, |reader| reader.list(Filter::Owner("a"))).unwrap().len()
        };
        assert_eq!(held(&mut reader), 0);
        writer.commit().unwrap();
        assert_eq!(held(&mut reader), 1);
        assert_eq!(kind(reader.begin(Access::Write)), Some(ErrorKind::Unsupported));
        assert_eq!(kind(reader.clear()), Some(ErrorKind::Unsupported));
        assert_eq!(reader.within(Access::Read, |reader| reader.audit()).unwrap(), []);
        assert_eq!(reader.integrity_check().unwrap(), [""; 0]);
        drop((writer, reader));
        // Alone as well, with nothing but the file left.
        let before = std::fs::read(&path).unwrap();
        let mut reader = SqliteStore::open(&path, READ_ONLY).unwrap();
        assert_eq!(held(&mut reader), 1);
        drop(reader);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_reader_creates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        assert_eq!(kind(SqliteStore::open(&path, READ_ONLY)), Some(ErrorKind::Storage));
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert_eq!(kind(SqliteStore::open(&path, READ_ONLY)), Some(ErrorKind::Unsupported));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        Connection::open(&path).unwrap().execute_batch(include_str!("version_1.sql")).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(kind(SqliteStore::open(&path, READ_ONLY)), Some(ErrorKind::Unsupported));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_log_whose_file_is_empty_or_missing_is_not_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = (folder.path().join("state.db"), folder.path().join("state.db-wal"));
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        store.begin(Access::Write).unwrap();
        pool(&mut store, "p0", span(0, 9), Strategy::Lowest);
        store.commit().unwrap();
        let (whole, written) = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
        drop(store);
        std::fs::write(&log, &written).unwrap();
        for empty in ["", "S"] {
            std::fs::write(&path, empty).unwrap();
            assert_eq!(kind(SqliteStore::open(&path, SqliteOptions::default())), Some(ErrorKind::Storage));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kind(SqliteStore::open(&path, SqliteOptions::default())), Some(ErrorKind::Storage));
        assert_eq!(std::fs::read(&log).unwrap(), written);
        assert!(!path.exists());
        std::fs::write(&path, whole).unwrap();
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        assert!(store.within(Access::Read, |store| store.find_pool("p0")).unwrap().is_some());
    }

    #[test]
    fn a_damaged_file_fails_its_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        assert_eq!(store.integrity_check().unwrap(), [""; 0]);
        let damage =
            "PRAGMA ignore_check_constraints = ON; INSERT INTO free VALUES (1, zeroblob(16), zeroblob(16), 999, NULL)";
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        assert_eq!(store.integrity_check().unwrap(), ["CHECK constraint failed in free"]);
        drop(store);
        // Nothing is left but the first page.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..].fill(0x55);
        std::fs::write(&path, bytes).unwrap();
        let checked = SqliteStore::open(&path, SqliteOptions::default()).and_then(|mut store| store.integrity_check());
        assert!(checked.map_or_else(|error| error.kind() == ErrorKind::Storage, |lines| !lines.is_empty()));
    }

    #[test]
    fn damage_to_what_nothing_else_follows_from_keeps_a_verified_file_from_being_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        store.begin(Access::Write).unwrap();
        let pool = pool(&mut store, "p0", span(0, 9), Strategy::Random);
        store.hold(pool, Extent::address(3), "alice", Some(77), None).unwrap();
        store.end(pool, Extent::address(3), Some(88)).unwrap();
        store.hold(pool, Extent::address(4), "alice", Some(99), None).unwrap();
        store.commit().unwrap();
        drop(store);
        let verified = SqliteOptions { synchronous: Synchronous::Normal, verify: true, ..SqliteOptions::default() };
        SqliteStore::open(&path, verified).unwrap();
        let sound = std::fs::read(&path).unwrap();
        for (place, byte) in sound.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            let mut damaged = sound.clone();
            damaged[place] = byte ^ 0x02;
            std::fs::write(&path, damaged).unwrap();
            let Ok(mut store) = SqliteStore::open(&path, verified) else { continue };
            // Then it was something that nobody reads, or a number that may as well be another.
            store.begin(Access::Read).unwrap();
            assert_eq!(store.now_ms().unwrap(), 0);
            let found = store.find_pool("p0").unwrap().unwrap();
            assert_eq!(
                (found.policy, found.prefix.span),
                (crate::sqlite::tests::choosing(Strategy::Random), span(0, 9))
            );
            let held: Vec<_> = store.list(Filter::Owner("alice")).unwrap();
            assert_eq!(held.iter().map(|(_, one)| one.expires_ms).collect::<Vec<_>>(), [Some(99)], "{place}");
            assert_eq!(store.over(100).unwrap().len(), 2);
        }
    }
}
