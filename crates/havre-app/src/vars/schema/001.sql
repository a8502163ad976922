-- Variables of workflows.
CREATE TABLE vars (
    project     TEXT NOT NULL,
    -- Empty: of the whole project.
    environment TEXT NOT NULL,
    -- In upper case.
    name        TEXT NOT NULL,
    value       TEXT NOT NULL,
    set_by      TEXT NOT NULL,
    set_at      INTEGER NOT NULL,
    PRIMARY KEY (project, environment, name)
) STRICT, WITHOUT ROWID;
