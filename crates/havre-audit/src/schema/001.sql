-- One row per record. `record` is the canonical text that `hash` vouches for; what is searched is
-- read from it, so that no column can say anything else.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    record TEXT NOT NULL,
    hash BLOB NOT NULL,
    at TEXT AS (json_extract(record, '$.at')),
    action TEXT AS (json_extract(record, '$.action')),
    project TEXT AS (json_extract(record, '$.project')),
    environment TEXT AS (json_extract(record, '$.environment')),
    of INTEGER AS (json_extract(record, '$.of'))
) STRICT;
CREATE INDEX audit_of ON audit (of) WHERE of IS NOT NULL;
-- The newest record, and this machine's word for it.
CREATE TABLE audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    mac BLOB
) STRICT;
-- The newest record that was removed for its age, with which the chain goes on.
CREATE TABLE audit_cut (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    mac BLOB
) STRICT;
-- The key of those words, sealed.
CREATE TABLE audit_key (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sealed BLOB NOT NULL
) STRICT;
