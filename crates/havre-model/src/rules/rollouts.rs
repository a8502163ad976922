//! What a change of release means for a service, and what it may use up.

use super::look::{Look, Subject};

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    if service.resources.memory_bytes.is_none() {
        let message = format!("`{name}` has no memory limit");
        look.found("limits/no-memory", subject, &["deploy"], message);
    }
    let routes = &look.project.routes;
    let routed = routes.iter().any(|route| route.service == *name);
    if let Some(volume) = subject.sole_writer()
        && service.update.order.is_none()
        && routed
    {
        let message = format!(
            "`{name}` is stopped before its successor starts: a single replica that writes to \
             volume `{volume}`"
        );
        look.found("rollouts/stops-first", subject, &["volumes"], message);
    }
}
