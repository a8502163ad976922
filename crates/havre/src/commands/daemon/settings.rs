//! What a daemon is run with, as the environment variables that say it: so a unit of systemd holds it,
//! and a running daemon tells of it.

use std::collections::BTreeMap;

use clap::{ArgAction, Args as _, Command, FromArgMatches as _};

use crate::cli::DaemonSettings;

impl DaemonSettings {
    /// What was given, by the names of environment variables.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let Self {
            http,
            https,
            trusted_proxies,
            connections_per_address,
            build_cache_floor,
            build_cache_ceiling,
        } = self;
        let all = [
            ("HAVRE_HTTP", joined(http)),
            ("HAVRE_HTTPS", joined(https)),
            ("HAVRE_TRUSTED_PROXIES", joined(trusted_proxies)),
            (
                "HAVRE_CONNECTIONS_PER_ADDRESS",
                joined(connections_per_address),
            ),
            ("HAVRE_BUILD_CACHE_FLOOR", joined(build_cache_floor)),
            ("HAVRE_BUILD_CACHE_CEILING", joined(build_cache_ceiling)),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// What such variables say; those of another version, which mean nothing here, say nothing.
    pub fn of_variables(variables: &BTreeMap<String, String>) -> Self {
        let mut words = Vec::new();
        for (name, value) in variables {
            let alone = BTreeMap::from([(name.clone(), value.clone())]);
            let flags = flags(&alone);
            if parsed(&flags).is_some() {
                words.extend(flags);
            }
        }
        parsed(&words).unwrap_or_default()
    }

    /// Whether one of the settings comes from this variable.
    pub fn has_variable(name: &str) -> bool {
        let command = Self::augment_args(Command::new("daemon"));
        let mut variables = command
            .get_arguments()
            .filter_map(|argument| argument.get_env());
        variables.any(|variable| variable == name)
    }

    /// This, and what `other` says where this says nothing.
    pub fn or(self, other: Self) -> Self {
        let mut all = other.variables();
        all.extend(self.variables());
        Self::of_variables(&all)
    }

    /// The same as options of `havre daemon`.
    pub fn flags(&self) -> Vec<String> {
        flags(&self.variables())
    }
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(",")
}

/// Each with its value, once per value where it may be repeated.
fn flags(variables: &BTreeMap<String, String>) -> Vec<String> {
    let command = DaemonSettings::augment_args(Command::new("daemon"));
    let mut words = Vec::new();
    for argument in command.get_arguments() {
        let name = argument.get_env().and_then(|name| name.to_str());
        let value = name.and_then(|name| variables.get(name));
        let (Some(value), Some(long)) = (value, argument.get_long()) else {
            continue;
        };
        let values: Vec<&str> = match argument.get_action() {
            ArgAction::Append => value.split(',').collect(),
            _ => vec![value],
        };
        for value in values {
            words.extend([format!("--{long}"), value.to_owned()]);
        }
    }
    words
}

fn parsed(words: &[String]) -> Option<DaemonSettings> {
    // What this command's own environment says is not asked for.
    let command =
        DaemonSettings::augment_args(Command::new("daemon")).mut_args(|arg| arg.env(None));
    let words = std::iter::once("daemon").chain(words.iter().map(String::as_str));
    let matches = command.try_get_matches_from(words).ok()?;
    DaemonSettings::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn all() -> BTreeMap<String, String> {
        let command = DaemonSettings::augment_args(Command::new("daemon"));
        let value = |argument: &clap::Arg| match argument.get_id().as_str() {
            "http" => "127.0.0.1:8080,[::]:80",
            "https" => "0.0.0.0:8443",
            "trusted_proxies" => "203.0.113.0/24,2001:db8::1",
            "connections_per_address" => "77",
            "build_cache_floor" => "5000000000",
            "build_cache_ceiling" => "12%",
            other => panic!("give {other} a value here"),
        };
        let all = command.get_arguments().map(|argument| {
            let name = argument.get_env().expect("a variable of its own");
            (
                name.to_string_lossy().into_owned(),
                value(argument).to_owned(),
            )
        });
        all.collect()
    }

    #[test]
    fn every_option_survives_as_a_variable_and_as_a_flag() {
        let all = all();
        let settings = DaemonSettings::of_variables(&all);
        assert_eq!(settings.variables(), all);
        assert_eq!(parsed(&settings.flags()), Some(settings.clone()));
        assert_eq!(DaemonSettings::default().or(settings.clone()), settings);
        let one = DaemonSettings {
            connections_per_address: Some(5),
            ..DaemonSettings::default()
        };
        let both = one.or(settings.clone());
        assert_eq!(both.connections_per_address, Some(5));
        assert_eq!(both.http, settings.http);
        let odd = BTreeMap::from([
            ("HAVRE_NEWER".to_owned(), "1".to_owned()),
            ("HAVRE_HTTP".to_owned(), "nonsense".to_owned()),
            ("HAVRE_BUILD_CACHE_FLOOR".to_owned(), "3%".to_owned()),
        ]);
        assert_eq!(DaemonSettings::of_variables(&odd).variables().len(), 1);
    }

    /// What the daemon is run with can be installed.
    #[test]
    fn every_option_of_the_daemon_is_one_of_install() {
        let cli = Cli::command();
        let daemon = cli.find_subcommand("daemon").expect("it is there");
        let install = daemon.find_subcommand("install").expect("it is there");
        let options = |command: &Command| -> Vec<String> {
            let all = command.get_arguments().filter(|arg| !arg.is_global_set());
            all.map(|argument| argument.get_id().to_string()).collect()
        };
        assert_eq!(options(daemon), options(install));
        assert_eq!(options(install).len(), all().len());
    }
}
