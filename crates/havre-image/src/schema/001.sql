CREATE TABLE images (
    reference       TEXT PRIMARY KEY,
    manifest_digest TEXT NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE build_cache (
    key        TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A lease keeps objects (manifest or layer digests) from being pruned, for as long as its
-- holder, e.g. a container or a release, exists.
CREATE TABLE leases (
    holder TEXT NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (holder, object)
) STRICT, WITHOUT ROWID;
