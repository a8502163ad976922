//! The daemon's end of the hooks: finds the push by its secret, has it checked, and tells its pusher.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use havre_base::one_line;
use havre_confine::GIT_USER;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::hook::{Answer, MOST_TOLD, Told};
use crate::journal::Journal;
use crate::push::{Lines, Push, Receiver, Update};
use crate::pushes::{self, Pending, Pushes};
use crate::repositories::{Repositories, is_incoming};
use crate::{Objects, Oid};

/// How long a hook may take to say what it is about, and to take a line.
const HOOK_WITHIN: Duration = Duration::from_secs(30);
/// References that one push may move.
const MOST_UPDATES: usize = 200;

/// What is done about hooks.
pub(crate) struct Hooks {
    pub pushes: Arc<Pushes>,
    pub repositories: Repositories,
    pub receiver: Arc<dyn Receiver>,
    pub journal: Journal,
    pub check: Duration,
    pub tasks: tokio_util::task::TaskTracker,
}

/// Why a hook is not answered.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("the connection to the hook failed")]
    Connection(#[from] io::Error),
    #[error("what the hook says is not understood: {0}")]
    Malformed(&'static str),
    #[error("the hook took too long")]
    TooLate,
}

/// Listens where git's user alone may speak.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    chown(path, Some(GIT_USER), Some(GIT_USER))?;
    Ok(listener)
}

impl Hooks {
    /// Answers one hook.
    pub(crate) async fn answer(self: Arc<Self>, stream: UnixStream) {
        if let Err(error) = self.try_answer(stream).await {
            let error = one_line(&error);
            tracing::debug!(error, "a hook was not answered");
        }
    }

    async fn try_answer(&self, stream: UnixStream) -> Result<(), HookError> {
        if stream.peer_cred()?.uid() != GIT_USER {
            return Err(HookError::Malformed("it is another user's"));
        }
        let mut hook = Hook(stream);
        let told = hook.told().await?;
        let pending = self.pushes.find(&told.secret);
        let pending = pending.ok_or(HookError::Malformed("no push has its secret"))?;
        match told.hook.as_str() {
            "pre-receive" => self.pre_receive(&pending, told, &mut hook).await,
            "post-receive" => self.post_receive(&pending, told, &mut hook).await,
            _ => Err(HookError::Malformed("there is no such hook")),
        }
    }

    async fn pre_receive(
        &self,
        pending: &Pending,
        told: Told,
        hook: &mut Hook,
    ) -> Result<(), HookError> {
        let checked = tokio::select! {
            checked = self.checked(pending, told) => checked,
            () = pending.left.cancelled() => Err(Vec::new()),
        };
        let accepted = checked.and_then(|push| self.accept(pending, push));
        match accepted {
            Ok(()) => hook.say(&Answer::Accept).await,
            Err(lines) => {
                pending.refuse();
                for line in lines {
                    hook.say(&Answer::Say(crate::plain(&line))).await?;
                }
                hook.say(&Answer::Refuse).await
            }
        }
    }

    /// The push, where nobody has anything against it; lines for the pusher otherwise.
    async fn checked(&self, pending: &Pending, told: Told) -> Result<Push, Vec<String>> {
        let objects = match told.incoming {
            Some(incoming) if is_incoming(&incoming) => {
                self.repositories.quarantined(&pending.project, incoming)
            }
            Some(_) => return Err(vec!["git's quarantine is not understood".to_owned()]),
            // Nothing is sent where references are only deleted.
            None => self.repositories.objects(&pending.project),
        };
        let mut updates = updates(&told.updates)?;
        for update in &mut updates {
            update.forced = is_forced(update, &objects).await?;
        }
        let push = Push {
            id: pushes::random().map_err(|error| vec![error.to_string()])?,
            project: pending.project.clone(),
            principal: pending.visitor.name(),
            updates,
            options: told.options,
            of_job: pending.visitor.is_of_job(),
            mirrored: false,
        };
        pending.visitor.begin(&push)?;
        let checking = timeout(self.check, self.receiver.check(&push, &objects));
        checking.await.unwrap_or_else(|_| {
            let seconds = self.check.as_secs();
            let line = format!("the push could not be checked within {seconds} s: try again");
            Err(vec![line])
        })?;
        Ok(push)
    }

    /// Written down first: whatever happens from now on, it is known what was to move.
    fn accept(&self, pending: &Pending, push: Push) -> Result<(), Vec<String>> {
        let written = havre_base::in_place(|| self.journal.write(&push));
        written.map_err(|error| vec![format!("the push cannot be written down: {error}")])?;
        let id = push.id.clone();
        match pending.accept(push) {
            true => Ok(()),
            false => {
                self.done_with(&id);
                Err(vec!["the push was broken off".to_owned()])
            }
        }
    }

    async fn post_receive(
        &self,
        pending: &Pending,
        told: Told,
        hook: &mut Hook,
    ) -> Result<(), HookError> {
        let moved = updates(&told.updates).map_err(|_| HookError::Malformed("its updates"))?;
        let Some(mut push) = pending.receive() else {
            return Err(HookError::Malformed("nothing was accepted"));
        };
        push.updates.retain(|update| {
            moved
                .iter()
                .any(|it| it.reference == update.reference && it.new == update.new)
        });
        let (tell, mut lines) = Lines::new();
        self.receive(push, tell);
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = pending.left.cancelled() => None,
            };
            match line {
                Some(line) => hook.say(&Answer::Say(line)).await?,
                None => return hook.say(&Answer::Accept).await,
            }
        }
    }

    /// Has it received, by a task of its own that nobody's leaving ends.
    pub(crate) fn receive(&self, push: Push, tell: Lines) {
        let (receiver, journal) = (Arc::clone(&self.receiver), self.journal.clone());
        let objects = self.repositories.objects(&push.project);
        self.tasks.spawn(async move {
            if let Some(branch) = push
                .updates
                .iter()
                .filter(|update| update.new.is_some())
                .find_map(Update::branch)
                && let Err(error) = objects.begin_with(branch).await
            {
                let error = one_line(&error);
                tracing::warn!(project = %push.project, error, "the first branch is not the usual one");
            }
            receiver.received(&push, tell).await;
            done_with(&journal, &push.id);
        });
    }

    /// Of a push that was accepted and whose hook has not told what moved: looks for itself. Whether something did.
    pub(crate) async fn settle(&self, mut push: Push) -> bool {
        let references = self.repositories.objects(&push.project).references().await;
        let references = match references {
            Ok(references) => references,
            Err(error) => {
                let error = one_line(&error);
                tracing::error!(id = push.id, project = %push.project, error, "a push is not settled");
                return false;
            }
        };
        let now = |name: &str| {
            references
                .iter()
                .find(|(it, _)| it == name)
                .map(|(_, oid)| oid)
        };
        push.updates
            .retain(|update| now(&update.reference) == update.new.as_ref());
        if push.updates.is_empty() {
            self.done_with(&push.id);
            return false;
        }
        tracing::info!(id = push.id, project = %push.project, "a push goes on that nobody follows");
        self.receive(push, Lines::nobody());
        true
    }

    fn done_with(&self, id: &str) {
        done_with(&self.journal, id);
    }
}

fn done_with(journal: &Journal, id: &str) {
    if let Err(error) = havre_base::in_place(|| journal.remove(id)) {
        tracing::error!(id, %error, "a push that is done with stays in the journal");
    }
}

/// Whether what was there is not part of what comes.
async fn is_forced(update: &Update, objects: &Objects) -> Result<bool, Vec<String>> {
    let (Some(old), Some(new), Some(_)) = (&update.old, &update.new, update.branch()) else {
        return Ok(false);
    };
    let known = objects.is_ancestor(old, new).await;
    known
        .map(|is_ancestor| !is_ancestor)
        .map_err(|error| vec![format!("{}: {}", update.reference, one_line(&error))])
}

/// What git says of a push; lines for the pusher where it may not be.
fn updates(text: &str) -> Result<Vec<Update>, Vec<String>> {
    let updates: Option<Vec<Update>> = text.lines().map(update).collect();
    let updates = updates.ok_or_else(|| vec!["git's updates are not understood".to_owned()])?;
    if updates.len() > MOST_UPDATES {
        let line = format!("a push moves at most {MOST_UPDATES} references: push fewer at once");
        return Err(vec![line]);
    }
    let known = ["refs/heads/", "refs/tags/"];
    let other = updates
        .iter()
        .find(|it| !known.iter().any(|start| it.reference.starts_with(start)));
    match other {
        Some(other) => Err(vec![format!(
            "{} is neither a branch nor a tag, and nothing else is stored",
            other.reference
        )]),
        None => Ok(updates),
    }
}

/// `OLD NEW REFERENCE`.
fn update(line: &str) -> Option<Update> {
    let mut words = line.splitn(3, ' ');
    let mut oid = || Oid::or_none(words.next()?).ok();
    let (old, new) = (oid()?, oid()?);
    Some(Update {
        reference: words.next()?.to_owned(),
        old,
        new,
        forced: false,
    })
}

/// The other end.
struct Hook(UnixStream);

impl Hook {
    async fn told(&mut self) -> Result<Told, HookError> {
        let mut line = String::new();
        let mut from = BufReader::new((&mut self.0).take(MOST_TOLD));
        let read = timeout(HOOK_WITHIN, from.read_line(&mut line)).await;
        read.map_err(|_| HookError::TooLate)??;
        serde_json::from_str(&line).map_err(|_| HookError::Malformed("no JSON"))
    }

    async fn say(&mut self, answer: &Answer) -> Result<(), HookError> {
        let line = answer.line();
        let written = timeout(HOOK_WITHIN, self.0.write_all(line.as_bytes())).await;
        written.map_err(|_| HookError::TooLate)?.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_of_a_push_is_read() {
        let (zero, one) = ("0".repeat(40), "1".repeat(40));
        let text = format!("{zero} {one} refs/heads/a b\n{one} {zero} refs/tags/v1\n");
        let updates = updates(&text).expect("sound");
        assert_eq!(updates[0].branch(), Some("a b"));
        assert_eq!((&updates[0].old, &updates[1].new), (&None, &None));
        assert_eq!(updates[1].branch(), None);
    }

    #[test]
    fn only_branches_and_tags_are_stored() {
        let (zero, one) = ("0".repeat(40), "1".repeat(40));
        let refused = |text: &str| updates(text).expect_err("refused").join(" ");
        let other = format!("{zero} {one} refs/pull/1/head");
        assert!(refused(&other).starts_with("refs/pull/1/head is neither"));
        let many = format!("{zero} {one} refs/heads/a\n").repeat(MOST_UPDATES + 1);
        assert!(refused(&many).starts_with("a push moves at most"));
        for broken in ["x", &format!("{zero} {one}"), "\n"] {
            assert!(refused(broken).contains("not understood"), "{broken}");
        }
    }
}
