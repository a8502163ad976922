-- Branches that are to go into another: a number for as long as both are there.
CREATE TABLE pulls (
    project TEXT NOT NULL,
    number  INTEGER NOT NULL,
    head    TEXT NOT NULL,
    base    TEXT NOT NULL,
    -- The branch was removed; a later one of its name is another.
    closed  INTEGER NOT NULL,
    PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX pulls_open ON pulls (project, head, base) WHERE closed = 0;
