//! A database, an authority, an edge, and a service that runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_acme::{AuthoritySettings, Loaded, Moment, Name, Parts, SCHEMA, Service, Settings, View};
use havre_base::Sealing;
use havre_store::Store;
use havre_testing::pebble::{Options, Pebble};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::edge::FakeEdge;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A FAKE seal: it binds to the context, and shows what was not sealed.
#[derive(Clone)]
pub struct FakeSeal(pub u8);

impl Sealing for FakeSeal {
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut sealed = format!("{}|{context}|", self.0).into_bytes();
        sealed.extend(plain.iter().map(|byte| byte ^ 0x5a));
        Ok(sealed)
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let begin = format!("{}|{context}|", self.0).into_bytes();
        let rest = sealed.strip_prefix(begin.as_slice());
        let rest = rest.ok_or("it was sealed for something else")?;
        Ok(rest.iter().map(|byte| byte ^ 0x5a).collect())
    }

    fn renewed(&self, _context: &str, _sealed: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Err("a fake seal has one key".to_owned())
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub edge: Arc<FakeEdge>,
    pub settings: Settings,
    pub seal: FakeSeal,
}

/// A service that runs.
pub struct Running {
    pub service: Service,
    pub loaded: Loaded,
    wanted: watch::Sender<BTreeSet<Name>>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The authority's defaults for an edge.
pub fn options(edge: &FakeEdge) -> Options {
    Options {
        http_port: edge.http,
        tls_port: edge.tls,
        ..Options::default()
    }
}

/// Starts an authority; `None`, and says so, where there is none to start.
pub fn pebble(options: Options) -> Option<Pebble> {
    let pebble = Pebble::start(options);
    if pebble.is_none() {
        println!("skipped: needs pebble, which `cargo xtask test` fetches");
    }
    pebble
}

pub fn authority(name: &str, pebble: &Pebble) -> AuthoritySettings {
    AuthoritySettings {
        name: name.to_owned(),
        directory: pebble.directory(),
        ca_file: Some(pebble.ca_file()),
        profile: None,
        external_account: None,
    }
}

impl World {
    pub fn new(edge: Arc<FakeEdge>, authorities: Vec<AuthoritySettings>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            edge,
            settings: Settings {
                email: Some("ops@havre.dev".to_owned()),
                authorities,
                dns_hook: None,
            },
            seal: FakeSeal(1),
        }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// Changes the database behind the service's back.
    pub fn change(&self, statement: &str) {
        let database = havre_store::rusqlite::Connection::open(self.database()).unwrap();
        database.execute(statement, []).unwrap();
    }

    /// From now on nothing can be written of a name into a table.
    pub fn refuse(&self, table: &str, name: &str) {
        self.change(&format!(
            "CREATE TRIGGER full BEFORE INSERT ON {table} WHEN NEW.name = '{name}' \
             BEGIN SELECT RAISE(FAIL, 'the disk is full'); END"
        ));
    }

    pub fn start(&self, names: &[&str]) -> Running {
        let store = Store::open(&self.database(), &[SCHEMA]).unwrap();
        let (service, loaded) = Service::new(Parts {
            settings: self.settings.clone(),
            store: Arc::new(store),
            sealing: Arc::new(self.seal.clone()),
            outlet: Arc::clone(&self.edge) as Arc<_>,
        })
        .unwrap();
        let names = names.iter().map(|text| name(text)).collect();
        let (wanted, seen) = watch::channel(names);
        let end = CancellationToken::new();
        let task = {
            let (service, end) = (service.clone(), end.clone());
            tokio::spawn(async move { service.run(seen, end, |_| {}).await })
        };
        let running = Running {
            service,
            loaded,
            wanted,
            end,
            task,
        };
        havre_testing::wait_until("the names to be known", PATIENCE, || {
            let views = running.service.list(Moment::now());
            let wanted = views.iter().filter(|view| view.wanted).count();
            wanted == running.wanted.borrow().len()
        });
        running
    }

    /// Bytes of the database and its log, for what must not be in them.
    pub fn on_disk(&self) -> Vec<u8> {
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        let path = self.database();
        [read(&path), read(&path.with_extension("db-wal"))].concat()
    }
}

impl Running {
    pub fn want(&self, names: &[&str]) {
        let names = names.iter().map(|text| name(text)).collect();
        self.wanted.send(names).unwrap();
    }

    pub fn view(&self, text: &str) -> View {
        self.service.view(&name(text), Moment::now()).unwrap()
    }

    pub async fn stop(self) {
        self.end.cancel();
        self.task.await.unwrap();
    }
}

/// Until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
