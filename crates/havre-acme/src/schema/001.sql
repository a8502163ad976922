-- Accounts with authorities, by the address of their directory.
CREATE TABLE acme_accounts (
    directory   TEXT PRIMARY KEY,
    -- Of the account, as the authority names it.
    url         TEXT NOT NULL,
    -- Sealed: the account's key is in it.
    credentials BLOB NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The certificate that serves a name.
CREATE TABLE acme_certificates (
    name        TEXT PRIMARY KEY,
    -- Who signed it; NULL: a person brought it.
    authority   TEXT,
    -- Key identifier of its authority and serial number.
    id          TEXT NOT NULL,
    chain       TEXT NOT NULL,
    -- Sealed.
    key         BLOB NOT NULL,
    valid_from  INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    -- When its authority wants it replaced, as JSON, and when to ask for that again.
    renewal     TEXT,
    next_look   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was tried for a name since it got its certificate, as JSON.
CREATE TABLE acme_attempts (
    name        TEXT PRIMARY KEY,
    attempts    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
