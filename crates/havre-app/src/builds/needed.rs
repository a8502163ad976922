//! Which images a project needs, and in which order they are made. Pure.

use havre_api::{ApiError, ErrorCode};
use havre_image::ImageRef;
use havre_model::{Build, BuildContext, Project, PullPolicy, ServiceName};

/// One image that services need.
pub(super) struct NeededImage<'a> {
    pub reference: ImageRef,
    /// Whether the project says that name of what is built.
    pub is_named: bool,
    pub build: Option<&'a Build>,
    pub policy: PullPolicy,
    pub services: Vec<ServiceName>,
}

impl NeededImage<'_> {
    /// Services whose images it is made from.
    pub fn needs(&self) -> impl Iterator<Item = &ServiceName> {
        let contexts = self
            .build
            .into_iter()
            .flat_map(|build| build.contexts.values());
        contexts.filter_map(|context| match context {
            BuildContext::Service { name } => Some(name),
            BuildContext::Folder { .. } | BuildContext::Git(_) | BuildContext::Image { .. } => None,
        })
    }
}

/// The images of a project, each once, and after those that it is made from.
pub(super) fn needed_images(project: &Project) -> Result<Vec<NeededImage<'_>>, ApiError> {
    let mut waiting = each_once(project)?;
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_ready = |one: &NeededImage<'_>| {
            let awaited =
                |name: &ServiceName| waiting.iter().any(|other| other.services.contains(name));
            !one.needs().any(awaited)
        };
        let Some(index) = waiting.iter().position(is_ready) else {
            // The reader refuses services that are made from each other; one image of several
            // services can still be.
            let message = "images of this project are made from each other";
            return Err(
                ApiError::new(ErrorCode::Invalid, message).with_hint("see `additional_contexts`")
            );
        };
        ordered.push(waiting.remove(index));
    }
    Ok(ordered)
}

pub(super) fn each_once(project: &Project) -> Result<Vec<NeededImage<'_>>, ApiError> {
    let mut all: Vec<NeededImage<'_>> = Vec::new();
    // First those that are built: what only names an image may mean one of them.
    let (built, named): (Vec<_>, Vec<_>) = project
        .services
        .iter()
        .partition(|(_, service)| service.build.is_some());
    for (name, service) in built.into_iter().chain(named) {
        let text = match (&service.image, &service.build) {
            (Some(image), _) => image.clone(),
            (None, Some(_)) => format!("{}-{name}", project.name),
            (None, None) => {
                let message = format!("service `{name}` has neither image nor build");
                return Err(ApiError::new(ErrorCode::Invalid, message));
            }
        };
        let reference = reference(&text, name)?;
        let build = service.build.as_ref();
        let same = all.iter_mut().find(|other| {
            other.reference == reference && (other.build == build || build.is_none())
        });
        match same {
            Some(other) => {
                other.is_named |= build.is_some() && service.image.is_some();
                other.services.push(name.clone());
            }
            None => {
                if let Some(other) = all.iter().find(|other| other.reference == reference) {
                    let message = format!(
                        "services `{}` and `{name}` give different images the name {reference}",
                        other
                            .services
                            .iter()
                            .map(ServiceName::as_str)
                            .collect::<Vec<_>>()
                            .join("`, `")
                    );
                    return Err(ApiError::new(ErrorCode::Invalid, message)
                        .with_hint("give one of them another `image`, or the same `build`"));
                }
                let services = vec![name.clone()];
                all.push(NeededImage {
                    reference,
                    is_named: build.is_some() && service.image.is_some(),
                    build,
                    policy: service.pull_policy,
                    services,
                });
            }
        }
    }
    Ok(all)
}

pub(super) fn reference(text: &str, service: &ServiceName) -> Result<ImageRef, ApiError> {
    text.parse().map_err(|error: havre_image::RefError| {
        ApiError::from_error(ErrorCode::Invalid, &error)
            .with_hint(format!("see `image` of service `{service}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_another_service_builds_is_not_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let text = "services:\n  api: {image: \"shop/app:latest\"}\n  \
                    web: {image: shop/app, build: {context: ., dockerfile_inline: FROM scratch}}\n  \
                    db: {image: \"postgres:16\"}\n";
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        let options = havre_model::LoadOptions {
            directory: folder.path().to_owned(),
            ..havre_model::LoadOptions::default()
        };
        let project = havre_model::load(&options).unwrap().project;
        let needed = needed_images(&project).unwrap();
        let shown: Vec<(bool, Vec<&str>)> = needed
            .iter()
            .map(|needed| {
                let services = needed.services.iter().map(ServiceName::as_str).collect();
                (needed.build.is_some(), services)
            })
            .collect();
        assert_eq!(shown, [(true, vec!["web", "api"]), (false, vec!["db"])]);
    }
}
