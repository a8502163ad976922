//! What a project says of a build, in the builder's words.

use std::collections::BTreeMap;
use std::io;

use havre_api::{ApiError, ErrorCode, UpOptions};
use havre_image::builder::{
    BuildRequest, DockerfileSource, NamedContext, Reach, Secret, StepSettings, host_ca_bundle,
};
use havre_image::{ImageError, ImageRef, Images, NameRights, NameUse};
use havre_model::{Build, BuildContext, Project, PullPolicy, ServiceName};
use havre_secrets::SecretName;

use super::needed::NeededImage;
use crate::image_names::{Use, environment_of};
use crate::platform::Platform;
use crate::root::Root;
use crate::secrets::scope::scope_of;
use crate::{files, image_names};

/// The secrets of a build, read.
pub(super) fn secrets(
    project: &Project,
    needed: &NeededImage<'_>,
    build: &Build,
    platform: &Platform,
) -> Result<BTreeMap<String, Secret>, ApiError> {
    let scope = scope_of(Some(&environment_of(project)));
    let stored = |name: &SecretName| {
        let value = platform.secrets.resolve(&scope, name)?;
        Ok(value.plain)
    };
    let services = needed.services.iter();
    let services = services.filter_map(|name| project.services.get(name));
    let reach = files::Reach::new(&platform.root, project, services);
    let mut secrets = BTreeMap::new();
    for (id, name) in &build.secrets {
        let Some(source) = project.secrets.get(name) else {
            let message = format!("the secret `{name}`, which a build needs, has no source");
            return Err(ApiError::new(ErrorCode::Invalid, message));
        };
        let content = files::content("secret", name, source, &reach, &stored)
            .map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?;
        secrets.insert(id.clone(), Secret::new(content.to_vec()));
    }
    Ok(secrets)
}

/// Without its secrets and what is fetched for it. `digests`: the images that are there already.
pub(super) fn request(
    project: &Project,
    needed: &NeededImage<'_>,
    build: &Build,
    options: &UpOptions,
    digests: &BTreeMap<ServiceName, String>,
    platform: &Platform,
    using: Use<'_>,
) -> Result<BuildRequest, ApiError> {
    let names = using.builds();
    let tags = tags(needed, build, &platform.images, &names)?;
    let mut contexts = BTreeMap::new();
    for (name, context) in &build.contexts {
        let context = named_context(context, digests)?;
        contexts.extend(context.map(|context| (name.clone(), context)));
    }
    Ok(BuildRequest {
        secrets: BTreeMap::new(),
        contexts,
        steps: StepSettings {
            cache_of: using.cache_of(),
            cache_from: Vec::new(),
            offline: build.offline,
            hosts: build.extra_hosts.clone(),
            shm_size_bytes: build.shm_size_bytes,
            ulimits: build.ulimits.clone(),
        },
        context: build.context.clone(),
        dockerfile: match &build.dockerfile_inline {
            Some(text) => DockerfileSource::Inline(text.clone()),
            None => DockerfileSource::Path(build.dockerfile.clone()),
        },
        target: build.target.clone(),
        args: build.args.clone(),
        labels: build.labels.clone(),
        annotations: BTreeMap::new(),
        tags,
        names,
        no_cache: build.no_cache || options.no_cache,
        pull: options.pull || needed.policy == PullPolicy::Always,
        host_ca: if build.host_ca {
            host_ca_bundle()
        } else {
            None
        },
        reach: reach(&platform.root, project, needed),
    })
}

/// The names of the result, all of which may be given. One that the project does not say is left out where it
/// may not: environments of one project build under one name.
pub(super) fn tags(
    needed: &NeededImage<'_>,
    build: &Build,
    images: &Images,
    names: &NameRights,
) -> Result<Vec<ImageRef>, ApiError> {
    let mut tags = vec![needed.reference.clone()];
    for tag in &build.tags {
        tags.push(tag.parse().map_err(|error: havre_image::RefError| {
            ApiError::from_error(ErrorCode::Invalid, &error)
        })?);
    }
    let mut given = Vec::with_capacity(tags.len());
    for tag in tags {
        // Whoever names a digest means what has it.
        if tag.digest().is_some() {
            let message = format!("a build cannot be named {tag}: its digest is what comes of it");
            return Err(ApiError::new(ErrorCode::Invalid, message)
                .with_hint("leave the digest out of `image` and `build.tags`"));
        }
        match images.check_name(NameUse::Give, &tag, names) {
            Ok(()) => given.push(tag),
            Err(ImageError::Refused(_)) if !needed.is_named && tag == needed.reference => {}
            Err(error) => return Err(image_names::image_error(&error)),
        }
    }
    Ok(given)
}

/// What may be context or Dockerfile of a build: what each service that asks for the build may have
/// read for it.
fn reach(root: &Root, project: &Project, needed: &NeededImage<'_>) -> Reach {
    let services = needed.services.iter();
    let services = services.filter_map(|name| project.services.get(name));
    let services = services.filter(|service| service.build.is_some());
    let reach = files::Reach::new(root, project, services);
    Reach::new(move |real| match reach.covers(real) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "it is {}, which is read only with `allow: [host-paths]` in havre.yaml",
            real.display()
        ))),
    })
}

fn named_context(
    context: &BuildContext,
    digests: &BTreeMap<ServiceName, String>,
) -> Result<Option<NamedContext>, ApiError> {
    match context {
        BuildContext::Folder { path } => Ok(Some(NamedContext::Folder(path.clone()))),
        BuildContext::Git(_) => Ok(None),
        BuildContext::Image { reference } => Ok(Some(NamedContext::Image(reference.clone()))),
        BuildContext::Service { name } => {
            let digest = digests.get(name).and_then(|digest| digest.parse().ok());
            let stored = digest.map(NamedContext::Stored).ok_or_else(|| {
                let message = format!("a build needs the image of `{name}`, which is not there");
                ApiError::new(ErrorCode::Invalid, message)
            });
            stored.map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use havre_api::{Grant, Role};

    use super::*;
    use crate::builds::needed::needed_images;

    #[test]
    fn a_build_reads_what_its_services_may_have_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = "services: {web: {build: .}, worker: {image: x-web}}\n";
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let options = havre_model::LoadOptions {
            directory: folder.path().to_owned(),
            ..havre_model::LoadOptions::default()
        };
        let mut project = havre_model::load(&options).unwrap().project;
        for service in project.services.values_mut() {
            service.image = Some("x-web".to_owned());
        }
        let stage = crate::fake::Stage::new();
        let platform = &stage.daemon.platform;
        let may = |project: &Project, path: &Path| {
            let all = needed_images(project).unwrap();
            let build = all[0].build.unwrap();
            let options = UpOptions::default();
            let none = BTreeMap::new();
            let using = Use {
                by: &crate::fake::principal("anna", Grant::everywhere(Role::Admin)),
                environment: &environment_of(project),
                events: None,
            };
            let request = request(project, &all[0], build, &options, &none, platform, using);
            request.unwrap().reach.check(path)
        };
        let own = std::fs::canonicalize(folder.path()).unwrap();
        assert!(may(&project, &own).is_ok());
        let secret = Path::new("/etc/shadow");
        let refused = may(&project, secret).unwrap_err().to_string();
        let said = "it is /etc/shadow, which is read only with `allow: [host-paths]`";
        assert!(refused.starts_with(said), "{refused}");
        let own = std::fs::canonicalize(platform.root.state_dir()).unwrap();
        for own in [own.as_path(), own.parent().unwrap()] {
            let refused = may(&project, own).unwrap_err().to_string();
            assert!(refused.contains("`allow: [host-paths]`"), "{refused}");
        }
        // Who builds it was given it; others use the image.
        let web = project.services.get_mut(&ServiceName::new("web")).unwrap();
        web.allow.insert(havre_model::Allow::HostPaths);
        assert!(may(&project, secret).is_ok());
        assert!(may(&project, &own).is_ok());
    }
}
