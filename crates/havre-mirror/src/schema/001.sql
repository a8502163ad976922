CREATE TABLE mirrors (
    project TEXT NOT NULL,
    way TEXT NOT NULL CHECK (way IN ('from', 'to')),
    url TEXT NOT NULL,
    user TEXT NOT NULL,
    token TEXT,
    every_ms INTEGER NOT NULL,
    api TEXT,
    set_by TEXT NOT NULL,
    set_ms INTEGER NOT NULL,
    tried_ms INTEGER,
    done_ms INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    why TEXT,
    said TEXT NOT NULL DEFAULT '',
    mark TEXT,
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (project, way)
) STRICT;
CREATE TABLE commit_statuses (
    project TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    context TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT NOT NULL,
    target TEXT,
    changed_ms INTEGER NOT NULL,
    fate TEXT NOT NULL CHECK (fate IN ('waits', 'told', 'given up')),
    tries INTEGER NOT NULL,
    why TEXT,
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (project, commit_id, context)
) STRICT;
CREATE INDEX commit_statuses_due ON commit_statuses (fate, next_ms);
