//! One authority as it is asked: its directory and our account there, each looked up once for all names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use havre_base::{in_place, one_line};
use instant_acme::Account;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::account;
use crate::ari::{self, Window};
use crate::directory::Directory;
use crate::http::{Conversation, Http, problem_of, retry_after};
use crate::order::{self, Broken, Issued, Job};
use crate::problem::{Problem, Stage};
use crate::settings::AuthoritySettings;
use crate::tables::Tables;
use havre_base::Sealing;

/// How long a directory is good for, and for how long nobody tries again after it could not be read.
const FRESH: Duration = Duration::from_secs(3600);
const STALE: Duration = Duration::from_secs(10);
/// How often an order is begun again when numbers for its requests were refused.
const NONCES: usize = 4;

pub(crate) struct Authority {
    pub(crate) settings: AuthoritySettings,
    email: Option<String>,
    tables: Tables,
    sealing: Arc<dyn Sealing>,
    http: OnceCell<Http>,
    directory: Mutex<Option<(Instant, Result<Directory, Problem>)>>,
    /// The sealed credentials are opened for each order; held while an account is made, so that it is one.
    making: Mutex<()>,
    lacks_ari: AtomicBool,
}

/// What a look for renewal information came to.
pub(crate) enum Told {
    Window(Window, Option<Duration>),
    /// Nothing, and how long to leave it alone.
    Nothing(Option<Duration>),
}

impl Authority {
    pub(crate) fn new(
        settings: AuthoritySettings,
        email: Option<String>,
        tables: Tables,
        sealing: Arc<dyn Sealing>,
    ) -> Self {
        Self {
            settings,
            email,
            tables,
            sealing,
            http: OnceCell::new(),
            directory: Mutex::default(),
            making: Mutex::default(),
            lacks_ari: AtomicBool::new(false),
        }
    }

    /// As far as is known.
    pub(crate) fn has_ari(&self) -> bool {
        !self.lacks_ari.load(Ordering::Relaxed)
    }

    async fn http(&self) -> Result<&Http, Problem> {
        let make = || async {
            let AuthoritySettings {
                directory, ca_file, ..
            } = &self.settings;
            let made = in_place(|| Http::new(directory, ca_file.as_deref()));
            made.map_err(|error| Problem::own(one_line(&error)))
        };
        self.http.get_or_try_init(make).await
    }

    async fn directory(&self) -> Result<Directory, Problem> {
        let mut known = self.directory.lock().await;
        if let Some((at, read)) = &*known {
            let good = if read.is_ok() { FRESH } else { STALE };
            if at.elapsed() < good {
                return read.clone();
            }
        }
        let read = match self.http().await {
            Ok(http) => Directory::read(http, &self.settings.directory).await,
            Err(problem) => Err(problem),
        };
        if let Ok(directory) = &read {
            let lacks = directory.renewal_info.is_none();
            self.lacks_ari.store(lacks, Ordering::Relaxed);
        }
        *known = Some((Instant::now(), read.clone()));
        read
    }

    /// Asks when a certificate is to be replaced.
    pub(crate) async fn look(&self, id: &str) -> Result<Told, Problem> {
        let directory = self.directory().await?;
        let Some(base) = directory.renewal_info.filter(|_| id.contains('.')) else {
            return Ok(Told::Nothing(None));
        };
        let answer = self.http().await?.get(&format!("{base}/{id}")).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(error = one_line(&error), "no renewal information");
                return Ok(Told::Nothing(None));
            }
        };
        let patience = retry_after(&answer.headers, std::time::SystemTime::now());
        if !answer.status.is_success() {
            let problem = problem_of(&answer);
            tracing::debug!(%problem, "no renewal information");
            return Ok(Told::Nothing(patience));
        }
        Ok(match ari::parse(&answer.body) {
            Some(window) => Told::Window(window, patience),
            None => Told::Nothing(patience),
        })
    }

    /// Orders a certificate; the profile of `job` is set here.
    pub(crate) async fn order(&self, job: &Job<'_>) -> Result<Issued, Broken> {
        let at = |stage| {
            move |problem| Broken {
                stage,
                method: None,
                problem,
            }
        };
        let directory = self.directory().await.map_err(at(Stage::Directory))?;
        let wanted = self.settings.profile.as_deref();
        let profile = directory.profile(job.name, wanted);
        let profile = profile.map_err(at(Stage::Directory))?;
        let http = self.http().await.map_err(at(Stage::Directory))?;
        let job = Job {
            profile: profile.as_deref(),
            replaces: job.replaces.filter(|_| directory.renewal_info.is_some()),
            ..*job
        };
        let mut tries = 0;
        loop {
            let talk = Conversation::new(http.clone(), Arc::clone(&directory.document));
            let account = self.account(&talk).await.map_err(at(Stage::Account))?;
            tries += 1;
            match order::place(&talk, &account, &job).await {
                Err(broken) if broken.problem.is("badNonce") && tries < NONCES => {}
                placed => return placed,
            }
        }
    }

    async fn account(&self, talk: &Conversation) -> Result<Account, Problem> {
        let _making = self.making.lock().await;
        let directory = &self.settings.directory;
        let context = account_context(directory);
        let stored = in_place(|| self.tables.account(directory));
        let stored = stored.map_err(|error| Problem::own(one_line(&error)))?;
        if let Some(sealed) = stored {
            let opened = self.sealing.open(&context, &sealed).map_err(|error| {
                Problem::own(format!(
                    "the key of our account with {} cannot be opened: {error}",
                    self.settings.name
                ))
            })?;
            return account::open(talk, &opened).await;
        }
        let email = self.email.as_deref();
        let made = account::create(talk, &self.settings, email).await?;
        let sealed = self.sealing.seal(&context, &made.credentials);
        let sealed = sealed.map_err(Problem::own)?;
        let kept = in_place(|| {
            self.tables
                .account_put(directory, made.account.id(), sealed)
        });
        kept.map_err(|error| Problem::own(one_line(&error)))?;
        tracing::info!(
            authority = self.settings.name,
            account = made.account.id(),
            "an account was made; its terms of service are agreed to"
        );
        Ok(made.account)
    }
}

/// As what the credentials of an account are sealed.
pub(crate) fn account_context(directory: &str) -> String {
    format!("acme/account/{directory}")
}
