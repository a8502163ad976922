//! Where data are, and who can reach them.

use std::path::{Path, PathBuf};

use super::commands;
use super::look::{Kept, Look, Subject};
use crate::databases::{self, sqlite_file};
use crate::project::{Condition, Healthcheck};

/// Ports of databases and brokers.
const DATABASES: [(u16, &str); 8] = [
    (1433, "SQL Server"),
    (3306, "MySQL"),
    (5432, "Postgres"),
    (5672, "RabbitMQ"),
    (6379, "Redis"),
    (9200, "Elasticsearch"),
    (11211, "memcached"),
    (27017, "MongoDB"),
];
pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    published(look, subject);
    overlapping(look, subject);
    sqlite(look, subject);
    broker(look, subject);
    for (needed, edge) in &subject.service.depends_on {
        let checked =
            look.project.services.get(needed).is_some_and(|needed| {
                matches!(needed.healthcheck, Some(Healthcheck::Probe { .. }))
            });
        if checked && edge.condition == Condition::ServiceStarted {
            let name = subject.name;
            let message = format!("`{name}` does not wait until `{needed}` is healthy");
            let path = ["depends_on", needed.as_str()];
            look.found("data/starts-before-ready", subject, &path, message);
        }
    }
}

fn published(look: &mut Look<'_>, subject: &Subject<'_>) {
    let name = subject.name;
    let ports = subject.service.forwarded_ports(name, &look.project.routes);
    let open = ports.into_iter().find_map(|port| {
        let (_, what) = DATABASES.iter().find(|(known, _)| *known == port.target)?;
        let local = port
            .host_ip
            .as_deref()
            .is_some_and(|ip| ip.starts_with("127.") || ip == "::1");
        (port.published.is_some() && !local).then_some((port.target, *what))
    });
    if let Some((port, what)) = open {
        let message = format!("`{name}` opens port {port} ({what}) to everybody");
        look.found("data/database-published", subject, &["ports"], message);
    }
}

/// A database server whose successor would start on the same folder, or that has several replicas.
fn overlapping(look: &mut Look<'_>, subject: &Subject<'_>) {
    let replicas = subject.service.replicas;
    if subject.is_job || replicas <= 1 && !subject.overlaps() {
        return;
    }
    let found = subject.kept().find_map(|(target, read_only, _)| {
        let of_server = |(folder, _): &&(&str, &str)| Path::new(target).starts_with(folder);
        let (_, server) = databases::FOLDERS.iter().find(of_server)?;
        (!read_only).then_some((target, *server))
    });
    let Some((target, server)) = found else {
        return;
    };
    let name = subject.name;
    let message = match replicas {
        0 | 1 => {
            format!("at each release two servers of `{name}` ({server}) would use {target} at once")
        }
        _ => format!("{replicas} replicas of `{name}` ({server}) would use {target} at once"),
    };
    look.found_in_mount("data/database-overlaps", subject, target, message);
}

/// Where the file is kept, if on a mount: what is mounted, and the path below it.
fn kept<'s>(subject: &'s Subject<'_>, file: &Path) -> Option<(Kept<'s>, PathBuf)> {
    let recipe = subject.recipe.as_ref();
    let folder = subject.service.working_dir.as_deref();
    let folder = folder.or_else(|| recipe?.working_dir.as_deref());
    let unknown = file.is_relative() && folder.is_none();
    let path = crate::canonical::clean(&Path::new(folder.unwrap_or("/")).join(file));
    subject.kept().find_map(|(target, _, kept)| {
        if unknown {
            // Relative to a folder that only the image knows: the mount may well be meant.
            let parent = file.parent()?;
            return Path::new(target)
                .ends_with(crate::canonical::clean(parent))
                .then(|| {
                    (
                        kept,
                        file.file_name().map(PathBuf::from).unwrap_or_default(),
                    )
                });
        }
        let below = path.strip_prefix(target).ok()?;
        Some((kept, below.to_owned()))
    })
}

fn sqlite(look: &mut Look<'_>, subject: &Subject<'_>) {
    let name = subject.name;
    for (variable, value) in &subject.service.environment {
        let Some(file) = sqlite_file(value) else {
            continue;
        };
        let shown = file.display();
        let place = ["environment", variable.as_str()];
        let Some(here) = kept(subject, &file) else {
            let message = format!("`{name}` keeps its data in {shown}, which is on no volume");
            look.found("data/sqlite-outside-volume", subject, &place, message);
            continue;
        };
        let sharing = look.subjects.iter().find(|other| {
            let mut files = other
                .service
                .environment
                .values()
                .filter_map(|v| sqlite_file(v));
            other.name < name && files.any(|file| kept(other, &file).as_ref() == Some(&here))
        });
        let replicas = subject.service.replicas;
        let message = match sharing {
            Some(other) => format!(
                "`{}` and `{name}` share the SQLite file {shown}",
                other.name
            ),
            None if replicas > 1 => {
                format!("{replicas} replicas of `{name}` share the SQLite file {shown}")
            }
            None => continue,
        };
        look.found("data/sqlite-shared", subject, &place, message);
    }
}

/// A Redis that others use as a broker and that throws keys away.
fn broker(look: &mut Look<'_>, subject: &Subject<'_>) {
    let line = &subject.line;
    let (policy, from) = match line.after("--maxmemory-policy") {
        Some(policy) => (Some(policy.to_owned()), None),
        None => {
            let file = line.words().find(|word| word.ends_with(".conf"));
            let text = file.and_then(|file| look.file(subject, file));
            (text.as_deref().and_then(policy), file)
        }
    };
    let Some(policy) = policy.filter(|policy| policy != "noeviction") else {
        return;
    };
    let address = format!("redis://{}", subject.name);
    // `redis://redis-cache` is another service.
    let points_here = |value: &str| {
        let at = value.find(&address).map(|at| &value[at + address.len()..]);
        at.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
    };
    let used = look.subjects.iter().any(|other| {
        let mut variables = other.service.environment.iter();
        let takes_tasks = commands::worker(&other.line).is_some();
        variables.any(|(key, value)| {
            (takes_tasks && !key.contains("CACHE") || key.contains("BROKER")) && points_here(value)
        })
    });
    if used {
        let name = subject.name;
        let said = from.map(|file| format!(" of {file}")).unwrap_or_default();
        let message = format!("broker `{name}` may throw queued tasks away: policy {policy}{said}");
        look.found_in_line("data/broker-evicts", subject, message);
    }
}

/// The policy in a Redis configuration: the last one counts.
fn policy(text: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace();
        let named = words.next()?.eq_ignore_ascii_case("maxmemory-policy");
        named.then(|| words.next().map(str::to_owned)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_policy_counts() {
        let text = "# maxmemory-policy noeviction\nmaxmemory-policy noeviction\nMaxMemory-Policy allkeys-lru\n";
        assert_eq!(policy(text).as_deref(), Some("allkeys-lru"));
        assert_eq!(policy("maxmemory 1gb\nmaxmemory-policy"), None);
    }
}
