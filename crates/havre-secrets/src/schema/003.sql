-- The highest version of secrets that were removed: one that is set again goes on counting. Bound to nothing, so
-- that it takes no open seal: whoever edits it has versions begin elsewhere, and no more.
CREATE TABLE secrets_removed (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    newest INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT;

-- The content last: what stands behind it is read by way of all its pages.
CREATE TABLE secret_versions_3 (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- A key of its own, encrypted by the scope's. All but the content is authenticated with it.
    data_key BLOB NOT NULL,
    size INTEGER NOT NULL,
    set_at INTEGER NOT NULL,
    set_by TEXT NOT NULL,
    origin TEXT NOT NULL,
    -- The value, encrypted by that key. All else is authenticated with it.
    content BLOB NOT NULL,
    PRIMARY KEY (scope, name, version),
    FOREIGN KEY (scope, name) REFERENCES secrets (scope, name) ON DELETE CASCADE
) STRICT;
INSERT INTO secret_versions_3
    SELECT scope, name, version, data_key, size, set_at, set_by, origin, content FROM secret_versions;
DROP TABLE secret_versions;
ALTER TABLE secret_versions_3 RENAME TO secret_versions;
