//! What sets up languages.

use super::{PUBLIC_TOKEN, TOKEN};
use crate::built_in::{BuiltIn, Input, ignored, refused, used};

const NO_TOKEN: &str = "tools are not fetched from GitHub";
const ARCHITECTURE: Input = refused("architecture", "jobs run on the machine's own architecture");
const CHECK_LATEST: Input = used("check-latest").or("false");

/// `actions/setup-node`, as of v6; `always-auth` and `version` are of older ones.
pub(super) const SETUP_NODE: BuiltIn = BuiltIn {
    name: "actions/setup-node",
    inputs: &[
        used("node-version"),
        used("node-version-file"),
        ARCHITECTURE,
        CHECK_LATEST,
        used("registry-url"),
        used("scope"),
        ignored("token", NO_TOKEN).or(PUBLIC_TOKEN),
        used("cache"),
        used("package-manager-cache").or("true"),
        used("cache-dependency-path"),
        used("mirror"),
        used("mirror-token"),
        ignored("always-auth", "npm knows it no more").or("false"),
        refused("version", "write `node-version`"),
    ],
    outputs: &["cache-hit", "node-version"],
    post: Some("success()"),
    refused: None,
};

/// `actions/setup-python`, as of v6.
pub(super) const SETUP_PYTHON: BuiltIn = BuiltIn {
    name: "actions/setup-python",
    inputs: &[
        used("python-version"),
        used("python-version-file"),
        used("cache"),
        ARCHITECTURE,
        ignored(
            "check-latest",
            "what is on the machine or in the tool cache is taken",
        )
        .or("false"),
        ignored("token", NO_TOKEN).or(PUBLIC_TOKEN),
        used("cache-dependency-path"),
        used("update-environment").or("true"),
        used("allow-prereleases").or("false"),
        refused("freethreaded", "use an image that has it (`container:`)").or("false"),
        used("pip-version"),
        used("pip-install"),
    ],
    outputs: &["python-version", "cache-hit", "python-path"],
    post: Some("success()"),
    refused: None,
};

/// `actions/setup-go`, as of v6.
pub(super) const SETUP_GO: BuiltIn = BuiltIn {
    name: "actions/setup-go",
    inputs: &[
        used("go-version"),
        used("go-version-file"),
        CHECK_LATEST,
        ignored("token", NO_TOKEN).or(PUBLIC_TOKEN),
        used("cache").or("true"),
        used("cache-dependency-path"),
        ARCHITECTURE,
        used("go-download-base-url"),
    ],
    outputs: &["go-version", "cache-hit"],
    post: Some("success()"),
    refused: None,
};

const NO_SETTINGS: &str = "write Maven's settings.xml in a step";
const NO_KEYS: &str = "import the key in a step, with `gpg --import`";

/// `actions/setup-java`, as of v5.
pub(super) const SETUP_JAVA: BuiltIn = BuiltIn {
    name: "actions/setup-java",
    inputs: &[
        used("java-version"),
        used("java-version-file"),
        ignored(
            "distribution",
            "the one that is on the machine or in the tool cache is taken, whoever built it",
        ),
        refused("java-package", "use an image that has it (`container:`)").or("jdk"),
        ARCHITECTURE,
        refused("jdk-file", "unpack it in a step, and set JAVA_HOME"),
        refused("jdkFile", "unpack it in a step, and set JAVA_HOME"),
        ignored(
            "check-latest",
            "what is on the machine or in the tool cache is taken",
        )
        .or("false"),
        refused("force-download", "nothing is downloaded").or("false"),
        used("set-default").or("true"),
        ignored("verify-signature", "nothing is downloaded").or("false"),
        ignored("verify-signature-public-key", "nothing is downloaded"),
        refused("server-id", NO_SETTINGS).or("github"),
        refused("server-username-env-var", NO_SETTINGS).or("GITHUB_ACTOR"),
        refused("server-username", NO_SETTINGS).or("GITHUB_ACTOR"),
        refused("server-password-env-var", NO_SETTINGS).or("GITHUB_TOKEN"),
        refused("server-password", NO_SETTINGS).or("GITHUB_TOKEN"),
        refused("settings-path", NO_SETTINGS),
        ignored("overwrite-settings", "no settings are written").or("true"),
        refused("gpg-private-key", NO_KEYS),
        refused("gpg-passphrase-env-var", NO_KEYS),
        refused("gpg-passphrase", NO_KEYS),
        used("cache"),
        ignored("cache-jdk", "nothing is downloaded"),
        used("cache-dependency-path"),
        refused("cache-path", "use `actions/cache` with that path"),
        used("cache-read-only").or("false"),
        ignored("job-status", "it is known").or("${{ job.status }}"),
        ignored("token", NO_TOKEN).or(PUBLIC_TOKEN),
        refused("mvn-toolchain-id", "write Maven's toolchains.xml in a step"),
        refused(
            "mvn-toolchain-vendor",
            "write Maven's toolchains.xml in a step",
        ),
        used("show-download-progress").or("false"),
        ignored("problem-matcher", "there is none for Java").or("true"),
    ],
    outputs: &[
        "distribution",
        "version",
        "path",
        "cache-hit",
        "cache-primary-key",
    ],
    post: Some("success()"),
    refused: None,
};

/// `pnpm/action-setup`, as of v4.
pub(super) const SETUP_PNPM: BuiltIn = BuiltIn {
    name: "pnpm/action-setup",
    inputs: &[
        used("version"),
        used("dest").or("~/setup-pnpm"),
        used("run_install").or("null"),
        used("cache").or("false"),
        used("cache_dependency_path").or("pnpm-lock.yaml"),
        used("package_json_file").or("package.json"),
        refused(
            "standalone",
            "install Node.js with `actions/setup-node` first",
        )
        .or("false"),
        refused(
            "nodejs_bundled",
            "install Node.js with `actions/setup-node` first",
        )
        .or("false"),
        ignored("token", NO_TOKEN).or(TOKEN),
    ],
    outputs: &["dest", "bin_dest"],
    post: Some("success()"),
    refused: None,
};
