//! `actions/checkout`, with the machine's git and a bare repository beside.

use std::fs;

use crate::job::{Job, git};

crate::tests![
    a_tree_is_left_as_it_is,
    a_tree_is_no_other_commit,
    the_commit_of_the_event_is_checked_out,
    the_whole_history_is_there_with_depth_0,
    branches_tags_and_commits_are_checked_out_by_name,
    a_path_is_below_the_workspace,
    only_what_sparse_patterns_name_is_there,
    what_was_there_is_cleaned,
    another_repository_comes_with_its_token,
    what_is_not_supported_is_refused,
];

const CHECKOUT: &str = "actions/checkout";

/// A job whose repository has two commits on main, one on dev, and a tag at the first.
fn job() -> (Job, [String; 3]) {
    let mut job = Job::new();
    let bare = job.at("repository.git");
    let tree = job.at("tree");
    fs::create_dir_all(&tree).unwrap();
    git(&tree, &["init", "--quiet"]);
    let commit = |path: &str, text: &str| {
        job.write(&format!("tree/{path}"), text);
        git(&tree, &["add", "."]);
        git(&tree, &["commit", "--quiet", "-m", text]);
        git(&tree, &["rev-parse", "HEAD"])
    };
    let first = commit("a.txt", "one");
    git(&tree, &["tag", "v1"]);
    let second = commit("web/b.txt", "two");
    git(&tree, &["checkout", "--quiet", "-b", "dev"]);
    let third = commit("dev.txt", "three");
    git(
        &tree,
        &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()],
    );
    job.set("HAVRE_SOURCES", "repository");
    job.set("HAVRE_REPOSITORY", bare.to_str().unwrap());
    job.set("GITHUB_SHA", &second);
    (job, [first, second, third])
}

fn a_tree_is_left_as_it_is() {
    let job = Job::new();
    job.write("work/shop/draft.txt", "not committed");
    let done = job
        .main(
            CHECKOUT,
            &[("repository", "Acme/Shop"), ("fetch-depth", "0")],
        )
        .well();
    assert_eq!(done.output("ref"), "refs/heads/main");
    assert_eq!(done.output("commit"), "0".repeat(40));
    assert_eq!(job.read("work/shop/draft.txt"), "not committed");
    let known = git(
        &job.at("home"),
        &["config", "--file", ".gitconfig", "safe.directory"],
    );
    assert_eq!(known, job.vars["GITHUB_WORKSPACE"]);
    job.main(CHECKOUT, &[("ref", "main")]).well();
}

fn a_tree_is_no_other_commit() {
    let job = Job::new();
    job.main(CHECKOUT, &[("ref", "v1")])
        .badly("the workspace is the working tree itself");
    job.main(CHECKOUT, &[("path", "sub")])
        .badly("`path` has no place here");
    job.main(CHECKOUT, &[("repository", "acme/other")])
        .badly("the workspace is the working tree itself");
}

fn the_commit_of_the_event_is_checked_out() {
    let (job, [_, second, _]) = job();
    let done = job
        .main(CHECKOUT, &[("persist-credentials", "true")])
        .well();
    assert_eq!(done.output("commit"), second);
    assert_eq!(done.output("ref"), "refs/heads/main");
    assert_eq!(job.read("work/shop/web/b.txt"), "two");
    let shop = job.at("work/shop");
    assert_eq!(git(&shop, &["rev-parse", "--abbrev-ref", "HEAD"]), "main");
    assert_eq!(git(&shop, &["rev-list", "--count", "HEAD"]), "1");
    git(&shop, &["fetch", "--unshallow", "--quiet"]);
    assert_eq!(git(&shop, &["rev-list", "--count", "HEAD"]), "2");
    job.post(CHECKOUT, &[], &done).well();
    assert_eq!(git(&shop, &["rev-parse", "HEAD"]), second);
}

fn the_whole_history_is_there_with_depth_0() {
    let (mut job, [first, second, _]) = job();
    job.main(CHECKOUT, &[("fetch-depth", "0")]).well();
    let shop = job.at("work/shop");
    assert_eq!(git(&shop, &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(git(&shop, &["rev-parse", "v1"]), first);
    git(&shop, &["rev-parse", "--verify", "refs/remotes/origin/dev"]);
    assert_eq!(git(&shop, &["rev-parse", "HEAD"]), second);
    // The branch has moved on since the event.
    job.set("GITHUB_SHA", &first);
    job.main(CHECKOUT, &[("fetch-depth", "0")]).well();
    assert_eq!(git(&shop, &["rev-parse", "HEAD"]), first);
    assert!(!shop.join("web").exists());
}

fn branches_tags_and_commits_are_checked_out_by_name() {
    let (job, [first, _, third]) = job();
    let shop = job.at("work/shop");
    let check = |asked: &str, commit: &str, name: &str| {
        let done = job.main(CHECKOUT, &[("ref", asked)]).well();
        assert_eq!(done.output("commit"), commit);
        assert_eq!(git(&shop, &["rev-parse", "--abbrev-ref", "HEAD"]), name);
    };
    check("dev", &third, "dev");
    check("v1", &first, "HEAD");
    check("refs/tags/v1", &first, "HEAD");
    check(&first, &first, "HEAD");
    job.main(CHECKOUT, &[("ref", "nope")])
        .badly("no branch and no tag `nope`");
}

fn a_path_is_below_the_workspace() {
    let (job, _) = job();
    job.write("work/shop/kept.txt", "kept");
    job.main(CHECKOUT, &[("path", "sub/shop")]).well();
    assert_eq!(job.read("work/shop/sub/shop/a.txt"), "one");
    assert_eq!(job.read("work/shop/kept.txt"), "kept");
    job.write("outside.txt", "kept");
    for path in ["..", "/", "sub/../../.."] {
        job.main(CHECKOUT, &[("path", path)])
            .badly("leaves the workspace");
    }
    assert_eq!(job.read("outside.txt"), "kept");
}

fn only_what_sparse_patterns_name_is_there() {
    let (job, _) = job();
    let shop = job.at("work/shop");
    job.main(CHECKOUT, &[("sparse-checkout", "web")]).well();
    assert!(shop.join("web/b.txt").exists() && shop.join("a.txt").exists());
    job.main(
        CHECKOUT,
        &[
            ("sparse-checkout", "web/*"),
            ("sparse-checkout-cone-mode", "false"),
        ],
    )
    .well();
    assert!(shop.join("web/b.txt").exists() && !shop.join("a.txt").exists());
    job.main(CHECKOUT, &[]).well();
    assert!(shop.join("a.txt").exists());
}

fn what_was_there_is_cleaned() {
    let (job, _) = job();
    job.write("work/shop/left.txt", "of before");
    job.main(CHECKOUT, &[]).well();
    assert!(!job.at("work/shop/left.txt").exists());
    job.write("work/shop/left.txt", "of before");
    job.main(CHECKOUT, &[("clean", "false")]).well();
    assert!(job.at("work/shop/left.txt").exists());
    job.main(CHECKOUT, &[]).well();
    assert!(!job.at("work/shop/left.txt").exists());
}

fn another_repository_comes_with_its_token() {
    let (mut job, [_, second, _]) = job();
    // A server of files: git asks it as it would a real one, without a token's check.
    let bare = job.at("server/acme/other");
    fs::create_dir_all(job.at("server/acme")).unwrap();
    fs::rename(job.at("repository.git"), &bare).unwrap();
    git(&bare, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    job.set(
        "GITHUB_SERVER_URL",
        format!("file://{}", job.at("server").display()),
    );
    job.set("ACTIONS_RUNTIME_TOKEN", "own");
    let inputs = [
        ("repository", "acme/other"),
        ("path", "other"),
        ("token", "hush"),
    ];
    let done = job.main(CHECKOUT, &inputs).well();
    assert_eq!(done.output("commit"), second);
    let config = job.read("work/shop/other/.git/config");
    assert!(
        config.contains("extraheader = AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46aHVzaA=="),
        "{config}"
    );
    assert!(
        done.log.contains("::add-mask::AUTHORIZATION: basic"),
        "{}",
        done.log
    );
    job.post(CHECKOUT, &inputs, &done).well();
    assert!(
        !job.read("work/shop/other/.git/config")
            .contains("extraheader")
    );
    // Havre's own token is not for others.
    let claims = data_encoding::BASE64URL_NOPAD.encode(br#"{"scp":"Actions.Results:r:j"}"#);
    for token in ["own", &format!("h.{claims}.s")] {
        let own = [
            ("repository", "acme/other"),
            ("path", "third"),
            ("token", token),
        ];
        job.main(CHECKOUT, &own).well();
        let config = job.read("work/shop/third/.git/config");
        assert!(!config.contains("extraheader"), "{config}");
    }
    let gone = [
        ("repository", "acme/gone"),
        ("path", "gone"),
        ("ref", "main"),
    ];
    job.main(CHECKOUT, &gone)
        .badly("give a `token` of that server");
    job.main(CHECKOUT, &[("repository", "../../etc")])
        .badly("not of the form owner/name");
}

fn what_is_not_supported_is_refused() {
    let job = Job::new();
    job.main(CHECKOUT, &[("submodules", "recursive")])
        .badly("`submodules` of actions/checkout is not supported");
    job.main(CHECKOUT, &[("lfs", "true")]).badly("git lfs pull");
    job.main(CHECKOUT, &[("lfs", "false"), ("submodules", "false")])
        .well();
}
