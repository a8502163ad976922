//! What `config` of Havre and of docker compose shows, in one form: units are numbers, short forms
//! are long, and what only one of them writes out is written out or left away.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Keys whose values are times.
const DURATIONS: [&str; 9] = [
    "delay",
    "interval",
    "max_interval",
    "monitor",
    "start_interval",
    "start_period",
    "stop_grace_period",
    "timeout",
    "window",
];
/// Keys whose values are sizes.
const SIZES: [&str; 6] = [
    "mem_limit",
    "mem_reservation",
    "memory",
    "memswap_limit",
    "shm_size",
    "size",
];

/// What Havre shows.
pub fn havre(mut config: Value) -> Value {
    each(&mut config, "services", |service| {
        for key in ["command", "entrypoint"] {
            split(service.get_mut(key));
        }
        for key in ["post_start", "pre_stop"] {
            for hook in items(service, key) {
                split(hook.get_mut("command"));
            }
        }
        if let Some(test) = service
            .get_mut("healthcheck")
            .and_then(|h| h.get_mut("test"))
            && let Value::String(text) = test
        {
            *test = json!(["CMD-SHELL", text]);
        }
        if service.get("pull_policy") == Some(&json!("if_not_present")) {
            service.insert("pull_policy".to_owned(), json!("missing"));
        }
    });
    for section in ["networks", "volumes", "secrets", "configs"] {
        each(&mut config, section, external);
    }
    common(config)
}

/// `external` as docker compose shows it: only where it is true, with the name beside it.
fn external(resource: &mut Map<String, Value>) {
    // The older form.
    if let Some(Value::Object(external)) = resource.get("external") {
        let name = external.get("name").cloned();
        resource.insert("external".to_owned(), json!("true"));
        resource.extend(name.map(|name| ("name".to_owned(), name)));
    }
    resource.retain(|key, value| {
        key != "external" || *value != json!(false) && *value != json!("false")
    });
}

fn split(command: Option<&mut Value>) {
    if let Some(command) = command
        && let Value::String(text) = command
    {
        *command = json!(words(text));
    }
}

/// What docker compose shows.
pub fn peer(mut config: Value) -> Value {
    each(&mut config, "services", |service| {
        for mount in items(service, "volumes") {
            if let Some(bind) = mount.get_mut("bind").and_then(Value::as_object_mut) {
                // Files are not relabelled.
                bind.remove("selinux");
            }
        }
        if let Some(Value::Array(hosts)) = service.get("extra_hosts") {
            let mut map = Map::new();
            for (host, address) in hosts
                .iter()
                .filter_map(|item| item.as_str()?.split_once('='))
            {
                let slot = map.entry(host).or_insert_with(|| json!([]));
                slot.as_array_mut().unwrap().push(json!(address));
            }
            service.insert("extra_hosts".to_owned(), Value::Object(map));
        }
        for secret in items(service, "secrets") {
            let source = secret["source"].as_str().unwrap_or_default();
            if secret["target"] == json!(format!("/run/secrets/{source}"))
                && let Some(secret) = secret.as_object_mut()
            {
                secret.remove("target");
            }
        }
    });
    common(config)
}

/// Without the names that resources would have anyway: each of the two has its own.
pub fn unnamed(mut config: Value) -> Value {
    let project = config["name"].as_str().unwrap_or_default().to_owned();
    for section in ["networks", "volumes", "secrets", "configs"] {
        let all = config.get_mut(section).and_then(Value::as_object_mut);
        for (name, one) in all.into_iter().flatten() {
            let external = match one.get("external") {
                Some(Value::String(text)) => text == "true",
                external => external == Some(&json!(true)),
            };
            let usual = match external {
                true => name.clone(),
                false => format!("{project}_{name}"),
            };
            if one.get("name") == Some(&json!(usual))
                && let Some(one) = one.as_object_mut()
            {
                one.remove("name");
            }
        }
    }
    config
}

fn common(config: Value) -> Value {
    let mut config = value("", unnamed(config));
    let mut used = BTreeSet::new();
    each(&mut config, "services", |service| {
        for mount in items(service, "volumes") {
            if let Some(Value::String(source)) = mount.get_mut("source") {
                source.truncate(source.trim_end_matches('/').len().max(1));
            }
        }
        // Profiles have done their work; the rest is only for development.
        service.retain(|key, _| key != "profiles" && key != "develop");
        imply(service);
        let networks = service.get("networks").and_then(Value::as_object);
        if networks.is_none_or(Map::is_empty) && service.get("network_mode").is_none() {
            service.insert("networks".to_owned(), json!({"default": {}}));
        }
        let networks = service.get("networks").and_then(Value::as_object);
        let networks = networks.into_iter().flat_map(Map::keys).cloned();
        used.extend(networks.map(|name| ("networks", name)));
        for section in ["volumes", "secrets", "configs"] {
            let sources = items(service, section).filter_map(|item| item["source"].as_str());
            used.extend(sources.map(|name| (section, name.to_owned())));
        }
    });
    let Some(top) = config.as_object_mut() else {
        return config;
    };
    for section in ["networks", "volumes", "secrets", "configs"] {
        let mut kept = Map::new();
        for (_, name) in used.iter().filter(|(kind, _)| *kind == section) {
            let written = top.get(section).and_then(|all| all.get(name));
            kept.insert(name.clone(), written.cloned().unwrap_or_else(|| json!({})));
        }
        top.insert(section.to_owned(), Value::Object(kept));
    }
    config
}

/// Whom `links`, `volumes_from` and `network_mode` name is depended on; docker compose writes it out.
fn imply(service: &mut Map<String, Value>) {
    let names = |service: &mut Map<String, Value>, key: &str| -> Vec<String> {
        let texts = items(service, key).filter_map(|item| item.as_str());
        let names = texts.map(|text| text.split(':').next().unwrap_or(text).to_owned());
        names.filter(|name| name != "container").collect()
    };
    let host = service.get("network_mode").and_then(Value::as_str);
    let host = host.and_then(|mode| mode.strip_prefix("service:"));
    let links: Vec<String> = host.map(str::to_owned).into_iter().collect();
    let links = links.into_iter().chain(names(service, "links"));
    let linked = links.map(|name| {
        (
            name,
            json!({"condition": "service_started", "restart": "true"}),
        )
    });
    let taken = names(service, "volumes_from").into_iter();
    let taken = taken.map(|name| (name, json!({"condition": "service_started"})));
    let implied: Vec<(String, Value)> = linked.chain(taken).collect();
    if implied.is_empty() {
        return;
    }
    let edges = service.entry("depends_on").or_insert_with(|| json!({}));
    if let Some(edges) = edges.as_object_mut() {
        for (name, edge) in implied {
            edges.entry(name).or_insert(edge);
        }
    }
}

fn each(config: &mut Value, section: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    let all = config.get_mut(section).and_then(Value::as_object_mut);
    for one in all.into_iter().flat_map(|all| all.values_mut()) {
        if let Some(one) = one.as_object_mut() {
            change(one);
        }
    }
}

fn items<'s>(
    service: &'s mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'s mut Value> {
    let list = service.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Scalars as text, without what says nothing.
fn value(key: &str, node: Value) -> Value {
    match node {
        Value::Object(map) => {
            let named = matches!(key, "networks" | "volumes");
            let texts = matches!(key, "args" | "environment" | "labels");
            let inner = map.into_iter().filter_map(|(name, inner)| {
                if texts {
                    // Without a value, and without one in the environment.
                    return (!inner.is_null()).then(|| (name, scalar("", &inner)));
                }
                let inner = value(&name, inner);
                let says = named || !is_empty(&inner) && !is_default(&name, &inner);
                (says && !name.starts_with("x-")).then_some((name, inner))
            });
            Value::Object(inner.collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| value("", item)).collect())
        }
        Value::Null => Value::Object(Map::new()),
        plain => scalar(key, &plain),
    }
}

fn scalar(key: &str, value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if key == "mode" => number
            .as_u64()
            .map_or_else(|| number.to_string(), |mode| format!("{mode:o}")),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        // Not a single value: as it stands, so that the other must have the same.
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let read = if DURATIONS.contains(&key) {
        seconds(&text).map(|value| value.to_string())
    } else if SIZES.contains(&key) {
        bytes(&text).map(|value| value.trunc().to_string())
    } else if key == "count" && text == "all" {
        Some("-1".to_owned())
    } else if key == "cpus" {
        text.parse::<f64>().ok().map(|value| value.to_string())
    } else if key == "mode" {
        Some(
            text.trim_start_matches("0o")
                .trim_start_matches('0')
                .to_owned(),
        )
    } else {
        None
    };
    Value::String(read.unwrap_or(text))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What one of the two writes out though nobody wrote it, or leaves out though somebody did.
fn is_default(key: &str, value: &Value) -> bool {
    matches!(
        (key, value.as_str()),
        ("mode", Some("ingress"))
            | ("hostname" | "published", Some(""))
            | ("protocol", Some("tcp"))
            | ("required", Some("true"))
            | ("dockerfile", Some("Dockerfile"))
            | (
                "disable" | "internal" | "oom_kill_disable" | "privileged" | "read_only",
                Some("false"),
            )
            | (
                "mem_limit" | "mem_swappiness" | "max_failure_ratio",
                Some("0")
            )
    )
}

/// Every leaf that differs, by its path below `at`: what the first has and what the second.
pub fn differences(at: &str, a: &Value, b: &Value) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    diff(at, a, b, &mut found);
    found
}

fn diff(at: &str, a: &Value, b: &Value, found: &mut BTreeMap<String, (String, String)>) {
    if a == b {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        for key in keys {
            let (a, b) = (a.get(key), b.get(key));
            let inner = format!("{at}/{key}");
            let (a, b) = (a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null));
            diff(&inner, a, b, found);
        }
    } else {
        found.insert(at.to_owned(), (a.to_string(), b.to_string()));
    }
}

/// `1h2m3.5s` → seconds; a plain number counts seconds.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(total)
}

/// `64m` → bytes.
fn bytes(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let unit = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let number: f64 = lower[..unit].parse().ok()?;
    let factor = match lower[unit..]
        .trim()
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 1u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    Some(number * factor as f64)
}

/// As a shell would split it, without expansions.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let inner = characters.by_ref().take_while(|c| *c != '\'');
                word.get_or_insert_default().extend(inner);
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = characters.next().filter(|c| *c != '"') {
                    match c {
                        '\\' => word.extend(characters.next()),
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
