//! Tools that jobs leave to each other.

use std::path::PathBuf;

use havre_box::{Ending, Tools};

use crate::harness::{Place, Test, host};

pub const TESTS: &[(&str, Test)] = &[
    ("tools_are_kept_of_a_ref_for_itself", |p| Box::pin(kept(p))),
    ("tools_that_are_too_large_are_not_kept", |p| {
        Box::pin(bounded(p))
    }),
];

const CACHE: &str = "cd /opt/hostedtoolcache; add() { mkdir -p $1/x64; echo $2 > $1/x64/tool; : > $1/x64.complete; }; ";

/// Runs a job that sees and adds to what is kept of its ref, and sees what `main` has; its lines.
async fn job(place: &Place, of: &str, script: &str, most: u64) -> Vec<String> {
    let dir = place
        .dir
        .path()
        .canonicalize()
        .expect("a folder")
        .join("tools");
    let folder = |name: &str| dir.join(name);
    let mut shown = vec![folder(of)];
    if of != "main" {
        shown.push(folder("main"));
    }
    let mut request = host("b1", &format!("{CACHE}{script}"));
    request.tools = Tools {
        keep: Some(folder(of)),
        shown,
        most,
    };
    let (lines, ending) = place.run(request).await;
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{lines:?}"
    );
    assert_eq!(
        place.boxes.tools_in_use().expect("notes").len(),
        if of == "main" { 1 } else { 2 }
    );
    assert_eq!(place.boxes.remove("b1").await, [""; 0]);
    lines
}

fn kept_of(place: &Place, of: &str) -> Vec<String> {
    let top: PathBuf = place.dir.path().join("tools").join(of);
    let find = std::process::Command::new("find")
        .args([".", "-name", "*.complete"])
        .current_dir(top)
        .output();
    let text = String::from_utf8(find.expect("run").stdout).expect("text");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

async fn kept(place: &Place) {
    const ROOM: u64 = 1 << 30;
    job(
        place,
        "main",
        "add node/1 good; add node/2 good; rm node/2/x64.complete",
        ROOM,
    )
    .await;
    assert_eq!(kept_of(place, "main"), ["./node/1/x64.complete"]);
    let script = "cat node/1/x64/tool; echo evil > node/1/x64/tool; rm -r node/1/x64.complete; cat node/1/x64/tool; \
        add go/1 own; add node/3 own; ln -s /etc py; mkdir lua; ln -s ../node/1 lua/1; cat go/1/x64/tool";
    let lines = job(place, "feature", script, ROOM).await;
    assert_eq!(lines, ["good", "evil", "own"]);
    let own = ["./go/1/x64.complete", "./node/3/x64.complete"];
    assert_eq!(kept_of(place, "feature"), own);
    assert_eq!(kept_of(place, "main"), ["./node/1/x64.complete"]);
    // The default branch sees nothing of it, and what it had is as it was.
    let lines = job(place, "main", "cat node/1/x64/tool; ls", ROOM).await;
    assert_eq!(lines, ["good", "node"]);
    // The branch has both, and adds to a tool that is there.
    let script = "cat node/1/x64/tool go/1/x64/tool; echo evil > go/1/x64/tool; add go/2 own; add node/4 own";
    assert_eq!(job(place, "feature", script, ROOM).await, ["good", "own"]);
    let script = "cat go/1/x64/tool go/2/x64/tool node/3/x64/tool node/4/x64/tool";
    assert_eq!(job(place, "feature", script, ROOM).await, ["own"; 4]);
}

async fn bounded(place: &Place) {
    let script = "add big/1 x; head -c 3M /dev/zero > big/1/x64/more; add small/1 x";
    job(place, "main", script, 2 << 20).await;
    assert_eq!(kept_of(place, "main"), ["./small/1/x64.complete"]);
}
