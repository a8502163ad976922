//! `"./data:/data:ro"` → `{type: bind, source: …, target: /data, read_only: true}`.

use std::path::Path;

use super::{Base, object};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Map, Node, Value};

pub(super) fn expand(node: &mut Node, base: &Base, report: &mut Report) {
    let Value::List(list) = &mut node.value else {
        return;
    };
    for item in list {
        if let Some(text) = item.text().map(str::to_owned) {
            match short(&text, item.span, base) {
                Ok(value) => item.value = value.value,
                Err(why) => {
                    report
                        .error(
                            "compose/volume",
                            item.span,
                            format!("volume `{text}`: {why}"),
                        )
                        .hint("write \"SOURCE:/path/inside\" or \"SOURCE:/path/inside:ro\"");
                    item.value = Value::Null;
                }
            }
        } else if let Some(map) = item.as_map_mut() {
            long(map, base);
        }
    }
}

/// The long form: only a bind's source is a path of the host.
fn long(map: &mut Map, base: &Base) {
    if let Some(Value::Scalar(target)) = map.get_mut("target").map(|node| &mut node.value) {
        target.text = inside(&target.text);
    }
    if map.get("type").and_then(Node::text) == Some("bind")
        && let Some(source) = map.get_mut("source")
    {
        super::resolve_text(source, base);
    }
}

/// A path inside the container as docker writes it: without `.`, `..` and a slash at its end.
fn inside(target: &str) -> String {
    match target.starts_with('/') {
        true => super::clean(Path::new(target))
            .to_string_lossy()
            .into_owned(),
        false => target.to_owned(),
    }
}

fn short(text: &str, span: Span, base: &Base) -> Result<Node, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err("it has too many colons".into()),
    };
    if source == Some("") || target.is_empty() {
        return Err("a part of it is empty".into());
    }
    let is_path = |s: &str| s.starts_with(['/', '.', '~']);
    let bind = source.is_some_and(is_path);
    let mut node = object(
        span,
        [
            (
                "type",
                Node::scalar(span, if bind { "bind" } else { "volume" }),
            ),
            ("target", Node::scalar(span, inside(target))),
        ],
    );
    let Value::Map(map) = &mut node.value else {
        return Ok(node);
    };
    if let Some(source) = source {
        let source = match bind {
            true => base.resolve(source).to_string_lossy().into_owned(),
            false => source.to_owned(),
        };
        map.insert("source", span, Node::scalar(span, source));
    }
    let mut bind_options = Map::default();
    if bind {
        bind_options.insert("create_host_path", span, Node::scalar(span, "true"));
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let truth = Node::scalar(span, "true");
        match option {
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "ro" => map.insert("read_only", span, truth),
            "nocopy" if !bind => {
                map.insert("volume", span, object(span, [("nocopy", truth)]));
            }
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if bind => {
                bind_options.insert("propagation", span, Node::scalar(span, option));
            }
            other => return Err(format!("option `{other}` is not known")),
        }
    }
    if bind {
        map.insert("bind", span, Node::map(span, bind_options));
    }
    Ok(node)
}
