-- What a job uploads under a name. Times are milliseconds since 1970.
CREATE TABLE results_artifacts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    run        TEXT NOT NULL,
    job        TEXT NOT NULL,
    name       TEXT NOT NULL,
    mime       TEXT NOT NULL,
    folder     TEXT NOT NULL UNIQUE,
    -- 0 while it is uploaded, 1 once it is there.
    published  INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    created    INTEGER NOT NULL,
    -- Of an upload: when its token ends.
    expires    INTEGER NOT NULL,
    -- When its client wants it to go.
    asked      INTEGER,
    UNIQUE (run, name)
) STRICT;
CREATE INDEX results_artifacts_by_expiry ON results_artifacts (expires);

CREATE TABLE results_caches (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    scope      TEXT NOT NULL,
    key        TEXT NOT NULL,
    version    TEXT NOT NULL,
    run        TEXT NOT NULL,
    job        TEXT NOT NULL,
    folder     TEXT NOT NULL UNIQUE,
    published  INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    -- Of a reservation: when its token ends.
    expires    INTEGER NOT NULL,
    -- The boot since which its files may be in memory alone; NULL once they are on disk.
    boot       TEXT,
    UNIQUE (repository, scope, version, key)
) STRICT;
CREATE INDEX results_caches_by_use ON results_caches (published, used);

-- The newest caches that went without being asked to.
CREATE TABLE results_evictions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    repository TEXT NOT NULL,
    scope      TEXT NOT NULL,
    key        TEXT NOT NULL,
    version    TEXT NOT NULL,
    size       INTEGER NOT NULL,
    why        TEXT NOT NULL
) STRICT;
CREATE INDEX results_evictions_by_key ON results_evictions (repository, key);

-- Jobs whose tokens are worth nothing any more.
CREATE TABLE results_ended (
    run TEXT NOT NULL,
    job TEXT NOT NULL,
    at  INTEGER NOT NULL,
    PRIMARY KEY (run, job)
) STRICT, WITHOUT ROWID;
