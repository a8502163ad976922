//! What must not be seen, and what gives too much away.

use super::Look;
use crate::mask;
use crate::project::{Mount, Service, ServiceName};
use crate::yaml::Node;

const DOCKER_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

pub fn look(look: &mut Look<'_>, name: &ServiceName, service: &Service) {
    for mount in &service.mounts {
        if let Mount::Bind { source, .. } = mount
            && DOCKER_SOCKETS
                .iter()
                .any(|socket| source.as_os_str() == *socket)
        {
            let message = format!("`{name}` gets Docker's socket");
            look.found("secrets/docker-socket", name, &["volumes"], message);
        }
    }
    for (variable, value) in &service.environment {
        if mask::value(variable, value) != *value && is_written_out(look, name, variable) {
            let message = format!("`{name}` has the value of {variable} in the file");
            let place = ["environment", variable.as_str()];
            look.found("secrets/in-clear", name, &place, message);
        }
    }
}

/// The value stands in the file itself, and no part of it comes from a variable.
fn is_written_out(look: &Look<'_>, name: &ServiceName, variable: &str) -> bool {
    let node = look.service(name).and_then(|service| {
        service
            .as_map()?
            .get("environment")?
            .as_map()?
            .get(variable)
    });
    node.filter(|node| node.text().is_some())
        .is_some_and(|node: &Node| {
            let place = look.report.sources.location(node.span);
            !place.line_text.contains('$')
        })
}
