//! How a file of an older version becomes one of this version, in the transaction that found it so.
//!
//! Version 1 knew neither blocks nor policies, numbered no allocations and did not keep what a pool may hand out: that is
//! what is free and what is held together. Version 2 kept some of its values only once, so that damage to them did not show.

use rusqlite::params;

use super::SqliteStore;
use super::failure;
use super::open::SCHEMA;
use super::pools::spans;
use super::values::span;
use crate::error::Result;
use crate::policy::Policy;
use crate::span::merge;

/// Puts the old tables aside. Their indexes have names that the new ones need.
const ASIDE: &str = "
    DROP INDEX allocation_by_owner;
    DROP INDEX allocation_by_expiry;
    ALTER TABLE pool RENAME TO old_pool;
    ALTER TABLE free RENAME TO old_free;
    ALTER TABLE allocation RENAME TO old_allocation;
";

/// Fills the new tables with what does not depend on free space.
const COPY: &str = "
    UPDATE state SET now_ms = (SELECT now_ms FROM clock);
    INSERT INTO allocation (pool, first, host_bits, owner, expires_ms, generation)
        SELECT pool, address, -1, owner, expires_ms, row_number() OVER (PARTITION BY pool ORDER BY address)
        FROM old_allocation;
    INSERT INTO pool (id, name, space, family, first, last, strategy, repeat, quarantine_ms, allocatable, allocated,
            quarantined, cursor, generation)
        SELECT id, name, '', family, first, last, 0, 0, 0, zeroblob(16),
            unhex(printf('%032x', (SELECT count(*) FROM allocation WHERE pool = id))), zeroblob(16), zeroblob(16),
            (SELECT count(*) FROM allocation WHERE pool = id)
        FROM old_pool;
";

const DROP: &str = "DROP TABLE clock; DROP TABLE old_pool; DROP TABLE old_free; DROP TABLE old_allocation;";

/// Keeps twice what version 2 kept once.
const AGAIN: &str = "
    CREATE INDEX state_again ON state (now_ms, generation);
    CREATE INDEX pool_again ON pool (last, strategy, repeat, quarantine_ms);
    DROP INDEX allocation_by_owner;
    CREATE INDEX allocation_by_owner ON allocation (owner, pool, host_bits, first, generation);
    DROP INDEX quarantine_by_end;
    CREATE INDEX quarantine_by_end ON quarantine (until_ms, host_bits);
    PRAGMA user_version = 3;
";

impl SqliteStore {
    pub(super) fn migrate_version_2(&mut self) -> Result<()> {
        self.connection.execute_batch(AGAIN).map_err(failure)
    }

    pub(super) fn migrate_version_1(&mut self) -> Result<()> {
        self.connection.execute_batch(ASIDE).map_err(failure)?;
        self.connection.execute_batch(SCHEMA).map_err(failure)?;
        self.connection.execute_batch(COPY).map_err(failure)?;
        for (_, pool) in self.all_pools()? {
            let mut allocatable = spans(&self.held(pool)?);
            let free = "SELECT first, last FROM old_free WHERE pool = ?1";
            allocatable.extend(self.rows(free, params![pool.0], |row| span(row, 0))?);
            self.reshape(pool, Policy::default(), &merge(allocatable))?;
        }
        self.connection.execute_batch(DROP).map_err(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rusqlite::Connection;

    use super::*;
    use crate::resource::Extent;
    use crate::span::Span;
    use crate::sqlite::SqliteOptions;
    use crate::sqlite::tests::span as between;
    use crate::store::{Access, Filter, PoolId, Store, Usage};

    /// As version 1 left it: 10.0.0.0/29 with gaps, and ::/0 with its top held.
    const CONTENT: &str = "
        UPDATE clock SET now_ms = 7;
        INSERT INTO pool (id, name, family, first, last, allocatable, allocated) VALUES
            (3, 'p0', 4, x'0000000000000000000000000a000000', x'0000000000000000000000000a000007',
                x'00000000000000000000000000000004', 2),
            (4, 'p1', 6, x'00000000000000000000000000000000', x'ffffffffffffffffffffffffffffffff',
                x'ffffffffffffffffffffffffffffffff', 1);
        INSERT INTO free (pool, last, first) VALUES
            (3, x'0000000000000000000000000a000002', x'0000000000000000000000000a000002'),
            (3, x'0000000000000000000000000a000006', x'0000000000000000000000000a000006'),
            (4, x'fffffffffffffffffffffffffffffffe', x'00000000000000000000000000000001');
        INSERT INTO allocation (pool, address, owner, expires_ms) VALUES
            (3, x'0000000000000000000000000a000003', 'a', NULL),
            (3, x'0000000000000000000000000a000005', 'b', 50),
            (4, x'ffffffffffffffffffffffffffffffff', 'a', NULL);
    ";

    fn version_1(more: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(include_str!("version_1.sql")).unwrap();
        connection.execute_batch(CONTENT).unwrap();
        connection.execute_batch(more).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_of_version_1_keeps_everything() {
        let (_folder, path) = version_1("");
        drop(SqliteStore::open(&path, SqliteOptions::default()).unwrap());
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        assert_eq!(store.integrity_check().unwrap(), [""; 0]);
        store.begin(Access::Write).unwrap();
        assert_eq!(store.audit().unwrap(), []);
        assert_eq!(store.now_ms().unwrap(), 7);

        let p0 = store.find_pool("p0").unwrap().unwrap();
        assert_eq!((p0.id, p0.policy, p0.generation), (PoolId(3), Policy::default(), 2));
        assert_eq!(store.usage(p0.id).unwrap(), Usage { allocatable: 4, allocated: 2, quarantined: 0 });
        let allocatable = [between(0x0a00_0002, 0x0a00_0003), between(0x0a00_0005, 0x0a00_0006)];
        assert_eq!(store.allocatable(p0.id).unwrap(), allocatable);
        let p1 = store.find_pool("p1").unwrap().unwrap();
        assert_eq!(store.allocatable(p1.id).unwrap(), [between(1, u128::MAX)]);
        assert_eq!(store.free_from(p1.id, 0).unwrap(), Some(1));

        let held = store.list(Filter::Pool(p0.id, 0, 9)).unwrap();
        let held: Vec<_> =
            held.into_iter().map(|(_, one)| (one.resource.to_string(), one.owner, one.generation)).collect();
        assert_eq!(held, [("10.0.0.3".into(), "a".into(), 1), ("10.0.0.5".into(), "b".into(), 2)]);
        assert_eq!(store.over(50).unwrap().len(), 1);
        assert_eq!(store.hold(p0.id, Extent::address(0x0a00_0002), "c", None, None).unwrap(), 3);
        let above = Span::single(0x0b00_0000);
        assert!(store.insert_pool("p2", "", crate::pool::Prefix { span: above, ..p0.prefix }).unwrap() > p1.id);

        let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'old%' OR name = 'clock'";
        assert_eq!(store.row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), Some(0));
    }

    #[test]
    fn a_file_of_version_2_becomes_the_same_as_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        let connection = Connection::open(&old).unwrap();
        connection.execute_batch(include_str!("version_2.sql")).unwrap();
        connection.execute_batch("UPDATE state SET now_ms = 7").unwrap();
        drop(connection);
        let schema = |path| {
            let mut store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
            assert_eq!(store.integrity_check().unwrap(), [""; 0]);
            let tables = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name";
            let mut rows: Vec<(String, String, String)> =
                store.rows(tables, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            rows.iter_mut().for_each(|(_, _, sql)| sql.retain(|character| !character.is_whitespace()));
            let version = store.row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
            (store, rows, version)
        };
        let (mut store, rows, version) = schema(&old);
        assert_eq!((rows, version), {
            let (_, rows, version) = schema(&new);
            (rows, version)
        });
        store.begin(Access::Read).unwrap();
        assert_eq!(store.now_ms().unwrap(), 7);
    }

    #[test]
    fn many_may_migrate_one_file_at_once() {
        let (_folder, path) = version_1("");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| SqliteStore::open(&path, SqliteOptions::default()).unwrap());
            }
        });
        let mut store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        assert_eq!(store.within(Access::Read, |store| store.audit()).unwrap(), []);
    }

    #[test]
    fn a_migration_that_fails_leaves_version_1() {
        let (_folder, path) = version_1("CREATE TABLE tally (x)");
        assert!(SqliteStore::open(&path, SqliteOptions::default()).is_err());
        let connection = Connection::open(&path).unwrap();
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), 1);
        assert_eq!(number("SELECT count(*) FROM allocation WHERE address IS NOT NULL"), 3);
    }
}
