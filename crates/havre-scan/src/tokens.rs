//! Tokens that say by their prefix whose they are.

use crate::{Match, checksum, clipped, random};

/// Characters of a token's body.
#[derive(Clone, Copy)]
enum Body {
    /// Letters and digits.
    Alphanumeric,
    /// And `-` and `_`.
    Url,
    /// Capital letters and the digits 2 to 7.
    Base32,
    /// Lower-case hex digits.
    Hex,
    /// And `.`, `-`, `_`.
    Dotted,
}

struct Form {
    rule: &'static str,
    what: &'static str,
    prefix: &'static str,
    body: Body,
    least: usize,
    most: usize,
    /// The body ends with its CRC-32.
    is_checked: bool,
}

const fn form(
    rule: &'static str,
    what: &'static str,
    prefix: &'static str,
    body: Body,
    lengths: (usize, usize),
) -> Form {
    Form {
        rule,
        what,
        prefix,
        body,
        least: lengths.0,
        most: lengths.1,
        is_checked: false,
    }
}

const fn checked(
    rule: &'static str,
    what: &'static str,
    prefix: &'static str,
    length: usize,
) -> Form {
    Form {
        is_checked: true,
        ..form(rule, what, prefix, Body::Alphanumeric, (length, length))
    }
}

const GITHUB: (&str, &str) = ("github-token", "a token of GitHub");
const FORMS: &[Form] = &[
    checked("havre-token", "a token of Havre", "havre_", 49),
    checked(GITHUB.0, GITHUB.1, "ghp_", 36),
    checked(GITHUB.0, GITHUB.1, "gho_", 36),
    checked(GITHUB.0, GITHUB.1, "ghu_", 36),
    checked(GITHUB.0, GITHUB.1, "ghs_", 36),
    checked(GITHUB.0, GITHUB.1, "ghr_", 36),
    form(GITHUB.0, GITHUB.1, "github_pat_", Body::Url, (82, 82)),
    checked("npm-token", "a token of npm", "npm_", 36),
    form(
        "gitlab-token",
        "a token of GitLab",
        "glpat-",
        Body::Dotted,
        (20, 60),
    ),
    form(
        "aws-key",
        "an access key of AWS",
        "AKIA",
        Body::Base32,
        (16, 16),
    ),
    form(
        "aws-key",
        "a temporary access key of AWS",
        "ASIA",
        Body::Base32,
        (16, 16),
    ),
    form(
        "google-key",
        "an API key of Google",
        "AIza",
        Body::Url,
        (35, 35),
    ),
    form(
        "google-secret",
        "an OAuth secret of Google",
        "GOCSPX-",
        Body::Url,
        (28, 28),
    ),
    form(
        "slack-token",
        "a token of Slack",
        "xoxb-",
        Body::Url,
        (40, 80),
    ),
    form(
        "slack-token",
        "a token of Slack",
        "xoxp-",
        Body::Url,
        (40, 90),
    ),
    form(
        "stripe-key",
        "a live key of Stripe",
        "sk_live_",
        Body::Alphanumeric,
        (24, 120),
    ),
    form(
        "stripe-key",
        "a live key of Stripe",
        "rk_live_",
        Body::Alphanumeric,
        (24, 120),
    ),
    form(
        "pypi-token",
        "a token of PyPI",
        "pypi-AgEIcHlwaS5vcmc",
        Body::Url,
        (50, 300),
    ),
    form(
        "sendgrid-key",
        "a key of SendGrid",
        "SG.",
        Body::Dotted,
        (66, 66),
    ),
    form(
        "anthropic-key",
        "a key of Anthropic",
        "sk-ant-api03-",
        Body::Url,
        (80, 110),
    ),
    form(
        "openai-key",
        "a key of OpenAI",
        "sk-proj-",
        Body::Url,
        (60, 200),
    ),
    form(
        "dockerhub-token",
        "a token of Docker Hub",
        "dckr_pat_",
        Body::Url,
        (27, 27),
    ),
    form(
        "digitalocean-token",
        "a token of DigitalOcean",
        "dop_v1_",
        Body::Hex,
        (64, 64),
    ),
    form(
        "vault-token",
        "a token of Vault",
        "hvs.",
        Body::Url,
        (24, 140),
    ),
];

pub(crate) fn find<'a>(line: &'a str, matches: &mut Vec<Match<'a>>) {
    for form in FORMS {
        for (start, _) in line.match_indices(form.prefix) {
            // Within a word it is something else.
            let before = line[..start].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                continue;
            }
            // Not to its end, which may be far: prefixes may stand within it.
            let rest = clipped(&line[start + form.prefix.len()..], form.most + 1);
            let end = rest.find(|c| !belongs(form.body, c)).unwrap_or(rest.len());
            let body = &rest[..end];
            if !(form.least..=form.most).contains(&body.len()) {
                continue;
            }
            let is_real = match form.is_checked {
                true => checksum::holds(body),
                false => !random::is_placeholder(body) && random::entropy(body) >= 3.0,
            };
            if is_real {
                matches.push(Match {
                    rule: form.rule,
                    what: form.what,
                    start,
                    secret: &line[start..start + form.prefix.len() + end],
                    name: None,
                });
            }
        }
    }
}

fn belongs(body: Body, c: char) -> bool {
    match body {
        Body::Alphanumeric => c.is_ascii_alphanumeric(),
        Body::Url => c.is_ascii_alphanumeric() || c == '-' || c == '_',
        Body::Base32 => c.is_ascii_uppercase() || ('2'..='7').contains(&c),
        Body::Hex => c.is_ascii_digit() || ('a'..='f').contains(&c),
        Body::Dotted => c.is_ascii_alphanumeric() || ".-_".contains(c),
    }
}
