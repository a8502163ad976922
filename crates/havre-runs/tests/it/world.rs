//! A strict fake of boxes, gates and repositories, which outlives drivers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use havre_job::{JobResult, LineKind, StepResult, Told};
use havre_pipeline::{Event, Reference};
use havre_runs::{
    Answer, Asked, BoxEnd, Clock, Conclusion, Elsewhere, Files, Followed, Gate, LegKey, LegStart,
    Legs, Opened, Ports, RunId, Runs, SCHEMA, Settings, Source, Sources, SourcesError, StartError,
    Trigger,
};
use havre_store::Store;
use havre_workflow::Remote;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub const COMMIT: &str = "0123456789012345678901234567890123456789";

/// What a job does in its box, by the beginning of its legs' names.
#[derive(Clone, Debug, PartialEq)]
pub enum Does {
    Succeeds,
    Fails,
    /// Goes on until it is cancelled, or let go.
    Holds,
    /// As that, and does not mind being cancelled softly.
    Stubborn,
    Lost,
    /// Does not start; so often, if it may pass.
    Refuses(u32, bool),
    /// Its start never comes back.
    Hangs,
}

struct Boxed {
    told: Vec<Followed>,
    does: Does,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, String>,
    does: Vec<(String, Does)>,
    boxes: HashMap<LegKey, Boxed>,
    contents: HashMap<LegKey, LegStart>,
    removed: Vec<LegKey>,
    /// What must not happen, and did.
    wrong: Vec<String>,
    most: usize,
    order: Vec<String>,
    /// Environments whose gates are open; what is not there waits.
    open: Vec<String>,
    tries: HashMap<LegKey, u32>,
}

/// Everything but the driver.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    /// Calls until the driver is killed.
    left: Arc<AtomicI64>,
    pub killed: Arc<Mutex<CancellationToken>>,
    start: tokio::time::Instant,
}

impl World {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let world = Self {
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            left: Arc::new(AtomicI64::new(i64::MAX)),
            killed: Arc::default(),
            start: tokio::time::Instant::now(),
        };
        for (name, text) in files {
            world.file(name, text);
        }
        world
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = format!(".github/workflows/{name}");
        self.state().files.insert(path, text.to_owned());
    }

    /// A file of another repository, as a call names it.
    pub fn elsewhere(&self, name: &str, text: &str) {
        self.state().files.insert(name.to_owned(), text.to_owned());
    }

    pub fn does(&self, job: &str, does: Does) {
        self.state().does.insert(0, (job.to_owned(), does));
    }

    pub fn open(&self, environment: &str) {
        self.state().open.push(environment.to_owned());
    }

    /// Kills the driver at a call; 0: at the first.
    pub fn kill_at(&self, call: i64) {
        self.left.store(call, Ordering::SeqCst);
        *self.killed.lock().unwrap() = CancellationToken::new();
    }

    pub fn was_killed(&self) -> bool {
        self.killed.lock().unwrap().is_cancelled()
    }

    /// Loses all boxes, as a restart of the machine does.
    pub fn restart(&self) {
        self.state().boxes.clear();
    }

    /// Ends what holds.
    pub fn let_go(&self, job: &str) {
        self.end(|name| name.starts_with(job), JobResult::Success);
    }

    fn end(&self, is: impl Fn(&str) -> bool, result: JobResult) {
        let mut state = self.state();
        let State {
            boxes, contents, ..
        } = &mut *state;
        for (key, boxed) in boxes {
            let holds = matches!(boxed.does, Does::Holds | Does::Stubborn);
            if holds && is(&contents[key].name) {
                boxed.does = Does::Succeeds;
                boxed.told.push(Followed::Told(ended(result, Vec::new())));
            }
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn boxes(&self) -> Vec<String> {
        let state = self.state();
        let mut names: Vec<String> = state
            .boxes
            .keys()
            .map(|key| state.contents[key].name.clone())
            .collect();
        names.sort();
        names
    }

    pub fn most_at_once(&self) -> usize {
        self.state().most
    }

    /// Names of legs in the order in which they started.
    pub fn order(&self) -> Vec<String> {
        self.state().order.clone()
    }

    pub fn told_to(&self, name: &str) -> LegStart {
        let state = self.state();
        let mut contents = state.contents.values();
        contents.find(|start| start.name == name).cloned().unwrap()
    }

    /// Nothing happened that must not, and nothing is left.
    pub fn sound(&self) {
        let state = self.state();
        assert_eq!(state.wrong, Vec::<String>::new());
        assert!(state.boxes.is_empty(), "{:?}", state.boxes.keys());
    }

    /// A call comes: the driver may be killed before it does anything, or after.
    async fn call(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.killed.lock().unwrap().cancel();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    pub fn runs(&self, dir: &Path, settings: Settings) -> Runs {
        let store = Store::open(&dir.join("state.db"), &[SCHEMA]).unwrap();
        let ports = Ports {
            legs: Arc::new(self.clone()),
            gate: Arc::new(self.clone()),
            sources: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
        };
        Runs::open(Arc::new(store), dir.join("logs"), ports, settings).unwrap()
    }
}

fn ended(result: JobResult, outputs: Vec<(String, String)>) -> Told {
    Told::Ended {
        result,
        outputs,
        environment_url: None,
        images: Vec::new(),
        at_ms: 9,
    }
}

/// What a job tells that goes through.
fn lines(start: &LegStart) -> Vec<Followed> {
    let line = |text: String| Told::Line {
        step: Some(0),
        kind: LineKind::Plain,
        text,
    };
    let mut told = vec![
        Told::Began {
            at_ms: 1,
            steps: vec!["Run".to_owned()],
        },
        Told::StepBegan {
            step: 0,
            name: "Run".to_owned(),
            at_ms: 2,
        },
    ];
    told.extend((0..3).map(|n| line(format!("{} {n}", start.name))));
    told.push(Told::Summary {
        step: 0,
        text: "# fine".to_owned(),
    });
    told.push(Told::StepEnded {
        step: 0,
        outcome: StepResult::Success,
        conclusion: StepResult::Success,
        exit_code: Some(0),
        why: None,
        at_ms: 3,
    });
    told.into_iter().map(Followed::Told).collect()
}

impl Legs for World {
    fn start(&self, start: LegStart) -> BoxFuture<'_, Result<(), StartError>> {
        async move {
            self.call().await;
            let key = start.key.clone();
            let does = {
                let mut state = self.state();
                if state.removed.contains(&key) {
                    state
                        .wrong
                        .push(format!("{key} was started after it was removed"));
                }
                if state
                    .contents
                    .get(&key)
                    .is_some_and(|before| *before != start)
                {
                    state
                        .wrong
                        .push(format!("{key} was started with other content"));
                }
                let name = &start.name;
                let does = state.does.iter().find(|(job, _)| name.starts_with(job));
                does.map_or(Does::Succeeds, |(_, does)| does.clone())
            };
            if does == Does::Hangs {
                std::future::pending::<()>().await;
            }
            if let Does::Refuses(times, passing) = does {
                let mut state = self.state();
                let tries = state.tries.entry(key.clone()).or_default();
                *tries += 1;
                if *tries <= times {
                    let why = "no such image".to_owned();
                    return Err(StartError { why, passing });
                }
            }
            {
                let mut state = self.state();
                state.contents.insert(key.clone(), start.clone());
                let State {
                    boxes, order, most, ..
                } = &mut *state;
                if let Entry::Vacant(place) = boxes.entry(key) {
                    let mut told = lines(&start);
                    let outputs = vec![("name".to_owned(), start.name.clone())];
                    match does {
                        Does::Fails => {
                            told.push(Followed::Told(ended(JobResult::Failure, outputs)))
                        }
                        Does::Lost => told.push(Followed::Ended { how: BoxEnd::Lost }),
                        Does::Holds | Does::Stubborn => {}
                        _ => told.push(Followed::Told(ended(JobResult::Success, outputs))),
                    }
                    place.insert(Boxed { told, does });
                    order.push(start.name);
                    *most = boxes.len().max(*most);
                }
            }
            self.call().await;
            Ok(())
        }
        .boxed()
    }

    fn follow(&self, key: &LegKey) -> BoxStream<'static, Followed> {
        let (world, key) = (self.clone(), key.clone());
        stream::unfold(0, move |at| {
            let (world, key) = (world.clone(), key.clone());
            async move {
                world.call().await;
                let mut changed = world.changed.subscribe();
                loop {
                    match world.state().boxes.get(&key) {
                        None => return Some((Followed::Ended { how: BoxEnd::Lost }, at)),
                        Some(boxed) => {
                            if let Some(told) = boxed.told.get(at) {
                                return Some((told.clone(), at + 1));
                            }
                        }
                    }
                    changed.changed().await.unwrap();
                }
            }
        })
        .boxed()
    }

    fn cancel<'a>(&'a self, key: &'a LegKey, at_once: bool) -> BoxFuture<'a, ()> {
        async move {
            self.call().await;
            let name = {
                let mut state = self.state();
                let minds = match state.boxes.get(key) {
                    None => {
                        state
                            .wrong
                            .push(format!("{key} was cancelled and is not there"));
                        false
                    }
                    Some(boxed) => at_once || boxed.does != Does::Stubborn,
                };
                minds.then(|| state.contents[key].name.clone())
            };
            if let Some(name) = name {
                self.end(|other| other == name, JobResult::Cancelled);
            }
            self.call().await;
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key: &'a LegKey) -> BoxFuture<'a, ()> {
        async move {
            self.call().await;
            {
                let mut state = self.state();
                state.boxes.remove(key);
                state.removed.push(key.clone());
            }
            self.call().await;
        }
        .boxed()
    }

    fn there(&self) -> BoxFuture<'_, Vec<LegKey>> {
        async move {
            self.call().await;
            self.state().boxes.keys().cloned().collect()
        }
        .boxed()
    }
}

impl Gate for World {
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        async move {
            self.call().await;
            let open = match &asked.environment {
                None => true,
                Some(environment) => self.state().open.contains(environment),
            };
            match open {
                true => Answer::Open(Opened {
                    secrets: [("KEY".to_owned(), "hush".to_owned())].into(),
                    token: "tok".to_owned(),
                    ..Opened::default()
                }),
                false => Answer::Waits {
                    why: "somebody has to approve it".to_owned(),
                    until: None,
                },
            }
        }
        .boxed()
    }

    fn vars<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        async { Ok(BTreeMap::from([("PLACE".to_owned(), "here".to_owned())])) }.boxed()
    }
}

impl Sources for World {
    fn workflows<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>> {
        async {
            let state = self.state();
            let files = state.files.iter();
            Ok(files
                .map(|(path, text)| (path.clone(), text.clone().into_bytes()))
                .collect())
        }
        .boxed()
    }

    fn file<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SourcesError>> {
        async move {
            self.call().await;
            Ok(self
                .state()
                .files
                .get(path)
                .map(|text| text.clone().into_bytes()))
        }
        .boxed()
    }

    fn elsewhere<'a>(
        &'a self,
        remote: &'a Remote,
        commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Elsewhere, SourcesError>> {
        async move {
            self.call().await;
            let file = self.state().files.get(&remote.to_string()).cloned();
            if commit.is_none() && remote.reference == "gone" {
                return Err(SourcesError("there is no such branch".to_owned()));
            }
            Ok(Elsewhere {
                commit: commit.unwrap_or(COMMIT).to_owned(),
                file: file.map(String::into_bytes),
            })
        }
        .boxed()
    }

    fn newest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Source>, SourcesError>> {
        async { Ok(Some(source())) }.boxed()
    }
}

impl Clock for World {
    fn now_ms(&self) -> u64 {
        let elapsed = self.start.elapsed().as_millis();
        1_700_000_000_000 + u64::try_from(elapsed).unwrap()
    }
}

pub fn source() -> Source {
    Source {
        repository: "team/shop".to_owned(),
        default_branch: "main".to_owned(),
        commit: COMMIT.to_owned(),
        message: "mend it\n".to_owned(),
        author: ("Ann".to_owned(), "ann@example.org".to_owned()),
        at: String::new(),
    }
}

pub fn push(project: &str) -> Trigger {
    Trigger {
        project: project.to_owned(),
        event: Event::Push {
            to: Reference::Branch("main".to_owned()),
            changed: None,
            message: String::new(),
        },
        source: source(),
        before: None,
        forced: false,
        actor: "ann".to_owned(),
        payload: None,
        foreign: false,
    }
}

/// A driver and what it drives.
pub struct Stage {
    pub world: World,
    pub runs: Runs,
    pub dir: tempfile::TempDir,
    pub settings: Settings,
    driver: tokio::task::JoinHandle<()>,
}

impl Stage {
    pub fn new(world: World, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runs = world.runs(dir.path(), settings.clone());
        let driver = drive(&runs);
        Self {
            world,
            runs,
            dir,
            settings,
            driver,
        }
    }

    pub async fn push(&self) -> RunId {
        let outcome = self.runs.begin(&push("shop")).await.unwrap();
        assert_eq!(outcome.begun.len(), 1, "{outcome:?}");
        outcome.begun[0].run
    }

    pub async fn until(&self, what: &str, is: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}");
    }

    pub async fn ended(&self, run: RunId) -> Conclusion {
        let ended = self.runs.ended(run);
        let ended = tokio::time::timeout(Duration::from_secs(100_000), ended);
        ended.await.expect("the run ends").unwrap()
    }

    /// Kills the driver, and takes another one.
    pub async fn again(self) -> Self {
        self.driver.abort();
        drop(self.driver.await);
        drop(self.runs);
        let runs = self.world.runs(self.dir.path(), self.settings.clone());
        let driver = drive(&runs);
        Self {
            world: self.world,
            runs,
            dir: self.dir,
            settings: self.settings,
            driver,
        }
    }
}

fn drive(runs: &Runs) -> tokio::task::JoinHandle<()> {
    let runs = runs.clone();
    tokio::spawn(async move { runs.run(CancellationToken::new()).await.unwrap() })
}
