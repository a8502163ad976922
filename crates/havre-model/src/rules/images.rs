//! Images, and what they are made of.

use std::path::Path;

use super::look::{Look, Subject};
use crate::files::means_file;
use crate::host_path;
use crate::image_name::ImageName;
use crate::project::{Build, Mount};

/// Images of operating systems and languages, which start as root.
const ROOT: [&str; 18] = [
    "alpine",
    "amazonlinux",
    "busybox",
    "composer",
    "debian",
    "eclipse-temurin",
    "fedora",
    "golang",
    "gradle",
    "maven",
    "node",
    "openjdk",
    "perl",
    "php",
    "python",
    "ruby",
    "rust",
    "ubuntu",
];
/// What gives root up by itself: servers that do, and what scripts call for it.
const DROPS: [&str; 16] = [
    "apache2",
    "apache2-foreground",
    "apachectl",
    "gosu",
    "haproxy",
    "httpd",
    "mariadbd",
    "memcached",
    "mysqld",
    "mysqld_safe",
    "nginx",
    "postgres",
    "runuser",
    "setpriv",
    "su",
    "su-exec",
];

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    match (&service.build, &service.image) {
        (Some(build), _) => built(look, subject, build),
        (None, Some(image)) if is_foreign(look, image) => {
            let message = format!("`{name}` runs whatever `{image}` is at the moment");
            look.found("images/latest", subject, &["image"], message);
        }
        (None, _) => {}
    }
    for mount in &service.mounts {
        if let Mount::Bind { source, target, .. } = mount
            && !source.exists()
            && !host_path::is_engine_socket(source)
        {
            missing(look, subject, source, target);
        }
    }
}

/// An image from elsewhere without a version: what the project builds itself has the release's.
fn is_foreign(look: &Look<'_>, image: &str) -> bool {
    let image = ImageName::new(image);
    let mut services = look.project.services.iter();
    let own = services.any(|(name, service)| match (&service.build, &service.image) {
        (Some(_), Some(own)) => ImageName::new(own).in_full() == image.in_full(),
        (Some(_), None) => image.path == format!("{}-{name}", look.project.name),
        (None, _) => false,
    });
    image.is_unversioned() && !own
}

fn missing(look: &mut Look<'_>, subject: &Subject<'_>, source: &Path, target: &str) {
    let name = subject.name;
    let shown = look.report.shown(source);
    if means_file(source, Path::new(target)) {
        let message = format!("`{name}` mounts {shown}, a file that does not exist");
        look.found_in_mount("images/bind-missing", subject, target, message);
    } else {
        let message = format!("`{name}` mounts {shown}, which does not exist yet");
        look.found_in_mount("images/bind-empty", subject, target, message);
    }
}

fn built(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build) {
    super::arguments::look(look, subject, build);
    if let Some(recipe) = &subject.recipe {
        for base in &recipe.bases {
            if is_foreign(look, &base.text) && base.text != "scratch" {
                // Without the service's name: several services may be built from one Dockerfile.
                let message = format!("the build starts from whatever `{}` is", base.text);
                look.found_in_dockerfile("images/latest", subject, base.line, message);
            }
        }
    }
    root(look, subject);
    tags(look, subject, build);
}

fn root(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    let Some(recipe) = &subject.recipe else {
        return;
    };
    let user = service.user.as_deref().or(recipe.user.as_deref());
    let is_root = match user.map(|user| user.split(':').next().unwrap_or(user)) {
        Some(user) => matches!(user, "0" | "root"),
        None => recipe.base.as_deref().is_some_and(starts_as_root),
    };
    // PHP's images start Apache or FPM, unless they are told otherwise.
    let serves_php = subject.line.is_empty()
        && recipe.base.as_deref().is_some_and(|base| {
            let tag = ImageName::new(base).tag.unwrap_or_default();
            tag.split('-').any(|part| matches!(part, "apache" | "fpm"))
        });
    if !is_root || subject.is_job || serves_php {
        return;
    }
    let scripts = look.scripts(subject);
    let words = scripts.split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\''));
    let mut said = words.chain(subject.line.words().map(super::line::program));
    let drops = said.any(|word| {
        DROPS.contains(&word) || word.starts_with("php-fpm") || word.starts_with("--user=")
    });
    if !drops {
        let message = format!("`{name}` runs as root");
        look.found("images/root", subject, &["user"], message);
    }
}

fn starts_as_root(image: &str) -> bool {
    let ImageName { path, tag, .. } = ImageName::new(image);
    if path.contains("distroless") {
        let root = |name: Option<&str>| !name.is_some_and(|name| name.contains("nonroot"));
        return root(Some(path)) && root(tag);
    }
    path == "scratch" || ROOT.contains(&path)
}

/// A tag that builds of other images give, too. Two services with one `image` are refused before.
fn tags(look: &mut Look<'_>, subject: &Subject<'_>, build: &Build) {
    let name = subject.name;
    for tag in &build.tags {
        let other = look.subjects.iter().find(|other| {
            let theirs = other.service.build.as_ref();
            other.name != name
                && theirs.is_some_and(|theirs| {
                    // Of two that both list it, the later one is told of.
                    let listed = theirs.tags.contains(tag) && other.name < name;
                    let named = other.service.image.as_ref() == Some(tag);
                    (listed || named) && !same_image(theirs, build)
                })
        });
        if let Some(other) = other {
            let message = format!(
                "the builds of `{}` and `{name}` both give the tag {tag}",
                other.name
            );
            look.found(
                "images/tag-built-twice",
                subject,
                &["build", "tags"],
                message,
            );
        }
    }
}

/// Two builds that come to the same, whatever they are called.
fn same_image(one: &Build, other: &Build) -> bool {
    let plain = |build: &Build| Build {
        tags: Vec::new(),
        ..build.clone()
    };
    plain(one) == plain(other)
}
