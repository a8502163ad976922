//! What holds for all commands.

use std::collections::BTreeMap;

use clap::CommandFactory;

use super::*;

/// Each short flag with the long ones it stands for, and the commands that have it.
fn short_flags(
    command: &clap::Command,
    path: &str,
    found: &mut BTreeMap<char, BTreeMap<String, Vec<String>>>,
) {
    for argument in command.get_arguments() {
        if let (Some(short), Some(long)) = (argument.get_short(), argument.get_long()) {
            let meanings = found.entry(short).or_default();
            meanings
                .entry(long.to_owned())
                .or_default()
                .push(path.to_owned());
        }
    }
    for below in command.get_subcommands() {
        short_flags(below, &format!("{path} {}", below.get_name()), found);
    }
}

#[test]
fn a_short_flag_means_one_thing() {
    let mut command = Cli::command();
    command.build();
    let mut found = BTreeMap::new();
    short_flags(&command, "havre", &mut found);
    assert_eq!(found[&'E'].len(), 1);
    // docker, kubectl and tail follow with it, and docker compose takes its files before the command.
    let follow = found
        .get_mut(&'f')
        .and_then(|meanings| meanings.remove("follow"));
    let follows = ["havre ci logs", "havre logs"].map(str::to_owned);
    assert_eq!(follow, Some(follows.to_vec()));
    for (short, meanings) in found {
        assert_eq!(meanings.len(), 1, "-{short}: {meanings:?}");
    }
}

#[test]
fn a_value_has_one_source() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop);
    for right in ["set x --generate", "rotate x --stdin", "rotate x --abort"] {
        assert!(parse(&format!("havre secret {right}")).is_ok(), "{right}");
    }
    for wrong in [
        "set x --stdin --generate",
        "rotate x --from-file a --stdin",
        "rotate x --abort --stdin",
    ] {
        assert!(parse(&format!("havre secret {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn a_secret_is_of_no_environment_by_default() {
    let mut command = Cli::command();
    command.build();
    let secret = command.find_subcommand("secret").unwrap();
    let mut told = 0;
    for command in secret.get_subcommands() {
        let mut arguments = command.get_arguments();
        if let Some(environment) = arguments.find(|one| one.get_long() == Some("environment")) {
            let help = environment.get_help().unwrap().to_string();
            assert!(help.contains("without it, of the machine"), "{help}");
            told += 1;
        }
    }
    assert_eq!(told, 10);
}

#[test]
fn every_command_about_an_environment_takes_the_same() {
    let mut command = Cli::command();
    command.build();
    let mut about = Vec::new();
    let mut pending = vec![&command];
    while let Some(command) = pending.pop() {
        let longs: Vec<&str> = command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .collect();
        // The trail is asked for environments of any project, whose files need not be here.
        let filters = command.get_name() == "log";
        if longs.contains(&"environment") && !filters {
            for long in ["file", "env-file", "directory", "project"] {
                assert!(longs.contains(&long), "{} --{long}", command.get_name());
            }
            about.push(command.get_name());
        }
        pending.extend(command.get_subcommands());
    }
    // The command itself, 17 commands, 10 of `ci`, that of `git`, 5 of `rollout`, 10 of `secret`, 3 of `env` and 1 of `releases`.
    assert_eq!(about.len(), 59, "{about:?}");
}
