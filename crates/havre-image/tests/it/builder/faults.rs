//! What goes wrong is said clearly, leaves nothing behind, and the next build works.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use havre_image::builder::{BuildError, BuildEvent, DockerfileSource, StepExit};

use super::support::{Bench, report};
use crate::support::wait_until;

fn scratch_folders(images: &Path) -> Vec<String> {
    let entries = fs::read_dir(images.join("tmp")).expect("a folder");
    entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn a_failing_command_shows_its_last_lines() {
    let bench = Bench::with_base();
    let error = bench
        .try_build(
            "FROM base:1\n\nRUN i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; \
             echo broken; exit 3",
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("inline Dockerfile:3: RUN i=0;"),
        "{error}"
    );
    assert!(
        error.to_string().ends_with("ended with exit code 3"),
        "{error}"
    );
    assert_eq!(error.place(), Some(("inline Dockerfile", 3)));
    assert_eq!(error.exit_code(), Some(3));
    assert_eq!(error.log().len(), 20);
    assert!(error.log().contains(&"broken".to_owned()));
    assert!(scratch_folders(&bench.dir.path().join("images")).is_empty());
}

#[test]
fn killed_and_unknown_commands_are_explained() {
    let bench = Bench::with_base();
    let error = bench
        .try_build("FROM base:1\nRUN no-such-program")
        .unwrap_err();
    assert_eq!(error.exit_code(), Some(127));
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("no such program"))
    );
    let oom = StepExit {
        code: 137,
        oom_killed: true,
    };
    *bench.runner.pretend.lock().expect("no panic") = Some(oom);
    let error = bench.try_build("FROM base:1\nRUN true").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("RUN true was killed for using too much memory (exit code 137)"),
        "{error}"
    );
    *bench.runner.pretend.lock().expect("no panic") = None;
    bench.build("FROM base:1\nRUN true");
    assert_eq!(bench.cached(), [true, false], "a failure is not kept");
}

#[test]
fn a_base_image_out_of_reach_says_what_was_tried() {
    let bench = Bench::new();
    let error = bench
        .try_build("FROM debian:bookworm-slim\nRUN true")
        .unwrap_err();
    assert_eq!(
        report(&error),
        "inline Dockerfile:1: image debian:bookworm-slim is not stored on this machine and could \
         not be fetched from docker.io: docker.io is out of reach (fake)"
    );
    let hint = error.hint().expect("a hint");
    assert!(
        hint.contains("havre image import") && hint.contains("mmdebstrap"),
        "{hint}"
    );
    let error = bench.try_build("FROM Debian").unwrap_err();
    assert!(report(&error).contains("lower case"), "{}", report(&error));
}

#[test]
fn an_image_that_cannot_be_refreshed_is_used() {
    let bench = Bench::with_base();
    let mut request = bench.request("FROM base:1\nRUN true");
    request.pull = true;
    bench.try_request(&request).expect("it builds");
    assert!(
        bench.warnings()[0].contains("could not be refreshed"),
        "{:?}",
        bench.warnings()
    );
}

#[test]
fn mistakes_in_files_are_placed() {
    let bench = Bench::with_base();
    let error = bench.try_build("FROM base:1\nCOPPY a b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "inline Dockerfile:2: unknown instruction COPPY; did you mean COPY?\n  2 | COPPY a b"
    );
    bench.file("sub/Dockerfile", "FROM base:1\nENV A=${B\n");
    let mut request = bench.request("");
    request.dockerfile = DockerfileSource::Path("sub/Dockerfile".into());
    let error = bench.try_request(&request).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sub/Dockerfile:2: ${ has no closing }\n  2 | ENV A=${B"
    );
    request.dockerfile = DockerfileSource::Path("nope".into());
    let error = bench.try_request(&request).unwrap_err();
    assert!(report(&error).contains("cannot read") && report(&error).contains("nope"));
    bench.file(".dockerignore", "a\n[");
    let error = bench.try_build("FROM base:1").unwrap_err();
    assert!(
        report(&error).contains(".dockerignore: line 2"),
        "{}",
        report(&error)
    );
}

#[test]
fn names_a_layer_cannot_hold_are_refused() {
    let bench = Bench::with_base();
    let error = bench
        .file(".wh.x", "x")
        .try_build("FROM base:1\nCOPY . /d/")
        .unwrap_err();
    assert!(
        report(&error).contains("names that start with .wh."),
        "{}",
        report(&error)
    );
}

#[test]
fn a_cancelled_build_leaves_nothing_and_the_next_works() {
    let bench = Bench::with_base();
    let dockerfile = "FROM base:1\nRUN touch /first\nRUN echo started; sleep 1000";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the step", || {
                bench.output().contains(&"started".to_owned())
            });
            bench.cancel.cancel();
        });
        let error = bench.try_build(dockerfile).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled), "{}", report(&error));
    });
    let images = bench.dir.path().join("images");
    assert!(scratch_folders(&images).is_empty());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&*bench.dir.path().to_string_lossy()));
    let bench = Bench {
        cancel: Default::default(),
        ..bench
    };
    bench.build("FROM base:1\nRUN touch /first\nRUN echo done");
    assert_eq!(bench.cached(), [true, true, false]);
}

/// Not a test by itself: the build that `a_killed_build_…` kills.
#[test]
#[ignore = "helper process of another test"]
fn helper_endless_build() {
    let Some(dir) = std::env::var_os("HAVRE_TEST_DIR") else {
        return;
    };
    let dir = tempfile::Builder::new().tempdir_in(dir).expect("a folder");
    let bench = Bench::in_dir(dir);
    bench.make_base(havre_image::ImageConfig::for_this_machine());
    let marker = bench.dir.path().parent().expect("a parent").join("started");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the step", || {
                let events = bench.events.lock().expect("no panic");
                events.iter().any(|event| {
                    matches!(event, BuildEvent::StepOutput { text, .. } if text == "started")
                })
            });
            fs::write(marker, bench.dir.path().to_string_lossy().as_bytes()).expect("a file");
        });
        bench.build("FROM base:1\nRUN touch /first\nRUN echo started; sleep 1000");
    });
}

#[test]
fn a_killed_build_poisons_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "builder::faults::helper_endless_build",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("HAVRE_TEST_DIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let marker = dir.path().join("started");
    wait_until("the build", || {
        fs::read_to_string(&marker).is_ok_and(|text| !text.is_empty())
    });
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let inner = fs::read_to_string(&marker).expect("a path");
    assert!(
        !scratch_folders(&Path::new(&inner).join("images")).is_empty(),
        "it was at work"
    );
    let adopted = tempfile::tempdir().expect("a folder");
    let place = adopted.path().join("again");
    fs::rename(&inner, &place).expect("it is moved");
    let store = havre_store::Store::open(&place.join("state.db"), &[havre_image::SCHEMA])
        .expect("a database");
    let images = havre_image::Images::open(&place.join("images"), std::sync::Arc::new(store))
        .expect("a store");
    assert!(
        scratch_folders(&place.join("images")).is_empty(),
        "scratch folders are swept"
    );
    let bench = Bench {
        images,
        context: place.join("context"),
        ..Bench::new()
    };
    bench.build("FROM base:1\nRUN touch /first\nRUN echo done");
    assert_eq!(
        bench.cached(),
        [true, true, false],
        "finished steps survive"
    );
}
