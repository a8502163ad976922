//! For tests: a database that cannot be written, as on a full disk.

use std::path::Path;

use rusqlite::Connection;

const TABLES: &[&str] = &[
    "environments",
    "releases",
    "leases",
    "images",
    "build_cache",
];
const CHANGES: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// For as long as this lasts every statement that changes a row fails, whoever executes it.
pub(crate) struct Fault {
    connection: Connection,
    tables: &'static [&'static str],
}

impl Fault {
    pub(crate) fn inject(database: &Path) -> Self {
        Self::inject_in(database, TABLES)
    }

    /// Only in these tables.
    pub(crate) fn inject_in(database: &Path, tables: &'static [&'static str]) -> Self {
        let connection = Connection::open(database).unwrap();
        connection
            .execute_batch(&each(tables, |name, change, table| {
                format!(
                    "CREATE TRIGGER {name} BEFORE {change} ON {table} \
                 BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END;"
                )
            }))
            .unwrap();
        Self { connection, tables }
    }

    pub(crate) fn heal(self) {
        let dropped = each(self.tables, |name, _, _| format!("DROP TRIGGER {name};"));
        self.connection.execute_batch(&dropped).unwrap();
    }
}

fn each(tables: &[&str], statement: impl Fn(&str, &str, &str) -> String) -> String {
    let mut all = String::new();
    for table in tables {
        for change in CHANGES {
            all.push_str(&statement(&format!("full_{table}_{change}"), change, table));
        }
    }
    all
}
