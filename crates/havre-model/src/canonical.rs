//! Every short form becomes its long form, and every path absolute, while it is still known which
//! file a value came from; so the merge and the decoder know one form of each key.

mod ports;
mod volumes;

use std::path::{Component, Path, PathBuf};

use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Map, Node, Value};

/// What relative paths of a file start from.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Absolute.
    pub directory: PathBuf,
    /// For `~`; `None` where the caller has no HOME.
    pub home: Option<PathBuf>,
}

impl Base {
    /// `path` as written → absolute, without `.` and `..`.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let joined = match (&self.home, path.strip_prefix('~')) {
            (Some(home), Some("")) => home.clone(),
            (Some(home), Some(rest)) if rest.starts_with('/') => home.join(&rest[1..]),
            _ => self.directory.join(path),
        };
        clean(&joined)
    }
}

/// Resolves `.` and `..` by the letter, as the shell's `cd -L` does.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts
}

/// Rewrites one file's tree in place. What has the wrong type stays as it is, for the decoder to
/// refuse.
pub(crate) fn canonicalise(root: &mut Node, base: &Base, report: &mut Report) {
    let Some(top) = root.as_map_mut() else { return };
    for name in ["secrets", "configs"] {
        each(top.get_mut(name), |item| path_field(item, "file", base));
    }
    for name in ["networks", "volumes"] {
        each(top.get_mut(name), |item| field(item, "labels", pairs));
    }
    each(top.get_mut("volumes"), |item| {
        field(item, "driver_opts", |options| device(options, base));
    });
    if let Some(services) = top.get_mut("services").and_then(Node::as_map_mut) {
        for entry in services.entries.values_mut() {
            if let Some(map) = entry.value.as_map_mut() {
                service(map, base, report);
            }
        }
    }
}

fn service(map: &mut Map, base: &Base, report: &mut Report) {
    for (key, entry) in &mut map.entries {
        let node = &mut entry.value;
        match key.as_str() {
            "environment" | "labels" | "annotations" | "sysctls" => pairs(node),
            "extra_hosts" => hosts(node),
            "env_file" => env_files(node, base),
            "label_file" => {
                one_or_many(node);
                items(node, |item| resolve_text(item, base));
            }
            "dns" | "dns_search" | "tmpfs" => one_or_many(node),
            "depends_on" => keyed(node, |span| {
                object(span, [("condition", Node::scalar(span, "service_started"))])
            }),
            "networks" => keyed(node, Node::null),
            "build" => build(node, base),
            "extends" => {
                if let Some(name) = node.text().map(str::to_owned) {
                    replace(node, |span| {
                        object(span, [("service", Node::scalar(span, name))])
                    });
                }
                path_field(node, "file", base);
            }
            "deploy" => field(node, "labels", pairs),
            "pre_start" | "post_start" | "pre_stop" => {
                items(node, |hook| field(hook, "environment", pairs));
            }
            "secrets" | "configs" => grants(node),
            "ports" => ports::expand(node, report),
            "volumes" => volumes::expand(node, base, report),
            "devices" => items(node, machine_device),
            _ => {}
        }
    }
}

/// `[name]` → `[{source: name}]`.
fn grants(node: &mut Node) {
    items(node, |item| {
        if let Some(source) = item.text().map(str::to_owned) {
            replace(item, |span| {
                object(span, [("source", Node::scalar(span, source))])
            });
        }
    });
}

/// `"/dev/a:/dev/b:rw"` → `{source: /dev/a, target: /dev/b, permissions: rw}`.
fn machine_device(item: &mut Node) {
    let Some(text) = item.text().map(str::to_owned) else {
        return;
    };
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let permissions = parts.next().unwrap_or("rwm");
    replace(item, |span| {
        let text = |text| Node::scalar(span, text);
        object(
            span,
            [
                ("source", text(source)),
                ("target", text(target)),
                ("permissions", text(permissions)),
            ],
        )
    });
}

fn build(node: &mut Node, base: &Base) {
    if let Some(context) = node.text().map(str::to_owned) {
        replace(node, |span| {
            object(span, [("context", Node::scalar(span, context))])
        });
    }
    field(node, "args", pairs);
    field(node, "labels", pairs);
    field(node, "extra_hosts", hosts);
    field(node, "secrets", grants);
    field(node, "additional_contexts", |contexts| {
        pairs(contexts);
        let Some(map) = contexts.as_map_mut() else {
            return;
        };
        for entry in map.entries.values_mut() {
            let text = entry.value.text().unwrap_or_default();
            if !is_remote_context(text) && !text.starts_with("service:") {
                resolve_text(&mut entry.value, base);
            }
        }
    });
    let remote = node
        .as_map()
        .and_then(|map| map.get("context"))
        .and_then(Node::text);
    if !remote.is_some_and(is_remote_context) {
        path_field(node, "context", base);
    }
}

/// The folder that a volume of docker's local driver is, where it is one.
fn device(options: &mut Node, base: &Base) {
    let flags = options.as_map().and_then(|map| map.get("o"));
    let flags = flags.and_then(Node::text).unwrap_or_default();
    if flags
        .split(',')
        .any(|flag| matches!(flag, "bind" | "rbind"))
    {
        path_field(options, "device", base);
    }
}

/// A context that docker would fetch: a Git or HTTP address.
pub(crate) fn is_remote_context(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

fn env_files(node: &mut Node, base: &Base) {
    one_or_many(node);
    items(node, |item| {
        if let Some(path) = item.text().map(str::to_owned) {
            replace(item, |span| {
                object(span, [("path", Node::scalar(span, path))])
            });
        }
        path_field(item, "path", base);
    });
}

/// `["A=1", "B"]` → `{A: "1", B: null}`; the last of equal names counts.
fn pairs(node: &mut Node) {
    list_to_map(node, |text| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    });
}

/// `["host:address", "host=address"]` → `{host: [address, …]}`.
fn hosts(node: &mut Node) {
    if let Value::List(list) = &node.value {
        let mut map = Map::default();
        for item in list {
            let Some(text) = item.text() else { return };
            let Some((host, address)) = text.split_once('=').or_else(|| text.split_once(':'))
            else {
                return;
            };
            let address = address.trim_matches(['[', ']']);
            let value = Node::scalar(item.span, address);
            match map.get_mut(host) {
                Some(Node {
                    value: Value::List(known),
                    ..
                }) => known.push(value),
                _ => map.insert(host, item.span, Node::list(item.span, vec![value])),
            }
        }
        node.value = Value::Map(map);
    } else if let Some(map) = node.as_map_mut() {
        map.entries
            .values_mut()
            .for_each(|entry| one_or_many(&mut entry.value));
    }
}

fn list_to_map(node: &mut Node, split: impl Fn(&str) -> (String, Option<String>)) {
    let Value::List(list) = &node.value else {
        return;
    };
    let mut map = Map::default();
    for item in list {
        let Some(text) = item.text() else { return };
        let (name, value) = split(text);
        let value = value.map_or(Node::null(item.span), |value| {
            Node::scalar(item.span, value)
        });
        map.insert(name, item.span, value);
    }
    node.value = Value::Map(map);
}

/// `[a, b]` → `{a: …, b: …}`.
fn keyed(node: &mut Node, default: impl Fn(Span) -> Node) {
    let Value::List(list) = &node.value else {
        return;
    };
    let mut map = Map::default();
    for item in list {
        let Some(name) = item.text() else { return };
        map.insert(name, item.span, default(item.span));
    }
    node.value = Value::Map(map);
}

fn one_or_many(node: &mut Node) {
    if matches!(node.value, Value::Scalar(_)) {
        let item = Node {
            directive: None,
            ..node.clone()
        };
        node.value = Value::List(vec![item]);
    }
}

fn items(node: &mut Node, change: impl FnMut(&mut Node)) {
    if let Value::List(list) = &mut node.value {
        list.iter_mut().for_each(change);
    }
}

fn each(node: Option<&mut Node>, mut change: impl FnMut(&mut Node)) {
    if let Some(map) = node.and_then(Node::as_map_mut) {
        map.entries
            .values_mut()
            .for_each(|entry| change(&mut entry.value));
    }
}

fn field(node: &mut Node, name: &str, change: impl FnOnce(&mut Node)) {
    if let Some(node) = node.as_map_mut().and_then(|map| map.get_mut(name)) {
        change(node);
    }
}

fn path_field(node: &mut Node, name: &str, base: &Base) {
    field(node, name, |path| resolve_text(path, base));
}

fn resolve_text(node: &mut Node, base: &Base) {
    if let Value::Scalar(scalar) = &mut node.value
        && !scalar.text.is_empty()
    {
        scalar.text = base.resolve(&scalar.text).to_string_lossy().into_owned();
        scalar.quoted = true;
    }
}

/// Changes what a node holds and keeps its directive.
fn replace(node: &mut Node, make: impl FnOnce(Span) -> Node) {
    node.value = make(node.span).value;
}

/// A mapping made from a short form; every part has the short form's place.
fn object<const N: usize>(span: Span, fields: [(&str, Node); N]) -> Node {
    let mut map = Map::default();
    for (name, value) in fields {
        map.insert(name, span, value);
    }
    Node::map(span, map)
}
