//! Which keys a target may lack, how values are compared, and what arrives from elsewhere.

use std::collections::BTreeSet;

use super::key::{Key, Standing, all, standing};
use super::*;

/// Keys of which a project keeps no trace, and which the reader alone can refuse: what they come to is
/// settled when the files have been read.
const NO_TRACE: &[&str] = &[
    // Their parts are asked for.
    "configs",
    "networks",
    "secrets",
    "volumes",
    "havre.yaml: build",
    "havre.yaml: networks",
    "havre.yaml: rollout",
    "havre.yaml: routes",
    "havre.yaml: tls",
    "havre.yaml: services.*.environment",
    "havre.yaml: services.*.liveness",
    "havre.yaml: services.*.secrets",
    "services.*.configs",
    "services.*.deploy",
    "services.*.devices",
    "services.*.post_start",
    "services.*.pre_start",
    "services.*.pre_stop",
    "services.*.deploy.resources",
    "services.*.deploy.resources.limits",
    "services.*.deploy.resources.reservations",
    "services.*.deploy.rollback_config",
    "services.*.deploy.update_config",
    "services.*.healthcheck",
    "services.*.logging",
    "services.*.secrets",
    "services.*.ulimits.*.hard",
    "services.*.ulimits.*.soft",
    "services.*.volumes[].bind",
    "services.*.volumes[].tmpfs",
    "services.*.volumes[].volume",
    // They are part of another key's value, whose trace is the same.
    "services.*.cpu_period",
    "services.*.env_file[].format",
    "services.*.env_file[].path",
    "services.*.env_file[].required",
    // They say what there is without them, or have no effect here.
    "havre.yaml: build.host_ca",
    "havre.yaml: routes[].port",
    "services.*.networks.*.ipv4_address",
    "services.*.networks.*.ipv6_address",
    "services.*.volumes[].bind.create_host_path",
    "services.*.cgroup",
    "services.*.deploy.mode",
    "services.*.deploy.update_config.max_failure_ratio",
    "services.*.logging.driver",
    "services.*.platform",
    "services.*.pre_start[].per_replica",
    "services.*.runtime",
    "services.*.userns_mode",
    "services.*.uts",
    "services.*.volumes[].bind.propagation",
    "services.*.volumes[].bind.recursive",
    "volumes.*.driver",
    "networks.*.driver",
    "services.*.build.platforms",
];

fn lack(key: &str, values: &[&str]) -> Lack {
    Lack {
        key: key.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
        reason: "it has none".to_owned(),
        hint: "remove it".to_owned(),
    }
}

/// Keys that a project may ask for, as the sources have them.
fn asked_for() -> BTreeSet<String> {
    let sources = [include_str!("asked.rs"), include_str!("asked/service.rs")];
    let words = sources.iter().flat_map(|source| source.split('"'));
    let tops = [
        "services.",
        "networks.",
        "volumes.",
        "secrets.",
        "configs.",
        "havre.yaml: ",
    ];
    let keys = words.filter(|word| tops.iter().any(|top| word.starts_with(top)));
    keys.map(str::to_owned).collect()
}

#[test]
fn what_a_project_asks_for_are_keys_of_the_tables() {
    for key in asked_for() {
        assert_eq!(standing(&key), Standing::Asked, "{key}");
    }
}

#[test]
fn every_key_is_asked_for_or_leaves_no_trace() {
    let asked = asked_for();
    let is_asked = |key: &String| standing(key) == Standing::Asked;
    let known: BTreeSet<String> = all().map(|(key, _)| key).filter(is_asked).collect();
    let missing: Vec<&String> = known
        .difference(&asked)
        .filter(|key| !NO_TRACE.contains(&key.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for key in NO_TRACE {
        assert!(known.contains(*key), "{key} is not a key");
        assert!(!asked.contains(*key), "{key} has a trace");
    }
}

#[test]
fn only_what_a_target_gets_to_see_can_be_lacking() {
    let new = |lack| Capabilities::new("Docker Swarm", vec![lack]);
    for key in [
        "services.*.pid",
        "services.*.configs[].mode",
        "havre.yaml: tls.key",
    ] {
        assert!(new(lack(key, &[])).is_ok(), "{key}");
    }
    for key in [
        "",
        "pid",
        "services.*.pidd",
        "havre.yaml: services.*.pid",
        "rollout.strategy",
    ] {
        let error = new(lack(key, &[])).unwrap_err();
        assert_eq!(error, LackError::UnknownKey(key.to_owned()));
    }
    for key in [
        "include[].path",
        "services",
        "services.*.extends.file",
        "services.*.attach",
        "services.*.cpu_shares",
        "services.*.mac_address",
        "havre.yaml: environments",
    ] {
        let error = new(lack(key, &[])).unwrap_err();
        assert_eq!(error, LackError::NeverSeen(key.to_owned()));
    }
}

#[test]
fn everything_is_bounded() {
    let sound = lack("services.*.pid", &["host"]);
    let is_refused = |target: &str, lacks: Vec<Lack>| {
        let error = Capabilities::new(target, lacks).unwrap_err();
        assert!(matches!(error, LackError::OutOfBounds { .. }), "{error}");
    };
    is_refused("", vec![]);
    is_refused(&"x".repeat(201), vec![]);
    is_refused("x", vec![sound.clone(); 501]);
    is_refused("x", vec![lack("services.*.pid", &["a"; 51])]);
    is_refused("x", vec![lack("services.*.pid", &[""])]);
    let reason = "x".repeat(1001);
    let long = Lack {
        reason,
        ..sound.clone()
    };
    is_refused("x", vec![long]);
    let hint = String::new();
    is_refused("x", vec![Lack { hint, ..sound }]);
}

#[test]
fn what_arrives_is_bounded_and_of_this_version() {
    let sent = |key: &str, reason: &str| {
        serde_json::json!({ "target": "Swarm", "lacks": [
            { "key": "services.*.pid", "reason": "so it is", "hint": "none" },
            { "key": key, "reason": reason, "hint": "none" },
        ]})
    };
    let read = |sent| serde_json::from_value::<Capabilities>(sent);
    let newer = read(sent("services.*.of_tomorrow", "so it is")).unwrap();
    assert_eq!(newer.lacks().len(), 1);
    assert!(read(sent("services.*.ipc", "")).is_err());
    let all = read(sent("services.*.ipc", "so it is")).unwrap();
    let again = serde_json::to_value(&all).unwrap();
    assert_eq!(read(again).unwrap(), all);
    // Nothing but the name: it lacks nothing.
    let own = read(serde_json::json!({ "target": "this machine" })).unwrap();
    assert_eq!(own, Capabilities::default());
}

#[test]
fn values_are_compared_as_they_are_meant() {
    let joined = lack("services.*.network_mode", &["service:*"]);
    assert!(joined.covers("service:db") && !joined.covers("host") && !joined.covers("ser"));
    let truth = lack("services.*.init", &["true"]);
    assert!(truth.covers("yes") && truth.covers("True") && !truth.covers("no"));
    let capability = lack("services.*.cap_add", &["NET_ADMIN"]);
    assert!(capability.covers("CAP_NET_ADMIN") && capability.covers("net_admin"));
    assert!(!capability.covers("NET_RAW"));
    // Not at a boundary of a character.
    assert!(!lack("services.*.user", &["ab*"]).covers("aé"));
}

#[test]
fn a_key_is_shown_without_its_owner() {
    let shown = |key, names: &[&str]| {
        let key = Key::parse(key);
        (key.shown(names), key.owner(names).to_string())
    };
    let is = |key: &str, owner: &str| (key.to_owned(), owner.to_owned());
    assert_eq!(
        shown("services.*.networks.*.aliases", &["web", "back"]),
        is("networks.back.aliases", " of service `web`")
    );
    assert_eq!(
        shown("services.*.ports[].protocol", &["web"]),
        is("ports[].protocol", " of service `web`")
    );
    assert_eq!(
        shown("havre.yaml: services.*.liveness", &["web"]),
        is("liveness", " of service `web`")
    );
    assert_eq!(
        shown("havre.yaml: rollout.strategy", &[]),
        is("rollout.strategy", "")
    );
    assert_eq!(
        shown("networks.*.internal", &["back"]),
        is("internal", " of network `back`")
    );
}
