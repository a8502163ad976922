//! Where data are, and who can reach them.

use std::path::Path;

use super::{Look, command_line};
use crate::project::{Condition, Healthcheck, Mount, Service, ServiceName};

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

pub fn look(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    published(look, name, service);
    sqlite(look, name, service);
    broker(look, name, service);
    for (needed, edge) in &service.depends_on {
        let checked =
            look.project.services.get(needed).is_some_and(|needed| {
                matches!(needed.healthcheck, Some(Healthcheck::Probe { .. }))
            });
        if checked && edge.condition == Condition::ServiceStarted {
            let message = format!("`{name}` does not wait until `{needed}` is healthy");
            let path = ["depends_on", needed.as_str()];
            look.found("data/starts-before-ready", name, &path, message);
        }
    }
}

fn published(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    let open = service
        .forwarded_ports(name, &look.project.routes)
        .find_map(|port| {
            let (_, what) = DATABASES.iter().find(|(known, _)| *known == port.target)?;
            let local = port
                .host_ip
                .as_deref()
                .is_some_and(|ip| ip.starts_with("127.") || ip == "::1");
            (port.published.is_some() && !local).then_some((port.target, *what))
        });
    if let Some((port, what)) = open {
        let message = format!("`{name}` opens port {port} ({what}) to everybody");
        look.found("data/database-published", name, &["ports"], message);
    }
}

fn sqlite(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    for (variable, value) in &service.environment {
        let Some((_, path)) = value.split_once("sqlite:///") else {
            continue;
        };
        let path = Path::new(path.split('?').next().unwrap_or(path));
        let on_volume = service.mounts.iter().any(|mount| match mount {
            Mount::Volume { target, .. } | Mount::Bind { target, .. } => path.starts_with(target),
            Mount::Anonymous { .. } | Mount::Tmpfs { .. } => false,
        });
        if !path.as_os_str().is_empty() && path != Path::new(":memory:") && !on_volume {
            let path = path.display();
            let message = format!("`{name}` keeps its data in {path}, which is on no volume");
            let place = ["environment", variable.as_str()];
            look.found("data/sqlite-outside-volume", name, &place, message);
        }
    }
}

/// A Redis that others use as a broker and that throws keys away.
fn broker(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    let line = command_line(service);
    let evicts = line
        .split_once("--maxmemory-policy")
        .is_some_and(|(_, policy)| !policy.trim_start().starts_with("noeviction"));
    if !evicts {
        return;
    }
    let address = format!("redis://{name}");
    let used = look.project.services.values().any(|other| {
        let broker = other
            .environment
            .iter()
            .any(|(key, value)| key.contains("BROKER") && value.contains(&address));
        let celery = command_line(other).contains("celery")
            && other
                .environment
                .values()
                .any(|value| value.contains(&address));
        broker || celery
    });
    if used {
        let message = format!("broker `{name}` may throw queued tasks away");
        look.found("data/broker-evicts", name, &["command"], message);
    }
}
