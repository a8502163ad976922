//! What shows that a folder holds a database, which two servers must not write to at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::project::{Mount, Service};

/// Images, by the last part of their names, of servers that keep data in files.
const IMAGES: &[&str] = &[
    "arangodb",
    "cassandra",
    "chroma",
    "clickhouse",
    "clickhouse-server",
    "cockroach",
    "consul",
    "couchbase",
    "couchdb",
    "cp-kafka",
    "dragonfly",
    "elasticsearch",
    "etcd",
    "influxdb",
    "kafka",
    "keydb",
    "loki",
    "mariadb",
    "mariadb-galera",
    "meilisearch",
    "milvus",
    "minio",
    "mongo",
    "mongodb",
    "mongodb-community-server",
    "mongodb-enterprise-server",
    "mssql-server",
    "mysql",
    "mysql-server",
    "nats",
    "neo4j",
    "opensearch",
    "percona",
    "percona-server",
    "pgvector",
    "postgis",
    "postgres",
    "postgresql",
    "postgresql-repmgr",
    "prometheus",
    "qdrant",
    "questdb",
    "rabbitmq",
    "redis",
    "redis-stack",
    "redis-stack-server",
    "redpanda",
    "rethinkdb",
    "scylla",
    "solr",
    "surrealdb",
    "tarantool",
    "timescaledb",
    "timescaledb-ha",
    "typesense",
    "valkey",
    "victoria-metrics",
    "weaviate",
    "zookeeper",
];

/// Folders of the host with nothing in them that outlives it: devices, views of the kernel, sockets.
const NOT_ON_DISK: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];

/// Folders that a database server takes for its own.
pub(crate) const FOLDERS: [(&str, &str); 10] = [
    ("/bitnami/mariadb", "MariaDB"),
    ("/bitnami/mongodb", "MongoDB"),
    ("/bitnami/postgresql", "Postgres"),
    ("/data/db", "MongoDB"),
    ("/usr/share/elasticsearch/data", "Elasticsearch"),
    ("/var/lib/clickhouse", "ClickHouse"),
    ("/var/lib/mysql", "MySQL"),
    ("/var/lib/postgresql", "Postgres"),
    ("/var/lib/rabbitmq", "RabbitMQ"),
    ("/var/opt/mssql", "SQL Server"),
];

/// Names of files and folders that databases keep.
const FILES: &[&str] = &[
    "KEYREGISTRY",
    "PG_VERSION",
    "WiredTiger",
    "WiredTiger.wt",
    "appendonly.aof",
    "appendonlydir",
    "aria_log_control",
    "chunks_head",
    "data.mdb",
    "dump.rdb",
    "ibdata1",
    "lock.mdb",
    "mongod.lock",
    "neostore",
    "pg_wal",
    "write.lock",
];

/// Ends of such names.
const ENDS: &[&str] = &[
    ".MYI",
    ".couch",
    ".db-journal",
    ".db-shm",
    ".db-wal",
    ".db3",
    ".duckdb",
    ".fdb",
    ".ibd",
    ".mdb",
    ".mv.db",
    ".rdb",
    ".sqlite",
    ".sqlite-shm",
    ".sqlite-wal",
    ".sqlite3",
    ".sqlite3-wal",
];

/// What stands so many bytes into a database: of SQLite, of H2, of DuckDB, and of bbolt on machines
/// whose low bytes come first.
const HEADS: [(usize, &[u8]); 4] = [
    (0, b"SQLite format 3\0"),
    (0, b"H:2,block:"),
    (8, b"DUCK"),
    (16, &[0xed, 0xda, 0x0c, 0xed]),
];

/// So many bytes of a file tell whether it is a database.
pub const HEAD_BYTES: usize = 20;

/// What shows a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sign", rename_all = "snake_case")]
pub enum DatabaseSign {
    /// The image is a database server.
    Image {
        /// Its name.
        image: String,
    },
    /// It is mounted where a database server keeps its data.
    Folder {
        /// Path inside.
        target: String,
        /// The server.
        server: String,
    },
    /// A variable names the file of an SQLite database in it.
    Variable {
        /// Its name.
        name: String,
    },
    /// This file is in it.
    File {
        /// Relative to what is mounted.
        path: PathBuf,
    },
    /// It could not be looked through: a database may be in it.
    Unclear {
        /// Why.
        why: String,
    },
}

impl fmt::Display for DatabaseSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { image } => write!(f, "{image} is a database server"),
            Self::Folder { target, server } => write!(f, "{server} keeps its data in {target}"),
            Self::Variable { name } => write!(f, "{name} names an SQLite database in it"),
            Self::File { path } => write!(f, "a database: {} is in it", path.display()),
            Self::Unclear { why } => write!(f, "it may hold a database: {why}"),
        }
    }
}

/// Files of databases that were found on the machine, and what could not be looked through, by what
/// is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FoundDatabases(BTreeMap<String, Evidence>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Evidence {
    File(PathBuf),
    Unclear { unclear: String },
}

impl FoundDatabases {
    /// Notes a file in what `mount` mounts.
    pub fn note(&mut self, mount: &Mount, file: PathBuf) {
        if let Some(key) = key(mount) {
            self.0.insert(key, Evidence::File(file));
        }
    }

    /// Notes why what `mount` mounts could not be looked through.
    pub fn note_unclear(&mut self, mount: &Mount, why: String) {
        if let Some(key) = key(mount) {
            let unclear = Evidence::Unclear { unclear: why };
            self.0.entry(key).or_insert(unclear);
        }
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn evidence(&self, mount: &Mount) -> Option<&Evidence> {
        self.0.get(&key(mount)?)
    }
}

/// A volume's key has no slash, and a folder's path begins with one.
fn key(mount: &Mount) -> Option<String> {
    match mount {
        Mount::Volume { name, subpath, .. } => Some(match subpath {
            Some(below) => format!("{name}/{below}"),
            None => name.to_string(),
        }),
        Mount::Bind { source, .. } => Some(source.display().to_string()),
        Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
    }
}

/// Whether a file or folder of this name is a database's.
pub fn is_database_name(name: &str) -> bool {
    // LevelDB's and RocksDB's.
    let manifest = name.strip_prefix("MANIFEST-").is_some_and(|number| {
        number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    manifest || FILES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a file that begins so is a database.
pub fn is_database_head(head: &[u8]) -> bool {
    HEADS
        .iter()
        .any(|(at, magic)| head.get(*at..at + magic.len()) == Some(magic))
}

/// What shows that a service keeps a database in what it mounts.
pub(crate) fn sign(
    service: &Service,
    mount: &Mount,
    found: &FoundDatabases,
) -> Option<DatabaseSign> {
    let (Mount::Volume { target, .. } | Mount::Bind { target, .. }) = mount else {
        return None;
    };
    let evidence = found.evidence(mount);
    if let Some(Evidence::File(path)) = evidence {
        return Some(DatabaseSign::File { path: path.clone() });
    }
    if let Some(image) = service.image.as_deref().filter(|image| is_database(image)) {
        let image = image.to_owned();
        return Some(DatabaseSign::Image { image });
    }
    let target = Path::new(target);
    if let Some(server) = server_of(target) {
        return Some(DatabaseSign::Folder {
            target: target.display().to_string(),
            server: server.to_owned(),
        });
    }
    let folder = Path::new(service.working_dir.as_deref().unwrap_or("/"));
    let mut variables = service.environment.iter();
    let named = variables.find(|(_, value)| {
        let file = sqlite_file(value).map(|file| crate::canonical::clean(&folder.join(file)));
        file.is_some_and(|file| file.starts_with(target))
    });
    let variable = named.map(|(name, _)| DatabaseSign::Variable { name: name.clone() });
    variable.or_else(|| match evidence {
        Some(Evidence::Unclear { unclear }) => Some(DatabaseSign::Unclear {
            why: unclear.clone(),
        }),
        Some(Evidence::File(_)) | None => None,
    })
}

/// The database server that keeps its data there.
fn server_of(target: &Path) -> Option<&'static str> {
    let mut folders = FOLDERS.iter();
    let known = folders.find(|(folder, _)| target.starts_with(folder));
    known.map(|(_, server)| *server)
}

/// Mounts of a service that a database could be in, whatever they are called.
pub fn writable_mounts(service: &Service) -> impl Iterator<Item = &Mount> {
    service.mounts.iter().filter(|mount| match mount {
        Mount::Volume { read_only, .. } => !read_only,
        Mount::Bind {
            source, read_only, ..
        } => !read_only && is_on_disk(source),
        Mount::Anonymous { .. } | Mount::Tmpfs { .. } => false,
    })
}

/// Mounts of a service in which a database server keeps its data: where servers do, or what a server's
/// image mounts with a database in it.
pub fn served_mounts<'a>(
    service: &'a Service,
    found: &'a FoundDatabases,
) -> impl Iterator<Item = &'a Mount> {
    let image = service.image.as_deref().is_some_and(is_database);
    writable_mounts(service).filter(move |mount| match mount {
        Mount::Volume { target, .. } | Mount::Bind { target, .. } => {
            let holds_one = matches!(found.evidence(mount), Some(Evidence::File(_)));
            server_of(Path::new(target)).is_some() || (image && holds_one)
        }
        Mount::Anonymous { .. } | Mount::Tmpfs { .. } => false,
    })
}

/// Whether the image is a database server, by its name.
fn is_database(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or(image);
    let (folders, last) = name.rsplit_once('/').unwrap_or(("", name));
    let last = last.split(':').next().unwrap_or(last);
    IMAGES.contains(&last) || (last == "server" && folders.ends_with("/mssql"))
}

/// The file of an SQLite database that a variable names.
pub(crate) fn sqlite_file(value: &str) -> Option<PathBuf> {
    let path = if let Some((_, path)) = value.split_once("sqlite:///") {
        path
    } else if let Some((_, path)) = value.split_once("sqlite3:///") {
        path
    } else {
        let path = value.strip_prefix("file:").unwrap_or(value);
        let ends = [".sqlite", ".sqlite3"];
        let prisma = value.starts_with("file:") && path.ends_with(".db");
        // Django's name of the engine is no file.
        let engine = path.contains(".backends.");
        if engine || path.contains("://") || !prisma && !ends.iter().any(|end| path.ends_with(end))
        {
            return None;
        }
        path
    };
    let path = path.split('?').next().unwrap_or(path);
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

/// Whether what is in a folder of the host outlives the machine's run.
pub(crate) fn is_on_disk(source: &Path) -> bool {
    !NOT_ON_DISK.iter().any(|folder| source.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_servers_are_known_by_their_images() {
        for (image, is) in [
            ("postgres", true),
            ("docker.io/library/postgres:17-alpine", true),
            ("pgvector/pgvector:pg17", true),
            ("localhost:5000/bitnami/postgresql@sha256:00", true),
            ("mcr.microsoft.com/mssql/server:2022-latest", true),
            ("valkey/valkey:8", true),
            ("postgres-exporter", false),
            ("nextcloud:apache", false),
            ("example.org/postgres/web", false),
            ("ghcr.io/acme/server", false),
        ] {
            assert_eq!(is_database(image), is, "{image}");
        }
    }

    #[test]
    fn databases_are_known_by_their_files() {
        for name in [
            "PG_VERSION",
            "app.sqlite3",
            "cms.db-wal",
            "dump.rdb",
            "h2.mv.db",
            "MANIFEST-000004",
        ] {
            assert!(is_database_name(name), "{name}");
        }
        for name in [
            "app.log",
            "app.db",
            "photo.jpg",
            "PG_VERSION.txt",
            "MANIFEST-a",
            "MANIFEST.MF",
        ] {
            assert!(!is_database_name(name), "{name}");
        }
        assert!(is_database_head(b"SQLite format 3\0\x10\0\x01\x01"));
        assert!(is_database_head(b"H:2,block:5,blockSize:1000"));
        assert!(is_database_head(
            b"\0\x01\x02\x03\x04\x05\x06\x07DUCK\x40\0\0\0"
        ));
        let mut bolt = [0; HEAD_BYTES];
        bolt[16..].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
        assert!(is_database_head(&bolt));
        for head in [&b""[..], b"SQLite format", b"{\"a\": 1, \"b\": \"cdefgh\"}"] {
            assert!(!is_database_head(head), "{head:?}");
        }
    }

    #[test]
    fn sqlite_files_are_known_by_their_forms() {
        for (value, file) in [
            ("sqlite:////data/app.db", Some("/data/app.db")),
            ("sqlite+aiosqlite:///./app.db?x=1", Some("./app.db")),
            ("file:./dev.db", Some("./dev.db")),
            ("/srv/db.sqlite3", Some("/srv/db.sqlite3")),
            ("sqlite:///:memory:", None),
            ("sqlite://", None),
            ("postgresql://db/x.sqlite", None),
            ("django.db.backends.sqlite3", None),
        ] {
            assert_eq!(sqlite_file(value), file.map(PathBuf::from), "{value}");
        }
    }

    #[test]
    fn what_was_found_is_read_as_earlier_versions_wrote_it() {
        let stored = r#"{"data":"pgdata/PG_VERSION","/srv/up":{"unclear":"too many"}}"#;
        let found: FoundDatabases = serde_json::from_str(stored).unwrap();
        let data = Evidence::File("pgdata/PG_VERSION".into());
        assert_eq!(found.0.get("data"), Some(&data));
        let unclear = "too many".to_owned();
        assert_eq!(found.0.get("/srv/up"), Some(&Evidence::Unclear { unclear }));
    }
}
