//! Tells the other side what becomes of its commits. What is not heard is told again; no run waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use havre_base::{blocking, in_place, one_line};
use havre_mirror::{Api, ApiError, Fate, MOST_TRIES, Mirror, State, Word, after_failure};
use havre_pipeline::run::Conclusion;
use havre_runs::{Filter, Listed, Runs};
use havre_secrets::Secrets;
use havre_store::StoreError;
use tokio::sync::broadcast::error::RecvError;
use zeroize::Zeroizing;

use super::{Mirrors, later, now, secret};
use crate::supervisor::Supervised;

/// Runs of a project that are looked at.
const MOST_RUNS: u32 = 100;
/// Words that are told in one round.
const MOST_WORDS: u32 = 20;
/// Tries of what the other side says it does not know: it may be about to be pushed there.
const MOST_OF_UNKNOWN: u32 = 6;
const LOOK: Duration = Duration::from_secs(60);
/// Several changes in a row are one.
const PAUSE: Duration = Duration::from_secs(1);

/// Until the daemon ends.
pub(crate) async fn tell(mirrors: Arc<Mirrors>, secrets: Secrets, runs: Runs, task: Supervised) {
    let mut changes = mirrors.changes.subscribe();
    let mut of_runs = runs.changes();
    loop {
        changes.mark_unchanged();
        let round = round(&mirrors, &secrets, &runs).await;
        let next = match round {
            Ok(next) => next.unwrap_or(i64::MAX),
            Err(error) => {
                task.report(Err(one_line(&error)));
                i64::MAX
            }
        };
        let wait = next.min(later(LOOK)).saturating_sub(now());
        let wait = Duration::from_millis(u64::try_from(wait).unwrap_or_default());
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return },
            changed = of_runs.recv() => if matches!(changed, Err(RecvError::Closed)) { return },
        }
        tokio::time::sleep(PAUSE).await;
        of_runs = runs.changes();
    }
}

/// Looks at all runs and tells what is due; when something is due again.
async fn round(
    mirrors: &Mirrors,
    secrets: &Secrets,
    runs: &Runs,
) -> Result<Option<i64>, StoreError> {
    let told = in_place(|| mirrors.tables.all())?;
    let told = told.into_iter().filter(|mirror| mirror.api.is_some());
    // Where both ways have an API, that of where it comes from.
    let mut sides: HashMap<String, Mirror> = HashMap::new();
    for mirror in told {
        sides.entry(mirror.project.clone()).or_insert(mirror);
    }
    for mirror in sides.values() {
        let listed = in_place(|| runs.list(&mirror.project, &Filter::default(), None, MOST_RUNS));
        match listed {
            Ok(listed) => {
                in_place(|| mirrors.tables.say(words(mirror, &listed)))?;
            }
            Err(error) => {
                let error = one_line(&error);
                tracing::warn!(project = mirror.project, error, "runs cannot be listed");
            }
        }
    }
    let mut ends: HashMap<String, Result<End, String>> = HashMap::new();
    for word in in_place(|| mirrors.tables.due(now(), MOST_WORDS))? {
        let Some(mirror) = sides.get(&word.project) else {
            let gone = Word {
                fate: Fate::GivenUp,
                ..word
            };
            in_place(|| mirrors.tables.told(&gone))?;
            continue;
        };
        if !ends.contains_key(&word.project) {
            ends.insert(word.project.clone(), End::of(mirror, secrets).await);
        }
        let outcome = match &ends[&word.project] {
            Ok(end) => end.tell(&word).await,
            Err(why) => Err(Refused::passing(why.clone())),
        };
        let word = after(word, outcome);
        in_place(|| mirrors.tables.told(&word))?;
    }
    in_place(|| mirrors.tables.next_due())
}

/// The other end.
struct End {
    api: Api,
    token: Zeroizing<String>,
}

/// Why a word was not heard.
struct Refused {
    why: String,
    patience: Option<Duration>,
    is_lasting: bool,
}

impl Refused {
    fn passing(why: String) -> Self {
        Self {
            why,
            patience: None,
            is_lasting: false,
        }
    }
}

impl End {
    async fn of(mirror: &Mirror, secrets: &Secrets) -> Result<Self, String> {
        let (mirror, secrets) = (mirror.clone(), secrets.clone());
        let made = blocking(move || {
            let name = mirror.token.as_deref().ok_or("no token is given")?;
            let base = mirror.api.as_deref().ok_or("no API is given")?;
            Ok(Self {
                token: secret(&secrets, &mirror.project, name)?,
                api: Api::new(base, &mirror.url).map_err(|error| one_line(&error))?,
            })
        });
        made.await.unwrap_or_else(|error| Err(one_line(&error)))
    }

    async fn tell(&self, word: &Word) -> Result<(), Refused> {
        let told = self.api.tell(&self.token, word).await;
        told.map_err(|error| {
            let why = one_line(&error);
            match error {
                ApiError::Refused {
                    patience, lasting, ..
                } => Refused {
                    why,
                    patience,
                    is_lasting: lasting,
                },
                ApiError::Address(_) | ApiError::Tls(_) | ApiError::Unreachable { .. } => {
                    Refused::passing(why)
                }
            }
        })
    }
}

/// A word after it was told, or not. Pure, but for the clock.
fn after(word: Word, outcome: Result<(), Refused>) -> Word {
    let Err(refused) = outcome else {
        return Word {
            fate: Fate::Told,
            why: None,
            ..word
        };
    };
    let tries = word.tries.saturating_add(1);
    let most = if refused.is_lasting {
        MOST_OF_UNKNOWN
    } else {
        MOST_TRIES
    };
    let fate = if tries >= most {
        Fate::GivenUp
    } else {
        Fate::Waits
    };
    if tries == 1 || fate == Fate::GivenUp {
        let (project, commit, why) = (&word.project, &word.commit, &refused.why);
        tracing::warn!(project, commit, why, "what became of a commit is not told");
    }
    let wait = after_failure(tries).max(refused.patience.unwrap_or_default());
    Word {
        fate,
        tries,
        why: Some(refused.why),
        next_ms: later(wait),
        ..word
    }
}

/// What is to be said of commits, by their newest runs. Pure.
fn words(mirror: &Mirror, listed: &[Listed]) -> Vec<Word> {
    let mut seen = HashSet::new();
    let since = u64::try_from(mirror.set_ms).unwrap_or_default();
    let since = listed.iter().filter(|run| run.queued_ms >= since);
    let newest = since.filter(|run| seen.insert((run.commit.clone(), run.workflow.clone())));
    newest.map(|run| word(mirror, run)).collect()
}

fn word(mirror: &Mirror, run: &Listed) -> Word {
    let number = run.number.unwrap_or_default();
    let (state, how) = match run.conclusion {
        None => (State::Pending, "runs"),
        Some(Conclusion::Success) => (State::Success, "success"),
        Some(Conclusion::Skipped) => (State::Success, "skipped"),
        Some(Conclusion::Failure) => (State::Failure, "failure"),
        Some(Conclusion::Cancelled) => (State::Error, "cancelled"),
    };
    let changed = run.ended_ms.unwrap_or(run.queued_ms);
    let changed = i64::try_from(changed).unwrap_or(i64::MAX);
    Word {
        project: mirror.project.clone(),
        commit: run.commit.clone(),
        context: format!("havre / {}", run.workflow),
        state,
        description: format!(
            "#{number}: {how}; havre ci show {number} -p {}",
            mirror.project
        ),
        target: None,
        changed_ms: changed,
        fate: Fate::Waits,
        tries: 0,
        why: None,
        next_ms: changed,
    }
}

#[cfg(test)]
mod tests {
    use havre_mirror::{Tries, Way};
    use havre_runs::RunId;

    use super::*;

    fn mirror() -> Mirror {
        Mirror {
            project: "shop".to_owned(),
            way: Way::From,
            url: "https://github.com/acme/shop".to_owned(),
            user: String::new(),
            token: None,
            every: Duration::ZERO,
            api: None,
            set_by: String::new(),
            set_ms: 100,
            tries: Tries::default(),
        }
    }

    fn run(number: u64, workflow: &str, queued_ms: u64, conclusion: Option<Conclusion>) -> Listed {
        Listed {
            id: RunId(1),
            number: Some(number),
            project: "shop".to_owned(),
            path: String::new(),
            workflow: workflow.to_owned(),
            title: String::new(),
            event: "push".to_owned(),
            reference: "refs/heads/main".to_owned(),
            commit: "a".repeat(40),
            actor: String::new(),
            queued_ms,
            ended_ms: conclusion.map(|_| queued_ms + 5),
            conclusion,
        }
    }

    #[test]
    fn the_newest_run_of_a_workflow_speaks_for_a_commit() {
        let listed = [
            run(9, "CI", 300, None),
            run(8, "Docs", 200, Some(Conclusion::Cancelled)),
            run(7, "CI", 150, Some(Conclusion::Failure)),
            run(6, "Old", 99, Some(Conclusion::Success)),
        ];
        let told: Vec<_> = words(&mirror(), &listed)
            .into_iter()
            .map(|word| (word.context, word.state, word.changed_ms))
            .collect();
        let expected = [
            ("havre / CI".to_owned(), State::Pending, 300),
            ("havre / Docs".to_owned(), State::Error, 205),
        ];
        assert_eq!(
            told, expected,
            "what ran before it was asked for is not told"
        );
    }

    #[test]
    fn what_is_not_heard_is_told_again_and_not_for_ever() {
        let word = word(&mirror(), &run(9, "CI", 300, None));
        assert_eq!(after(word.clone(), Ok(())).fate, Fate::Told);
        let refused = |is_lasting| Refused {
            why: "no".to_owned(),
            patience: Some(Duration::from_secs(1000)),
            is_lasting,
        };
        let once = after(word.clone(), Err(refused(false)));
        assert_eq!((once.fate, once.tries), (Fate::Waits, 1));
        assert!(once.next_ms > now() + 900_000, "it asked for patience");
        let often = |tries| Word {
            tries,
            ..word.clone()
        };
        assert_eq!(after(often(4), Err(refused(true))).fate, Fate::Waits);
        assert_eq!(after(often(5), Err(refused(true))).fate, Fate::GivenUp);
        assert_eq!(after(often(5), Err(refused(false))).fate, Fate::Waits);
        assert_eq!(after(often(23), Err(refused(false))).fate, Fate::GivenUp);
    }
}
