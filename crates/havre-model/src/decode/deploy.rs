//! `deploy`, and the older keys of a service that say the same.

use crate::bounds::MAX_REPLICAS;
use crate::keys;
use crate::project::{OnFailure, Resources, RestartPolicy, UpdateConfig, UpdateOrder};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;

/// Linux gives a container at least this much, and docker asks for it too.
const MIN_MEMORY_BYTES: u64 = 6 << 20;

#[derive(Debug)]
pub(super) struct Deploy {
    pub replicas: u32,
    pub resources: Resources,
    pub restart: Option<RestartPolicy>,
    pub update: UpdateConfig,
}

pub(super) fn deploy(service: &Fields<'_>, report: &mut Report) -> Deploy {
    let mut deploy = Deploy {
        replicas: 1,
        resources: Resources::default(),
        restart: None,
        update: UpdateConfig::default(),
    };
    let fields = service
        .get("deploy")
        .and_then(|field| field.fields(&keys::DEPLOY, report));
    let global = fields.as_ref().is_some_and(|fields| mode(fields, report));
    let desired = fields.as_ref().and_then(|fields| fields.get("replicas"));
    let scale = service.get("scale");
    let counts = [desired, scale].map(|f| f.and_then(|f| f.number::<u32>(report)));
    if let [Some(replicas), Some(scale)] = counts
        && replicas != scale
    {
        let message = format!("{}: `scale` and `deploy.replicas` differ", service.owner);
        report.error("compose/conflict", service.key_span("scale"), message);
    }
    if let Some(count) = counts[0].or(counts[1]) {
        if count > MAX_REPLICAS {
            let message = format!("{}: more than {MAX_REPLICAS} replicas", service.owner);
            let at = desired.or(scale).map(|field| field.span());
            report.error("compose/value", at, message);
        }
        deploy.replicas = if global { 1 } else { count };
    }
    if let Some(fields) = &fields {
        deploy.restart = restart(fields, report);
        deploy.update = update(fields, report);
        resources(fields, &mut deploy.resources, report);
    }
    older_keys(service, &mut deploy.resources, report);
    deploy
}

/// Whether the mode is `global`.
fn mode(fields: &Fields<'_>, report: &mut Report) -> bool {
    let Some(field) = fields.get("mode") else {
        return false;
    };
    match field.string(report).as_deref() {
        Some("global") => return true,
        Some("replicated") | None => {}
        Some("replicated-job" | "global-job") => {
            let hint = "leave `mode` out and write `restart: \"no\"`";
            refuse(field, "a job is a service that ends", hint, report);
        }
        Some(_) => refuse(
            field,
            "the modes are `replicated` and `global`",
            "remove it",
            report,
        ),
    }
    false
}

fn resources(fields: &Fields<'_>, resources: &mut Resources, report: &mut Report) {
    let Some(both) = fields
        .get("resources")
        .and_then(|f| f.fields(&keys::RESOURCES, report))
    else {
        return;
    };
    if let Some(limits) = both
        .get("limits")
        .and_then(|f| f.fields(&keys::LIMITS, report))
    {
        resources.nano_cpus = limits
            .get("cpus")
            .and_then(|f| f.nano_cpus(report))
            .filter(|n| *n > 0);
        resources.memory_bytes = memory(&limits, "memory", report);
        resources.pids = limits.get("pids").and_then(|f| pids(f, report));
    }
    let reservations = both.get("reservations");
    if let Some(kept) = reservations.and_then(|f| f.fields(&keys::RESERVATIONS, report)) {
        resources.memory_reservation_bytes = kept.get("memory").and_then(|f| f.bytes(report));
    }
}

fn memory(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<u64> {
    let field = fields.get(key)?;
    let bytes = field.bytes(report)?;
    if bytes > 0 && bytes < MIN_MEMORY_BYTES {
        let message = format!("{}: `{key}` is less than 6 MiB", fields.owner);
        report
            .error("compose/value", field.span(), message)
            .hint("mind the unit: `512m`");
        return None;
    }
    (bytes > 0).then_some(bytes)
}

/// 0 and -1 mean no limit.
fn pids(field: Field<'_>, report: &mut Report) -> Option<u64> {
    match field.node.text() {
        Some("-1" | "0") => None,
        _ => field.number(report),
    }
}

/// `cpus`, `mem_limit` and the like, from before `deploy`; equal values may stand in both places.
fn older_keys(service: &Fields<'_>, resources: &mut Resources, report: &mut Report) {
    let quota = service.get("cpu_quota").and_then(|f| f.micros(report));
    let period = service.get("cpu_period").and_then(|f| f.micros(report));
    let from_quota = quota.filter(|quota| *quota > 0).and_then(|quota| {
        // Both in microseconds; 100 ms is the kernel's own period.
        let period = period.unwrap_or(100_000).max(1);
        u64::try_from(u128::from(quota) * 1_000_000_000 / u128::from(period)).ok()
    });
    let cpus = service
        .get("cpus")
        .and_then(|f| f.nano_cpus(report))
        .filter(|cpus| *cpus > 0);
    let pids = service.get("pids_limit").and_then(|f| pids(f, report));
    let memory = memory(service, "mem_limit", report);
    let reservation = service.get("mem_reservation").and_then(|f| f.bytes(report));
    lay(
        service,
        "cpu_quota",
        from_quota,
        &mut resources.nano_cpus,
        report,
    );
    lay(service, "cpus", cpus, &mut resources.nano_cpus, report);
    lay(
        service,
        "mem_limit",
        memory,
        &mut resources.memory_bytes,
        report,
    );
    lay(
        service,
        "mem_reservation",
        reservation,
        &mut resources.memory_reservation_bytes,
        report,
    );
    lay(service, "pids_limit", pids, &mut resources.pids, report);
}

fn lay(
    service: &Fields<'_>,
    key: &str,
    value: Option<u64>,
    slot: &mut Option<u64>,
    report: &mut Report,
) {
    let Some(value) = value else { return };
    if slot.is_some_and(|known| known != value) {
        let message = format!("{}: `{key}` differs from `deploy.resources`", service.owner);
        let at = service.key_span(key);
        report
            .error("compose/conflict", at, message)
            .hint("keep one of them");
    }
    *slot = Some(value);
}

fn restart(fields: &Fields<'_>, report: &mut Report) -> Option<RestartPolicy> {
    let policy = fields
        .get("restart_policy")?
        .fields(&keys::RESTART_POLICY, report)?;
    let max_retries = policy.get("max_attempts").and_then(|f| f.number(report));
    // As in the specification, `any` is the default.
    let Some(field) = policy.get("condition") else {
        return Some(RestartPolicy::Always);
    };
    match field.string(report)?.as_str() {
        // Words of `restart` stand here as well, and docker compose takes them.
        "none" | "no" | "false" => Some(RestartPolicy::No),
        "any" | "always" => Some(RestartPolicy::Always),
        "unless-stopped" => Some(RestartPolicy::UnlessStopped),
        "on-failure" => Some(RestartPolicy::OnFailure { max_retries }),
        other => {
            let message = format!("{}: `{other}` is not a condition", policy.owner);
            report
                .error("compose/value", field.span(), message)
                .hint("one of none, on-failure, any");
            None
        }
    }
}

fn update(fields: &Fields<'_>, report: &mut Report) -> UpdateConfig {
    let section = |key: &'static str, keys, report: &mut Report| {
        fields.get(key).and_then(|field| field.fields(keys, report))
    };
    let rollback_order = section("rollback_config", &keys::ROLLBACK_CONFIG, report)
        .and_then(|config| order(&config, report));
    let Some(config) = section("update_config", &keys::UPDATE_CONFIG, report) else {
        return UpdateConfig {
            rollback_order,
            ..UpdateConfig::default()
        };
    };
    if let Some(field) = config.get("max_failure_ratio")
        && let Some(ratio) = field.string(report)
        && ratio.parse::<f64>().is_ok_and(|ratio| ratio != 0.0)
    {
        let message = format!(
            "{}: `max_failure_ratio: {ratio}` has no effect: one failed replica fails the release",
            config.owner
        );
        report.warn("compose/ignored", field.span(), message);
    }
    let duration = |key, report: &mut Report| config.get(key)?.duration(report);
    UpdateConfig {
        order: order(&config, report),
        // 0 is how the specification says "all".
        parallelism: config
            .get("parallelism")
            .and_then(|field| field.number(report))
            .filter(|count| *count > 0),
        delay: duration("delay", report).filter(|delay| !delay.is_zero()),
        monitor: duration("monitor", report),
        on_failure: config
            .get("failure_action")
            .and_then(|field| failure_action(field, &config, report)),
        rollback_order,
    }
}

fn failure_action(field: Field<'_>, config: &Fields<'_>, report: &mut Report) -> Option<OnFailure> {
    match field.string(report)?.as_str() {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        action => {
            let message = format!(
                "{}: `failure_action: {action}` has no effect: a release that fails is rolled back",
                config.owner
            );
            report.warn("compose/ignored", field.span(), message);
            None
        }
    }
}

fn order(config: &Fields<'_>, report: &mut Report) -> Option<UpdateOrder> {
    let field = config.get("order")?;
    match field.string(report)?.as_str() {
        "start-first" => Some(UpdateOrder::StartFirst),
        "stop-first" => Some(UpdateOrder::StopFirst),
        _ => {
            refuse(
                field,
                "it is not known",
                "write `start-first` or `stop-first`",
                report,
            );
            None
        }
    }
}
