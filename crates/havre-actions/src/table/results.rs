//! What keeps files of a job: caches and artifacts.

use crate::built_in::{BuiltIn, Input, ignored, refused, used};

const LINUX: &str = "there is one operating system here";
const OWN_RUN: &str = "artifacts of the own run only are to be had; have the earlier job in the same workflow, or keep the \
                       file with `actions/cache`";

const PATH: Input = used("path").required();
const KEY: Input = used("key").required();
const CHUNK: Input = used("upload-chunk-size");
const CROSS_OS: Input = ignored("enableCrossOsArchive", LINUX).or("false");
const MISS: Input = used("fail-on-cache-miss").or("false");
const LOOKUP: Input = used("lookup-only").or("false");

/// `actions/cache`, as of v5.
pub(super) const CACHE: BuiltIn = BuiltIn {
    name: "actions/cache",
    inputs: &[
        PATH,
        KEY,
        used("restore-keys"),
        CHUNK,
        CROSS_OS,
        MISS,
        LOOKUP,
        refused(
            "save-always",
            "it never worked on GitHub; use `actions/cache/save` with `if: always()`",
        )
        .or("false"),
    ],
    outputs: &["cache-hit", "cache-primary-key", "cache-matched-key"],
    post: Some("success()"),
    refused: None,
};

/// `actions/cache/restore`.
pub(super) const CACHE_RESTORE: BuiltIn = BuiltIn {
    name: "actions/cache/restore",
    inputs: &[PATH, KEY, used("restore-keys"), CROSS_OS, MISS, LOOKUP],
    outputs: &["cache-hit", "cache-primary-key", "cache-matched-key"],
    post: None,
    refused: None,
};

/// `actions/cache/save`.
pub(super) const CACHE_SAVE: BuiltIn = BuiltIn {
    name: "actions/cache/save",
    inputs: &[PATH, KEY, CHUNK, CROSS_OS],
    outputs: &[],
    post: None,
    refused: None,
};

/// `actions/upload-artifact`, as of v7.
pub(super) const UPLOAD_ARTIFACT: BuiltIn = BuiltIn {
    name: "actions/upload-artifact",
    inputs: &[
        used("name").or("artifact"),
        PATH,
        used("if-no-files-found").or("warn"),
        used("retention-days"),
        used("compression-level").or("6"),
        used("overwrite").or("false"),
        used("include-hidden-files").or("false"),
        used("archive").or("true"),
    ],
    outputs: &["artifact-id", "artifact-url", "artifact-digest"],
    post: None,
    refused: None,
};

const NO_MERGE: &str = "download with `actions/download-artifact`, `pattern` and `merge-multiple: true`, and upload the \
                        folder with `actions/upload-artifact`";

/// `actions/upload-artifact/merge`: not to be had.
pub(super) const MERGE_ARTIFACTS: BuiltIn = BuiltIn {
    name: "actions/upload-artifact/merge",
    inputs: &[
        used("name").or("merged-artifacts"),
        used("pattern").or("*"),
        used("separate-directories").or("false"),
        used("delete-merged").or("false"),
        used("retention-days"),
        used("compression-level").or("6"),
        used("include-hidden-files").or("false"),
    ],
    outputs: &["artifact-id", "artifact-url", "artifact-digest"],
    post: None,
    refused: Some(NO_MERGE),
};

/// `actions/download-artifact`, as of v8.
pub(super) const DOWNLOAD_ARTIFACT: BuiltIn = BuiltIn {
    name: "actions/download-artifact",
    inputs: &[
        used("name"),
        used("artifact-ids"),
        used("path"),
        used("pattern"),
        used("merge-multiple").or("false"),
        refused("github-token", OWN_RUN),
        used("repository").or("${{ github.repository }}"),
        used("run-id").or("${{ github.run_id }}"),
        used("skip-decompress").or("false"),
        used("digest-mismatch").or("error"),
    ],
    outputs: &["download-path"],
    post: None,
    refused: None,
};
