CREATE TABLE previews (
    project TEXT NOT NULL,
    environment TEXT NOT NULL,
    of TEXT NOT NULL,
    branch TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    after_ms INTEGER NOT NULL,
    goes TEXT,
    why TEXT,
    PRIMARY KEY (project, environment),
    UNIQUE (project, of, branch)
) STRICT;
