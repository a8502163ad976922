CREATE TABLE access_tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- Of a login: who vouched for whom; else both are NULL.
    issuer TEXT,
    subject TEXT,
    role TEXT NOT NULL,
    environments TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE TABLE access_users (
    name TEXT PRIMARY KEY,
    -- NULL: a user of this machine.
    issuer TEXT,
    subject TEXT,
    role TEXT NOT NULL,
    environments TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
