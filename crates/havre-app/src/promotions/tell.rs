//! Has people hear of promotions: by the program of machine.yaml, and by the audit trail where the daemon did something by
//! itself.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use havre_audit::{Entry, Outcome, Principal};
use havre_base::one_line;
use havre_release::{Comes, Promotion, PromotionState};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::audit;
use crate::daemon::Daemon;

/// Before each time that the program is run: it may be over by then what kept it from telling.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(60),
];
/// How long the program may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why nobody heard.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("cannot run {}", program.display())]
    Run {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{} had not ended after {} s", program.display(), DEADLINE.as_secs())]
    Slow { program: PathBuf },
    #[error("{} ended with {status}", program.display())]
    Failed {
        program: PathBuf,
        status: ExitStatus,
    },
}

/// It waits for somebody.
pub(crate) fn waits(daemon: &Daemon, promotion: &Promotion) {
    tell(daemon, "waits", promotion);
}

/// It became something else, if it did.
pub(crate) fn became(daemon: &Daemon, before: &Promotion, after: &Promotion) {
    if before.state == after.state {
        return;
    }
    let word = word(&after.state);
    // What people did is on record as the call that they made.
    let by_itself = !matches!(after.state, PromotionState::Rejected { .. });
    if by_itself && after.state != PromotionState::Waiting {
        note(daemon, after, word);
    }
    if after.state.is_over() {
        tell(daemon, word, after);
    }
}

fn word(state: &PromotionState) -> &'static str {
    match state {
        PromotionState::Waiting => "waits",
        PromotionState::Approved => "approved",
        PromotionState::RollingOut => "rolling_out",
        PromotionState::RolledOut { .. } => "rolled_out",
        PromotionState::Entered => "entered",
        PromotionState::Failed { .. } => "failed",
        PromotionState::Rejected { .. } => "rejected",
        PromotionState::Refused { .. } => "refused",
        PromotionState::Superseded { .. } => "superseded",
        PromotionState::Expired => "expired",
    }
}

fn note(daemon: &Daemon, promotion: &Promotion, word: &str) {
    let outcome = match promotion.state {
        PromotionState::Failed { .. } => Outcome::Failed,
        PromotionState::Refused { .. } => Outcome::Refused,
        _ => Outcome::Ok,
    };
    let people: Vec<&str> = promotion.approvals.iter().map(|one| &*one.by).collect();
    let mut detail = promotion.state.sentence();
    if !people.is_empty() {
        detail.push_str(&format!("; agreed: {}", people.join(", ")));
    }
    let entry = Entry {
        project: Some(promotion.environment.project.to_string()),
        environment: Some(promotion.environment.environment.to_string()),
        subject: Some(format!("promotion {}: {}", promotion.id, what(promotion))),
        detail: Some(detail),
        ..Entry::new(Principal::havre(), format!("promotion/{word}"), outcome)
    };
    havre_base::in_place(|| audit::note(&daemon.platform.trail, entry));
}

/// What comes, for people.
pub(super) fn what(promotion: &Promotion) -> String {
    match &promotion.what {
        Comes::Release { from, release, .. } => format!("release {release} of {from}"),
        Comes::Job { run, job } => format!("job {job} of run {run}"),
    }
}

/// Runs the program, if there is one, beside all else.
fn tell(daemon: &Daemon, event: &str, promotion: &Promotion) {
    let Some(program) = daemon.options.machine.notify.clone() else {
        return;
    };
    let document = document(event, promotion).to_string();
    let end = daemon.end.clone();
    daemon.supervisor.spawn(async move {
        tokio::select! {
            () = try_to_tell(&program, &document) => {}
            () = end.cancelled() => {}
        }
    });
}

/// As often as there are pauses, until it went well.
async fn try_to_tell(program: &Path, document: &str) {
    for (times, pause) in PAUSES.iter().enumerate() {
        tokio::time::sleep(*pause).await;
        let Err(error) = run(program, document).await else {
            return;
        };
        let (error, tries) = (one_line(&error), times + 1);
        let most = PAUSES.len();
        tracing::warn!(error, tries, most, "nobody is told of a promotion");
    }
}

fn document(event: &str, promotion: &Promotion) -> Value {
    let people: Vec<&str> = promotion.approvals.iter().map(|one| &*one.by).collect();
    json!({
        "event": event,
        "promotion": promotion.id,
        "project": promotion.environment.project,
        "environment": promotion.environment.environment,
        "what": what(promotion),
        "by": promotion.by,
        "commit": promotion.origin.commit,
        "run": promotion.origin.run,
        "approved_by": people,
        "text": format!(
            "{} to {}, asked for by {}: {}",
            what(promotion), promotion.environment, promotion.by, promotion.state.sentence()
        ),
    })
}

async fn run(program: &Path, document: &str) -> Result<(), TellError> {
    let failed = |source| TellError::Run {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let input = child.stdin.take();
    let whole = async {
        if let Some(mut input) = input {
            let written = input.write_all(document.as_bytes()).await;
            // One that does not want to know ends when it likes.
            if let Err(error) = written
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                return Err(failed(error));
            }
        }
        child.wait().await.map_err(failed)
    };
    let status = timeout(DEADLINE, whole)
        .await
        .map_err(|_| TellError::Slow {
            program: program.to_owned(),
        })??;
    match status.success() {
        true => Ok(()),
        false => Err(TellError::Failed {
            program: program.to_owned(),
            status,
        }),
    }
}
