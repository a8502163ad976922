-- Authorities that have said until when they are not to be asked, as JSON.
CREATE TABLE acme_waits (
    authority TEXT PRIMARY KEY,
    wait      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
