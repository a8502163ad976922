//! Front ends by their framework, as far as the files of a build and a mount tell.

use std::path::Path;

use crate::image_name::ImageName;
use crate::project::{Mount, Service};
use crate::regular;
use crate::rules;

/// Packages that make what a browser shows.
const FRAMEWORKS: [&str; 11] = [
    "next",
    "nuxt",
    "nuxt3",
    "vite",
    "astro",
    "gatsby",
    "react-scripts",
    "@angular/core",
    "@sveltejs/kit",
    "@remix-run/react",
    "@vue/cli-service",
];
/// Largest package.json that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Folders of a build context in which a page may lie.
const PAGES: [&str; 6] = ["", "public", "html", "dist", "src", "www"];
/// Where nginx looks for pages.
const NGINX_ROOT: &str = "/usr/share/nginx/html";

/// Whether the service serves pages: built with a known framework, or nginx with an index.html.
pub(crate) fn is_front_end(service: &Service) -> bool {
    if let Some(build) = &service.build {
        let nginx = rules::base_image(build).is_some_and(|base| is_nginx(&base));
        let page = |folder: &&str| build.context.join(folder).join("index.html").is_file();
        return uses_framework(&build.context) || nginx && PAGES.iter().any(page);
    }
    service.image.as_deref().is_some_and(is_nginx)
        && service.mounts.iter().any(|mount| match mount {
            Mount::Bind { source, target, .. } => {
                target.trim_end_matches('/') == NGINX_ROOT && source.join("index.html").is_file()
            }
            Mount::Volume { .. } | Mount::Anonymous { .. } | Mount::Tmpfs { .. } => false,
        })
}

fn is_nginx(image: &str) -> bool {
    let path = ImageName::new(image).path;
    matches!(path, "nginx" | "nginxinc/nginx-unprivileged")
}

/// Whether package.json names a framework. What is wrong with the file is npm's to say.
fn uses_framework(context: &Path) -> bool {
    let Ok(text) = regular::read(&context.join("package.json"), MAX_FILE) else {
        return false;
    };
    let Ok(package) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return false;
    };
    ["dependencies", "devDependencies"].iter().any(|section| {
        let packages = package.get(section).and_then(|all| all.as_object());
        packages.is_some_and(|all| FRAMEWORKS.iter().any(|name| all.contains_key(*name)))
    })
}
