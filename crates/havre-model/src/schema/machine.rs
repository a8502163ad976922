//! Every key of `machine.yaml`.

mod pipeline;

use serde_json::Value;

use crate::grant::Role;

pub(crate) use pipeline::{CI, GIT};

use super::{DOMAIN, Described, Mapping, Shape, names, section};

const ANY_TEXT: Shape = Shape::Text {
    pattern: "",
    longest: 4096,
};
const URL: Shape = Shape::Text {
    pattern: "^https?://[^ ]+$",
    longest: 2048,
};
const NAME: Shape = Shape::Text {
    pattern: "^[a-z0-9][a-z0-9-]{0,39}$",
    longest: 40,
};
const COUNT: Shape = Shape::Number("^[1-9][0-9]{0,3}$");
const SIZE: Shape = Shape::Number("^[0-9]+([.][0-9]+)? ?([kKmMgGtT]?[bB]?)$");
const ROLE: Shape = Shape::Either(&[
    Shape::Word(Role::Viewer.word()),
    Shape::Word(Role::Deployer.word()),
    Shape::Word(Role::Admin.word()),
]);

/// As [`crate::grant::EnvironmentPattern`] is read.
const ENVIRONMENTS: Shape = Shape::Text {
    pattern: r"^(\*|([a-z0-9_-]{1,63}\*?|\*)/([a-z0-9_-]{1,63}\*?|\*))$",
    longest: 129,
};

const API_KEYS: [Described; 1] = [Described {
    name: "host",
    shape: DOMAIN,
    text: "The host under which this machine's API is served over HTTPS. No application can have it.",
    example: r#""havre.example.org""#,
}];

const EXTERNAL_ACCOUNT_KEYS: [Described; 2] = [
    Described {
        name: "key_file",
        shape: Shape::File,
        text: "A file with the key, as the authority shows it (base64url), for root only.",
        example: r#""./zerossl.key""#,
    },
    Described {
        name: "key_id",
        shape: ANY_TEXT,
        text: "The account's number with the authority.",
        example: r#""Xk3pQ""#,
    },
];

const AUTHORITY_KEYS: [Described; 5] = [
    Described {
        name: "ca_file",
        shape: Shape::File,
        text: "Certificates, in PEM, by which the authority's own server is known. Default: those that the machine trusts.",
        example: r#""./own-ca.pem""#,
    },
    Described {
        name: "directory",
        shape: URL,
        text: "The address of its ACME directory. Default: that of `letsencrypt`, `letsencrypt-staging` or `zerossl` \
               where it is called so.",
        example: r#""https://ca.example.org/acme/directory""#,
    },
    Described {
        name: "external_account",
        shape: Shape::Mapping(&EXTERNAL_ACCOUNT),
        text: "An account that the authority gave out by other ways (EAB); ZeroSSL wants one.",
        example: r#"{"key_id": "Xk3pQ", "key_file": "./zerossl.key"}"#,
    },
    Described {
        name: "name",
        shape: NAME,
        text: "How it is called in commands.",
        example: r#""letsencrypt""#,
    },
    Described {
        name: "profile",
        shape: Shape::Text {
            pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            longest: 64,
        },
        text: "The kind of certificate that is asked for, by the authority's own name. Default: its default.",
        example: r#""shortlived""#,
    },
];

const ACME_KEYS: [Described; 3] = [
    Described {
        name: "authorities",
        shape: Shape::List(&AUTHORITY),
        text: "Who is asked for certificates, in this order: the next where one fails. An empty list: nobody. Default: \
               Let's Encrypt.",
        example: r#"[{"name": "letsencrypt"}]"#,
    },
    Described {
        name: "dns_hook",
        shape: Shape::File,
        text: "A program that sets and removes TXT records (`set NAME VALUE`, `remove NAME VALUE`), for wildcards and \
               machines that nobody reaches from outside.",
        example: r#""./dns-hook""#,
    },
    Described {
        name: "email",
        shape: Shape::Text {
            pattern: "^[^@ ]+@[^@ ]+$",
            longest: 254,
        },
        text: "Where the authority may write to.",
        example: r#""ops@example.org""#,
    },
];

const RULE_KEYS: [Described; 3] = [
    Described {
        name: "claims",
        shape: Shape::Pairs,
        text: "What the token must say, each claim exactly; a `*` at the end of a value stands for any rest.",
        example: r#"{"repository_id": "123456", "ref": "refs/heads/main"}"#,
    },
    Described {
        name: "environments",
        shape: Shape::Many(&ENVIRONMENTS),
        text: "What the role is for: project/environment, either of which may end with a `*` for any rest, or `*` for all.",
        example: r#"["shop/production"]"#,
    },
    Described {
        name: "role",
        shape: ROLE,
        text: "What its bearer may do there.",
        example: r#""deployer""#,
    },
];

const OIDC_KEYS: [Described; 6] = [
    Described {
        name: "audience",
        shape: ANY_TEXT,
        text: "Whom tokens must be meant for. Default: https:// and the host of `api`.",
        example: r#""https://havre.example.org""#,
    },
    Described {
        name: "ca_file",
        shape: Shape::File,
        text: "Certificates, in PEM, by which the issuer's server is known. Default: those that the machine trusts.",
        example: r#""./own-ca.pem""#,
    },
    Described {
        name: "client_id",
        shape: ANY_TEXT,
        text: "What `havre login --oidc` calls itself there, for people.",
        example: r#""havre-cli""#,
    },
    Described {
        name: "issuer",
        shape: URL,
        text: "The issuer, as its tokens name it.",
        example: r#""https://token.actions.githubusercontent.com""#,
    },
    Described {
        name: "name",
        shape: NAME,
        text: "How it is called in commands and in the audit trail.",
        example: r#""github""#,
    },
    Described {
        name: "rules",
        shape: Shape::List(&RULE),
        text: "Who gets which role; the first that fits counts. Nobody else gets in.",
        example: r#"[{"claims": {"repository_id": "123456"}, "role": "deployer", "environments": ["shop/*"]}]"#,
    },
];

const ACTIONS_KEYS: [Described; 2] = [
    Described {
        name: "server",
        shape: Shape::Text {
            pattern: "^(https?|git)://[^ ]+$",
            longest: 2048,
        },
        text: "The server that actions and workflows of other repositories are fetched from by git, anonymously. Default: \
               https://github.com.",
        example: r#""https://git.example.org""#,
    },
    Described {
        name: "trust",
        shape: Shape::Many(&OWNER),
        text: "Owners of repositories there whose workflows may be given all secrets at once (`secrets: inherit`).",
        example: r#"["example-org"]"#,
    },
];

const OWNER: Shape = Shape::Text {
    pattern: "^[A-Za-z0-9._-]+$",
    longest: 100,
};

const TOP_KEYS: [Described; 8] = [
    Described {
        name: "acme",
        shape: Shape::Mapping(&ACME),
        text: "Where certificates for public names come from.",
        example: r#"{"email": "ops@example.org"}"#,
    },
    Described {
        name: "actions",
        shape: Shape::Mapping(&ACTIONS),
        text: "Actions and workflows of other repositories.",
        example: r#"{"server": "https://git.example.org"}"#,
    },
    Described {
        name: "api",
        shape: Shape::Mapping(&API),
        text: "Access from elsewhere, over HTTPS. Without it: by the socket and by ssh alone.",
        example: r#"{"host": "havre.example.org"}"#,
    },
    Described {
        name: "ci",
        shape: Shape::Mapping(&CI),
        text: "How much artifacts and caches of workflows may take, and on what their jobs run.",
        example: r#"{"artifacts": "20g"}"#,
    },
    Described {
        name: "git",
        shape: Shape::Mapping(&GIT),
        text: "How much repositories may take.",
        example: r#"{"push": "1g"}"#,
    },
    Described {
        name: "jobs",
        shape: Shape::Mapping(&JOBS),
        text: "What jobs of workflows may take of the machine.",
        example: r#"{"at_once": 8, "disk": "30gb"}"#,
    },
    Described {
        name: "notify",
        shape: Shape::File,
        text: "A program that is run when a promotion waits for somebody's agreement, and when it ends: it gets what there is \
               to tell as JSON on its standard input, and 30 s.",
        example: r#""./tell-the-team""#,
    },
    Described {
        name: "oidc",
        shape: Shape::List(&OIDC),
        text: "Issuers whose tokens are exchanged for a short-lived one of this machine.",
        example: r#"[{"name": "github", "issuer": "https://token.actions.githubusercontent.com", "rules": []}]"#,
    },
];

const JOBS_KEYS: [Described; 5] = [
    Described {
        name: "at_once",
        shape: COUNT,
        text: "Jobs of workflows that run at once, of all projects. Default: 4.",
        example: "8",
    },
    Described {
        name: "disk",
        shape: SIZE,
        text: "What one job and its services may take of the disk. Default: a tenth of it, but 10 GiB at least.",
        example: r#""30gb""#,
    },
    Described {
        name: "disk_reserve",
        shape: SIZE,
        text: "What is kept free for all that is no job: while less is, none begins, and one that grows is ended. \
               Default: a twentieth of the disk, 5 GiB at most.",
        example: r#""5gb""#,
    },
    Described {
        name: "per_project",
        shape: COUNT,
        text: "Of these, jobs of one project. Default: one less than `at_once`.",
        example: "3",
    },
    Described {
        name: "tool_cache",
        shape: SIZE,
        text: "What the tools may take that jobs of a project install and keep, as Node.js. Default: 10 GiB.",
        example: r#""20gb""#,
    },
];

/// `jobs`
pub(crate) const JOBS: Mapping = Mapping {
    section: section("machine.yaml: jobs", &names(&JOBS_KEYS)),
    keys: &JOBS_KEYS,
    required: &[],
    exclusive: &[],
};

/// The file itself.
pub(crate) const TOP: Mapping = Mapping {
    section: section("machine.yaml", &names(&TOP_KEYS)),
    keys: &TOP_KEYS,
    required: &[],
    exclusive: &[],
};
/// `acme`
pub(crate) const ACME: Mapping = Mapping {
    section: section("machine.yaml: acme", &names(&ACME_KEYS)),
    keys: &ACME_KEYS,
    required: &[],
    exclusive: &[],
};
/// `acme.authorities[]`
pub(crate) const AUTHORITY: Mapping = Mapping {
    section: section("machine.yaml: acme.authorities[]", &names(&AUTHORITY_KEYS)),
    keys: &AUTHORITY_KEYS,
    required: &["name"],
    exclusive: &[],
};
/// `acme.authorities[].external_account`
pub(crate) const EXTERNAL_ACCOUNT: Mapping = Mapping {
    section: section(
        "machine.yaml: acme.authorities[].external_account",
        &names(&EXTERNAL_ACCOUNT_KEYS),
    ),
    keys: &EXTERNAL_ACCOUNT_KEYS,
    required: &["key_file", "key_id"],
    exclusive: &[],
};
/// `actions`
pub(crate) const ACTIONS: Mapping = Mapping {
    section: section("machine.yaml: actions", &names(&ACTIONS_KEYS)),
    keys: &ACTIONS_KEYS,
    required: &[],
    exclusive: &[],
};
/// `api`
pub(crate) const API: Mapping = Mapping {
    section: section("machine.yaml: api", &names(&API_KEYS)),
    keys: &API_KEYS,
    required: &["host"],
    exclusive: &[],
};
/// `oidc[]`
pub(crate) const OIDC: Mapping = Mapping {
    section: section("machine.yaml: oidc[]", &names(&OIDC_KEYS)),
    keys: &OIDC_KEYS,
    required: &["name", "issuer"],
    exclusive: &[],
};
/// `oidc[].rules[]`
pub(crate) const RULE: Mapping = Mapping {
    section: section("machine.yaml: oidc[].rules[]", &names(&RULE_KEYS)),
    keys: &RULE_KEYS,
    required: &["claims", "role", "environments"],
    exclusive: &[],
};

/// Every section.
#[cfg(test)]
pub(crate) const SECTIONS: [crate::keys::Section; 11] = [
    TOP.section,
    ACTIONS.section,
    ACME.section,
    AUTHORITY.section,
    EXTERNAL_ACCOUNT.section,
    API.section,
    JOBS.section,
    OIDC.section,
    RULE.section,
    GIT.section,
    CI.section,
];

/// The JSON Schema (2020-12) of `machine.yaml`.
pub fn document() -> Value {
    super::of_file(
        &TOP,
        "machine",
        "machine.yaml",
        "What a machine is configured by. Every key is optional, and so is the file.",
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::grant::EnvironmentPattern;

    #[test]
    #[allow(clippy::disallowed_macros, reason = "its output is for a person")]
    fn environments_are_to_an_editor_what_they_are_to_the_reader() {
        let Shape::Text { pattern, longest } = ENVIRONMENTS else {
            panic!("it is a text");
        };
        let name = "a".repeat(63);
        let most = format!("{name}*/{name}*");
        let too_long = format!("{name}a/b");
        for text in [
            "*",
            "*/*",
            "shop/*",
            "*/staging",
            "shop/pr-*",
            "shop*/production",
            "a_b/c_d",
            "-/_",
            "shop/production",
            &most,
            &too_long,
            "",
            "shop",
            "shop/",
            "/",
            "/*",
            "a/b/c",
            "*x/y",
            "sh*p/y",
            "Shop/y",
            "a/../b",
            "**",
            "*/",
            "a/**",
            "a b/c",
            " a/b",
            "\u{e4}/b",
        ] {
            // The pattern is one of POSIX as well; -z: it is about the whole text.
            let mut grep = Command::new("grep");
            grep.args(["-z", "-q", "-E", pattern]).env("LC_ALL", "C");
            grep.stdin(std::process::Stdio::piped());
            let mut grep = match grep.spawn() {
                Ok(grep) => grep,
                Err(error) => return println!("skipped: needs grep ({error})"),
            };
            let mut input = grep.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut input, format!("{text}\0").as_bytes()).expect("written");
            drop(input);
            let fits = grep.wait().expect("it ends").success();
            let is_short = text.chars().count() <= longest as usize;
            let is_read = text.parse::<EnvironmentPattern>().is_ok();
            assert_eq!(fits && is_short, is_read, "{text:?}");
        }
    }
}
