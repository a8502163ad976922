-- Seals under which something was sealed: one that is gone is missed.
CREATE TABLE seals (
    id TEXT PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;

-- Whose secrets: '' is the machine's, 'project/environment' an environment's.
CREATE TABLE secret_scopes (
    scope TEXT PRIMARY KEY,
    -- Its keys, sealed.
    keys BLOB NOT NULL
) STRICT;

CREATE TABLE secrets (
    scope TEXT NOT NULL REFERENCES secret_scopes (scope),
    name TEXT NOT NULL,
    -- The version in use, and the highest that there was.
    current INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    -- Of all that, by the scope's key.
    mac BLOB NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT;

CREATE TABLE secret_versions (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- A key of its own, encrypted by the scope's.
    data_key BLOB NOT NULL,
    -- The value, encrypted by that. What follows is authenticated with it.
    content BLOB NOT NULL,
    size INTEGER NOT NULL,
    set_at INTEGER NOT NULL,
    set_by TEXT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (scope, name, version),
    FOREIGN KEY (scope, name) REFERENCES secrets (scope, name) ON DELETE CASCADE
) STRICT;
