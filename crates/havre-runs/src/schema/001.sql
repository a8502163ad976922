-- Texts of workflow files, by their SHA-256: most runs of a project share them.
CREATE TABLE run_texts (digest TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- The last number that was given: of a project where path is empty, else of a workflow of it.
CREATE TABLE run_counters (
    project TEXT NOT NULL,
    path TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (project, path)
) STRICT, WITHOUT ROWID;

-- A run; a called workflow is one too, whose root is the run that nobody called. Times are milliseconds since 1970.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    root INTEGER,
    parent INTEGER,
    parent_job TEXT,
    parent_leg INTEGER,
    parent_attempt INTEGER,
    project TEXT NOT NULL,
    number INTEGER,
    path TEXT NOT NULL,
    workflow TEXT NOT NULL,
    event TEXT NOT NULL,
    reference TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    queued_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    digest TEXT NOT NULL,
    -- JSON: what does not change (title, depth, event, run-level group).
    facts TEXT NOT NULL,
    -- JSON: `github`, `inputs`, `vars`, without anything secret.
    contexts TEXT NOT NULL,
    entered INTEGER NOT NULL,
    -- Whether nothing goes on that was cancelled.
    forced INTEGER NOT NULL,
    state TEXT NOT NULL,
    conclusion TEXT,
    why TEXT
) STRICT;

CREATE UNIQUE INDEX runs_number ON runs (project, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX runs_parent ON runs (parent, parent_job, parent_leg, parent_attempt) WHERE parent IS NOT NULL;
CREATE INDEX runs_live ON runs (id) WHERE conclusion IS NULL;
CREATE INDEX runs_root ON runs (root);
CREATE INDEX runs_digest ON runs (digest);

-- What was told of a leg, per attempt.
CREATE TABLE run_legs (
    run INTEGER NOT NULL,
    job TEXT NOT NULL,
    leg INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    record TEXT NOT NULL,
    why TEXT,
    PRIMARY KEY (run, job, leg, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_summaries (
    run INTEGER NOT NULL,
    job TEXT NOT NULL,
    leg INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run, job, leg, attempt, step)
) STRICT, WITHOUT ROWID;

-- What other workflows may follow, and were not asked about yet.
CREATE TABLE run_outbox (
    run INTEGER NOT NULL,
    action TEXT NOT NULL,
    PRIMARY KEY (run, action)
) STRICT, WITHOUT ROWID;

-- Times at which workflows of the default branch start.
CREATE TABLE run_schedules (
    project TEXT NOT NULL,
    path TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (project, path, cron, timezone)
) STRICT, WITHOUT ROWID;
