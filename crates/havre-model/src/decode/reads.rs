//! What a service reads of the machine beside its mounts: secrets, configs, build contexts. Havre reads
//! them as root, so a project could have any file of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::machine::AllowRequests;
use crate::host_path;
use crate::project::{Build, BuildContext, FileGrant};
use crate::read::Fields;
use crate::report::Report;

/// Files of secrets or configs, by their names.
pub(crate) type Sources = BTreeMap<String, PathBuf>;

/// Asks for what `secrets` or `configs` of a service read.
pub(super) fn grants(
    key: &'static str,
    grants: &[FileGrant],
    sources: &Sources,
    service: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &Report,
) {
    let kind = key.trim_end_matches('s');
    for grant in grants {
        if let Some(path) = sources.get(&grant.source) {
            let what = format!("{kind} `{}`", grant.source);
            ask(&what, path, (service, key), requests, report);
        }
    }
}

/// Asks for what a build reads.
pub(super) fn build(
    build: &Build,
    secrets: &Sources,
    service: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &Report,
) {
    let place = (service, "build");
    for name in build.secrets.values() {
        if let Some(path) = secrets.get(name) {
            ask(&format!("secret `{name}`"), path, place, requests, report);
        }
    }
    for (name, context) in &build.contexts {
        if let BuildContext::Folder { path } = context {
            let what = format!("the build context `{name}`");
            ask(&what, path, place, requests, report);
        }
    }
    if build.git.is_some() {
        return;
    }
    ask("the build context", &build.context, place, requests, report);
    if build.dockerfile_inline.is_none() {
        let dockerfile = build.context.join(&build.dockerfile);
        ask("the Dockerfile", &dockerfile, place, requests, report);
    }
}

fn ask(
    what: &str,
    path: &Path,
    (service, key): (&Fields<'_>, &str),
    requests: &mut AllowRequests<'_>,
    report: &Report,
) {
    // What is not there is somebody else's to say.
    let Ok(real) = std::fs::canonicalize(path) else {
        return;
    };
    if let Some(found) = host_path::endangered_by_reading(&real, &requests.real_directory()) {
        let shown = report.shown(path);
        let what = match found.holds {
            None => format!("{what} from {shown}"),
            Some(held) => format!("{what} from {shown}, with {held} in it"),
        };
        let at = service.get(key).map_or(service.span, |field| field.span());
        requests.ask(found.needs, what, at);
    }
}
