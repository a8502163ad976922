//! Health checks: whether there is one, and whether it can be run.

use super::commands;
use super::line::{Line, program};
use super::look::{Look, Subject};
use crate::image_name::ImageName;
use crate::probes::local_port;
use crate::project::{Healthcheck, Probe};

/// Programs that checks call and small images lack.
const TOOLS: [&str; 6] = ["bash", "curl", "nc", "ncat", "sh", "wget"];
/// Alpine's variants of these bring curl.
const WITH_CURL: [&str; 4] = ["httpd", "nginx", "php", "wordpress"];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    let routes = &look.project.routes;
    let routed = routes.iter().any(|route| route.service == *name);
    // What an image from elsewhere brings is not known here.
    let in_image = subject
        .recipe
        .as_ref()
        .is_none_or(|recipe| recipe.healthcheck.is_some());
    let without = service.healthcheck.is_none() && !in_image
        || matches!(service.healthcheck, Some(Healthcheck::Disabled));
    if routed && without {
        let message = format!("`{name}` serves requests and has no health check");
        look.found("images/no-healthcheck", subject, &["healthcheck"], message);
    }
    if let Some((tool, image)) = lacking(subject) {
        let message =
            format!("the health check of `{name}` calls {tool}, which `{image}` probably lacks");
        let path = ["healthcheck", "test"];
        look.found("images/healthcheck-program", subject, &path, message);
    }
    if let Some((line, message)) = asks_elsewhere(subject) {
        look.found_in_dockerfile("images/healthcheck-port", subject, line, message);
    }
}

/// The image's health check asks a port that the service's own command does not serve: the line of
/// the Dockerfile, and what is wrong.
fn asks_elsewhere(subject: &Subject<'_>) -> Option<(u32, String)> {
    let (name, service) = (subject.name, subject.service);
    let check = subject.recipe.as_ref()?.healthcheck.as_ref()?;
    let own_line = service.command.is_some() || service.entrypoint.is_some();
    if !own_line || service.healthcheck.is_some() || subject.is_job {
        return None;
    }
    let asked = local_port(&check.text)?;
    let served = subject.line.ports();
    let serves = if let Some(kind) = commands::background(&subject.line) {
        format!("a `{kind}`, which serves none")
    } else if served.is_empty() || served.contains(&asked) {
        return None;
    } else {
        let served: Vec<String> = served.iter().map(u16::to_string).collect();
        format!("what serves port {}", served.join(", "))
    };
    let message = format!(
        "the health check of `{name}` comes from its image and asks port {asked}, but its command is {serves}"
    );
    Some((check.line, message))
}

/// What the health check calls and the image lacks, as far as its name and its Dockerfile tell.
fn lacking<'s>(subject: &'s Subject<'_>) -> Option<(&'static str, &'s str)> {
    let Some(Healthcheck::Probe {
        test: Some(probe), ..
    }) = &subject.service.healthcheck
    else {
        return None;
    };
    let called: Vec<&str> = match probe {
        Probe::Exec(words) => words
            .first()
            .map(|word| program(word))
            .into_iter()
            .collect(),
        Probe::Shell(_) => vec!["sh"],
    };
    let line = match probe {
        Probe::Exec(words) => Line::new(&words.join(" ")),
        Probe::Shell(text) => Line::new(text),
    };
    let (image, steps) = match &subject.recipe {
        Some(recipe) => (recipe.base.as_deref()?, recipe.steps.as_str()),
        // A build that is not known may add anything.
        None if subject.service.build.is_some() => return None,
        None => (subject.service.image.as_deref()?, ""),
    };
    let called = called.into_iter().chain(line.programs());
    let mut known = called.filter_map(|name| TOOLS.into_iter().find(|tool| *tool == name));
    // Whoever names a program in a step has it by then.
    let named = |tool: &str| {
        let mut words = steps.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| word == tool || tool == "nc" && word.starts_with("netcat"))
    };
    known
        .find(|tool| lacks(image, tool) && !named(tool))
        .map(|tool| (tool, image))
}

/// Whether images of this name are known to come without the program.
fn lacks(image: &str, tool: &str) -> bool {
    let name = ImageName::new(image);
    let (path, tag) = (name.path, name.tag.unwrap_or_default());
    if path == "scratch" || path.contains("distroless") && !tag.contains("debug") {
        return true;
    }
    if path.contains('/') {
        return false;
    }
    let alpine = path == "alpine" || tag.contains("alpine");
    let debian = matches!(path, "debian" | "ubuntu" | "postgres" | "redis") || tag.contains("slim");
    match (alpine, debian) {
        (true, _) if tag.contains("slim") => matches!(tool, "bash" | "curl" | "ncat"),
        (true, _) => {
            tool == "ncat" || !WITH_CURL.contains(&path) && matches!(tool, "bash" | "curl")
        }
        (false, true) => matches!(tool, "curl" | "nc" | "ncat" | "wget"),
        (false, false) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_names() {
        for (image, tool, lacking) in [
            ("scratch", "sh", true),
            ("gcr.io/distroless/static-debian12", "wget", true),
            ("alpine:3.20", "curl", true),
            ("alpine", "wget", false),
            ("node:22-alpine", "curl", true),
            ("node:22-alpine", "sh", false),
            ("nginx:1.27-alpine", "curl", false),
            ("nginx:1.27-alpine-slim", "curl", true),
            ("docker.io/library/python:3.12-slim@sha256:00", "curl", true),
            ("python:3.12", "curl", false),
            ("debian:bookworm-slim", "bash", false),
            ("redis:7-alpine", "nc", false),
            ("registry.test:5000/ours:slim", "curl", false),
            ("ours/app:slim", "curl", false),
        ] {
            assert_eq!(lacks(image, tool), lacking, "{image} {tool}");
        }
    }
}
