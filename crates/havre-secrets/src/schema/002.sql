-- Rotations: one row each, which says how far it has come. Those that are over tell which versions are out of use.
CREATE TABLE secret_rotations (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The version before, and the one that takes its place.
    from_version INTEGER NOT NULL,
    to_version INTEGER NOT NULL,
    -- staged, switched, retiring, done; aborting, aborted
    step TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    begun_by TEXT NOT NULL,
    -- Whether a script makes values valid and invalid, without which nobody is to go on.
    scripted INTEGER NOT NULL,
    -- Of all that, by the scope's key.
    mac BLOB NOT NULL,
    PRIMARY KEY (scope, name, to_version),
    FOREIGN KEY (scope, name) REFERENCES secrets (scope, name) ON DELETE CASCADE
) STRICT;
