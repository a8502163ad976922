//! Desired state in SQLite.
