//! A FAKE target of one environment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_release::{
    Answer, Applied, ApplyError, BoxError, Change, Exec, ExecError, InstanceState, Line, Output,
    OutputQuery, ReplicaId, Session, Stream, Target, TargetStatus, Usage,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::rules::Judged;
use super::shared::Shared;
use super::task::Pending;
use crate::execute;
use crate::leases::lease_name;

/// STRICT FAKE of [`Target`].
pub(super) struct FakeTarget {
    id: EnvironmentId,
    shared: Arc<Shared>,
    changes: mpsc::Sender<Pending>,
    status: watch::Receiver<Arc<TargetStatus>>,
    /// Moves that were asked of it after its end.
    too_late: AtomicU32,
}

impl FakeTarget {
    pub(super) fn new(
        id: EnvironmentId,
        shared: Arc<Shared>,
        changes: mpsc::Sender<Pending>,
        status: watch::Receiver<Arc<TargetStatus>>,
    ) -> Self {
        Self {
            id,
            shared,
            changes,
            status,
            too_late: AtomicU32::new(0),
        }
    }

    /// Judges a change, and makes it.
    async fn make(&self, change: Change) -> Result<Applied, ApplyError> {
        let delay = self.shared.script().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.judge(&change).await;
        let (done, wait) = oneshot::channel();
        if self.changes.send((change, done)).await.is_err() {
            return Err(ApplyError::Ended);
        }
        wait.await.unwrap_or(Err(ApplyError::Ended))
    }

    async fn judge(&self, change: &Change) {
        let moves = matches!(change, Change::RollOut(_));
        if self.changes.is_closed() {
            // The end may have come while it was on its way; who has been told asks another target.
            if moves && self.too_late.fetch_add(1, Ordering::Relaxed) > 0 {
                let violation = format!("{} is asked once more after its end", self.id);
                self.shared.violations.add(violation);
            }
            return;
        }
        let holder = match change {
            Change::RollOut(_) | Change::Scale(_) => self.shared.holder(&self.id).await,
            Change::Abort | Change::Pause | Change::Resume | Change::TakeDown { .. } => None,
        };
        let others = self.shared.others(&self.id);
        let before = self.status.borrow().clone();
        let lease = lease_name(&self.id);
        let is_leased = |digest: &str| {
            let images = &self.shared.platform.images;
            let digest = digest.parse().ok();
            digest.is_some_and(|digest| images.holders(&digest).unwrap().contains(&lease))
        };
        let judged = Judged {
            id: &self.id,
            change,
            before: &before,
            holder,
            others: &others,
            is_leased: &is_leased,
        };
        for broken in judged.broken() {
            self.shared.violations.add(broken);
        }
    }

    /// A replica that is asked for and never was.
    fn expect_known(&self, id: &ReplicaId, what: &str) {
        if !self.shared.had.lock().unwrap().contains(id) {
            let violation = format!("{what} of {id}, which {} never had", self.id);
            self.shared.violations.add(violation);
        }
    }
}

impl Target for FakeTarget {
    fn apply(&self, change: Change) -> Answer<'_, Result<Applied, ApplyError>> {
        Box::pin(async move {
            let asked = described(&change);
            let made = self.make(change).await;
            let entry = match &made {
                Ok(Applied {
                    release: Some(number),
                    ..
                }) => format!("{}: {asked} {number}", self.id),
                Ok(_) => format!("{}: {asked}", self.id),
                Err(_) => format!("{}: {asked} refused", self.id),
            };
            self.shared.changes().push(entry);
            made
        })
    }

    fn status(&self) -> watch::Receiver<Arc<TargetStatus>> {
        self.status.clone()
    }

    fn has_ended(&self) -> bool {
        self.changes.is_closed()
    }

    fn keep_masked(&self) -> Answer<'_, Result<(), BoxError>> {
        Box::pin(async move {
            let releases = Arc::clone(&self.status.borrow().releases);
            execute::learn(&self.shared.platform, &self.id, &releases)?;
            Ok(())
        })
    }

    fn has_output(&self, id: &ReplicaId) -> bool {
        self.shared.output().contains_key(id)
    }

    fn output(&self, id: &ReplicaId, query: &OutputQuery) -> Box<dyn Output> {
        self.expect_known(id, "output");
        let mut lines = self.shared.output().get(id).cloned().unwrap_or_default();
        if let Some(tail) = query.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        Box::new(Printed {
            lines: lines.into_iter(),
            follow: query.follow,
        })
    }

    fn exec(&self, id: &ReplicaId, command: Exec) -> Answer<'_, Result<Session, ExecError>> {
        self.expect_known(id, "a command");
        let status = self.status.borrow().clone();
        let one = status.instances.iter().find(|one| &one.id == id);
        let runs = one.is_some_and(|one| matches!(one.state, InstanceState::Running { .. }));
        let id = id.clone();
        Box::pin(async move {
            if !runs {
                return Err(ExecError::Target(format!("{id} does not run").into()));
            }
            run(&command)
        })
    }

    fn usage(&self, id: &ReplicaId) -> Answer<'_, Option<Usage>> {
        self.expect_known(id, "usage");
        Box::pin(async {
            Some(Usage {
                cpu_usec: 0,
                memory_bytes: 1 << 20,
            })
        })
    }
}

/// `exit CODE`, or a command that prints what it is; there is no program `missing`.
fn run(command: &Exec) -> Result<Session, ExecError> {
    let code = match command.argv.first().map(String::as_str) {
        Some("missing") => {
            return Err(ExecError::Command {
                exit_code: 127,
                reason: "missing: no such program".to_owned(),
            });
        }
        Some("exit") => command.argv[1].parse().unwrap(),
        _ => 0,
    };
    let text = format!("{}\n", command.argv.join(" "));
    Ok(Session {
        stdin: None,
        stdout: Some(Box::new(io::Cursor::new(text.into_bytes()))),
        stderr: None,
        terminal: None,
        exit: Box::pin(async move { Ok(code) }),
    })
}

/// Lines that are there.
struct Printed {
    lines: std::vec::IntoIter<String>,
    follow: bool,
}

impl Output for Printed {
    fn next(&mut self) -> Answer<'_, io::Result<Option<Line>>> {
        Box::pin(async {
            let Some(text) = self.lines.next() else {
                if self.follow {
                    std::future::pending::<()>().await;
                }
                return Ok(None);
            };
            Ok(Some(Line {
                at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
                stream: Stream::Stdout,
                partial: false,
                text,
            }))
        })
    }
}

/// A change as the record of changes has it.
fn described(change: &Change) -> String {
    match change {
        Change::RollOut(_) => "roll out".to_owned(),
        Change::Abort => "abort".to_owned(),
        Change::Pause => "pause".to_owned(),
        Change::Resume => "resume".to_owned(),
        Change::Scale(numbers) => {
            let numbers = numbers
                .iter()
                .map(|(name, count)| format!("{name}={count}"));
            format!("scale {}", Vec::from_iter(numbers).join(" "))
        }
        Change::TakeDown { volumes: false } => "take down".to_owned(),
        Change::TakeDown { volumes: true } => "take down with volumes".to_owned(),
    }
}
