-- Version 3 of the tables. `application_id` and `user_version` are the constants of open.rs.
--
-- Addresses, and numbers of addresses, are 16 bytes in network order, which sort as the numbers do. Extents are kept by
-- their first address and their host bits, -1 for an address.
--
-- What nothing else follows from is kept twice: SQLite compares each index with its table when it checks a file, so damage to
-- either shows. That is what the indexes named `…_again` are for, and the last columns of some others.

PRAGMA application_id = 0x506F5072;
PRAGMA user_version = 3;

-- One row: the clock, and the highest number of an allocation in any pool that was deleted. A new pool goes on from there,
-- so that no number comes twice under one name.
CREATE TABLE state (
    now_ms INTEGER NOT NULL CHECK (now_ms >= 0),
    generation INTEGER NOT NULL CHECK (generation >= 0)
) STRICT;
INSERT INTO state (now_ms, generation) VALUES (0, 0);
CREATE INDEX state_again ON state (now_ms, generation);

-- AUTOINCREMENT: listings go on from keys, so no key may come twice.
CREATE TABLE pool (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    space TEXT NOT NULL,
    family INTEGER NOT NULL CHECK (family IN (4, 6)),
    first BLOB NOT NULL CHECK (length(first) = 16),
    last BLOB NOT NULL CHECK (length(last) = 16 AND first <= last),
    strategy INTEGER NOT NULL CHECK (strategy IN (0, 1, 2)),
    repeat INTEGER NOT NULL CHECK (repeat IN (0, 1, 2)),
    quarantine_ms INTEGER NOT NULL CHECK (quarantine_ms >= 0),
    allocatable BLOB NOT NULL CHECK (length(allocatable) = 16),
    allocated BLOB NOT NULL CHECK (length(allocated) = 16),
    quarantined BLOB NOT NULL CHECK (length(quarantined) = 16),
    cursor BLOB NOT NULL CHECK (length(cursor) = 16),
    generation INTEGER NOT NULL CHECK (generation >= 0),
    UNIQUE (space, family, first)
) STRICT;

CREATE INDEX pool_again ON pool (last, strategy, repeat, quarantine_ms);

-- What a pool may hand out, held or not: spans with gaps between them.
CREATE TABLE allocatable (
    pool INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    last BLOB NOT NULL CHECK (length(last) = 16 AND first <= last),
    PRIMARY KEY (pool, first)
) STRICT, WITHOUT ROWID;

-- What is free: see free.rs. `slot` is for random choice: see tally.rs.
CREATE TABLE free (
    pool INTEGER NOT NULL,
    last BLOB NOT NULL CHECK (length(last) = 16),
    first BLOB NOT NULL CHECK (length(first) = 16 AND first <= last),
    room INTEGER NOT NULL CHECK (room BETWEEN 0 AND 128),
    slot INTEGER CHECK (slot >= 0),
    PRIMARY KEY (pool, last)
) STRICT, WITHOUT ROWID;

CREATE INDEX free_by_room ON free (pool, room, last);
CREATE UNIQUE INDEX free_by_slot ON free (pool, slot) WHERE slot IS NOT NULL;

-- How many addresses are free in each run of slots: see tally.rs.
CREATE TABLE tally (
    pool INTEGER NOT NULL,
    level INTEGER NOT NULL CHECK (level >= 0),
    position INTEGER NOT NULL CHECK (position >= 0),
    free BLOB NOT NULL CHECK (length(free) = 16),
    PRIMARY KEY (pool, level, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE allocation (
    pool INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    host_bits INTEGER NOT NULL CHECK (host_bits BETWEEN -1 AND 128),
    owner TEXT NOT NULL,
    expires_ms INTEGER CHECK (expires_ms >= 0),
    generation INTEGER NOT NULL CHECK (generation > 0),
    PRIMARY KEY (pool, first)
) STRICT, WITHOUT ROWID;

CREATE INDEX allocation_by_owner ON allocation (owner, pool, host_bits, first, generation);
CREATE INDEX allocation_by_expiry ON allocation (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE quarantine (
    pool INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    host_bits INTEGER NOT NULL CHECK (host_bits BETWEEN -1 AND 128),
    until_ms INTEGER NOT NULL CHECK (until_ms >= 0),
    PRIMARY KEY (pool, first)
) STRICT, WITHOUT ROWID;

CREATE INDEX quarantine_by_end ON quarantine (until_ms, host_bits);
