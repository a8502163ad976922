//! Traps that a project's files may hold though nothing is wrong with them: what hurts later, why,
//! and what to do about it. Each finding is a warning with the rule's id as its code.

mod commands;
mod data;
mod images;
mod secrets;

use crate::project::{Project, Service, ServiceName};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Map, Node};

/// A trap that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable, e.g. `data/sqlite-outside-volume`; stands in `x-havre-ignore` to silence it.
    pub id: &'static str,
    /// Why it hurts.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// Every rule, in the order of their ids.
pub const RULES: &[Rule] = &[
    Rule {
        id: "commands/development-server",
        why: "Development servers serve one request at a time, show their innards to visitors, or \
              restart whenever a file changes.",
        fix: "run a production server: gunicorn or uvicorn, `next start`, `node server.js`",
    },
    Rule {
        id: "commands/scheduler-overlaps",
        why: "New replicas start beside the old ones: for a while two schedulers run, and every job \
              that comes due is queued twice.",
        fix: "set deploy.update_config.order to stop-first",
    },
    Rule {
        id: "commands/worker-grace",
        why: "A worker is killed when its grace period is over: a task that takes longer is lost or \
              runs again.",
        fix: "set stop_grace_period to what the longest task takes",
    },
    Rule {
        id: "data/broker-evicts",
        why: "With this policy Redis throws keys away when its memory is full, and queued tasks are \
              keys.",
        fix: "use --maxmemory-policy noeviction for a broker, and another Redis as a cache",
    },
    Rule {
        id: "data/database-published",
        why: "A database that anybody can connect to is found within hours.",
        fix: "remove the port: the other services reach it by its name; or publish it on 127.0.0.1",
    },
    Rule {
        id: "data/sqlite-outside-volume",
        why: "The file lies in the container's own layer: it is gone with the next release, and each \
              replica has its own.",
        fix: "put it on a named volume, or use a database server",
    },
    Rule {
        id: "data/starts-before-ready",
        why: "It starts as soon as the other's process runs, which is before that takes connections.",
        fix: "depend on it with condition: service_healthy",
    },
    Rule {
        id: "images/bind-missing",
        why: "What is mounted does not exist: an empty folder would take its place.",
        fix: "create it, or correct the path",
    },
    Rule {
        id: "images/latest",
        why: "Nobody can tell which version runs, and a fetch may bring another one unasked.",
        fix: "name a version: `image: name:1.2.3`",
    },
    Rule {
        id: "images/no-healthcheck",
        why: "Without a health check a replica counts as ready as soon as its port takes connections, \
              and one that hangs is never noticed.",
        fix: "add a healthcheck, to the service or to its image",
    },
    Rule {
        id: "images/public-variable-at-run-time",
        why: "Such variables are written into the files that visitors get when the image is built; \
              those given when it runs are not seen.",
        fix: "give them as build.args",
    },
    Rule {
        id: "secrets/docker-socket",
        why: "Whoever can talk to Docker owns the machine; and here no Docker runs the services.",
        fix: "remove the mount",
    },
    Rule {
        id: "secrets/in-clear",
        why: "A secret in a compose file is in its history, in every copy and in every log of it.",
        fix: "keep it in a secret, or outside the file: `${NAME:?}` with a value in .env",
    },
];

/// The rule of that id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// Looks for every trap.
pub(crate) fn look(project: &Project, tree: &Node, report: &mut Report) {
    let mut look = Look {
        project,
        tree,
        report,
    };
    for (name, service) in &project.services {
        commands::look(&mut look, name, service);
        data::look(&mut look, name, service);
        images::look(&mut look, name, service);
        secrets::look(&mut look, name, service);
    }
}

/// What rules look at.
struct Look<'a> {
    project: &'a Project,
    tree: &'a Node,
    report: &'a mut Report,
}

impl Look<'_> {
    /// Tells of a trap at `path` below the service, or as near as there is something.
    fn found(&mut self, id: &'static str, name: &ServiceName, path: &[&str], message: String) {
        if self.is_ignored(id, name) {
            return;
        }
        let place = self.place(name, path);
        let fix = rule(id).map_or("", |rule| rule.fix);
        self.report.warn(id, place, message).hint(fix);
    }

    fn service(&self, name: &ServiceName) -> Option<&Node> {
        self.tree
            .as_map()?
            .get("services")?
            .as_map()?
            .get(name.as_str())
    }

    /// Where the last key of `path` that is there stands.
    fn place(&self, name: &ServiceName, path: &[&str]) -> Option<Span> {
        let services = self.tree.as_map()?.get("services")?.as_map()?;
        let mut place = services.key_span(name.as_str());
        let mut node = services.get(name.as_str());
        for key in path {
            let Some(map) = node.and_then(Node::as_map) else {
                break;
            };
            if let Some(span) = map.key_span(key) {
                place = Some(span);
            }
            node = map.get(key);
        }
        place
    }

    /// `x-havre-ignore` of the service or of the file names the rule.
    fn is_ignored(&self, id: &str, name: &ServiceName) -> bool {
        let names = |map: Option<&Map>| {
            let list = map.and_then(|map| map.get("x-havre-ignore")?.as_list());
            list.is_some_and(|list| list.iter().any(|item| item.text() == Some(id)))
        };
        names(self.tree.as_map()) || names(self.service(name).and_then(Node::as_map))
    }
}

/// All that a service runs, in one line.
fn command_line(service: &Service) -> String {
    let words = service.entrypoint.iter().chain(&service.command).flatten();
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}
