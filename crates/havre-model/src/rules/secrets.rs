//! What must not be seen.

use super::look::{Look, Subject};
use crate::mask;
use crate::yaml::Node;

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    for (variable, value) in &service.environment {
        let secret = mask::holds_secret(variable, value) || mask::url_password(value) != *value;
        if secret && is_written_out(look, subject, variable) {
            let message = format!("`{name}` has the value of {variable} in the file");
            let place = ["environment", variable.as_str()];
            look.found("secrets/in-clear", subject, &place, message);
        }
    }
}

/// The value stands in the file itself, and no part of it comes from a variable.
fn is_written_out(look: &Look<'_>, subject: &Subject<'_>, variable: &str) -> bool {
    let node = look.service(subject.name).and_then(|service| {
        let environment = service.as_map()?.get("environment")?;
        environment.as_map()?.get(variable)
    });
    node.filter(|node| node.text().is_some())
        .is_some_and(|node: &Node| {
            let place = look.report.sources.location(node.span);
            !place.line_text.contains('$')
        })
}
