//! What an authority says when it does not do what it is asked, and whom it is about. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most of what is kept of one text: an authority may answer with a page.
const MAX_TEXT: usize = 2000;
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// The authority's own words (RFC 7807), or ours where none came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:ietf:params:acme:error:…`; `None`: it is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// In words.
    pub detail: String,
    /// Status of the answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Seconds after which the authority wants to be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// Where an order came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its directory was looked up.
    Directory,
    /// The account was opened or made.
    Account,
    /// The order was placed.
    Order,
    /// The proof was made ready here: the edge, or the DNS hook.
    Proof,
    /// The authority looked for the proof.
    Validation,
    /// The certificate was signed and fetched.
    Issue,
    /// It was put on record here.
    Keep,
}

/// Whom a failure is about: that decides who waits, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The name: no authority will find its proof.
    Name,
    /// This authority will not sign for this name, for now.
    Pair,
    /// The authority, or our account there: no name will get anything.
    Authority,
}

impl Stage {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Account => "account",
            Self::Order => "order",
            Self::Proof => "proof",
            Self::Validation => "validation",
            Self::Issue => "issue",
            Self::Keep => "keep",
        }
    }
}

impl Problem {
    /// Of our own.
    pub fn own(detail: impl Into<String>) -> Self {
        Self {
            detail: bounded(detail.into()),
            ..Self::default()
        }
    }

    /// Of an authority.
    pub fn of_authority(kind: Option<String>, detail: String, status: Option<u16>) -> Self {
        Self {
            kind: kind.map(bounded),
            detail: bounded(detail),
            status,
            retry_after: None,
        }
    }

    /// The same, and what a person should know beside.
    pub fn with(mut self, more: &str) -> Self {
        self.detail = bounded(format!("{}; {more}", self.detail));
        self
    }

    /// Whether it is of this kind of RFC 8555.
    pub fn is(&self, kind: &str) -> bool {
        let own = self.kind.as_deref().and_then(|it| it.strip_prefix(PREFIX));
        own == Some(kind)
    }

    /// Addresses of pages in its words: of a limit, or where a pause can be ended.
    pub fn links(&self) -> Vec<String> {
        let words = self.detail.split_whitespace();
        let trimmed = words.map(|word| word.trim_matches(|c: char| "()<>[]\"'".contains(c)));
        let links = trimmed.filter_map(|word| {
            let begin = word.find("https://")?;
            Some(word[begin..].trim_end_matches(['.', ',', ';', ':', ')', '>', '"', '\'']))
        });
        links.map(ToOwned::to_owned).collect()
    }

    /// Whether the authority asks for nothing but patience.
    pub fn is_limit(&self) -> bool {
        self.is("rateLimited") || self.status == Some(429)
    }

    /// Whether the authority has paused the name until somebody ends the pause on its page.
    pub fn is_pause(&self) -> bool {
        self.is("rateLimited") && self.links().iter().any(|link| link.contains("unpause"))
    }

    /// When to ask again, as the authority says.
    pub fn patience(&self) -> Option<Duration> {
        self.retry_after.map(Duration::from_secs)
    }

    /// Whom it is about, after it was met at a stage.
    pub fn blame(&self, stage: Stage) -> Blame {
        if self.is_limit() {
            // The one limit of an account as a whole.
            let of_account = self.detail.contains("too many new orders");
            return match of_account {
                true => Blame::Authority,
                false => Blame::Pair,
            };
        }
        if self.status.is_some_and(|status| status >= 500)
            || ["serverInternal", "badNonce", "accountDoesNotExist"]
                .iter()
                .any(|kind| self.is(kind))
        {
            return Blame::Authority;
        }
        match stage {
            Stage::Directory | Stage::Account => Blame::Authority,
            Stage::Order | Stage::Issue => match self.kind {
                Some(_) => Blame::Pair,
                // The connection broke.
                None => Blame::Authority,
            },
            // Ours to mend: the authority has done its part.
            Stage::Proof | Stage::Keep => Blame::Name,
            Stage::Validation => match self.is("caa") || self.is("rejectedIdentifier") {
                true => Blame::Pair,
                false => Blame::Name,
            },
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        match &self.kind {
            Some(kind) => write!(f, " ({})", kind.strip_prefix(PREFIX).unwrap_or(kind)),
            None => Ok(()),
        }
    }
}

/// One line, of bounded length.
fn bounded(text: String) -> String {
    let mut text = text.replace(|c: char| c.is_control(), " ");
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        Problem::of_authority(Some(format!("{PREFIX}{kind}")), detail.into(), Some(400))
    }

    #[test]
    fn whom_it_is_about_decides_who_waits() {
        use Blame::{Authority, Name, Pair};
        use Stage::{Account, Directory, Issue, Keep, Order, Proof, Validation};
        for (problem, stage, expected) in [
            (Problem::own("connection refused"), Directory, Authority),
            (problem("externalAccountRequired", ""), Account, Authority),
            (problem("rejectedIdentifier", ""), Order, Pair),
            (Problem::own("broken pipe"), Order, Authority),
            (problem("dns", "NXDOMAIN"), Validation, Name),
            (problem("caa", ""), Validation, Pair),
            (problem("badNonce", ""), Order, Authority),
            (problem("rateLimited", "too many certificates"), Order, Pair),
            (
                problem("rateLimited", "too many new orders recently"),
                Order,
                Authority,
            ),
            (problem("serverInternal", ""), Validation, Authority),
            (Problem::own("the hook failed"), Proof, Name),
            (problem("badCSR", ""), Issue, Pair),
            (Problem::own("the disk is full"), Keep, Name),
        ] {
            assert_eq!(problem.blame(stage), expected, "{problem} {stage:?}");
        }
    }

    #[test]
    fn links_of_limits_and_pauses_are_found() {
        let pause = problem(
            "rateLimited",
            "Your account is temporarily prevented from requesting certificates for a.dev. Please visit: \
             https://portal.letsencrypt.org/sfe/v1/unpause?jwt=ey.J.x",
        );
        assert!(pause.is_pause());
        assert_eq!(
            pause.links(),
            ["https://portal.letsencrypt.org/sfe/v1/unpause?jwt=ey.J.x"]
        );
        let limit = problem(
            "rateLimited",
            "too many certificates (5) already issued (see <https://letsencrypt.org/docs/rate-limits/#x>).",
        );
        assert!(limit.is_limit() && !limit.is_pause());
        assert_eq!(
            limit.links(),
            ["https://letsencrypt.org/docs/rate-limits/#x"]
        );
    }
}
