//! For tests: a database that cannot be written, as on a full disk.

use std::path::Path;

use rusqlite::Connection;

const TABLES: [&str; 5] = [
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
}

impl Fault {
    pub(crate) fn inject(database: &Path) -> Self {
        let connection = Connection::open(database).unwrap();
        connection
            .execute_batch(&each(|name, change, table| {
                format!(
                    "CREATE TRIGGER {name} BEFORE {change} ON {table} \
                 BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END;"
                )
            }))
            .unwrap();
        Self { connection }
    }

    pub(crate) fn heal(self) {
        let dropped = each(|name, _, _| format!("DROP TRIGGER {name};"));
        self.connection.execute_batch(&dropped).unwrap();
    }
}

fn each(statement: impl Fn(&str, &str, &str) -> String) -> String {
    let mut all = String::new();
    for table in TABLES {
        for change in CHANGES {
            all.push_str(&statement(&format!("full_{table}_{change}"), change, table));
        }
    }
    all
}
