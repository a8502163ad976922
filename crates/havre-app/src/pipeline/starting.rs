//! What pushes and pull requests have in common where they start runs.

use havre_base::one_line;
use havre_git::{Lines, Oid, Push};
use havre_runs::{Begun as Run, Filter, Listed, Outcome};

use super::Begun;

/// Paths of a push that filters are asked about; of more nobody knows.
pub(super) const MOST_CHANGED: usize = 3000;

/// Runs of a commit that are looked through for those of its push.
const MOST_KNOWN: u32 = 100;

/// Tells what runs for a place, and of what does not, if that is `news`.
pub(super) fn tell_of(outcome: Outcome, place: &str, news: bool, tell: &Lines) -> Vec<Run> {
    for run in &outcome.begun {
        tell.say(&format!(
            "{} #{} runs for {place}; Ctrl-C leaves it running",
            run.workflow, run.number
        ));
    }
    for not in outcome.not_started {
        if news || not.wrong {
            tell.say(&format!("{} does not run: {}", not.path, not.why));
        }
    }
    outcome.begun
}

/// Whether runs of this event have begun already for a reference: what somebody started by hand does not count.
pub(super) fn is_known(
    begun: &Begun,
    push: &Push,
    event: &str,
    reference: &str,
    commit: &Oid,
) -> Result<bool, String> {
    let filter = Filter {
        reference: Some(reference.to_owned()),
        commit: Some(commit.to_string()),
        ..Filter::default()
    };
    let listed = begun
        .runs
        .list(push.project.as_str(), &filter, None, MOST_KNOWN);
    let listed = listed.map_err(|error| one_line(&error))?;
    let is_of_push = |run: &Listed| run.event == event && run.actor == push.principal;
    Ok(listed.iter().any(is_of_push))
}
