//! What builds images.

use super::{NO_GITHUB, TOKEN};
use crate::built_in::{BuiltIn, ignored, refused, used};

/// `docker/login-action`, as of v4.
pub(super) const LOGIN: BuiltIn = BuiltIn {
    name: "docker/login-action",
    inputs: &[
        used("registry"),
        used("username"),
        used("password"),
        refused("scope", "log in to the whole registry"),
        refused(
            "ecr",
            "get a password with `aws ecr get-login-password` in a step, and give it as `password`",
        )
        .or("auto"),
        used("logout").or("true"),
        refused(
            "registry-auth",
            "use one `docker/login-action` for each registry",
        ),
        ignored("attempts", "nothing is asked of the registry yet").or("1"),
    ],
    outputs: &[],
    post: Some("always()"),
    refused: None,
};

const OWN_BUILDER: &str = "Havre's own builder builds";
const NO_BUILDKIT: &str = "Havre's own builder builds, which has no such setting; leave it out";
const ONE_NODE: &str = "there is one builder, on this machine; leave it out";

/// `docker/setup-buildx-action`, as of v4; `config`, `config-inline` and `install` are of older ones.
pub(super) const SETUP_BUILDX: BuiltIn = BuiltIn {
    name: "docker/setup-buildx-action",
    inputs: &[
        ignored("version", OWN_BUILDER),
        ignored("driver", OWN_BUILDER).or("docker-container"),
        ignored("driver-opts", OWN_BUILDER),
        ignored("buildkitd-flags", OWN_BUILDER),
        refused("buildkitd-config", NO_BUILDKIT),
        refused("buildkitd-config-inline", NO_BUILDKIT),
        refused("config", NO_BUILDKIT),
        refused("config-inline", NO_BUILDKIT),
        ignored("install", "`docker build` is the builder's in any case").or("false"),
        ignored("use", OWN_BUILDER).or("true"),
        refused("endpoint", ONE_NODE),
        used("platforms"),
        refused("append", ONE_NODE),
        ignored("keep-state", "the builder keeps its cache in any case").or("false"),
        ignored("cache-binary", OWN_BUILDER).or("true"),
        ignored("cleanup", "there is nothing to clean up").or("true"),
        ignored("name", OWN_BUILDER),
    ],
    outputs: &[
        "name",
        "driver",
        "platforms",
        "nodes",
        "endpoint",
        "status",
        "flags",
    ],
    post: None,
    refused: None,
};

/// `docker/setup-qemu-action`, as of v4.
pub(super) const SETUP_QEMU: BuiltIn = BuiltIn {
    name: "docker/setup-qemu-action",
    inputs: &[
        ignored("image", "nothing is emulated").or("docker.io/tonistiigi/binfmt:latest"),
        used("platforms").or("all"),
        ignored("cache-image", "nothing is emulated").or("true"),
        ignored("reset", "nothing is emulated").or("false"),
    ],
    outputs: &["platforms"],
    post: None,
    refused: None,
};

/// `docker/metadata-action`, as of v6.
pub(super) const METADATA: BuiltIn = BuiltIn {
    name: "docker/metadata-action",
    inputs: &[
        refused(
            "context",
            "tags are made from the event; check the other commit out in a run of its own",
        )
        .or("workflow"),
        used("images"),
        used("tags"),
        used("flavor"),
        used("labels"),
        used("annotations"),
        used("sep-tags"),
        used("sep-labels"),
        used("sep-annotations"),
        refused(
            "bake-target",
            "bake files are not written; use the outputs `tags` and `labels`",
        )
        .or("docker-metadata-action"),
        ignored("github-token", NO_GITHUB).or(TOKEN),
    ],
    outputs: &[
        "version",
        "tags",
        "tag-names",
        "labels",
        "annotations",
        "json",
    ],
    post: None,
    refused: None,
};

const NOT_BUILT: &str = "Havre's builder has no such setting; leave it out";

/// `docker/build-push-action`, as of v7.
pub(super) const BUILD_PUSH: BuiltIn = BuiltIn {
    name: "docker/build-push-action",
    inputs: &[
        used("add-hosts"),
        refused("allow", NOT_BUILT),
        used("annotations"),
        refused(
            "attests",
            "each release has a statement of its provenance; leave it out",
        ),
        used("build-args"),
        used("build-contexts"),
        ignored("builder", OWN_BUILDER),
        used("cache-from"),
        used("cache-to"),
        refused("call", "run a linter in a step of its own"),
        refused("cgroup-parent", NOT_BUILT),
        used("context"),
        used("file"),
        ignored("github-token", NO_GITHUB).or(TOKEN),
        used("labels"),
        used("load").or("false"),
        used("network"),
        used("no-cache").or("false"),
        refused("no-cache-filters", "use `no-cache: true`"),
        used("outputs"),
        used("platforms"),
        ignored(
            "provenance",
            "each release has a statement of its provenance",
        ),
        used("pull").or("false"),
        used("push").or("false"),
        ignored("sbom", "none is made"),
        used("secrets"),
        used("secret-envs"),
        used("secret-files"),
        used("shm-size"),
        refused("ssh", "give a token as one of `secrets`"),
        used("tags"),
        used("target"),
        refused("ulimit", NOT_BUILT),
    ],
    outputs: &["imageid", "digest", "metadata"],
    post: None,
    refused: None,
};
