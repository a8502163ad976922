//! Several files, and a service with the one it extends, become one: the specification's rules on
//! trees that [`crate::canonical`] prepared.
//!
//! Mappings are merged key by key, single values replaced, lists appended (an item that stands
//! for the same thing, such as a mount at the same path, is replaced); commands and probes are
//! replaced whole.

use std::collections::HashMap;

use crate::yaml::{Directive, Entry, Map, Node, Value};

/// How two values of one key become one.
#[derive(Clone, Copy)]
enum Rule {
    /// By the kinds of the values.
    Generic,
    /// The later one replaces the earlier.
    Replace,
    /// As generic, but items equal by this key replace each other.
    Unique(fn(&Node) -> Option<String>),
    /// As generic, unless the driver changes.
    Logging,
}

/// Lays the model `over` on `base`.
pub(crate) fn merge_models(base: &mut Map, over: Map) {
    for (key, entry) in over.entries {
        if key == "services"
            && entry.value.directive.is_none()
            && let Value::Map(services) = entry.value.value
        {
            let slot = base.entries.entry(key).or_insert_with(|| Entry {
                key: entry.key,
                value: empty(entry.value.span),
            });
            if slot.value.as_map().is_none() {
                slot.value = empty(entry.value.span);
            }
            if let Some(known) = slot.value.as_map_mut() {
                merge_services(known, services);
            }
        } else {
            merge_entry(base, key, entry, Rule::Generic);
        }
    }
}

/// Lays one service on another: the next file's on the last one's, or one on what it extends.
pub(crate) fn merge_service(base: &mut Map, over: Map) {
    for (key, entry) in over.entries {
        let rule = service_rule(&key);
        merge_entry(base, key, entry, rule);
    }
}

/// Takes `!reset` values out and the marks off, where nothing lies below to be reset.
pub(crate) fn settle(node: &mut Node) {
    node.directive = None;
    match &mut node.value {
        Value::Null | Value::Scalar(_) => {}
        Value::List(items) => {
            items.retain(|item| item.directive != Some(Directive::Reset));
            items.iter_mut().for_each(settle);
        }
        Value::Map(map) => {
            map.entries
                .retain(|_, entry| entry.value.directive != Some(Directive::Reset));
            map.entries
                .values_mut()
                .for_each(|entry| settle(&mut entry.value));
        }
    }
}

fn empty(span: crate::source::Span) -> Node {
    Node::map(span, Map::default())
}

fn merge_services(base: &mut Map, over: Map) {
    for (name, entry) in over.entries {
        let plain = entry.value.directive.is_none();
        match (base.get_mut(&name), entry.value.value) {
            (
                Some(Node {
                    value: Value::Map(known),
                    ..
                }),
                Value::Map(service),
            ) if plain => {
                merge_service(known, service);
            }
            (_, value) => {
                let value = Node {
                    value,
                    ..entry.value
                };
                merge_entry(
                    base,
                    name,
                    Entry {
                        key: entry.key,
                        value,
                    },
                    Rule::Replace,
                );
            }
        }
    }
}

fn service_rule(key: &str) -> Rule {
    match key {
        "command" | "entrypoint" | "provider" => Rule::Replace,
        "logging" => Rule::Logging,
        "devices" | "volumes" => Rule::Unique(|item| field(item, "target")),
        "secrets" | "configs" => {
            Rule::Unique(|item| field(item, "target").or_else(|| field(item, "source")))
        }
        "env_file" => Rule::Unique(|item| field(item, "path")),
        "ports" => Rule::Unique(|item| {
            let parts = ["host_ip", "published", "target", "protocol"];
            let parts = parts.map(|part| field(item, part).unwrap_or_default());
            let protocol = if parts[3].is_empty() {
                "tcp"
            } else {
                &parts[3]
            };
            Some(format!("{}|{}|{}|{protocol}", parts[0], parts[1], parts[2]))
        }),
        "tmpfs" => Rule::Unique(|item| {
            item.text()
                .map(|text| text.split(':').next().unwrap_or(text).to_owned())
        }),
        "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "expose" | "external_links"
        | "group_add" | "label_file" | "links" | "profiles" | "security_opt" => {
            Rule::Unique(|item| item.text().map(str::to_owned))
        }
        _ => Rule::Generic,
    }
}

fn field(item: &Node, name: &str) -> Option<String> {
    item.as_map()?.get(name)?.text().map(str::to_owned)
}

fn merge_entry(base: &mut Map, key: String, over: Entry, rule: Rule) {
    match over.value.directive {
        Some(Directive::Reset) => {
            base.remove(&key);
        }
        Some(Directive::Override) => insert(base, key, over),
        None => match base.entries.get_mut(&key) {
            Some(known) => {
                known.key = over.key;
                merge_node(&mut known.value, over.value, &key, rule);
            }
            None => insert(base, key, over),
        },
    }
}

fn insert(base: &mut Map, key: String, mut entry: Entry) {
    settle(&mut entry.value);
    base.entries.insert(key, entry);
}

fn merge_node(base: &mut Node, over: Node, key: &str, rule: Rule) {
    let span = over.span;
    match (rule, &mut base.value, over.value) {
        // An empty key adds nothing to a collection.
        (
            Rule::Generic | Rule::Unique(_) | Rule::Logging,
            Value::Map(_) | Value::List(_),
            Value::Null,
        ) => {}
        (Rule::Logging, Value::Map(known), Value::Map(more)) => {
            let driver = |map: &Map| map.get("driver").and_then(Node::text).map(str::to_owned);
            if driver(&more).is_some() && driver(&more) != driver(known) {
                base.value = Value::Map(more);
                base.span = span;
            } else {
                merge_maps(known, more);
            }
        }
        (Rule::Generic | Rule::Unique(_), Value::Map(known), Value::Map(more)) => {
            if key == "healthcheck" {
                known
                    .entries
                    .retain(|name, _| name != "test" || !more.entries.contains_key(name));
            }
            merge_maps(known, more);
        }
        (Rule::Unique(identity), Value::List(known), Value::List(more)) => {
            append_unique(known, more, identity);
        }
        (Rule::Generic, Value::List(known), Value::List(more)) => known.extend(more),
        (_, _, value) => {
            base.value = value;
            base.span = span;
            settle(base);
        }
    }
}

fn merge_maps(base: &mut Map, over: Map) {
    for (key, entry) in over.entries {
        merge_entry(base, key, entry, Rule::Generic);
    }
}

fn append_unique(base: &mut Vec<Node>, over: Vec<Node>, identity: fn(&Node) -> Option<String>) {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, item) in base.iter().enumerate() {
        if let Some(name) = identity(item) {
            places.insert(name, index);
        }
    }
    for item in over {
        match identity(&item).and_then(|name| places.get(&name)) {
            Some(&index) => base[index] = item,
            None => base.push(item),
        }
    }
}
