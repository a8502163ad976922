//! Where a project's files come from, as the runner of a workflow's job says: GitHub's, or one of Havre.

use havre_api::Origin;

/// What this job runs; `None`: it is none.
pub fn of_job() -> Option<Origin> {
    of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Origin> {
    variable("GITHUB_ACTIONS").filter(|value| value == "true")?;
    let server = variable("GITHUB_SERVER_URL");
    let repository = variable("GITHUB_REPOSITORY");
    let run = variable("GITHUB_RUN_ID");
    let attempt = variable("GITHUB_RUN_ATTEMPT").filter(|attempt| attempt != "1");
    Some(Origin {
        commit: variable("GITHUB_SHA"),
        repository: match (server, repository) {
            (Some(server), Some(name)) => Some(format!("{server}/{name}")),
            (_, name) => name,
        },
        reference: variable("GITHUB_REF"),
        run: match (run, attempt) {
            (Some(run), Some(attempt)) => Some(format!("{run}, attempt {attempt}")),
            (run, _) => run,
        },
        actor: variable("GITHUB_ACTOR"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_what_it_runs() {
        let said = |pairs: &[(&str, &str)]| {
            let pairs = pairs.to_vec();
            of(move |name| {
                let found = pairs.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let all = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "a/shop"),
            ("GITHUB_SHA", "c0ffee"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_RUN_ID", "41"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_ACTOR", "ben"),
        ];
        let origin = said(&all).expect("an origin");
        assert_eq!(
            origin.repository.as_deref(),
            Some("https://github.com/a/shop")
        );
        assert_eq!(origin.run.as_deref(), Some("41, attempt 2"));
        assert_eq!(said(&all[1..]), None);
        assert_eq!(said(&all[..1]), Some(Origin::default()));
    }
}
