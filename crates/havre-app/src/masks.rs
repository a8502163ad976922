//! What is masked in the output of each environment: the values of its secrets.
//!
//! One filter for all containers of an environment, since any may print what another knows (a refused
//! connection names its password). It is made when what its releases have grows, and shared with
//! their shims as memory. It does not go back: a start that was decided a while ago knows less than there
//! is by now. Configs are no secrets.
//!
//! ```text
//! releases in play, those kept for a rollback ─► digests ─► Mask ─► Given: which container has which
//!                         those before, values of rotations ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use havre_api::EnvironmentId;
use havre_engine::{ContainerId, SharedFilter};
use havre_redact::{Filter, Why};
use havre_release::{Release, ServiceRelease};
use zeroize::Zeroizing;

use crate::contents::Contents;
use crate::environment::tables::Tables;
use crate::history;
use crate::secrets::scope::scope_of;
use crate::variables::variable_key;

/// What failed, a content that does not open or a shim that does not answer, is tried again after this.
const AGAIN: Duration = Duration::from_secs(30);

/// Most bytes of values that no release in play has, some hundreds of releases of an ordinary project: a
/// value stays masked for long after it was replaced, but not without end.
const MOST_PAST: usize = 8 << 20;

/// Of every environment that has started something.
#[derive(Debug, Default)]
pub(crate) struct Masks(Mutex<BTreeMap<EnvironmentId, Arc<Masked>>>);

/// Of one environment.
#[derive(Debug, Default)]
pub(crate) struct Masked {
    /// Locked for as long as contents are being opened.
    learned: Mutex<Learned>,
    mask: Mutex<Option<Arc<Mask>>>,
    /// Locked for as long as containers are being told.
    pub(crate) given: tokio::sync::Mutex<Given>,
}

/// What a mask is made of.
#[derive(Debug, Default)]
struct Learned {
    values: Values,
    /// In which round each was last asked for.
    asked: BTreeMap<String, u64>,
    round: u64,
    /// Contents that cannot be opened, of which that has been said.
    unopened: BTreeSet<String>,
    /// The releases kept for a rollback are among what was looked at.
    has_history: bool,
    tried: Option<Instant>,
}

/// Contents by digest: kept, so that one that is not to be had any more stays masked.
pub(crate) type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The values that are masked.
#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) filter: Filter,
    /// The same for shims.
    pub(crate) shared: SharedFilter,
    /// Nothing that is known to be secret is missing.
    is_whole: bool,
}

impl Mask {
    fn new(values: &Values, is_whole: bool) -> io::Result<Self> {
        let named = values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        let (filter, _) = Filter::new(named);
        Ok(Self {
            shared: SharedFilter::new(&filter)?,
            filter,
            is_whole,
        })
    }
}

impl Masks {
    /// What is known of an environment.
    pub(crate) fn of(&self, id: &EnvironmentId) -> Arc<Masked> {
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(masks.entry(id.clone()).or_default())
    }

    /// The environment has gone.
    pub(crate) fn forget(&self, id: &EnvironmentId) {
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        masks.remove(id);
    }
}

impl Masked {
    /// The mask as it is now.
    pub(crate) fn mask(&self) -> Option<Arc<Mask>> {
        self.mask_slot().clone()
    }

    fn mask_slot(&self) -> MutexGuard<'_, Option<Arc<Mask>>> {
        self.mask.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Masked::learn`] may find more with nothing new to start.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        // Somebody learns just now.
        let Ok(learned) = self.learned.try_lock() else {
            return false;
        };
        learned.tried.is_none_or(|tried| {
            let misses = !learned.has_history || !learned.unopened.is_empty();
            misses && now >= tried + AGAIN
        })
    }

    /// Masks the secrets of these releases too, of those that the environment may go back to, and what no
    /// release has yet. A
    /// content that cannot be opened keeps nobody from starting but the service that needs it. Blocks.
    pub(crate) fn learn<'a>(
        &self,
        contents: &Contents,
        tables: &Tables,
        id: &EnvironmentId,
        in_play: impl IntoIterator<Item = &'a Release>,
        staged: Values,
    ) -> io::Result<()> {
        let mut in_play = digests(in_play);
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.tried = Some(Instant::now());
        let mut wanted = in_play.clone();
        if !learned.has_history {
            match history::kept(tables, id, None) {
                Ok(past) => {
                    wanted.extend(digests(past.iter().map(|past| &past.release)));
                    learned.has_history = true;
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(environment = %id, error, "secrets of older releases are not masked");
                }
            }
        }
        let mut opened = learned.open(contents, id, wanted, &in_play);
        opened |= learned.take(&staged);
        in_play.extend(staged.into_keys());
        let dropped = learned.drop_oldest(&in_play, MOST_PAST);
        let is_whole = learned.has_history && learned.unopened.is_empty();
        let as_before = |mask: &Arc<Mask>| !opened && !dropped && mask.is_whole == is_whole;
        if !self.mask().as_ref().is_some_and(as_before) {
            let mask = Mask::new(&learned.values, is_whole)?;
            *self.mask_slot() = Some(Arc::new(mask));
        }
        Ok(())
    }
}

impl Learned {
    /// Opens what is wanted, and what could not be opened before; whether there is more now.
    fn open(
        &mut self,
        contents: &Contents,
        id: &EnvironmentId,
        mut wanted: BTreeSet<String>,
        in_play: &BTreeSet<String>,
    ) -> bool {
        self.round += 1;
        let own = scope_of(Some(id));
        let told = std::mem::take(&mut self.unopened);
        wanted.extend(told.iter().cloned());
        let mut more = false;
        for digest in wanted {
            self.asked.insert(digest.clone(), self.round);
            if self.values.contains_key(&digest) {
                continue;
            }
            match contents.open(&own, &digest) {
                Ok(value) => {
                    self.values.insert(digest, value);
                    more = true;
                }
                // Of a release before: nobody can go back to it any more.
                Err(error) if error.is_missing() && !in_play.contains(&digest) => {
                    self.asked.remove(&digest);
                }
                Err(error) => {
                    if !told.contains(&digest) {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(environment = %id, digest, error, "a secret is not masked");
                    }
                    self.unopened.insert(digest);
                }
            }
        }
        more
    }

    /// Takes values that need not be opened; whether there is more now.
    fn take(&mut self, values: &Values) -> bool {
        let mut more = false;
        for (digest, value) in values {
            self.asked.insert(digest.clone(), self.round);
            if !self.values.contains_key(digest) {
                self.values.insert(digest.clone(), value.clone());
                more = true;
            }
        }
        more
    }

    /// Keeps no more than so many bytes of what is not in play; whether any went.
    fn drop_oldest(&mut self, in_play: &BTreeSet<String>, most: usize) -> bool {
        let past = self.values.iter();
        let past = past.filter(|(digest, _)| !in_play.contains(*digest));
        let mut past: Vec<_> = past
            .map(|(digest, value)| (self.asked.get(digest), digest.clone(), value.len()))
            .collect();
        past.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0;
        let too_many = past.into_iter().filter_map(|(_, digest, bytes)| {
            kept += bytes + digest.len();
            (kept > most).then_some(digest)
        });
        let too_many: Vec<_> = too_many.collect();
        for digest in &too_many {
            self.values.remove(digest);
            self.asked.remove(digest);
        }
        !too_many.is_empty()
    }
}

/// Which mask each container's shim has.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<ContainerId, Told>);

#[derive(Debug)]
struct Told {
    mask: Arc<Mask>,
    /// When it did not take it.
    failed: Option<Instant>,
}

impl Given {
    /// Whether a container is to be told of this mask. What a daemon before has told it is not replaced by
    /// less.
    pub(crate) fn lacks(&self, id: &ContainerId, mask: &Arc<Mask>, now: Instant) -> bool {
        match self.0.get(id) {
            None => mask.is_whole,
            Some(told) if Arc::ptr_eq(&told.mask, mask) => {
                told.failed.is_some_and(|at| now >= at + AGAIN)
            }
            Some(_) => true,
        }
    }

    /// It has it, or was made with it.
    pub(crate) fn note(&mut self, id: &ContainerId, mask: &Arc<Mask>) {
        let (mask, failed) = (Arc::clone(mask), None);
        self.0.insert(id.clone(), Told { mask, failed });
    }

    /// It does not take it; whether that is news.
    pub(crate) fn note_failure(
        &mut self,
        id: &ContainerId,
        mask: &Arc<Mask>,
        now: Instant,
    ) -> bool {
        let (mask, failed) = (Arc::clone(mask), Some(now));
        let before = self.0.insert(id.clone(), Told { mask, failed });
        before.is_none_or(|told| told.failed.is_none())
    }

    /// Forgets who is no more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&ContainerId) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }
}

/// Secrets of a service, as files and as variables: names and digests.
fn secrets_of(config: &ServiceRelease) -> impl Iterator<Item = (&str, &str)> {
    let files = config.service.secrets.iter();
    let files = files.map(|grant| (grant.source.as_str(), grant.target.clone()));
    let variables = config.service.secret_environment.iter();
    let variables = variables.map(|(name, secret)| (secret.as_str(), variable_key(name)));
    files
        .chain(variables)
        .filter_map(|(name, key)| Some((name, config.files.get(&key)?.as_str())))
}

/// Contents of the secrets of all services.
fn digests<'a>(releases: impl IntoIterator<Item = &'a Release>) -> BTreeSet<String> {
    let services = releases
        .into_iter()
        .flat_map(|release| release.services.values());
    services
        .flat_map(|config| secrets_of(config).map(|(_, digest)| digest.to_owned()))
        .collect()
}

/// Secrets of a release, by name, that are not masked or not wholly.
pub(crate) fn unmasked(
    contents: &Contents,
    id: &EnvironmentId,
    release: &Release,
) -> io::Result<BTreeMap<String, Why>> {
    let own = scope_of(Some(id));
    let mut found = BTreeMap::new();
    for config in release.services.values() {
        for (name, digest) in secrets_of(config) {
            let content = contents.open(&own, digest).map_err(io::Error::other)?;
            if let Some(why) = havre_redact::judge(&content) {
                found.insert(name.to_owned(), why);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use havre_model::{FileSource, ServiceName};
    use havre_release::{Outcome, Record};

    use super::*;
    use crate::environment::tables::NewRelease;
    use crate::fake::Stage;
    use crate::files::keep_files;

    struct World {
        stage: Stage,
        masked: Masked,
    }

    impl World {
        fn new() -> Self {
            Self {
                stage: Stage::new(),
                masked: Masked::default(),
            }
        }

        /// A release whose only service has this secret.
        fn release(&self, secret: &str) -> Release {
            let mut project = self
                .stage
                .project("name: shop\nservices: {web: {image: 'web:1'}}");
            let service = project.services.values_mut().next().expect("a service");
            let variables = &mut service.secret_environment;
            variables.insert("KEY".to_owned(), "key".to_owned());
            let content = secret.to_owned();
            let source = FileSource::Content { content };
            project.secrets.insert("key".to_owned(), source);
            let none = crate::secrets::needed::Values::new();
            let files = keep_files(&self.stage.daemon.platform, &project, &none).expect("kept");
            let images = BTreeMap::from([(ServiceName::new("web"), "sha256:0".to_owned())]);
            Release::new(&project, &images, &files)
        }

        fn content_of(&self, release: &Release) -> PathBuf {
            let digest = digests([release]).pop_first().expect("a secret");
            let state = self.stage.daemon.platform.root.state_dir();
            state.join("contents").join(digest)
        }

        fn learn(&self, releases: &[&Release]) -> Arc<Mask> {
            let platform = &self.stage.daemon.platform;
            let releases = releases.iter().copied();
            let (contents, tables) = (&platform.contents, &platform.tables);
            self.masked
                .learn(contents, tables, &self.stage.id(), releases, Values::new())
                .expect("learned");
            self.masked.mask().expect("a mask")
        }
    }

    fn shown(mask: &Mask, text: &str) -> String {
        mask.filter.redact(text).unwrap_or_else(|| text.to_owned())
    }

    const BOTH: &str = "first-secret second-secret";

    #[test]
    fn a_start_that_knows_less_takes_nothing_back() {
        let world = World::new();
        let (first, second) = (
            world.release("first-secret"),
            world.release("second-secret"),
        );
        let mask = world.learn(&[&first]);
        assert_eq!(shown(&mask, BOTH), "*** second-secret");
        let mask = world.learn(&[&second]);
        assert_eq!(shown(&mask, BOTH), "*** ***");
        assert!(Arc::ptr_eq(&mask, &world.learn(&[&first])), "no news");
        fs::remove_file(world.content_of(&first)).expect("there");
        assert!(Arc::ptr_eq(&mask, &world.learn(&[&first, &second])));
    }

    #[test]
    fn one_content_that_does_not_open_keeps_none_of_the_others_back() {
        let world = World::new();
        let (first, second) = (
            world.release("first-secret"),
            world.release("second-secret"),
        );
        let path = world.content_of(&first);
        let sound = fs::read(&path).expect("there");
        let put = |bytes: &[u8]| {
            fs::remove_file(&path).expect("there");
            fs::write(&path, bytes).expect("written");
        };
        put(b"cut off");
        assert!(world.masked.is_due(Instant::now()), "nothing learned yet");
        let mask = world.learn(&[&first, &second]);
        assert_eq!(shown(&mask, BOTH), "first-secret ***");
        // A container that runs since a daemon before keeps what that one has told it.
        let (given, id) = (Given::default(), ContainerId("c".to_owned()));
        assert!(!given.lacks(&id, &mask, Instant::now()));
        assert!(!world.masked.is_due(Instant::now()));
        assert!(world.masked.is_due(Instant::now() + AGAIN));
        put(&sound);
        let mask = world.learn(&[]);
        assert_eq!(shown(&mask, BOTH), "*** ***");
        assert!(given.lacks(&id, &mask, Instant::now()));
        assert!(!world.masked.is_due(Instant::now() + AGAIN));
    }

    #[test]
    fn releases_that_are_kept_for_a_rollback_are_masked_too() {
        let world = World::new();
        let id = world.stage.id();
        let record = Record {
            outcome: Outcome::Served,
            ..Record::default()
        };
        let served = NewRelease {
            number: 1,
            content: serde_json::to_string(&world.release("first-secret")).expect("JSON"),
            record: serde_json::to_string(&record).expect("JSON"),
        };
        let tables = &world.stage.daemon.platform.tables;
        let (project, environment) = (id.project.as_str(), id.environment.as_str());
        tables
            .environment_put(project, environment, "{}", Some(&served), &[])
            .expect("stored");
        let mask = world.learn(&[&world.release("second-secret")]);
        assert_eq!(shown(&mask, BOTH), "*** ***");
    }

    #[test]
    fn who_has_not_taken_the_mask_is_told_again() {
        let world = World::new();
        let mask = world.learn(&[]);
        let (mut given, now) = (Given::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|name| ContainerId(name.to_owned()));
        given.note(&a, &mask);
        assert!(given.note_failure(&b, &mask, now), "news");
        let lacks = |given: &Given, mask, now| [&a, &b].map(|id| given.lacks(id, mask, now));
        assert_eq!(lacks(&given, &mask, now), [false, false]);
        assert_eq!(lacks(&given, &mask, now + AGAIN), [false, true]);
        assert!(!given.note_failure(&b, &mask, now + AGAIN), "known");
        let next = world.learn(&[&world.release("first-secret")]);
        assert_eq!(lacks(&given, &next, now + AGAIN), [true, true]);
        given.note(&b, &next);
        assert_eq!(lacks(&given, &next, now + 3 * AGAIN), [true, false]);
    }

    #[test]
    fn of_what_nobody_has_any_more_the_newest_stay() {
        let value = |name: &str| (name.to_owned(), vec![0; 99].into());
        let mut learned = Learned {
            values: ["a", "b", "c", "d"].map(value).into(),
            asked: [("a", 4), ("b", 1), ("c", 3), ("d", 2)]
                .map(|(name, round)| (name.to_owned(), round))
                .into(),
            ..Learned::default()
        };
        let in_play = BTreeSet::from(["b".to_owned()]);
        assert!(!learned.drop_oldest(&in_play, 300));
        assert!(learned.drop_oldest(&in_play, 200));
        assert_eq!(learned.values.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
