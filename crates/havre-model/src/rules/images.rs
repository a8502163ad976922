//! Images, and what they are made of.

use super::Look;
use crate::project::{Build, Healthcheck, Mount, Service, ServiceName};

/// Beginnings of variables that bundlers write into what visitors get.
const PUBLIC: [&str; 4] = ["NEXT_PUBLIC_", "VITE_", "REACT_APP_", "NUXT_PUBLIC_"];
/// Bytes of a Dockerfile that are looked through.
const MAX_DOCKERFILE: u64 = 1 << 20;

pub fn look(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    if let Some(build) = &service.build {
        built(look, name, service, build);
    } else if let Some(image) = &service.image {
        let last = image.rsplit('/').next().unwrap_or(image);
        let tag = last.split_once(':').map(|(_, tag)| tag);
        if !image.contains('@') && matches!(tag, None | Some("latest")) {
            let message = format!("`{name}` runs whatever `{image}` is at the moment");
            look.found("images/latest", name, &["image"], message);
        }
    }
    for mount in &service.mounts {
        if let Mount::Bind { source, .. } = mount
            && !source.exists()
        {
            let message = format!("`{name}` mounts {}, which does not exist", source.display());
            look.found("images/bind-missing", name, &["volumes"], message);
        }
    }
    let routed = look
        .project
        .routes
        .iter()
        .any(|route| route.service == *name);
    let in_image = service
        .build
        .as_ref()
        .and_then(dockerfile)
        .is_none_or(|text| text.contains("HEALTHCHECK"));
    // What an image from elsewhere brings is not known here.
    let without = service.healthcheck.is_none() && !in_image
        || matches!(service.healthcheck, Some(Healthcheck::Disabled));
    if routed && without {
        let message = format!("`{name}` serves requests and has no health check");
        look.found("images/no-healthcheck", name, &["healthcheck"], message);
    }
}

fn built(look: &mut Look<'_>, name: &ServiceName, service: &Service, build: &Build) {
    for variable in service.environment.keys() {
        let public = PUBLIC.iter().any(|start| variable.starts_with(start));
        if public && !build.args.contains_key(variable) {
            let message = format!("`{name}` gets {variable} when it runs, not when it is built");
            let place = ["environment", variable.as_str()];
            look.found("images/public-variable-at-run-time", name, &place, message);
        }
    }
}

/// The Dockerfile's text, where it can be read.
fn dockerfile(build: &Build) -> Option<String> {
    if let Some(text) = &build.dockerfile_inline {
        return Some(text.clone());
    }
    let path = build.context.join(&build.dockerfile);
    let small = std::fs::metadata(&path).ok()?.len() <= MAX_DOCKERFILE;
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}
