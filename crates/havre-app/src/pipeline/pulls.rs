//! Pull requests: a branch that is pushed is one to go into the default branch, or into the one that `git push -o pr=BASE`
//! names.
//!
//! What it would become once merged runs as a stranger's: nobody has looked at it yet.

use std::sync::Arc;

use havre_base::{in_place, one_line};
use havre_git::{Lines, Merged, Objects, Oid, Push, Update};
use havre_pipeline::Event;
use havre_runs::{Begun as Run, Source, Trigger};
use havre_store::rusqlite::{OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError};
use serde_json::{Map, json};

use super::starting::{MOST_CHANGED, is_known, tell_of};
use super::{Begun, commits};

/// Its versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "pulls",
    migrations: &[include_str!("schema/pulls.sql")],
};

/// Their numbers.
#[derive(Clone)]
pub(super) struct Pulls(Arc<Store>);

/// What a push says of pull requests.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// Nothing: a branch is one into the default branch, for workflows that the push has not started.
    Usual,
    /// There is to be one, into this branch or the default one, whatever the push has started.
    Into(Option<String>),
    /// There is to be none.
    None,
}

impl Pulls {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// The number of a branch that is to go into another, and whether it is new.
    fn number(&self, project: &str, head: &str, base: &str) -> Result<(u64, bool), StoreError> {
        let (project, head, base) = (project.to_owned(), head.to_owned(), base.to_owned());
        self.0.run("number a pull request", move |db| {
            let change = db.transaction()?;
            let known: Option<u64> = change
                .query_row(
                    "SELECT number FROM pulls WHERE project = ?1 AND head = ?2 AND base = ?3 AND closed = 0",
                    params![project, head, base],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(number) = known {
                return Ok((number, false));
            }
            let number: u64 = change.query_row(
                "SELECT coalesce(max(number), 0) + 1 FROM pulls WHERE project = ?1",
                [&project],
                |row| row.get(0),
            )?;
            change.execute(
                "INSERT INTO pulls VALUES (?1, ?2, ?3, ?4, 0)",
                params![project, number, head, base],
            )?;
            change.commit()?;
            Ok((number, true))
        })
    }

    fn close(&self, project: &str, head: &str) -> Result<(), StoreError> {
        let (project, head) = (project.to_owned(), head.to_owned());
        self.0.run("close pull requests", move |db| {
            let update = "UPDATE pulls SET closed = 1 WHERE project = ?1 AND head = ?2";
            db.execute(update, params![project, head]).map(drop)
        })
    }
}

/// Refuses what cannot be meant. Pure.
pub(super) fn check(options: &[String]) -> Result<(), String> {
    asked(options).map(drop)
}

fn asked(options: &[String]) -> Result<Asked, String> {
    let mut found = Asked::Usual;
    for option in options {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        found = match (name, value) {
            ("pr", None) => Asked::Into(None),
            ("pr", Some("none")) => Asked::None,
            ("pr", Some(base)) if !base.is_empty() => {
                let base = base.strip_prefix("refs/heads/").unwrap_or(base);
                Asked::Into(Some(base.to_owned()))
            }
            ("pr", Some(_)) => {
                return Err("-o pr=BRANCH names the branch to go into, -o pr=none none".to_owned());
            }
            // Others may mean something to others.
            _ => continue,
        };
    }
    Ok(found)
}

/// Starts what an update starts as a pull request; `started` are workflows that the push itself has started.
pub(super) async fn begin(
    begun: &Begun,
    push: &Push,
    update: &Update,
    started: &[Run],
    tell: &Lines,
) -> Result<Vec<Run>, String> {
    let Some(head) = update.branch() else {
        return Ok(Vec::new());
    };
    let project = push.project.as_str();
    let Some(commit) = &update.new else {
        let closed = in_place(|| begun.pulls.close(project, head));
        return closed
            .map(|()| Vec::new())
            .map_err(|error| one_line(&error));
    };
    let asked = asked(&push.options)?;
    let objects = begun.repositories.objects(&push.project);
    let default = objects.default_branch().await;
    let default = default.map_err(|error| one_line(&error))?;
    let (base, is_asked) = match asked {
        Asked::None => return Ok(Vec::new()),
        Asked::Usual => (default, false),
        Asked::Into(base) => (base.unwrap_or(default), true),
    };
    if base == head {
        return match is_asked {
            true => Err(format!("a branch does not go into itself: {head}")),
            false => Ok(Vec::new()),
        };
    }
    let onto = objects.resolve(&format!("refs/heads/{base}")).await;
    let onto = match onto.map_err(|error| one_line(&error))? {
        Some(onto) => onto,
        None if is_asked => return Err(format!("there is no branch {base} to go into")),
        None => return Ok(Vec::new()),
    };
    let (number, is_new) =
        in_place(|| begun.pulls.number(project, head, &base)).map_err(|error| one_line(&error))?;
    let request = Request {
        number,
        is_new,
        base,
        onto,
        head: head.to_owned(),
    };
    let Some(merged) = request.merge(&objects, commit, is_asked, tell).await? else {
        return Ok(Vec::new());
    };
    let reference = format!("refs/pull/{number}/merge");
    // After a crash it comes again, and nobody listens then.
    if tell.is_alone() && is_known(begun, push, "pull_request", &reference, &merged)? {
        return Ok(Vec::new());
    }
    let trigger = request
        .trigger(&objects, push, update, commit, &merged)
        .await?;
    let paths: Vec<String> = match is_asked {
        true => Vec::new(),
        false => started.iter().map(|run| run.path.clone()).collect(),
    };
    let outcome = begun.runs.begin_but(&trigger, &paths).await;
    let outcome = outcome.map_err(|error| one_line(&error))?;
    // What has nothing for pull requests is no news.
    let news = is_asked || !outcome.begun.is_empty();
    let place = format!("pull request {number} ({head} into {})", request.base);
    Ok(tell_of(outcome, &place, news, tell))
}

/// A branch that is to go into another.
struct Request {
    number: u64,
    is_new: bool,
    base: String,
    /// What is there.
    onto: Oid,
    head: String,
}

impl Request {
    /// What it would become.
    async fn merge(
        &self,
        objects: &Objects,
        commit: &Oid,
        is_asked: bool,
        tell: &Lines,
    ) -> Result<Option<Oid>, String> {
        let Self {
            number, base, head, ..
        } = self;
        let of = format!("refs/pull/{number}/head");
        let pointed = objects.point(&of, commit).await;
        pointed.map_err(|error| one_line(&error))?;
        let message = format!("Merge {commit} into {}", self.onto);
        let reference = format!("refs/pull/{number}/merge");
        let merged = objects
            .merge(&self.onto, commit, &message, &reference)
            .await;
        match merged.map_err(|error| one_line(&error))? {
            Merged::Commit(commit) => Ok(Some(commit)),
            Merged::Nothing => {
                if is_asked {
                    tell.say(&format!("{head} is part of {base} already"));
                }
                Ok(None)
            }
            Merged::Conflict(why) => {
                tell.say(&format!(
                    "pull request {number}: {head} cannot be merged into {base}, and nothing runs for it: {why}"
                ));
                Ok(None)
            }
        }
    }

    async fn trigger(
        &self,
        objects: &Objects,
        push: &Push,
        update: &Update,
        commit: &Oid,
        merged: &Oid,
    ) -> Result<Trigger, String> {
        let of_head = commits::source(objects, &push.project, commit).await;
        let of_head = of_head.map_err(|error| error.to_string())?;
        let changed = objects
            .changed(Some(&self.onto), merged, MOST_CHANGED)
            .await;
        let repository = of_head.repository.clone();
        let title = of_head
            .message
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let side = |branch: &str, commit: &Oid| {
            json!({
                "ref": branch,
                "sha": commit.as_str(),
                "label": branch,
                "repo": {"full_name": repository, "fork": false, "default_branch": of_head.default_branch},
            })
        };
        let mut payload = Map::new();
        payload.insert("number".to_owned(), json!(self.number));
        payload.insert(
            "pull_request".to_owned(),
            json!({
                "number": self.number,
                "title": title,
                "state": "open",
                "merged": false,
                "merge_commit_sha": merged.as_str(),
                "head": side(&self.head, commit),
                "base": side(&self.base, &self.onto),
            }),
        );
        if let (false, Some(before)) = (self.is_new, &update.old) {
            payload.insert("before".to_owned(), json!(before.as_str()));
            payload.insert("after".to_owned(), json!(commit.as_str()));
        }
        let action = if self.is_new { "opened" } else { "synchronize" };
        Ok(Trigger {
            project: push.project.to_string(),
            event: Event::PullRequest {
                action: action.to_owned(),
                base: self.base.clone(),
                head: self.head.clone(),
                changed: changed.map_err(|error| one_line(&error))?,
                message: of_head.message.clone(),
            },
            source: Source {
                commit: merged.to_string(),
                ..of_head
            },
            before: Some(self.onto.to_string()),
            forced: false,
            actor: push.principal.clone(),
            payload: Some(payload),
            foreign: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_says_what_is_to_become_of_its_branch() {
        let read = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
            asked(&options)
        };
        assert_eq!(read(&[]), Ok(Asked::Usual));
        assert_eq!(read(&["ci.skip", "x=y"]), Ok(Asked::Usual));
        assert_eq!(read(&["pr"]), Ok(Asked::Into(None)));
        let into = |name: &str| Ok(Asked::Into(Some(name.to_owned())));
        assert_eq!(read(&["pr=main"]), into("main"));
        assert_eq!(read(&["pr=refs/heads/a/b"]), into("a/b"));
        assert_eq!(read(&["pr=none"]), Ok(Asked::None));
        assert!(read(&["pr="]).is_err());
    }

    #[test]
    fn a_branch_keeps_its_number_until_it_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]);
        let pulls = Pulls::new(Arc::new(store.expect("a database")));
        let number = |project: &str, head: &str, base: &str| {
            pulls.number(project, head, base).expect("numbered")
        };
        assert_eq!(number("shop", "a", "main"), (1, true));
        assert_eq!(number("shop", "a", "main"), (1, false));
        assert_eq!(number("shop", "a", "next"), (2, true));
        assert_eq!(number("other", "a", "main"), (1, true));
        pulls.close("shop", "a").expect("closed");
        assert_eq!(number("shop", "a", "main"), (3, true));
    }
}
