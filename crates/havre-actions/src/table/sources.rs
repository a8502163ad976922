//! What deals with the repository.

use super::{NO_GITHUB, TOKEN};
use crate::built_in::{BuiltIn, ignored, refused, used};

const NO_SSH: &str = "fetch by https with `token` instead";

/// `actions/checkout`, as of v7.
pub(super) const CHECKOUT: BuiltIn = BuiltIn {
    name: "actions/checkout",
    inputs: &[
        used("repository").or("${{ github.repository }}"),
        used("ref"),
        used("token").or(TOKEN),
        refused("ssh-key", NO_SSH),
        ignored("ssh-known-hosts", "nothing is fetched by ssh"),
        ignored("ssh-strict", "nothing is fetched by ssh").or("true"),
        ignored("ssh-user", "nothing is fetched by ssh").or("git"),
        used("persist-credentials").or("true"),
        used("path"),
        used("clean").or("true"),
        used("filter"),
        used("sparse-checkout"),
        used("sparse-checkout-cone-mode").or("true"),
        used("fetch-depth").or("1"),
        used("fetch-tags").or("false"),
        used("show-progress").or("false"),
        ignored("reference", "the own repository is on this machine already"),
        refused(
            "lfs",
            "run `git lfs pull` in a step, with an image that has git-lfs",
        )
        .or("false"),
        refused(
            "submodules",
            "check each of them out by an `actions/checkout` with `repository` and `path`",
        )
        .or("false"),
        used("set-safe-directory").or("true"),
        used("github-server-url"),
        ignored(
            "allow-unsafe-pr-checkout",
            "what a run may do depends on who pushed, whatever it checks out",
        )
        .or("false"),
    ],
    outputs: &["ref", "commit"],
    post: Some("always()"),
    refused: None,
};

/// `actions/github-script`, as of v8.
pub(super) const GITHUB_SCRIPT: BuiltIn = BuiltIn {
    name: "actions/github-script",
    inputs: &[
        used("script").required(),
        ignored("github-token", NO_GITHUB).or(TOKEN),
        ignored("debug", NO_GITHUB).or("${{ runner.debug == '1' }}"),
        ignored("user-agent", NO_GITHUB).or("actions/github-script"),
        ignored("previews", NO_GITHUB),
        used("result-encoding").or("json"),
        ignored("retries", NO_GITHUB).or("0"),
        ignored("retry-exempt-status-codes", NO_GITHUB).or("400,401,403,404,422"),
        refused(
            "base-url",
            "call the API by `fetch` in the script, with a token of yours from `env`",
        ),
    ],
    outputs: &["result"],
    post: None,
    refused: None,
};
