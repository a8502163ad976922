-- What has to hold before anything new comes into an environment, as it is in force.
CREATE TABLE environment_gates (
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    -- The order in which releases go through a project's environments.
    position    INTEGER NOT NULL,
    -- JSON of the model crate.
    gates       TEXT NOT NULL,
    PRIMARY KEY (project, environment)
) STRICT, WITHOUT ROWID;

-- Environments into which nothing new comes because somebody said so.
CREATE TABLE freezes (
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    reason      TEXT NOT NULL,
    by          TEXT NOT NULL,
    -- Seconds since 1970; none: until somebody ends it.
    until       INTEGER,
    PRIMARY KEY (project, environment)
) STRICT, WITHOUT ROWID;

-- What tests said of what served in an environment.
CREATE TABLE test_reports (
    id          INTEGER PRIMARY KEY,
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    -- Digest of the images of the release: its number may be another's one day.
    images      TEXT NOT NULL,
    -- JSON of the release crate.
    report      TEXT NOT NULL
) STRICT;
CREATE INDEX test_reports_of ON test_reports (project, environment, images);

CREATE TABLE promotions (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    over        INTEGER NOT NULL,
    -- JSON of the release crate: how far it is.
    promotion   TEXT NOT NULL,
    -- JSON of the release crate: the release that is to come; none: it is a job, or over.
    content     TEXT
) STRICT;
CREATE INDEX promotions_over ON promotions (over);
