CREATE TABLE environments (
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    -- Desired state (JSON of the release crate): the release that is wanted, the rollout under
    -- way, scale overrides.
    desired     TEXT NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (project, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    -- Counts from 1 within its environment.
    number      INTEGER NOT NULL,
    -- Image digests and configuration of every service (JSON of the release crate).
    content     TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (project, environment, number)
) STRICT, WITHOUT ROWID;
