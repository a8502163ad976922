//! Variables that say nothing.

use super::look::{Look, Subject};
use crate::interpolate;
use crate::yaml::Node;

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let Some(service) = look.service(subject.name).and_then(Node::as_map) else {
        return;
    };
    let build = service.get("build").and_then(Node::as_map);
    let places: [(&[&str], Option<&Node>); 2] = [
        (&["environment"], service.get("environment")),
        (
            &["build", "args"],
            build.and_then(|build| build.get("args")),
        ),
    ];
    for (path, node) in places {
        let Some(map) = node.and_then(Node::as_map) else {
            continue;
        };
        for (variable, entry) in &map.entries {
            let Some(from) = blank(look, variable, &entry.value) else {
                continue;
            };
            let name = subject.name;
            let message = if from == *variable && entry.value.is_null() {
                format!("`{name}` gets {variable} from the environment, where it is empty")
            } else {
                format!("`{name}` gets {variable} with an empty {from}")
            };
            let fix = format!(
                "give {from} a value where it is set; require one with `${{{from}:?}}`, or allow none with \
                 `${{{from}:-}}`"
            );
            let path = [path, &[variable.as_str()]].concat();
            look.found_with("environment/blank", subject, &path, message, &fix);
        }
    }
}

/// The variable that is set to nothing, where no default was thought of.
fn blank(look: &Look<'_>, variable: &str, value: &Node) -> Option<String> {
    let is_blank = |name: &str| look.variables.get(name) == Some("");
    if value.is_null() {
        return is_blank(variable).then(|| variable.to_owned());
    }
    value.text()?;
    let written = look.report.sources.written(value.span)?;
    // To the template an empty variable is an unset one: those without a default are told.
    let lookup = |name: &str| {
        let value = look.variables.get(name).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    };
    let mut seen = interpolate::Seen::default();
    // What is wrong with the template has been said when the file was read.
    interpolate::expand(written, &lookup, &mut seen).ok()?;
    seen.unset.into_iter().find(|name| is_blank(name))
}
