//! Mirrors: what another server has is fetched and becomes a push of nobody's; what is here is pushed to another.
//!
//! ```text
//! ls-remote ─► nothing new: done
//!     └─► fetch into refs/mirror/* ─► what differs, checked ─► journal ─► references move ─► Receiver::received
//! ```
//!
//! What is fetched is in references that nobody is shown until it is taken over; a daemon that dies in between finds it
//! there the next time, or the push in the journal.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use havre_base::{blocking, one_line};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::process::{Call, GitError, Printed};
use crate::push::{Lines, Push, Update};
use crate::remote::Remote;
use crate::server::Git;
use crate::{CreateError, Name, ObjectError, Oid, pushes, size};

/// Where what was fetched is until it is taken over.
pub(crate) const HIDDEN: &str = "refs/mirror/";
/// Longest question for references, and longest fetch or push.
const ASKING: Duration = Duration::from_secs(60);
const MOVING: Duration = Duration::from_secs(1800);
const WITHIN: Duration = Duration::from_secs(60);
/// References of the other side, and what it may say of them.
const MOST_REFERENCES: usize = 5000;
const MOST_LISTED: usize = 4 << 20;
/// Updates of one push, and lines that are kept of what came of it.
const MOST_UPDATES: usize = 100;
const MOST_LINES: usize = 50;
/// How long it may take until all runs of a push have begun.
const BEGINNING: Duration = Duration::from_secs(300);

/// For who talks to other servers: no redirection, no password of the machine's, no waiting without end.
const SETTINGS: [&str; 8] = [
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "fetch.unpackLimit=1",
    "gc.auto=0",
];

/// What came of asking the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// What moved here.
    pub updates: Vec<Update>,
    /// What was said of it: runs that began, and those that did not.
    pub said: Vec<String>,
    /// Commits that a check would have refused, with what is wrong.
    pub wrong: Vec<(Oid, Vec<String>)>,
}

/// Why a mirror is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Git did not do it.
    #[error("{0}")]
    Git(String),
    /// The other side has more than is taken.
    #[error("it has more than {MOST_REFERENCES} branches and tags")]
    TooMany,
    /// The other side has nothing, and here is something.
    #[error("it has no branches any more; nothing is removed here")]
    Empty,
    /// There is nothing that could be pushed.
    #[error("there is nothing to push yet")]
    Nothing,
    /// No room.
    #[error("{0}")]
    Room(String),
    /// The repository cannot be made.
    #[error("{}", one_line(.0))]
    Create(#[from] CreateError),
    /// It cannot be read.
    #[error("{}", one_line(.0))]
    Objects(#[from] ObjectError),
    /// It cannot be written down.
    #[error("cannot write down what is to move: {0}")]
    Journal(#[from] io::Error),
    /// The daemon ends.
    #[error("it was broken off, as the daemon ends")]
    Ended,
}

impl From<GitError> for MirrorError {
    fn from(error: GitError) -> Self {
        Self::Git(one_line(&error))
    }
}

type References = BTreeMap<String, Oid>;

/// What the other side says that it has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    /// The branch that a clone checks out.
    head: Option<String>,
    all: References,
}

impl Git {
    /// Brings a repository to what `remote` has: all branches and tags, with forced moves and deletions. Each move is
    /// a push of `principal`'s to whoever receives pushes; of a repository that was empty only that of its default
    /// branch. What a check has against a commit is told, and stops nothing.
    pub async fn mirror_from(
        &self,
        project: &Name,
        remote: &Remote,
        principal: &str,
        end: &CancellationToken,
    ) -> Result<Mirrored, MirrorError> {
        let repositories = self.repositories();
        self.has_room(project).await?;
        repositories.create(project).await?;
        let _held = repositories.hold(project);
        let asked = ["--symref", "--end-of-options", remote.url()];
        let asked = asked
            .into_iter()
            .chain(["HEAD", "refs/heads/*", "refs/tags/*"]);
        let printed = self
            .talk(project, "ls-remote", asked.collect(), remote, ASKING, end)
            .await?;
        let listed = listed(&String::from_utf8_lossy(&printed.out))?;
        let here = self.shown(project).await?;
        if listed.all.is_empty() && !here.is_empty() {
            return Err(MirrorError::Empty);
        }
        if listed.all == here {
            self.check_out(project, listed.head.as_deref()).await?;
            return Ok(Mirrored::default());
        }
        self.fetch(project, remote, end).await?;
        self.take_over(project, listed.head.as_deref(), &here, principal)
            .await
    }

    /// Brings `remote` to what is here: all branches and tags; what is not here is removed there. Whether there was
    /// anything to do.
    pub async fn mirror_to(
        &self,
        project: &Name,
        remote: &Remote,
        end: &CancellationToken,
    ) -> Result<(), MirrorError> {
        let here = self.shown(project).await?;
        if !here.keys().any(|name| name.starts_with("refs/heads/")) {
            return Err(MirrorError::Nothing);
        }
        let args = ["--porcelain", "--force", "--prune", "--end-of-options"];
        let args = args.into_iter().chain([
            remote.url(),
            "refs/heads/*:refs/heads/*",
            "refs/tags/*:refs/tags/*",
        ]);
        let args = args.collect();
        self.talk(project, "push", args, remote, MOVING, end)
            .await?;
        Ok(())
    }

    /// What tells one state of a repository's branches and tags from another; `None`: it has no branch.
    pub async fn fingerprint(&self, project: &Name) -> Result<Option<String>, ObjectError> {
        if !self.repositories().exists(project) {
            return Ok(None);
        }
        let all = self.shown(project).await?;
        let has_branch = all.keys().any(|name| name.starts_with("refs/heads/"));
        let lines: Vec<String> = all
            .iter()
            .map(|(name, oid)| format!("{oid} {name}"))
            .collect();
        Ok(has_branch.then(|| lines.join("\n")))
    }

    /// Branches and tags.
    async fn shown(&self, project: &Name) -> Result<References, ObjectError> {
        let all = self.repositories().objects(project).references().await?;
        Ok(all.into_iter().filter(|(name, _)| is_shown(name)).collect())
    }

    async fn has_room(&self, project: &Name) -> Result<(), MirrorError> {
        let settings = &self.0.settings;
        let free = size::free(self.repositories().folder())?;
        if free < settings.least_free {
            let (free, least) = (free >> 20, settings.least_free >> 20);
            let what = format!(
                "the disk of this machine is full: {free} MiB are left, {least} MiB are needed"
            );
            return Err(MirrorError::Room(what));
        }
        if !self.repositories().exists(project) {
            return Ok(());
        }
        let size = self.repositories().size(project).await?;
        match size >= settings.most_repository {
            true => Err(MirrorError::Room(format!(
                "the repository {project} takes {} MiB, and {} MiB are the most it may",
                size >> 20,
                settings.most_repository >> 20
            ))),
            false => Ok(()),
        }
    }

    async fn fetch(
        &self,
        project: &Name,
        remote: &Remote,
        end: &CancellationToken,
    ) -> Result<(), MirrorError> {
        let args = [
            "--quiet",
            "--no-tags",
            "--prune",
            "--force",
            "--no-write-fetch-head",
            "--end-of-options",
            remote.url(),
            "+refs/heads/*:refs/mirror/heads/*",
            "+refs/tags/*:refs/mirror/tags/*",
        ];
        let fetched = self
            .talk(project, "fetch", args.to_vec(), remote, MOVING, end)
            .await;
        if fetched.is_err() {
            let objects = self.repositories().path(project).join("objects/pack");
            if let Ok(Err(error)) = blocking(move || remove_parts(&objects)).await {
                tracing::warn!(%project, %error, "what a broken fetch left stays");
            }
        }
        fetched.map(drop)
    }

    /// Runs a git that speaks with another server.
    async fn talk(
        &self,
        project: &Name,
        what: &'static str,
        args: Vec<&str>,
        remote: &Remote,
        within: Duration,
        end: &CancellationToken,
    ) -> Result<Printed, MirrorError> {
        let call = Call {
            settings: SETTINGS.map(str::to_owned).to_vec(),
            args,
            environment: remote.environment(),
            most: MOST_LISTED,
            within,
            most_file: Some(self.0.settings.most_push),
            ..Call::default()
        };
        let path = self.repositories().path(project);
        let running = self.0.processes.run(path, what, call);
        let printed = tokio::select! {
            printed = running => printed?,
            // Whoever is dropped is killed.
            () = end.cancelled() => return Err(MirrorError::Ended),
        };
        match printed.code {
            Some(0) => Ok(printed),
            _ => Err(MirrorError::Git(why(&printed, self.0.settings.most_push))),
        }
    }

    async fn take_over(
        &self,
        project: &Name,
        head: Option<&str>,
        here: &References,
        principal: &str,
    ) -> Result<Mirrored, MirrorError> {
        let objects = self.repositories().objects(project);
        let there = objects.references().await?.into_iter();
        let there: References = there
            .filter_map(|(name, oid)| Some((shown(&name)?, oid)))
            .collect();
        let mut updates = differing(here, &there);
        for update in &mut updates {
            if let (Some(old), Some(new), Some(_)) = (&update.old, &update.new, update.branch()) {
                update.forced = !objects.is_ancestor(old, new).await?;
            }
        }
        let mut mirrored = Mirrored {
            updates: updates.clone(),
            ..Mirrored::default()
        };
        let is_first = here.is_empty();
        let default = head.map(|head| format!("refs/heads/{head}"));
        // What was there before anybody asked is no news.
        let (told, silent): (Vec<_>, Vec<_>) = updates
            .into_iter()
            .partition(|update| !is_first || Some(&update.reference) == default.as_ref());
        self.move_references(project, &silent).await?;
        // Before runs ask for it.
        if is_first {
            self.move_references(project, &told).await?;
            self.check_out(project, head).await?;
        }
        for updates in told.chunks(MOST_UPDATES) {
            let push = Push {
                id: pushes::random()?,
                project: project.clone(),
                principal: principal.to_owned(),
                updates: updates.to_vec(),
                options: Vec::new(),
                of_job: false,
                mirrored: true,
            };
            self.pass_on(push, &objects, &mut mirrored).await?;
        }
        self.check_out(project, head).await?;
        Ok(mirrored)
    }

    /// As a push: checked, written down, moved and received.
    async fn pass_on(
        &self,
        push: Push,
        objects: &crate::Objects,
        mirrored: &mut Mirrored,
    ) -> Result<(), MirrorError> {
        let hooks = &self.0.hooks;
        for update in &push.updates {
            let (Some(new), Some(_)) = (&update.new, update.branch()) else {
                continue;
            };
            if mirrored.wrong.iter().any(|(commit, _)| commit == new) {
                continue;
            }
            let alone = Push {
                updates: vec![update.clone()],
                ..push.clone()
            };
            let checked = timeout(hooks.check, hooks.receiver.check(&alone, objects)).await;
            let wrong = match checked {
                Ok(Ok(())) => continue,
                Ok(Err(lines)) => lines,
                Err(_) => vec!["it could not be checked in time".to_owned()],
            };
            mirrored.wrong.push((new.clone(), wrong));
        }
        havre_base::in_place(|| hooks.journal.write(&push))?;
        let moved = self.move_references(&push.project, &push.updates).await;
        if let Err(error) = moved {
            // Some may have moved.
            hooks.settle(push).await;
            return Err(error);
        }
        let (tell, mut lines) = Lines::new();
        hooks.receive(push, tell);
        let listening = async {
            while let Some(line) = lines.recv().await {
                if mirrored.said.len() < MOST_LINES {
                    mirrored.said.push(line);
                }
            }
        };
        if timeout(BEGINNING, listening).await.is_err() {
            tracing::warn!("what a mirror's push leads to is not waited for any longer");
        }
        Ok(())
    }

    /// Deletions first: a branch `a` may give way to one `a/b`. What has moved already stays as it is.
    async fn move_references(&self, project: &Name, updates: &[Update]) -> Result<(), MirrorError> {
        let (gone, come): (Vec<_>, Vec<_>) = updates.iter().partition(|it| it.new.is_none());
        for updates in [gone, come] {
            let lines = updates.iter().map(|it| match &it.new {
                Some(new) => format!("update {} {new}\n", it.reference),
                None => format!("delete {}\n", it.reference),
            });
            let input: String = lines.collect();
            if input.is_empty() {
                continue;
            }
            let call = Call {
                args: vec!["--no-deref", "--stdin"],
                input: input.into_bytes(),
                most: 4096,
                within: WITHIN,
                ..Call::default()
            };
            let path = self.repositories().path(project);
            let ran = self.0.processes.run(path, "update-ref", call).await?;
            ran.ok("update-ref")?;
        }
        Ok(())
    }

    /// A clone checks out what one of the other side does.
    async fn check_out(&self, project: &Name, head: Option<&str>) -> Result<(), ObjectError> {
        let objects = self.repositories().objects(project);
        match head {
            Some(head) if objects.default_branch().await? != head => {
                let is_here = objects.resolve(&format!("refs/heads/{head}")).await?;
                match is_here {
                    Some(_) => objects.check_out(head).await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn is_shown(name: &str) -> bool {
    ["refs/heads/", "refs/tags/"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// What a hidden reference stands for.
fn shown(name: &str) -> Option<String> {
    let name = format!("refs/{}", name.strip_prefix(HIDDEN)?);
    is_shown(&name).then_some(name)
}

/// What `git ls-remote --symref` prints.
fn listed(text: &str) -> Result<Listed, MirrorError> {
    let mut listed = Listed::default();
    for line in text.lines() {
        let Some((what, name)) = line.split_once('\t') else {
            continue;
        };
        if name == "HEAD" {
            let branch = what.strip_prefix("ref: refs/heads/");
            listed.head = branch.map(str::to_owned).or(listed.head);
            continue;
        }
        // `^{}` is what a tag leads to.
        if !is_shown(name) || name.ends_with("^{}") {
            continue;
        }
        let oid = what.parse();
        let oid =
            oid.map_err(|_| MirrorError::Git("its references are not understood".to_owned()))?;
        listed.all.insert(name.to_owned(), oid);
        if listed.all.len() > MOST_REFERENCES {
            return Err(MirrorError::TooMany);
        }
    }
    Ok(listed)
}

/// What makes `here` what is `there`.
fn differing(here: &References, there: &References) -> Vec<Update> {
    let update = |reference: &String, old: Option<&Oid>, new: Option<&Oid>| Update {
        reference: reference.clone(),
        old: old.cloned(),
        new: new.cloned(),
        forced: false,
    };
    let gone = here.iter().filter(|(name, _)| !there.contains_key(*name));
    let gone = gone.map(|(name, old)| update(name, Some(old), None));
    let come = there
        .iter()
        .filter(|(name, new)| here.get(*name) != Some(new));
    let come = come.map(|(name, new)| update(name, here.get(name), Some(new)));
    gone.chain(come).collect()
}

/// The line that says why, of a git that talked to another server.
fn why(printed: &Printed, most: u64) -> String {
    let said = &printed.said;
    if said.contains("signal 25") || said.contains("File too large") {
        return format!("it sent more than {} MiB at once", most >> 20);
    }
    // What the other side refused, reference by reference.
    let out = String::from_utf8_lossy(&printed.out);
    if let Some(refused) = out.lines().find(|line| line.starts_with("!\t")) {
        return crate::plain(&refused[2..].replace('\t', " "));
    }
    let last = crate::process::last_line(said);
    match last.contains("returned error: 30") {
        true => format!("{last}; give the address that it leads to, no other is asked"),
        false => last,
    }
}

/// Packs that were not received to their end.
fn remove_parts(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = ["tmp_pack_", "tmp_idx_", "tmp_rev_"]
            .iter()
            .any(|it| name.starts_with(it));
        if is_part && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(digit: &str) -> Oid {
        digit.repeat(40).parse().expect("sound")
    }

    #[test]
    fn what_the_other_side_has_is_read() {
        let (a, b) = (oid("a"), oid("b"));
        let text = format!(
            "ref: refs/heads/trunk\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/trunk\n{b}\trefs/tags/v1\n\
             {a}\trefs/tags/v1^{{}}\n{b}\trefs/pull/1/head\n"
        );
        let found = listed(&text).expect("sound");
        assert_eq!(found.head.as_deref(), Some("trunk"));
        let names: Vec<_> = found.all.keys().map(String::as_str).collect();
        assert_eq!(names, ["refs/heads/trunk", "refs/tags/v1"]);
        assert!(listed("x\trefs/heads/a\n").is_err());
        let many: String = (0..=MOST_REFERENCES)
            .map(|n| format!("{a}\trefs/heads/{n}\n"))
            .collect();
        assert!(matches!(listed(&many), Err(MirrorError::TooMany)));
    }

    #[test]
    fn what_differs_moves() {
        let of = |pairs: &[(&str, &str)]| -> References {
            let pairs = pairs.iter();
            pairs
                .map(|(name, digit)| ((*name).to_owned(), oid(digit)))
                .collect()
        };
        let here = of(&[
            ("refs/heads/a", "a"),
            ("refs/heads/b", "b"),
            ("refs/heads/c", "c"),
        ]);
        let there = of(&[
            ("refs/heads/a", "a"),
            ("refs/heads/b", "d"),
            ("refs/heads/e", "e"),
        ]);
        let told: Vec<_> = differing(&here, &there)
            .into_iter()
            .map(|it| (it.reference, it.old.is_some(), it.new.is_some()))
            .collect();
        let name = |letter: &str| format!("refs/heads/{letter}");
        let expected = [
            (name("c"), true, false),
            (name("b"), true, true),
            (name("e"), false, true),
        ];
        assert_eq!(told, expected);
        assert!(differing(&there, &there).is_empty());
        assert_eq!(
            shown("refs/mirror/heads/a").as_deref(),
            Some("refs/heads/a")
        );
        assert_eq!(shown("refs/mirror/pull/1"), None);
    }

    #[test]
    fn a_refusal_of_the_other_side_is_said() {
        let printed = |out: &str, said: &str| Printed {
            code: Some(1),
            out: out.into(),
            said: said.to_owned(),
        };
        let out = "To https://x/a\n!\trefs/heads/a:refs/heads/a\t[remote rejected] (protected branch)\nDone\n";
        let told = why(&printed(out, "error: failed to push"), 1);
        assert_eq!(
            told,
            "refs/heads/a:refs/heads/a [remote rejected] (protected branch)"
        );
        let said =
            "fatal: unable to access 'https://x/a/': The requested URL returned error: 301\n";
        assert!(why(&printed("", said), 1).ends_with("no other is asked"));
        let said =
            "error: index-pack died of signal 25\nfatal: fetch-pack: invalid index-pack output\n";
        assert_eq!(
            why(&printed("", said), 2 << 30),
            "it sent more than 2048 MiB at once"
        );
    }
}
