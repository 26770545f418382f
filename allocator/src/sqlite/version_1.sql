-- Version 1 of the tables. `application_id` and `user_version` are the constants of sqlite.rs.
-- Addresses are 16 bytes in network order; `free` is keyed by the last address of a span (see store.rs).

PRAGMA application_id = 0x506F5072;
PRAGMA user_version = 1;

CREATE TABLE clock (
    now_ms INTEGER NOT NULL CHECK (now_ms >= 0)
) STRICT;
INSERT INTO clock (now_ms) VALUES (0);

CREATE TABLE pool (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    family INTEGER NOT NULL CHECK (family IN (4, 6)),
    first BLOB NOT NULL CHECK (length(first) = 16),
    last BLOB NOT NULL CHECK (length(last) = 16 AND first <= last),
    allocatable BLOB NOT NULL CHECK (length(allocatable) = 16),
    allocated INTEGER NOT NULL CHECK (allocated >= 0),
    UNIQUE (family, first)
) STRICT;

CREATE TABLE free (
    pool INTEGER NOT NULL,
    last BLOB NOT NULL CHECK (length(last) = 16),
    first BLOB NOT NULL CHECK (length(first) = 16 AND first <= last),
    PRIMARY KEY (pool, last)
) STRICT, WITHOUT ROWID;

CREATE TABLE allocation (
    pool INTEGER NOT NULL,
    address BLOB NOT NULL CHECK (length(address) = 16),
    owner TEXT NOT NULL,
    expires_ms INTEGER,
    PRIMARY KEY (pool, address)
) STRICT, WITHOUT ROWID;

-- Both end with the primary key, so they also serve the order of what they find.
CREATE INDEX allocation_by_owner ON allocation (owner);
CREATE INDEX allocation_by_expiry ON allocation (expires_ms) WHERE expires_ms IS NOT NULL;
