//! All actions there are, by the files of their kinds.

mod docker;
mod reports;
mod results;
mod sources;
mod tools;

use crate::built_in::BuiltIn;

/// All actions that Havre brings along.
pub const ALL: &[&BuiltIn] = &[
    &sources::CHECKOUT,
    &results::CACHE,
    &results::CACHE_RESTORE,
    &results::CACHE_SAVE,
    &results::UPLOAD_ARTIFACT,
    &results::MERGE_ARTIFACTS,
    &results::DOWNLOAD_ARTIFACT,
    &tools::SETUP_NODE,
    &tools::SETUP_PYTHON,
    &tools::SETUP_GO,
    &tools::SETUP_JAVA,
    &tools::SETUP_PNPM,
    &docker::LOGIN,
    &docker::SETUP_BUILDX,
    &docker::SETUP_QEMU,
    &docker::METADATA,
    &docker::BUILD_PUSH,
    &sources::GITHUB_SCRIPT,
    &reports::CODECOV,
    &reports::UPLOAD_SARIF,
];

/// The action of this name, in any case; `path` is what stands behind `owner/repository`, or empty.
pub fn find(owner: &str, repository: &str, path: &str) -> Option<&'static BuiltIn> {
    let path = path.trim_matches('/');
    let name = if path.is_empty() {
        format!("{owner}/{repository}")
    } else {
        format!("{owner}/{repository}/{path}")
    };
    named(&name)
}

pub(crate) fn named(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter()
        .copied()
        .find(|action| action.name.eq_ignore_ascii_case(name))
}

const NO_GITHUB: &str = "nothing is asked of GitHub";
const TOKEN: &str = "${{ github.token }}";
/// Default of tokens for what GitHub keeps of tools.
const PUBLIC_TOKEN: &str = "${{ github.server_url == 'https://github.com' && github.token || '' }}";
