//! What a push leads to: its workflow files are checked, and it is stored.

use havre_git::{Lines, Objects, Push, Receiver};
use havre_release::Answer;

use super::checks;
use super::porter::moved;

/// Refuses what could not be run.
pub(super) struct Pushed;

impl Receiver for Pushed {
    fn check<'a>(
        &'a self,
        push: &'a Push,
        objects: &'a Objects,
    ) -> Answer<'a, Result<(), Vec<String>>> {
        Box::pin(async move {
            let branches = push.updates.iter().filter(|it| it.branch().is_some());
            let mut commits: Vec<_> = branches.filter_map(|it| it.new.as_ref()).collect();
            commits.sort();
            commits.dedup();
            for commit in commits {
                let lines = checks::wrong(objects, commit).await;
                if !lines.is_empty() {
                    return Err(lines);
                }
            }
            Ok(())
        })
    }

    fn received<'a>(&'a self, push: &'a Push, tell: Lines) -> Answer<'a, ()> {
        Box::pin(async move {
            let moved: Vec<String> = push.updates.iter().map(moved).collect();
            tell.say(&format!("{} is stored: {}", push.project, moved.join(", ")));
        })
    }
}
