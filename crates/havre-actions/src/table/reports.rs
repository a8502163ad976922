//! What would send reports elsewhere: they are kept as artifacts.

use super::{NO_GITHUB, TOKEN};
use crate::built_in::{BuiltIn, ignored, used};

const NOT_SENT: &str = "reports are kept as an artifact, and not sent";

/// `codecov/codecov-action`, as of v5; `file` and `plugin` are of older ones.
pub(super) const CODECOV: BuiltIn = BuiltIn {
    name: "codecov/codecov-action",
    inputs: &[
        ignored("base_sha", NOT_SENT),
        ignored("binary", NOT_SENT),
        ignored("codecov_yml_path", NOT_SENT),
        ignored("commit_parent", NOT_SENT),
        used("directory"),
        ignored("disable_file_fixes", NOT_SENT).or("false"),
        used("disable_search").or("false"),
        ignored("disable_safe_directory", NOT_SENT).or("false"),
        ignored("disable_telem", NOT_SENT).or("false"),
        used("dry_run").or("false"),
        ignored("env_vars", NOT_SENT),
        used("exclude"),
        used("fail_ci_if_error").or("false"),
        used("files"),
        used("file"),
        ignored("flags", NOT_SENT),
        ignored("force", NOT_SENT).or("false"),
        ignored("git_service", NOT_SENT).or("github"),
        ignored("gcov_args", NOT_SENT),
        ignored("gcov_executable", NOT_SENT).or("gcov"),
        ignored("gcov_ignore", NOT_SENT),
        ignored("gcov_include", NOT_SENT),
        used("handle_no_reports_found").or("false"),
        ignored("job_code", NOT_SENT),
        used("name"),
        ignored("network_filter", NOT_SENT),
        ignored("network_prefix", NOT_SENT),
        ignored("os", NOT_SENT),
        ignored("override_branch", NOT_SENT),
        ignored("override_build", NOT_SENT),
        ignored("override_build_url", NOT_SENT),
        ignored("override_commit", NOT_SENT),
        ignored("override_pr", NOT_SENT),
        ignored("plugin", NOT_SENT),
        ignored("plugins", NOT_SENT),
        ignored("recurse_submodules", NOT_SENT).or("false"),
        ignored("report_code", NOT_SENT),
        ignored("report_type", NOT_SENT).or("coverage"),
        ignored("root_dir", NOT_SENT),
        ignored("run_command", NOT_SENT).or("upload-coverage"),
        ignored("skip_validation", NOT_SENT).or("false"),
        ignored("slug", NOT_SENT),
        ignored("swift_project", NOT_SENT),
        ignored("token", NOT_SENT),
        ignored("url", NOT_SENT),
        ignored("use_legacy_upload_endpoint", NOT_SENT).or("false"),
        ignored("use_oidc", NOT_SENT).or("false"),
        ignored("use_pypi", NOT_SENT).or("false"),
        ignored("verbose", NOT_SENT).or("false"),
        ignored("version", NOT_SENT).or("latest"),
        used("working-directory"),
    ],
    outputs: &[],
    post: None,
};

/// `github/codeql-action/upload-sarif`, as of v4.
pub(super) const UPLOAD_SARIF: BuiltIn = BuiltIn {
    name: "github/codeql-action/upload-sarif",
    inputs: &[
        used("sarif_file").or("../results"),
        ignored("checkout_path", NOT_SENT).or("${{ github.workspace }}"),
        ignored("ref", NOT_SENT),
        ignored("sha", NOT_SENT),
        ignored("token", NO_GITHUB).or(TOKEN),
        ignored("matrix", NOT_SENT).or("${{ toJson(matrix) }}"),
        used("category"),
        ignored("wait-for-processing", NOT_SENT).or("true"),
    ],
    outputs: &["sarif-id"],
    post: None,
};
