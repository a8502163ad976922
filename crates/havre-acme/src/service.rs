//! Keeps certificates for the names that are wanted: asks [`plan::next`] for each, does what it says, a few
//! names at a time, and notes what came of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use havre_base::{in_place, one_line};
use havre_store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ari;
use crate::authority::{Authority, Told, account_context};
use crate::certificate::{self, CertificateError, Facts};
use crate::moment::Moment;
use crate::name::Name;
use crate::order::{Broken, Issued, Job};
use crate::plan::{self, Step, World};
use crate::problem::{Blame, Problem, Stage};
use crate::proof::{BoxFuture, Proofs};
use crate::record::{Attempts, Failure, Held, Record, Source, Wait};
use crate::settings::Settings;
use crate::state::{Entry, Pair, State};
use crate::tables::{AllSealed, Row, Tables};
use havre_base::Sealing;

/// Names with which authorities are busy on our behalf at once.
const AT_ONCE: usize = 6;
/// The clock of the machine may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
/// One order, whose parts have deadlines of their own …
const ORDER: Duration = Duration::from_secs(1200);
/// … and one name's turn, whatever becomes of it.
const TURN: Duration = Duration::from_secs(1500);
/// How long a certificate is kept that nobody wants and whose life is over.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where certificates go, and proofs: the edge.
pub trait Outlet: Proofs {
    /// From now on this serves the name; returns once it does, or will.
    fn serve<'a>(&'a self, name: &'a Name, pair: Pair) -> BoxFuture<'a, ()>;
}

/// What the service is made of.
pub struct Parts {
    /// The machine's configuration.
    pub settings: Settings,
    /// The database.
    pub store: Arc<Store>,
    /// Seals keys.
    pub sealing: Arc<dyn Sealing>,
    /// Serves.
    pub outlet: Arc<dyn Outlet>,
}

/// Why it cannot do what a person asks for.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate that was brought.
    #[error("the certificate for {name} cannot be used")]
    Brought {
        /// For whom it was to be.
        name: Name,
        /// Why.
        source: CertificateError,
    },
    /// A key cannot be sealed.
    #[error("the key for {name} cannot be kept: {detail}")]
    Seal {
        /// Whose.
        name: Name,
        /// Why.
        detail: String,
    },
    /// What is sealed cannot be sealed by a newer key.
    #[error("{context} cannot be sealed anew: {detail}")]
    Anew {
        /// As what it is sealed.
        context: String,
        /// Why.
        detail: String,
    },
    /// Nobody wants a certificate for that name.
    #[error("no environment whose certificates come from an authority has the name {0}")]
    Unwanted(Name),
    /// No authority may be asked.
    #[error("no authority is to be asked for {name} before {until}")]
    Forbidden {
        /// Of what.
        name: Name,
        /// As the authorities want it.
        until: Moment,
        /// What the last one said.
        said: Option<Box<Failure>>,
    },
    /// None is configured.
    #[error("the machine's configuration names no authority")]
    NoAuthority,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    authorities: Vec<Authority>,
    hook: Option<PathBuf>,
    tables: Tables,
    sealing: Arc<dyn Sealing>,
    outlet: Arc<dyn Outlet>,
    state: Mutex<State>,
    /// Held while certificates are put on record, so that who comes later knows of who came before.
    keeping: tokio::sync::Mutex<()>,
    started: Moment,
    changed: Notify,
}

/// What was loaded at the start.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What serves from the start.
    pub pairs: Vec<(Name, Pair)>,
    /// Certificates whose key cannot be opened, and why.
    pub sealed: Vec<(Name, String, String)>,
}

impl Service {
    /// With the certificates of the daemon before; says which of them can serve. Nobody is asked for
    /// anything yet.
    pub fn new(parts: Parts) -> Result<(Self, Loaded), ServiceError> {
        let Parts {
            settings,
            store,
            sealing,
            outlet,
        } = parts;
        let tables = Tables::new(store);
        let (mut state, mut loaded) = (State::default(), Loaded::default());
        for row in tables.certificates()? {
            match sealing.open(&key_context(&row.held.id), &row.sealed_key) {
                Ok(key) => {
                    let pair = Pair {
                        chain: row.chain.clone(),
                        key: String::from_utf8_lossy(&key).into_owned(),
                    };
                    loaded.pairs.push((row.name.clone(), pair));
                }
                Err(why) => loaded
                    .sealed
                    .push((row.name.clone(), row.chain.clone(), why)),
            }
            let entry = Entry {
                record: Record {
                    certificate: Some(row.held),
                    attempts: Attempts::default(),
                },
                chain: Some(row.chain),
            };
            state.names.insert(row.name, entry);
        }
        for (name, mut attempts) in tables.attempts()? {
            attempts.break_off();
            state.names.entry(name).or_default().record.attempts = attempts;
        }
        let now = Moment::now();
        state.health = tables.waits()?.into_iter().collect();
        state.health.retain(|_, wait| wait.until > now);
        let authority = |it| {
            let (tables, sealing) = (tables.clone(), Arc::clone(&sealing));
            Authority::new(it, settings.email.clone(), tables, sealing)
        };
        let authorities = settings.authorities.into_iter().map(authority).collect();
        let service = Self(Arc::new(Inner {
            authorities,
            hook: settings.dns_hook,
            tables,
            sealing,
            outlet,
            state: Mutex::new(state),
            keeping: tokio::sync::Mutex::default(),
            started: now,
            changed: Notify::new(),
        }));
        Ok((service, loaded))
    }

    /// Keeps certificates for what is wanted, until `end`. `report` is told what there is, after each
    /// change.
    pub async fn run(
        &self,
        mut wanted: watch::Receiver<BTreeSet<Name>>,
        end: CancellationToken,
        report: impl Fn(Result<String, String>),
    ) {
        let inner = &self.0;
        // Ends with this future: whatever is under way is done again by the next daemon, after a while.
        let mut turns = JoinSet::new();
        inner.lock().running.clear();
        loop {
            inner.lock().wanted = wanted.borrow_and_update().clone();
            let now = Moment::now();
            let until = inner.begin_turns(&mut turns, now);
            report(inner.summary(now));
            let sleep = now.until(until).min(LONGEST_SLEEP);
            tokio::select! {
                () = end.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() {
                    return;
                },
                () = inner.changed.notified() => {}
                Some(turn) = turns.join_next(), if !turns.is_empty() => match turn {
                    Ok(name) => drop(inner.lock().running.remove(&name)),
                    // A panic, where it does not end the daemon. Nobody knows whose it was: all wait.
                    Err(error) => {
                        tracing::error!(%error, "a turn for a certificate broke off");
                        turns.shutdown().await;
                        inner.lock().break_off(Moment::now());
                    }
                },
                () = tokio::time::sleep(sleep) => inner.tidy(Moment::now()),
            }
        }
    }

    /// Seals the keys of certificates and accounts anew that are under an older key of the seal.
    pub fn seal_anew(&self) -> Result<(), ServiceError> {
        let Inner {
            tables, sealing, ..
        } = &*self.0;
        let AllSealed { keys, accounts } = tables.sealed()?;
        let keys = keys
            .into_iter()
            .map(|(id, sealed)| (key_context(&id), sealed));
        let accounts = accounts
            .into_iter()
            .map(|(directory, sealed)| (account_context(&directory), sealed));
        let mut anew = Vec::new();
        for (context, before) in keys.chain(accounts) {
            let after = sealing.renewed(&context, &before);
            let after = after.map_err(|detail| ServiceError::Anew { context, detail })?;
            anew.extend(after.map(|after| (before, after)));
        }
        if !anew.is_empty() {
            tables.sealed_put(anew)?;
        }
        Ok(())
    }

    /// Orders a new certificate for a name now, as a person asks for it.
    pub fn renew(&self, name: &Name) -> Result<(), ServiceError> {
        let inner = &self.0;
        if inner.authorities.is_empty() {
            return Err(ServiceError::NoAuthority);
        }
        let now = Moment::now();
        let attempts = {
            let mut state = inner.lock();
            if !state.wanted.contains(name) {
                return Err(ServiceError::Unwanted(name.clone()));
            }
            // A person may know more of the authorities' health than we do, but for what they have said.
            state.health.retain(|_, wait| wait.holds(now));
            let mut attempts = state.record(name).attempts;
            let until = |it: &Authority| {
                let waits = [&attempts.refused, &state.health];
                let waits = waits.map(|waits| waits.get(&it.settings.name));
                waits.into_iter().flatten().map(|wait| wait.until).max()
            };
            let soonest = inner.authorities.iter().map(until).min().flatten();
            if let Some(until) = soonest.filter(|until| *until > now) {
                let said = attempts.last.map(Box::new);
                return Err(ServiceError::Forbidden {
                    name: name.clone(),
                    until,
                    said,
                });
            }
            attempts.ask(now);
            attempts
        };
        // What cannot be written does not count.
        inner.tables.attempts_put(name, &attempts)?;
        let mut state = inner.lock();
        let entry = state.names.entry(name.clone()).or_default();
        entry.record.attempts.ask(now);
        drop(state);
        inner.changed.notify_one();
        Ok(())
    }

    /// Serves a certificate that a person brought, for each of the names, until its end is near; for none
    /// of them where it cannot be put on record.
    pub async fn import(&self, names: &[Name], pair: &Pair) -> Result<Vec<Name>, ServiceError> {
        let now = Moment::now();
        let mut rows = Vec::new();
        for name in names {
            let checked_for = certificate::check(&pair.chain, &pair.key, name, now);
            let facts = checked_for.map_err(|source| ServiceError::Brought {
                name: name.clone(),
                source,
            })?;
            rows.push(self.0.row(name, Source::Imported, pair, facts, now)?);
        }
        let _keeping = self.0.keeping.lock().await;
        in_place(|| self.0.tables.certificates_put(rows.clone()))?;
        for row in rows {
            self.0.serve(row, pair.clone()).await;
        }
        self.0.changed.notify_one();
        Ok(names.to_vec())
    }

    /// Names without `*.` in a certificate that was brought, for whoever names none.
    pub fn names_of(pair: &Pair) -> Result<Vec<Name>, CertificateError> {
        let facts = certificate::facts(&pair.chain)?;
        Ok(facts
            .names
            .iter()
            .filter_map(|name| Name::parse(name))
            .collect())
    }

    /// What `why` and `ls` show.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State, &World) -> T) -> T {
        let state = self.0.lock();
        let world = self.0.world(&state);
        look(&state, &world)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self, state: &State) -> World {
        let authorities = self.authorities.iter();
        let known = authorities.map(|it| (it.settings.name.as_str(), it.has_ari()));
        state.world(known, self.started)
    }

    fn authority(&self, name: &str) -> Option<&Authority> {
        self.authorities.iter().find(|it| it.settings.name == name)
    }

    /// Begins what is due, as far as there is room; says when to look again.
    fn begin_turns(self: &Arc<Self>, turns: &mut JoinSet<Name>, now: Moment) -> Moment {
        let mut state = self.lock();
        let world = self.world(&state);
        let mut soonest = now.after(LONGEST_SLEEP);
        for name in state.wanted.clone() {
            if state.running.contains(&name) {
                continue;
            }
            let record = state.record(&name);
            let step = match plan::next(&name, &record, &world, now) {
                Step::Wait(until) => {
                    soonest = soonest.min(until);
                    continue;
                }
                step => step,
            };
            // The end of a turn makes room.
            if turns.len() >= AT_ONCE {
                break;
            }
            state.running.insert(name.clone());
            let inner = Arc::clone(self);
            turns.spawn(async move {
                let turn = inner.turn(&name, step, record);
                if tokio::time::timeout(TURN, turn).await.is_err() {
                    tracing::warn!(%name, "a turn for a certificate took too long");
                }
                name
            });
        }
        soonest
    }

    async fn turn(&self, name: &Name, step: Step, record: Record) {
        match step {
            Step::Look { authority, id } => self.look(name, &authority, &id).await,
            Step::Order {
                authority,
                replaces,
            } => {
                self.order(name, &authority, replaces.as_deref(), &record)
                    .await;
            }
            Step::Wait(_) => {}
        }
    }

    async fn look(&self, name: &Name, authority: &str, id: &str) {
        let Some(asked) = self.authority(authority) else {
            return;
        };
        let told = asked.look(id).await;
        let (now, chances) = (Moment::now(), [chance(), chance()]);
        let mut rests = None;
        let changed = {
            let mut state = self.lock();
            if let Err(problem) = &told {
                let wait = state.health.entry(authority.to_owned()).or_default();
                wait.fail(now, problem.patience(), chances[0]);
                rests = Some(*wait);
            }
            state.change_held(name, id, |held| match told {
                Ok(Told::Window(window, patience)) => {
                    held.ari = Some(ari::learn(held.ari.as_ref(), window, now, chances[0]));
                    held.next_look = ari::next_look(now, patience, chances[1]);
                }
                Ok(Told::Nothing(patience)) => {
                    held.next_look = ari::next_look(now, patience, chances[1]);
                }
                Err(_) => held.next_look = ari::next_look(now, None, chances[1]),
            });
            state.record(name).certificate
        };
        self.note_rest(authority, rests);
        if let Some(held) = changed
            && let Err(error) = self.tables.renewal_put(name, &held)
        {
            tracing::warn!(%name, error = one_line(&error), "when a certificate is to be replaced is not kept");
        }
    }

    async fn order(&self, name: &Name, authority: &str, replaces: Option<&str>, record: &Record) {
        let Some(asked) = self.authority(authority) else {
            return;
        };
        let job = Job {
            name,
            replaces,
            profile: None,
            failures: record.attempts.failures,
            hook: self.hook.as_deref(),
            proofs: &*self.outlet,
        };
        let placed = match self.begin(name) {
            Ok(()) => tokio::time::timeout(ORDER, asked.order(&job)).await,
            Err(error) => Ok(Err(not_kept(&error))),
        };
        let placed = placed.unwrap_or_else(|_| {
            let minutes = ORDER.as_secs() / 60;
            Err(Broken {
                stage: Stage::Order,
                method: None,
                problem: Problem::own(format!("the order took longer than {minutes} minutes")),
            })
        });
        let now = Moment::now();
        let kept = match placed {
            Ok(issued) => {
                // Of others that it did not sign it may have said so at the same time.
                let holds = |own: &str, wait: &Wait| own != authority || wait.holds(now);
                self.lock().health.retain(|own, wait| holds(own, wait));
                let source = Source::Authority(authority.to_owned());
                let before = record.certificate.as_ref().map(|held| held.id.as_str());
                let kept = self.keep(name, source, issued, before, now).await;
                kept.map_err(|error| not_kept(&error))
            }
            Err(broken) => Err(broken),
        };
        if let Err(broken) = kept {
            self.fail(name, authority, broken, now);
        }
    }

    /// Puts on record that an order is begun: one that ends with the daemon is not begun again at once.
    fn begin(&self, name: &Name) -> Result<(), ServiceError> {
        let attempts = {
            let mut state = self.lock();
            let attempts = &mut state.names.entry(name.clone()).or_default().record.attempts;
            attempts.begun = Some(Moment::now());
            attempts.clone()
        };
        in_place(|| self.tables.attempts_put(name, &attempts)).map_err(ServiceError::Store)
    }

    /// Puts on record until when an authority itself has said that it is not to be asked.
    fn note_rest(&self, authority: &str, rests: Option<Wait>) {
        if let Some(wait) = rests.filter(|wait| wait.told)
            && let Err(error) = self.tables.wait_put(authority, &wait)
        {
            tracing::warn!(authority, error = one_line(&error), "a pause is not kept");
        }
    }

    /// Notes a failure: who waits, and what the authority said.
    fn fail(&self, name: &Name, authority: &str, broken: Broken, now: Moment) {
        let Broken {
            stage,
            method,
            problem,
        } = broken;
        let blame = problem.blame(stage);
        let mut rests = None;
        let (attempts, is_news) = {
            let mut state = self.lock();
            let mut is_news = true;
            if blame == Blame::Authority {
                let wait = state.health.entry(authority.to_owned()).or_default();
                // Of many names that failed together one counts, and whatever asks for more patience.
                let told = problem.patience().map(|told| now.after(told));
                is_news = wait.until <= now;
                if is_news || told.is_some_and(|told| told > wait.until) {
                    wait.fail(now, problem.patience(), chance());
                    rests = Some(*wait);
                }
            }
            let attempts = &mut state.names.entry(name.clone()).or_default().record.attempts;
            let failure = Failure {
                at: now,
                authority: authority.to_owned(),
                stage,
                method,
                problem: problem.clone(),
            };
            attempts.fail(failure, chance());
            (attempts.clone(), is_news)
        };
        self.note_rest(authority, rests);
        if is_news {
            tracing::warn!(%name, authority, ?stage, %problem, "no certificate was issued");
        } else {
            tracing::debug!(%name, authority, ?stage, %problem, "no certificate was issued");
        }
        if let Err(error) = self.tables.attempts_put(name, &attempts) {
            tracing::warn!(%name, error = one_line(&error), "an attempt is not kept");
        }
    }

    /// Puts an authority's certificate on record and lets it serve, where the one on record is still the
    /// one `before` it: what a person brought meanwhile stays.
    async fn keep(
        &self,
        name: &Name,
        source: Source,
        issued: Issued,
        before: Option<&str>,
        now: Moment,
    ) -> Result<(), ServiceError> {
        let Issued { chain, key, facts } = issued;
        let (pair, until) = (Pair { chain, key }, facts.until);
        let row = self.row(name, source, &pair, facts, now)?;
        let _keeping = self.keeping.lock().await;
        let on_record = self.lock().record(name).certificate;
        if on_record.as_ref().map(|held| held.id.as_str()) != before {
            tracing::info!(%name, "a certificate was issued, and the one that was brought meanwhile stays");
            return Ok(());
        }
        // One that cannot be written serves all the same: another order would not mend that.
        let written = in_place(|| self.tables.certificates_put(vec![row.clone()]));
        tracing::info!(%name, source = ?row.held.source, %until, "a certificate was issued");
        self.serve(row, pair).await;
        written.map_err(ServiceError::Store)
    }

    /// A certificate as it is put on record.
    fn row(
        &self,
        name: &Name,
        source: Source,
        pair: &Pair,
        facts: Facts,
        now: Moment,
    ) -> Result<Row, ServiceError> {
        let sealed = (self.sealing).seal(&key_context(&facts.id), pair.key.as_bytes());
        let sealed_key = sealed.map_err(|detail| ServiceError::Seal {
            name: name.clone(),
            detail,
        })?;
        Ok(Row {
            name: name.clone(),
            held: Held {
                id: facts.id,
                source,
                from: facts.from,
                until: facts.until,
                since: now,
                ari: None,
                next_look: now,
            },
            chain: pair.chain.clone(),
            sealed_key,
        })
    }

    /// From now on this is the certificate of its name.
    async fn serve(&self, row: Row, pair: Pair) {
        let entry = Entry {
            record: Record {
                certificate: Some(row.held),
                attempts: Attempts::default(),
            },
            chain: Some(row.chain),
        };
        self.lock().names.insert(row.name.clone(), entry);
        self.outlet.serve(&row.name, pair).await;
    }

    /// Forgets what nobody wants any more.
    fn tidy(&self, now: Moment) {
        // Until then environments may not have said what they need.
        if self.started.until(now) < Duration::from_secs(3600) {
            return;
        }
        let gone: Vec<Name> = {
            let state = self.lock();
            let is_over = |record: &Record| match &record.certificate {
                Some(held) => held.until.after(KEPT) < now,
                None => {
                    let last = record.attempts.last.as_ref();
                    last.is_none_or(|last| last.at.after(KEPT) < now)
                }
            };
            let names = state.names.iter();
            let gone = names
                .filter(|(name, entry)| !state.wanted.contains(*name) && is_over(&entry.record));
            gone.map(|(name, _)| name.clone()).collect()
        };
        for name in gone {
            match self.tables.forget(&name) {
                Ok(()) => drop(self.lock().names.remove(&name)),
                Err(error) => {
                    tracing::warn!(%name, error = one_line(&error), "an old certificate stays");
                }
            }
        }
    }

    /// For `havre daemon status`.
    fn summary(&self, now: Moment) -> Result<String, String> {
        let state = self.lock();
        let wanted = state.wanted.len();
        let serves = |name: &&Name| {
            let certificate = state.names.get(*name)?.record.certificate.as_ref()?;
            (certificate.until > now).then_some(())
        };
        let have = state.wanted.iter().filter(|name| serves(name).is_some());
        let have = have.count();
        let resting: Vec<&str> = state
            .health
            .iter()
            .filter(|(_, wait)| wait.until > now)
            .map(|(name, _)| name.as_str())
            .collect();
        let text = format!("{have} of {wanted} names have a certificate of an authority");
        match resting.is_empty() || wanted == 0 {
            true => Ok(text),
            false => Err(format!(
                "{text}; {} does not answer as it should",
                resting.join(", ")
            )),
        }
    }
}

/// A failure of ours, after or before the authority had its part.
fn not_kept(error: &ServiceError) -> Broken {
    Broken {
        stage: Stage::Keep,
        method: None,
        problem: Problem::own(one_line(error)),
    }
}

fn key_context(id: &str) -> String {
    format!("certificate/{id}")
}

/// A number in 0..1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut bytes[..], flags) {
        Ok(_) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        // Early in a boot; nothing secret hangs on it.
        Err(_) => 0.5,
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}
