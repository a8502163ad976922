//! GitHub's numbers of owners and repositories, without which GitHub itself refuses a lock file.

use havre_api::{WebRequest, web};
use havre_workflow::lock::Lock;
use serde::Deserialize;

use crate::context::Context;

/// The server that has such numbers, and where it is asked for them.
const SERVER: &str = "https://github.com";
const API: &str = "https://api.github.com/repos";
/// A token of GitHub, for more questions an hour.
const TOKEN: &str = "GITHUB_TOKEN";

#[derive(Deserialize)]
struct Repository {
    id: u64,
    owner: Owner,
}

#[derive(Deserialize)]
struct Owner {
    id: u64,
}

/// Completes entries by what the file before said, or GitHub says now.
pub async fn complete(context: &Context, server: &str, before: &Lock, next: &mut Lock) {
    let mut known: Vec<(String, u64, u64)> = Vec::new();
    for (key, locked) in &before.dependencies {
        if let (Some(owner), Some(repository)) = (locked.owner, locked.repository) {
            known.push((place(key).to_owned(), owner, repository));
        }
    }
    let mut unknown = Vec::new();
    for (key, locked) in &mut next.dependencies {
        if locked.owner.is_some() && locked.repository.is_some() {
            continue;
        }
        let place = place(key).to_owned();
        let mut found = known.iter().find(|(other, ..)| *other == place).cloned();
        let is_asked = server.trim_end_matches('/') == SERVER && !unknown.contains(&place);
        if found.is_none() && is_asked {
            match ask(&place).await {
                Ok((owner, repository)) => {
                    known.push((place.clone(), owner, repository));
                    found = known.last().cloned();
                }
                Err(why) => {
                    let text = format!("GitHub's numbers of {place} cannot be had: {why}");
                    let hint = "the file holds here; GitHub refuses it without them: run it again, with GITHUB_TOKEN set";
                    context.ui.warn(&text, Some(hint));
                    unknown.push(place);
                }
            }
        }
        if let Some((_, owner, repository)) = found {
            (locked.owner, locked.repository) = (Some(owner), Some(repository));
        }
    }
}

fn place(key: &str) -> &str {
    key.split('@').next().unwrap_or_default()
}

async fn ask(place: &str) -> Result<(u64, u64), String> {
    let url = format!("{API}/{place}");
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let request = WebRequest {
        url: &url,
        plain: false,
        form: None,
        bearer: token.as_deref(),
        ca_file: None,
    };
    let (status, body) = web(&request)
        .await
        .map_err(|error| havre_base::one_line(&error))?;
    match status.is_success() {
        true => numbers(&body).ok_or_else(|| "the answer is none".to_owned()),
        false => Err(format!("it answers {status}")),
    }
}

fn numbers(body: &[u8]) -> Option<(u64, u64)> {
    let found: Repository = serde_json::from_slice(body).ok()?;
    (found.id > 0 && found.owner.id > 0).then_some((found.owner.id, found.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_an_answer() {
        let body = br#"{"id": 197814629, "name": "checkout", "owner": {"login": "actions", "id": 44036562}}"#;
        assert_eq!(numbers(body), Some((44_036_562, 197_814_629)));
        assert_eq!(numbers(br#"{"id": 0, "owner": {"id": 1}}"#), None);
        assert_eq!(numbers(b"{}"), None);
    }
}
