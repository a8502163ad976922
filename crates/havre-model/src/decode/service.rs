//! One service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Names, Surroundings, build, deploy, grants, image, machine, mounts, network, process, reads,
    resolver, undefined,
};
use crate::keys;
use crate::project::{
    Attachment, Condition, Dependency, NetworkName, PullPolicy, RestartPolicy, Service, ServiceName,
};
use crate::read::{Fields, refuse};
use crate::report::Report;
use crate::yaml::Node;

/// What sethostname(2) takes.
const MAX_HOSTNAME: usize = 64;
/// Docker's own default.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

pub(super) fn service(
    name: &str,
    node: &Node,
    names: &Names,
    around: &mut Surroundings<'_>,
) -> Option<Service> {
    let owner = format!("service `{name}`");
    let fields = &Fields::open(owner, node, &keys::SERVICE, around.report)?;
    namespaces(fields, around.report);
    let mut requests = machine::AllowRequests::new(name, around.ground);
    let (privileged, shares) = machine::shares(fields, &mut requests, around.report);
    let devices = machine::devices(fields, &mut requests, around.report);
    let device_rules = machine::device_rules(fields, &mut requests, around.report);
    let mounts = mounts::mounts(fields, names, &mut requests, around.report);
    let mut cap_add = capabilities(fields, "cap_add", around.report);
    if !privileged {
        machine::capabilities(&mut cap_add, fields, &mut requests, around.report);
    }
    let built = fields
        .get("build")
        .and_then(|field| build::build(name, field, names, around));
    let secrets = grants::grants(fields, "secrets", &names.secrets, around.report);
    let configs = grants::grants(fields, "configs", &names.configs, around.report);
    if let Some(built) = &built {
        reads::build(
            built,
            &names.secret_files,
            fields,
            &mut requests,
            around.report,
        );
    }
    for (key, granted, files) in [
        ("secrets", &secrets, &names.secret_files),
        ("configs", &configs, &names.config_files),
    ] {
        reads::grants(key, granted, files, fields, &mut requests, around.report);
    }
    let shm_size = fields.get("shm_size").and_then(|f| f.bytes(around.report));
    let shm_size_bytes = shm_size.or(requests.shared_memory());
    around.to_allow.push(requests.settle(around.report));
    let image = fields.string("image", around.report);
    // An `extends` that is still there has failed, and would have brought one.
    let expected = !fields.has("build") && !fields.has("extends");
    if image.is_none() && expected {
        let message = format!("{} has neither `image` nor `build`", fields.owner);
        around
            .report
            .error("compose/missing-key", fields.span, message)
            .hint("say which image it runs, or how to build it");
    }
    if let (Some(image), Some(field)) = (&image, fields.get("image")) {
        image::check_image(image, field, around.report);
    }
    // A wrong profile list leaves the service enabled, so it must be heard of.
    fields.strings("profiles", around.report);
    let mut networks = network::attachments(fields, names, around.report);
    let mut depends_on = depends_on(fields, names, around.report);
    let network_of = network_of(fields, names, &mut depends_on, around.report);
    let links = links(fields, names, &mut depends_on, around.report);
    container_name(name, fields, names, &mut networks, around.report);
    let deploy = deploy::deploy(fields, around.report);
    let security = security_opt(fields, around.report);
    let (expose, ports) = network::reached(fields, shares.network, around.report);
    let report = &mut *around.report;
    let restart = deploy.restart.or_else(|| restart(fields, report));
    let stop_grace_period = fields
        .get("stop_grace_period")
        .and_then(|f| f.duration(report));
    Some(Service {
        image,
        build: built,
        pull_policy: pull_policy(fields, report),
        entrypoint: fields
            .get("entrypoint")
            .and_then(|f| process::command(f, report)),
        command: fields
            .get("command")
            .and_then(|f| process::command(f, report)),
        environment: process::environment(fields, around),
        expose,
        ports,
        mounts,
        networks,
        network_of,
        depends_on,
        liveness: None,
        reload: Default::default(),
        secret_environment: BTreeMap::new(),
        healthcheck: fields
            .get("healthcheck")
            .and_then(|f| process::healthcheck(f, around.report)),
        restart: restart.unwrap_or(RestartPolicy::Unset),
        secrets,
        configs,
        replicas: deploy.replicas,
        resources: deploy.resources,
        update: deploy.update,
        stop_signal: process::stop_signal(fields, around.report),
        stop_grace_period: stop_grace_period.unwrap_or(STOP_GRACE_PERIOD),
        init: fields.truth("init", around.report).unwrap_or(false),
        user: process::user(fields, around.report),
        group_add: process::group_add(fields, around.report),
        working_dir: process::working_dir(fields, around.report),
        hostname: hostname(fields, around.report),
        cap_add,
        cap_drop: capabilities(fields, "cap_drop", around.report),
        no_new_privileges: security.no_new_privileges,
        seccomp_unconfined: security.seccomp_unconfined,
        allow: BTreeSet::new(),
        privileged,
        shares,
        devices,
        device_rules,
        ulimits: process::ulimits(fields, around.report),
        sysctls: process::sysctls(fields, shares, around.report),
        shm_size_bytes,
        read_only: fields.truth("read_only", around.report).unwrap_or(false),
        extra_hosts: network::extra_hosts(fields, around.report),
        links,
        resolver: resolver::resolver(fields, around.report),
        tty: fields.truth("tty", around.report).unwrap_or(false),
        stdin_open: fields.truth("stdin_open", around.report).unwrap_or(false),
        logging: process::logging(fields, around.report),
        labels: process::labels(fields, around),
        pre_start: process::hooks(fields, "pre_start", around),
        post_start: process::hooks(fields, "post_start", around),
        pre_stop: process::hooks(fields, "pre_stop", around),
    })
}

/// Keys for which only the value that changes nothing is taken.
fn namespaces(fields: &Fields<'_>, report: &mut Report) {
    let own = "each container has namespaces of its own";
    let rules: [(&str, &[&str], &str, &str); 6] = [
        ("cgroup", &["private"], own, "remove it"),
        ("ipc", &["private", "shareable", "host"], own, "remove it"),
        ("pid", &["host"], own, "remove it"),
        ("uts", &[], own, "remove it"),
        (
            "userns_mode",
            &["host"],
            "user namespaces are not used",
            "remove it",
        ),
        (
            "runtime",
            &["runc"],
            "Havre runs containers by itself",
            "remove it",
        ),
    ];
    for (key, allowed, why, hint) in rules {
        let Some(field) = fields.get(key) else {
            continue;
        };
        let Some(value) = field.string(report) else {
            continue;
        };
        if key == "runtime" && value == "nvidia" {
            let message = format!(
                "{}: `runtime: nvidia` has no effect: {}",
                field.owner,
                keys::NO_GPU
            );
            report.warn("compose/ignored", field.span(), message);
        } else if !value.is_empty() && !allowed.contains(&value.as_str()) {
            refuse(field, why, hint, report);
        }
    }
    if let Some(field) = fields.get("platform")
        && let Some(platform) = field.string(report)
    {
        image::check_platform(&platform, field, report);
    }
}

fn pull_policy(fields: &Fields<'_>, report: &mut Report) -> PullPolicy {
    let Some(field) = fields.get("pull_policy") else {
        return PullPolicy::Missing;
    };
    match field.string(report).as_deref() {
        Some("missing" | "if_not_present") | None => PullPolicy::Missing,
        Some("always") => PullPolicy::Always,
        Some("never") => PullPolicy::Never,
        // What has a `build` is built at every `up`.
        Some("build") if fields.get("build").is_some() => PullPolicy::Missing,
        Some("build") => {
            let why = "the service has no `build`";
            refuse(
                field,
                why,
                "add `build`, or use always, missing or never",
                report,
            );
            PullPolicy::Missing
        }
        Some(policy) if by_age(policy) => {
            let message = format!(
                "{}: `pull_policy: {policy}` means `missing`: images are not refreshed by age",
                fields.owner
            );
            report
                .warn("compose/ignored", field.span(), message)
                .hint("use `always` for a look at every release");
            PullPolicy::Missing
        }
        Some(_) => {
            let why = "it is not known";
            refuse(field, why, "use always, missing, never or build", report);
            PullPolicy::Missing
        }
    }
}

fn by_age(policy: &str) -> bool {
    matches!(policy, "daily" | "weekly" | "refresh") || policy.starts_with("every_")
}

fn restart(fields: &Fields<'_>, report: &mut Report) -> Option<RestartPolicy> {
    let field = fields.get("restart")?;
    let value = field.string(report)?;
    let (policy, retries) = match value.split_once(':') {
        Some((policy, retries)) => (policy, Some(retries)),
        None => (value.as_str(), None),
    };
    let policy = match (policy, retries) {
        // Unquoted, YAML 1.1 would read a truth value here.
        ("no" | "false" | "", None) => Some(RestartPolicy::No),
        ("always", None) => Some(RestartPolicy::Always),
        ("unless-stopped", None) => Some(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Some(RestartPolicy::OnFailure { max_retries: None }),
        ("on-failure", Some(count)) => count.parse().ok().map(|n| RestartPolicy::OnFailure {
            max_retries: Some(n),
        }),
        _ => None,
    };
    if policy.is_none() {
        let message = format!("{}: `{value}` is not a restart policy", fields.owner);
        report
            .error("compose/value", field.span(), message)
            .hint("one of no, always, unless-stopped, on-failure, on-failure:3");
    }
    policy
}

fn depends_on(
    fields: &Fields<'_>,
    names: &Names,
    report: &mut Report,
) -> BTreeMap<ServiceName, Dependency> {
    let mut edges = BTreeMap::new();
    if let Some(field) = fields.get("depends_on") {
        for (name, place, node) in field.entries(report) {
            let owner = format!("{}: `depends_on.{name}`", fields.owner);
            let Some(edge) = dependency(&owner, node, report) else {
                continue;
            };
            if check_dependency(fields, name, place, edge.required, names, report) {
                edges.insert(ServiceName::new(name), edge);
            }
        }
    }
    edges
}

/// Keys that say something of a network, of which there is another service's.
const OF_OWN_NETWORK: [&str; 6] = [
    "dns",
    "extra_hosts",
    "hostname",
    "links",
    "mac_address",
    "ports",
];

/// The service whose network `network_mode: service:NAME` joins; it is a dependency as well, and
/// its new replicas bring new ones of this.
fn network_of(
    fields: &Fields<'_>,
    names: &Names,
    edges: &mut BTreeMap<ServiceName, Dependency>,
    report: &mut Report,
) -> Option<ServiceName> {
    let field = fields.get("network_mode")?;
    let name = field.node.text()?.strip_prefix("service:")?;
    for key in OF_OWN_NETWORK.iter().filter(|key| fields.has(key)) {
        let message = format!(
            "{}: `{key}` and `network_mode: service:{name}` exclude each other",
            fields.owner
        );
        report
            .error("compose/conflict", fields.key_span(key), message)
            .hint(format!(
                "move it to service `{name}`, whose network both are on"
            ));
    }
    if !check_dependency(fields, name, field.span(), true, names, report) {
        return None;
    }
    let provider = ServiceName::new(name);
    let edge = edges.entry(provider.clone()).or_insert(Dependency {
        condition: Condition::ServiceStarted,
        required: true,
        restart: true,
    });
    edge.restart = true;
    Some(provider)
}

/// The aliases of `links`; each link is a dependency as well.
fn links(
    fields: &Fields<'_>,
    names: &Names,
    edges: &mut BTreeMap<ServiceName, Dependency>,
    report: &mut Report,
) -> BTreeMap<String, ServiceName> {
    let mut aliases = BTreeMap::new();
    let Some(field) = fields.get("links") else {
        return aliases;
    };
    for item in field.items(report) {
        let Some(link) = item.string(report) else {
            continue;
        };
        let (name, alias) = link.split_once(':').unwrap_or((&link, &link));
        if !check_dependency(fields, name, item.span(), true, names, report) {
            continue;
        }
        let target = ServiceName::new(name);
        edges.entry(target.clone()).or_insert(Dependency {
            condition: Condition::ServiceStarted,
            required: true,
            restart: false,
        });
        if alias == name {
            continue;
        }
        if !alias.split('.').all(super::valid_name) {
            let message = format!("{}: `{alias}` is not a host name", fields.owner);
            report.error("compose/name", item.span(), message);
        } else if let Some(other) = aliases.insert(alias.to_ascii_lowercase(), target)
            && other.as_str() != name
        {
            let message = format!("{}: two links are called `{alias}`", fields.owner);
            report.error("compose/conflict", item.span(), message);
        }
    }
    aliases
}

fn dependency(owner: &str, node: &Node, report: &mut Report) -> Option<Dependency> {
    let mut edge = Dependency {
        condition: Condition::ServiceStarted,
        required: true,
        restart: false,
    };
    if node.is_null() {
        return Some(edge);
    }
    let fields = Fields::open(owner, node, &keys::DEPENDENCY, report)?;
    if let Some(field) = fields.get("condition") {
        edge.condition = match field.string(report)?.as_str() {
            "service_started" => Condition::ServiceStarted,
            "service_healthy" => Condition::ServiceHealthy,
            "service_completed_successfully" => Condition::ServiceCompletedSuccessfully,
            other => {
                let message = format!("{owner}: `{other}` is not a condition");
                let known = "service_started, service_healthy, service_completed_successfully";
                report
                    .error("compose/value", field.span(), message)
                    .hint(format!("one of {known}"));
                return None;
            }
        };
    }
    edge.required = fields.truth("required", report).unwrap_or(true);
    edge.restart = fields.truth("restart", report).unwrap_or(false);
    Some(edge)
}

/// Whether the edge leads to a service that will run.
fn check_dependency(
    fields: &Fields<'_>,
    name: &str,
    place: crate::source::Span,
    required: bool,
    names: &Names,
    report: &mut Report,
) -> bool {
    if !names.services.contains(name) {
        if required {
            undefined(
                "service",
                name,
                place,
                &fields.owner,
                &names.services,
                report,
            );
        }
        return false;
    }
    let Some(profiles) = names.disabled.get(name) else {
        return true;
    };
    if required {
        let message = format!(
            "{} needs `{name}`, which is only enabled by profile {}",
            fields.owner,
            profiles.join(" or ")
        );
        report
            .error("compose/profile", place, message)
            .hint("enable the profile, or write `required: false`");
    }
    false
}

/// Names of containers are made by release and replica; the name goes on working in networks.
fn container_name(
    service: &str,
    fields: &Fields<'_>,
    names: &Names,
    networks: &mut BTreeMap<NetworkName, Attachment>,
    report: &mut Report,
) {
    let Some(field) = fields.get("container_name") else {
        return;
    };
    let Some(name) = field.string(report) else {
        return;
    };
    if name == service {
        return;
    }
    if !super::valid_name(&name) {
        let message = format!("{}: `{name}` is not a valid container name", fields.owner);
        report.error("compose/name", field.span(), message);
    } else if names.services.contains(&name) {
        let message = format!("{}: `{name}` is the name of another service", fields.owner);
        report
            .error("compose/conflict", field.span(), message)
            .hint("remove `container_name`");
    } else {
        for attachment in networks.values_mut() {
            if !attachment.aliases.contains(&name) {
                attachment.aliases.push(name.clone());
            }
        }
    }
}

/// `hostname`, with `domainname` behind it: mail servers ask for both.
fn hostname(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let domain = fields.get("domainname");
    let Some(field) = fields.get("hostname") else {
        if let Some(domain) = domain {
            let message = format!(
                "{}: `domainname` has no effect without `hostname`",
                fields.owner
            );
            report.warn("compose/ignored", domain.span(), message);
        }
        return None;
    };
    let mut name = field.string(report)?;
    if let Some(domain) = domain {
        let domain = domain.string(report)?;
        let behind = format!(".{}", domain.trim_matches('.'));
        if !name.ends_with(&behind) {
            name.push_str(&behind);
        }
    }
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > MAX_HOSTNAME || !name.split('.').all(label) {
        let message = format!("{}: `{name}` is not a host name", fields.owner);
        report.error("compose/value", field.span(), message);
        return None;
    }
    Some(name)
}

fn capabilities(fields: &Fields<'_>, key: &str, report: &mut Report) -> Vec<String> {
    let Some(field) = fields.get(key) else {
        return Vec::new();
    };
    let mut capabilities = Vec::new();
    for item in field.items(report) {
        let Some(text) = item.string(report) else {
            continue;
        };
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name).to_owned();
        if !is_capability(&name) {
            let near = crate::suggest::nearest(&name, CAPABILITIES.iter().copied());
            let message = format!("{}: `{text}` is not a capability", fields.owner);
            let error = report.error("compose/value", item.span(), message);
            if let Some(near) = near {
                error.hint(format!("did you mean `{near}`?"));
            }
            continue;
        }
        if !capabilities.contains(&name) {
            capabilities.push(name);
        }
    }
    capabilities
}

/// Whether this is a capability, or all of them, as the model writes them: in upper case, without `CAP_`.
pub(crate) fn is_capability(name: &str) -> bool {
    name == "ALL" || CAPABILITIES.contains(&name)
}

/// capabilities(7), Linux 6.12.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

#[derive(Clone, Copy, Debug, Default)]
struct Security {
    no_new_privileges: bool,
    seccomp_unconfined: bool,
}

/// Why an option is not carried out, and what to do. What would confine a container more than Havre
/// does is never taken and left undone.
fn refusal(option: &str) -> (&'static str, &'static str) {
    let (kind, _) = option.split_once(':').unwrap_or((option, ""));
    match kind {
        "seccomp" => (
            "profiles of your own are not read",
            "remove it for the default profile",
        ),
        "apparmor" => (
            "containers run without an AppArmor profile",
            "remove it if seccomp, capabilities and masked paths are enough (docs/isolation.md)",
        ),
        "label" => (
            "containers run without an SELinux label",
            "remove it if seccomp, capabilities and masked paths are enough (docs/isolation.md)",
        ),
        "systempaths" => ("/proc and /sys stay masked in every container", "remove it"),
        _ => (
            "only no-new-privileges and seccomp:unconfined are known",
            "remove it",
        ),
    }
}

fn security_opt(fields: &Fields<'_>, report: &mut Report) -> Security {
    let mut security = Security::default();
    let Some(field) = fields.get("security_opt") else {
        return security;
    };
    for item in field.items(report) {
        let Some(text) = item.string(report) else {
            continue;
        };
        match text.replace('=', ":").as_str() {
            "no-new-privileges" | "no-new-privileges:true" => security.no_new_privileges = true,
            "no-new-privileges:false" => security.no_new_privileges = false,
            "seccomp:unconfined" => security.seccomp_unconfined = true,
            "seccomp:builtin" => {}
            // Nothing to lift: no AppArmor profile and no SELinux label are applied.
            "apparmor:unconfined" | "label:disable" => {}
            other => {
                let (why, instead) = refusal(other);
                refuse(item, why, instead, report);
            }
        }
    }
    security
}
