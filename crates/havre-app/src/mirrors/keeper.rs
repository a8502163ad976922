//! Fetches and pushes mirrors when it is time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use havre_audit::{Entry, Outcome, Principal};
use havre_base::{blocking, clipped, in_place, one_line};
use havre_git::{Git, Mirrored, Name};
use havre_mirror::{Fate, Mirror, State, Tries, Way, Word, after_failure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Mirrors, later, now, remote};
use crate::audit;
use crate::platform::Platform;
use crate::repositories::moved;
use crate::supervisor::Supervised;

/// Mirrors that are fetched or pushed at once.
const MOST_AT_ONCE: usize = 2;
/// Longest sleep: what others wrote is seen then at the latest.
const LOOK: Duration = Duration::from_secs(60);
/// When one is tried again of which nobody says how it went.
const LEASE: Duration = Duration::from_secs(3 * 3600);
/// Lines that are kept of what a fetch led to, and the longest of each.
const MOST_SAID: usize = 60;
const MOST_LINE: usize = 300;
/// Bytes of what the trail is told.
const MOST_SUBJECT: usize = 200;

/// What it works with.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) platform: Arc<Platform>,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) git: Git,
}

type Key = (String, Way);

/// Until the daemon ends.
pub(crate) async fn keep(keeper: Keeper, task: Supervised) {
    let mut changes = keeper.mirrors.changes.subscribe();
    let mut running: JoinSet<Key> = JoinSet::new();
    let mut under_way: HashSet<Key> = HashSet::new();
    // Whatever the daemon before had begun.
    if let Err(error) = in_place(|| keeper.mirrors.begin_anew()) {
        task.report(Err(one_line(&error)));
    }
    while !task.end.is_cancelled() {
        changes.mark_unchanged();
        let all = in_place(|| keeper.mirrors.tables.all());
        let all = all.unwrap_or_else(|error| {
            task.report(Err(one_line(&error)));
            Vec::new()
        });
        let mut next = later(LOOK);
        for mirror in all {
            let key = (mirror.project.clone(), mirror.way);
            if under_way.contains(&key) {
                continue;
            }
            let is_due = mirror.tries.next_ms <= now();
            if !is_due || under_way.len() >= MOST_AT_ONCE {
                next = next.min(mirror.tries.next_ms.max(now() + 50));
                continue;
            }
            under_way.insert(key.clone());
            let (keeper, end) = (keeper.clone(), task.end.clone());
            running.spawn(async move {
                keeper.attempt(mirror, &end).await;
                key
            });
        }
        let wait = Duration::from_millis(u64::try_from(next - now()).unwrap_or_default());
        tokio::select! {
            () = task.end.cancelled() => break,
            () = tokio::time::sleep(wait), if under_way.len() < MOST_AT_ONCE => {}
            changed = changes.changed() => if changed.is_err() { break },
            Some(ended) = running.join_next() => match ended {
                Ok(key) => drop(under_way.remove(&key)),
                // Which one it was nobody knows.
                Err(error) => {
                    task.report(Err(error.to_string()));
                    break;
                }
            },
        }
        task.report(Ok(format!("{} under way", under_way.len())));
    }
    // Those that were broken off keep what they have.
    while running.join_next().await.is_some() {}
}

impl Keeper {
    /// Tries one, and keeps how it went.
    async fn attempt(&self, mut mirror: Mirror, end: &CancellationToken) {
        let tried = now();
        mirror.tries.next_ms = later(LEASE);
        let begun = in_place(|| self.mirrors.tables.begin(&mirror, mirror.tries.next_ms));
        if let Err(error) = begun {
            let error = one_line(&error);
            tracing::error!(project = mirror.project, error, "a mirror is not tried");
            tokio::time::sleep(LOOK).await;
            return;
        }
        let outcome = match mirror.way {
            Way::From => self.fetch(&mirror, end).await,
            Way::To => self.push(&mirror, end).await,
        };
        if end.is_cancelled() {
            return;
        }
        let tries = match outcome {
            Ok(done) => Tries {
                tried_ms: Some(tried),
                done_ms: Some(tried),
                failures: 0,
                why: None,
                said: done.said.unwrap_or_else(|| mirror.tries.said.clone()),
                mark: done.mark.or_else(|| mirror.tries.mark.clone()),
                next_ms: later(mirror.every),
            },
            Err(why) => {
                let failures = mirror.tries.failures.saturating_add(1);
                if failures == 1 {
                    let (project, way) = (&mirror.project, mirror.way.word());
                    tracing::warn!(
                        project,
                        way,
                        url = mirror.url,
                        why,
                        "a mirror is not up to date"
                    );
                }
                Tries {
                    tried_ms: Some(tried),
                    failures,
                    why: Some(clipped(&why, MOST_LINE).to_owned()),
                    next_ms: later(after_failure(failures)),
                    ..mirror.tries.clone()
                }
            }
        };
        let tables = &self.mirrors.tables;
        let kept = in_place(|| tables.tried(&mirror, &tries));
        if let Err(error) = kept {
            let error = one_line(&error);
            tracing::error!(
                project = mirror.project,
                error,
                "how a mirror went is not kept"
            );
        }
    }

    async fn fetch(&self, mirror: &Mirror, end: &CancellationToken) -> Result<Done, String> {
        let (name, remote) = self.ready(mirror).await?;
        let place = mirror
            .url
            .split_once("://")
            .map_or(mirror.url.as_str(), |(_, place)| place);
        let principal = format!("mirror {}", place.trim_end_matches(".git"));
        let mirrored = self.git.mirror_from(&name, &remote, &principal, end).await;
        let mirrored = mirrored.map_err(|error| one_line(&error))?;
        if mirrored.updates.is_empty() {
            return Ok(Done::default());
        }
        self.note(mirror, &mirrored);
        if mirror.api.is_some() {
            let words = mirrored
                .wrong
                .iter()
                .map(|(commit, lines)| refused(mirror, commit.as_str(), lines));
            let words = words.collect();
            let said = in_place(|| self.mirrors.tables.say(words));
            if let Err(error) = said {
                tracing::error!(
                    error = one_line(&error),
                    "what is wrong with a commit is not told"
                );
            }
        }
        self.mirrors.wake();
        Ok(Done {
            said: Some(told(&mirrored)),
            mark: None,
        })
    }

    async fn push(&self, mirror: &Mirror, end: &CancellationToken) -> Result<Done, String> {
        let (name, remote) = self.ready(mirror).await?;
        let mark = self.git.fingerprint(&name).await;
        let mark = mark.map_err(|error| one_line(&error))?;
        let Some(mark) = mark.map(|mark| digest(&mark)) else {
            return Err("there is nothing to push yet".to_owned());
        };
        // Also what went well is looked at again: the other side may have lost it.
        let pushed = self.git.mirror_to(&name, &remote, end).await;
        pushed.map_err(|error| one_line(&error))?;
        let is_new = mirror.tries.mark.as_ref() != Some(&mark);
        Ok(Done {
            said: is_new.then(|| vec![format!("{name} is pushed")]),
            mark: Some(mark),
        })
    }

    async fn ready(&self, mirror: &Mirror) -> Result<(Name, havre_git::Remote), String> {
        let name = mirror.project.parse().map_err(|error| one_line(&error))?;
        let (secrets, mirror) = (self.platform.secrets.clone(), mirror.clone());
        let remote = blocking(move || remote(&secrets, &mirror)).await;
        let remote = remote.map_err(|error| one_line(&error))??;
        Ok((name, remote))
    }

    /// In the audit trail, as pushes are.
    fn note(&self, mirror: &Mirror, mirrored: &Mirrored) {
        let all: Vec<String> = mirrored.updates.iter().map(moved).collect();
        let subject = havre_git::plain(&format!("{}: {}", mirror.project, all.join(", ")));
        let entry = Entry {
            project: Some(mirror.project.clone()),
            subject: Some(clipped(&subject, MOST_SUBJECT).to_owned()),
            detail: Some(mirror.url.clone()),
            ..Entry::new(Principal::havre(), "git/mirrored", Outcome::Ok)
        };
        in_place(|| audit::note(&self.platform.trail, entry));
    }
}

/// What came of a try.
#[derive(Default)]
struct Done {
    /// `None`: nothing moved.
    said: Option<Vec<String>>,
    mark: Option<String>,
}

/// What a fetch led to, for a person.
fn told(mirrored: &Mirrored) -> Vec<String> {
    let mut lines = mirrored.said.clone();
    if lines.is_empty() {
        lines.extend(mirrored.updates.iter().map(moved));
    }
    for (commit, wrong) in &mirrored.wrong {
        let start = clipped(commit.as_str(), 7);
        lines.extend(wrong.iter().map(|line| format!("{start}: {line}")));
    }
    let lines = lines.into_iter().take(MOST_SAID);
    lines
        .map(|line| clipped(&havre_git::plain(&line), MOST_LINE).to_owned())
        .collect()
}

/// Of a commit that no push would have brought here.
fn refused(mirror: &Mirror, commit: &str, lines: &[String]) -> Word {
    let at = now();
    Word {
        project: mirror.project.clone(),
        commit: commit.to_owned(),
        context: "havre / check".to_owned(),
        state: State::Error,
        description: lines
            .first()
            .cloned()
            .unwrap_or_else(|| "it is refused".to_owned()),
        target: None,
        changed_ms: at,
        fate: Fate::Waits,
        tries: 0,
        why: None,
        next_ms: at,
    }
}

fn digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
