-- Names of an issuer's that can be given to another (a repository, an owner), with the number that they had at
-- the first login.
CREATE TABLE access_pins (
    issuer TEXT NOT NULL,
    claim TEXT NOT NULL,
    name TEXT NOT NULL,
    number TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (issuer, claim, name)
) STRICT, WITHOUT ROWID;

-- Identity tokens that were exchanged, until they expire: each is taken once.
CREATE TABLE access_exchanged (
    hash BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_exchanged_until ON access_exchanged (until);
