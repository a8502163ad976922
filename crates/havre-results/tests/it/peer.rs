//! GitHub's own clients, unmodified.

use std::path::Path;
use std::process::Command;

use crate::world::{World, grant};

/// Their versions are in `crates/xtask/src/peers.rs` too.
const PEER: &str = "../../target/peers/actions-artifact-6.2.1-cache-6.3.0";

/// Runs a script with the environment that jobs have. `None`: the peer is not there.
fn run(world: &World, script: &str) -> Option<String> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join(PEER);
    if !peer.join("complete").is_file() {
        println!(
            "skipped: needs @actions/artifact and @actions/cache, which `cargo xtask test` fetches"
        );
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("node")
        .args(["--input-type=module", "--eval", script, "--"])
        .arg(folder.path())
        .current_dir(peer)
        .env("GITHUB_SERVER_URL", "https://shop.localhost")
        .env("GITHUB_WORKSPACE", folder.path())
        .env("RUNNER_TEMP", folder.path())
        .env("ACTIONS_CACHE_SERVICE_V2", "true")
        .env("ACTIONS_RESULTS_URL", format!("http://{}/", world.address))
        .env(
            "ACTIONS_RUNTIME_TOKEN",
            world.results.token(&grant("1", "a")).unwrap(),
        )
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.ends_with("done\n"),
        "{out}\n{errors}"
    );
    Some(out)
}

#[test]
fn artifacts_go_up_are_listed_come_down_and_go() {
    let world = World::new();
    if run(&world, include_str!("peer/artifact.mjs")).is_some() {
        assert_eq!(world.results.artifacts("1").unwrap().len(), 1);
        assert_eq!(world.names("uploads"), [""; 0]);
    }
}

#[test]
fn caches_are_saved_and_restored() {
    let world = World::new();
    if let Some(out) = run(&world, include_str!("peer/cache.mjs")) {
        assert_eq!(world.results.caches("shop").unwrap().len(), 3);
        assert!(out.contains("already exists"), "{out}");
    }
}
