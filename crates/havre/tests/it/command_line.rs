//! What can be said, and what is refused.

use crate::fixtures::*;
use crate::program::{Ran, World, command};
use havre_api::{Down, Info, Replicas, Status, Up};

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
    let ran = run(&["exec", "-e", "staging", "web", "sh"]);
    assert!(ran.err.contains("`-E NAME`"), "{}", ran.err);
    let ran = run(&["logs", "-p", "./folder"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("-C"), "{}", ran.err);
    for (args, said) in [
        (
            &["up", "-e", "staging"][..],
            "`-E NAME` names the environment",
        ),
        (&["logs", "-t"], "`--timestamps`"),
        (&["-p", "shop", "image", "ls"], "reads no project"),
        (&["--profile", "x", "ps"], "--profile has no meaning"),
        (&["-C", "here", "plan", "there"], "named twice"),
        (
            &["doctor", "--explain", "x", "there"],
            "not about a project",
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
}

#[test]
fn a_project_is_named_alike_by_every_command() {
    let world = || {
        let ps = async |query: havre_api::ReplicaQuery| {
            assert_eq!(query.project.unwrap().as_str(), "bakery");
            assert_eq!(query.environment.unwrap().as_str(), "staging");
            Ok(Vec::new())
        };
        let down = async |request: havre_api::DownRequest, _| {
            assert_eq!(request.environment.to_string(), "bakery/staging");
            Err(havre_api::ApiError::new(
                havre_api::ErrorCode::NotFound,
                "asked",
            ))
        };
        let up = async |request: havre_api::UpRequest, _| {
            assert_eq!(request.project.name.as_str(), "bakery");
            assert_eq!(request.project.environment.as_str(), "staging");
            assert!(request.project.services.contains_key(&service("oven")));
            Ok(up_outcome(true))
        };
        let backend = backend(1)
            .call::<Replicas, _>(ps)
            .operation::<Down, _>(down)
            .operation::<Up, _>(up);
        let world = World::new(backend);
        let folder = world.folder.path().join("other");
        std::fs::create_dir(&folder).unwrap();
        let compose = "name: bakery\nservices:\n  oven: {image: 'oven:1', profiles: [hot]}\n  \
                       web: {image: 'web:1'}\n";
        std::fs::write(folder.join("compose.yaml"), compose).unwrap();
        world
    };
    for (args, code) in [
        (&["-C", "other", "-E", "staging", "ps"][..], 0),
        (&["ps", "-f", "other/compose.yaml", "-E", "staging"], 0),
        (&["--project-name=bakery", "-E", "staging", "ps"], 0),
        (
            &["-E", "production", "ps", "-C", "other", "-E", "staging"],
            0,
        ),
        (&["down", "other", "-E", "staging"], 6),
        (&["-p", "bakery", "-E", "staging", "down", "-v"], 6),
        (&["-f", "other/compose.yaml", "down", "-E", "staging"], 6),
        (
            &[
                "--profile",
                "hot",
                "-f",
                "other/compose.yaml",
                "up",
                "-E",
                "staging",
            ],
            0,
        ),
        (&["up", "other", "--profile", "hot", "-E", "staging"], 0),
    ] {
        let ran = world().run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
    }
    let world = world();
    let mut by_variable = world.command(&["ps", "-C", "other"]);
    let ran: Ran = by_variable
        .env("HAVRE_ENVIRONMENT", "staging")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0, "{ran:?}");
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
