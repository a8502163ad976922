-- Networks of the machine, which environments share.
CREATE TABLE networks (
    name       TEXT PRIMARY KEY,
    -- Without a way out.
    internal   INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
