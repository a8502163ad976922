//! What can be said, and what is refused.

use crate::fixtures::*;
use crate::program::{Ran, World, command};
use havre_api::{Info, Status, Up};

fn run(args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    command(folder.path(), args)
        .current_dir(folder.path())
        .output()
        .unwrap()
        .into()
}

#[test]
fn help_lists_the_commands_and_the_exit_codes() {
    let ran = run(&["--help"]);
    assert_eq!(ran.code, 0);
    insta::assert_snapshot!("help", ran.out);
}

#[test]
fn usage_errors_have_their_own_code() {
    for args in [
        &["no-such-command"][..],
        &["up", "--no-such-flag"],
        &["logs", "--tail", "x"],
        &[],
    ] {
        assert_eq!(run(args).code, 2, "{args:?}");
    }
}

#[test]
fn the_usual_slips_get_a_hint() {
    let ran = run(&["exec", "-e", "A=1", "web", "sh"]);
    assert!(
        ran.err.contains("a variable is set by --env"),
        "{}",
        ran.err
    );
    let ran = run(&["logs", "-p", "./folder"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("-C"), "{}", ran.err);
    for (args, said) in [
        (&["-p", "shop", "ps"][..], "`havre COMMAND -p …`"),
        (
            &["--project-name=shop", "up"],
            "`havre COMMAND --project …`",
        ),
        (&["stop"], "`havre down`"),
        (&["pause"], "`havre rollout pause`"),
        (&["compose", "up"], "leave that word out"),
        (&["network", "connect", "a", "b"], "`external: true`"),
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
    }
    let ran = run(&["up", "-p", "shop", "--no-such-flag"]);
    assert!(!ran.err.contains("belongs behind"), "{}", ran.err);
}

#[test]
fn completions_and_manual_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]);
        assert!(ran.out.contains("restart"), "{shell}");
    }
    assert!(run(&["man"]).out.contains(".TH havre"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages");
    assert_eq!(run(&["man", "--dir", path.to_str().unwrap()]).code, 0);
    assert!(path.join("havre-image-import.1").is_file());
}

#[test]
fn colours_follow_the_users_wish() {
    let world =
        |_: ()| World::new(backend(1).call::<Status, _>(async |_| Ok(vec![running_environment()])));
    let ran = world(()).run(&["status", "--color", "always"]);
    assert!(ran.out.contains("\x1b["), "{}", ran.out);
    let ran = world(()).run(&["status"]);
    assert!(!ran.out.contains("\x1b["), "{}", ran.out);
}

#[test]
fn a_daemon_of_another_version_is_told() {
    let old = havre_api::DaemonInfo {
        version: "0.0.1".into(),
        ..info()
    };
    let backend = havre_testing::api::Script::default()
        .call::<Info, _>(async |_| Ok(old))
        .operation::<Up, _>(async |_, _| Ok(up_outcome(true)));
    let ran = World::new(backend).run(&["up"]);
    assert!(
        ran.err.contains("the daemon is of version 0.0.1"),
        "{}",
        ran.err
    );
}

#[test]
fn a_folder_that_is_not_there_and_one_below_the_compose_file_are_told() {
    let ran = run(&["up", "shopp"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("there is no folder "), "{}", ran.err);
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("api/src");
    std::fs::create_dir_all(&below).unwrap();
    let file = folder.path().join("docker-compose.yml");
    std::fs::write(&file, "services: {}").unwrap();
    let mut check = command(folder.path(), &["check"]);
    let ran: Ran = check.current_dir(&below).output().unwrap().into();
    assert_eq!(ran.code, 3);
    let said = format!("there is {} above it", file.display());
    assert!(
        ran.err.contains(&said) || ran.out.contains(&said),
        "{ran:?}"
    );
}
