//! What a build is given: arguments that reach it, and addresses that it writes into pages.

use std::collections::BTreeMap;

use super::dockerfile::{Recipe, Said};
use super::look::{Look, Subject};
use crate::project::Build;
use crate::settings::PRODUCTION;

/// Beginnings of variables that bundlers write into what visitors get.
const PUBLIC: [&str; 9] = [
    "EXPO_PUBLIC_",
    "GATSBY_",
    "NEXT_PUBLIC_",
    "NG_APP_",
    "NUXT_PUBLIC_",
    "PUBLIC_",
    "REACT_APP_",
    "VITE_",
    "VUE_APP_",
];
/// Arguments that every build has without declaring them, and those that only the builder reads.
const PREDEFINED: [&str; 7] = [
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "source_date_epoch",
    "buildkit_",
];
/// Files that bundlers read at build time, the one that counts first.
const ENV_FILES: [&str; 2] = [".env.production", ".env"];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build) {
    at_run_time(look, subject, build);
    let Some(recipe) = &subject.recipe else {
        return;
    };
    unused(look, subject, build, recipe);
    if look.project.environment.as_str() == PRODUCTION {
        local_addresses(look, subject, build, recipe);
    }
}

fn is_public(variable: &str) -> bool {
    PUBLIC.iter().any(|start| variable.starts_with(start))
}

/// Public variables that the service gets and its build does not.
fn at_run_time(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build) {
    let name = subject.name;
    let variables = subject.service.environment.keys();
    for variable in variables.filter(|name| is_public(name)) {
        if build.args.contains_key(variable) {
            continue;
        }
        let message = format!("`{name}` gets {variable} when it runs, not when it is built");
        let declared = subject
            .recipe
            .as_ref()
            .is_some_and(|recipe| recipe.arguments.contains_key(variable));
        let fix = if declared {
            format!("give it as build.args: the Dockerfile has `ARG {variable}`")
        } else {
            format!(
                "give it as build.args, and say `ARG {variable}` in the Dockerfile before the step that builds"
            )
        };
        let place = ["environment", variable.as_str()];
        look.found_with(
            "images/public-variable-at-run-time",
            subject,
            &place,
            message,
            &fix,
        );
    }
}

/// Arguments that no stage of the build declares.
fn unused(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build, recipe: &Recipe) {
    let name = subject.name;
    for argument in build.args.keys() {
        let lower = argument.to_ascii_lowercase();
        let predefined = PREDEFINED.iter().any(|known| lower.starts_with(known));
        if predefined
            || recipe.arguments.contains_key(argument)
            || recipe.globals.contains(argument)
        {
            continue;
        }
        let message = format!(
            "the build of `{name}` gets {argument}, but its Dockerfile has no `ARG {argument}`: it does not reach the build"
        );
        let fix = format!("say `ARG {argument}` in the stage whose steps need it, before them");
        let place = ["build", "args", argument.as_str()];
        look.found_with("images/unused-argument", subject, &place, message, &fix);
    }
}

/// Public variables whose value, when the image is built, is an address of the visitor's own machine.
fn local_addresses(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build, recipe: &Recipe) {
    let name = subject.name;
    let message = |variable: &str, value: &str| {
        format!(
            "`{name}` is built with {variable}={value}: every visitor's browser would ask itself"
        )
    };
    let given = |variable: &String| {
        recipe.arguments.contains_key(variable) && build.args.contains_key(variable)
    };
    for (variable, value) in &build.args {
        if is_public(variable) && given(variable) && is_local(value) {
            let place = ["build", "args", variable.as_str()];
            look.found(
                "images/local-address",
                subject,
                &place,
                message(variable, value),
            );
        }
    }
    let said = recipe.arguments.iter().chain(&recipe.build_environment);
    let mut told: BTreeMap<&str, &Said> = BTreeMap::new();
    for (variable, said) in said.filter(|(variable, _)| is_public(variable) && !given(variable)) {
        if is_local(&said.text) {
            told.insert(variable, said);
        }
    }
    for (variable, said) in told {
        let message = message(variable, &said.text);
        look.found_in_dockerfile("images/local-address", subject, said.line, message);
    }
    for (variable, value, file) in of_env_files(build) {
        let set = |all: &BTreeMap<String, Said>| {
            all.get(&variable).is_some_and(|said| !said.text.is_empty())
        };
        let set = given(&variable) || set(&recipe.arguments) || set(&recipe.build_environment);
        if !set && is_public(&variable) && is_local(&value) {
            let message = format!(
                "{} ({file} in its build context)",
                message(&variable, &value)
            );
            look.found("images/local-address", subject, &["build"], message);
        }
    }
}

/// What the files say that bundlers read by themselves: variable, value, file. Files that are kept
/// out of the context say nothing.
fn of_env_files(build: &Build) -> Vec<(String, String, &'static str)> {
    let ignored = super::dockerfile::small_file(&build.context.join(".dockerignore"));
    let is_ignored = ignored.is_some_and(|text| text.lines().any(|line| line.contains(".env")));
    if is_ignored {
        return Vec::new();
    }
    let mut found: Vec<(String, String, &'static str)> = Vec::new();
    for file in ENV_FILES {
        let text = super::dockerfile::small_file(&build.context.join(file)).unwrap_or_default();
        for line in text.lines() {
            let line = line.trim().trim_start_matches("export ");
            let Some((variable, value)) = line.split_once('=') else {
                continue;
            };
            let (variable, value) = (variable.trim(), value.trim().trim_matches(['"', '\'']));
            if !found.iter().any(|(known, ..)| known == variable) {
                found.push((variable.to_owned(), value.to_owned(), file));
            }
        }
    }
    found
}

/// An address of whichever machine reads it.
fn is_local(value: &str) -> bool {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let host = match rest.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => rest.split([':', '/', '?', '#']).next(),
    };
    let host = host.unwrap_or_default();
    matches!(
        host,
        "localhost" | "0.0.0.0" | "::1" | "host.docker.internal"
    ) || host.starts_with("127.") && host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_visitors_own_machine() {
        for (value, local) in [
            ("http://localhost:5000/api", true),
            ("localhost:5000", true),
            ("ws://127.0.0.1/", true),
            ("http://[::1]:80", true),
            ("/api", false),
            ("https://localhost.example.org", false),
            ("https://example.org/?next=http://localhost", false),
            ("127.0.0.1.example.org", false),
            ("true", false),
            ("", false),
        ] {
            assert_eq!(is_local(value), local, "{value}");
        }
    }
}
