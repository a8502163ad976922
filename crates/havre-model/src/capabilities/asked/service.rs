//! What a service asks for.

use std::path::Path;
use std::time::Duration;

use crate::project::{
    Account, Build, BuildContext, Condition, Dependency, Device, FileGrant, Healthcheck, Hook,
    Liveness, Mount, Port, ProbeTiming, Protocol, PullPolicy, Reload, Resolver, Resources,
    RestartPolicy, Service, UpdateConfig, UpdateOrder,
};

use super::Asks;

/// What a service has where nothing is said.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

pub(super) fn asks<'p>(service: &'p Service, asks: &mut Asks<'_, 'p>) {
    // No `..`: a new field does not compile until it is decided here.
    let Service {
        image,
        build,
        pull_policy,
        entrypoint,
        command,
        environment,
        secret_environment,
        expose,
        ports,
        mounts,
        networks,
        network_of,
        depends_on,
        healthcheck,
        liveness,
        restart,
        secrets,
        reload,
        configs,
        replicas,
        resources,
        update,
        stop_signal,
        stop_grace_period,
        init,
        user,
        group_add,
        working_dir,
        hostname,
        cap_add,
        cap_drop,
        no_new_privileges,
        seccomp_unconfined,
        allow,
        privileged,
        shares,
        devices,
        device_rules,
        ulimits,
        sysctls,
        shm_size_bytes,
        read_only,
        extra_hosts,
        links,
        resolver,
        tty,
        stdin_open,
        logging,
        labels,
        pre_start,
        post_start,
        pre_stop,
    } = service;
    if let Some(image) = image {
        asks.value(&["services.*.image"], image);
    }
    if let Some(build) = build {
        builds(build, asks);
    }
    match pull_policy {
        PullPolicy::Missing => {}
        PullPolicy::Always => asks.value(&["services.*.pull_policy"], "always"),
        PullPolicy::Never => asks.value(&["services.*.pull_policy"], "never"),
    }
    asks.key_if(entrypoint.is_some(), &["services.*.entrypoint"]);
    asks.key_if(command.is_some(), &["services.*.command"]);
    asks.each(
        &["services.*.environment", "services.*.env_file"],
        environment.keys(),
    );
    for port in expose {
        // On the machine's network what is published is there already.
        let keys = &["services.*.expose", "services.*.ports"];
        asks.value(keys, port.to_string());
    }
    for port in ports {
        publishes(port, asks);
    }
    for mount in mounts {
        mounted(mount, asks);
    }
    for (network, attachment) in networks {
        // The one that there is where none is named.
        if network.as_str() != "default" {
            asks.value(&["services.*.networks"], network.as_str());
        }
        let keys = &["services.*.networks.*.aliases", "services.*.container_name"];
        asks.each(keys, &attachment.aliases);
    }
    if let Some(other) = network_of {
        asks.value(&["services.*.network_mode"], format!("service:{other}"));
    }
    for (other, dependency) in depends_on {
        waits(other.as_str(), dependency, asks);
    }
    if let Some(check) = healthcheck {
        is_checked(check, asks);
    }
    if let Some(liveness) = liveness {
        is_alive(liveness, asks);
    }
    restarts(restart, asks);
    for grant in secrets {
        secret(grant, asks);
    }
    for grant in configs {
        config(grant, asks);
    }
    if *replicas != 1 {
        let keys = &["services.*.deploy.replicas", "services.*.scale"];
        asks.value(keys, replicas.to_string());
    }
    limits(resources, asks);
    updates(update, asks);
    if let Some(signal) = stop_signal {
        asks.value(&["services.*.stop_signal"], signal);
    }
    let usual = *stop_grace_period == STOP_GRACE_PERIOD;
    asks.key_if(!usual, &["services.*.stop_grace_period"]);
    asks.truth_if(*init, &["services.*.init"]);
    if let Some(user) = user {
        asks.value(&["services.*.user"], user);
    }
    asks.each(&["services.*.group_add"], group_add);
    if let Some(folder) = working_dir {
        asks.value(&["services.*.working_dir"], folder);
    }
    if let Some(name) = hostname {
        asks.value(&["services.*.hostname", "services.*.domainname"], name);
    }
    asks.each(&["services.*.cap_add"], cap_add);
    asks.each(&["services.*.cap_drop"], cap_drop);
    let options = [
        (*no_new_privileges, "no-new-privileges:true"),
        (*seccomp_unconfined, "seccomp:unconfined"),
    ];
    for (_, option) in options.into_iter().filter(|(asked, _)| *asked) {
        asks.value(&["services.*.security_opt"], option);
    }
    for variable in secret_environment.keys() {
        asks.value(&["havre.yaml: services.*.environment.*.secret"], variable);
    }
    match reload {
        Reload::Restart => {}
        Reload::None => asks.value(&["havre.yaml: services.*.secrets.reload"], "none"),
        Reload::Signal(signal) => asks.value(&["havre.yaml: services.*.secrets.reload"], signal),
        Reload::Command(_) => asks.key(&["havre.yaml: services.*.secrets.reload"]),
    }
    for allowed in allow {
        asks.value(&["havre.yaml: services.*.allow"], allowed.word());
    }
    asks.truth_if(*privileged, &["services.*.privileged"]);
    if shares.network {
        asks.value(&["services.*.network_mode"], "host");
    }
    if shares.pid {
        asks.value(&["services.*.pid"], "host");
    }
    if shares.ipc {
        asks.value(&["services.*.ipc"], "host");
    }
    for device in devices {
        uses(device, asks);
    }
    asks.each(&["services.*.device_cgroup_rules"], device_rules);
    asks.each(&["services.*.ulimits"], ulimits.keys());
    asks.each(&["services.*.sysctls"], sysctls.keys());
    // Memory that is mounted there is the same.
    let keys = &[
        "services.*.shm_size",
        "services.*.tmpfs",
        "services.*.volumes",
    ];
    asks.key_if(shm_size_bytes.is_some(), keys);
    asks.truth_if(*read_only, &["services.*.read_only"]);
    asks.each(&["services.*.extra_hosts"], extra_hosts.keys());
    asks.key_if(!links.is_empty(), &["services.*.links"]);
    let Resolver {
        servers,
        search,
        options,
    } = resolver;
    for server in servers {
        asks.value(&["services.*.dns"], server.to_string());
    }
    asks.each(&["services.*.dns_search"], search);
    asks.each(&["services.*.dns_opt"], options);
    asks.truth_if(*tty, &["services.*.tty"]);
    asks.truth_if(*stdin_open, &["services.*.stdin_open"]);
    if logging.max_size_bytes.is_some() {
        asks.value(&["services.*.logging.options"], "max-size");
    }
    if logging.max_files.is_some() {
        asks.value(&["services.*.logging.options"], "max-file");
    }
    asks.each(
        &["services.*.labels", "services.*.label_file"],
        labels.keys(),
    );
    for hook in pre_start {
        a_hook(hook, &PRE_START, asks);
    }
    for hook in post_start {
        a_hook(hook, &POST_START, asks);
    }
    for hook in pre_stop {
        a_hook(hook, &PRE_STOP, asks);
    }
}

fn builds<'p>(build: &'p Build, asks: &mut Asks<'_, 'p>) {
    let Build {
        context,
        // The context says that it is fetched.
        git: _,
        dockerfile,
        dockerfile_inline,
        target,
        args,
        tags,
        labels,
        no_cache,
        // By itself where the machine needs it.
        host_ca: _,
        secrets,
        contexts,
        extra_hosts,
        shm_size_bytes,
        ulimits,
        offline,
    } = build;
    asks.key(&["services.*.build"]);
    asks.path(&["services.*.build.context", "services.*.build"], context);
    if dockerfile != Path::new("Dockerfile") {
        asks.path(
            &["services.*.build.dockerfile", "services.*.build"],
            dockerfile,
        );
    }
    asks.key_if(
        dockerfile_inline.is_some(),
        &["services.*.build.dockerfile_inline"],
    );
    if let Some(target) = target {
        asks.value(&["services.*.build.target"], target);
    }
    asks.each(&["services.*.build.args"], args.keys());
    asks.each(&["services.*.build.tags"], tags);
    asks.each(&["services.*.build.labels"], labels.keys());
    asks.truth_if(*no_cache, &["services.*.build.no_cache"]);
    asks.key_if(!secrets.is_empty(), &["services.*.build.secrets"]);
    for (name, context) in contexts {
        match context {
            BuildContext::Folder { path: _ }
            | BuildContext::Git(_)
            | BuildContext::Image { reference: _ }
            | BuildContext::Service { name: _ } => {
                asks.value(&["services.*.build.additional_contexts"], name);
            }
        }
    }
    asks.each(&["services.*.build.extra_hosts"], extra_hosts.keys());
    asks.key_if(shm_size_bytes.is_some(), &["services.*.build.shm_size"]);
    asks.each(&["services.*.build.ulimits"], ulimits.keys());
    if *offline {
        asks.value(&["services.*.build.network"], "none");
    }
}

fn publishes<'p>(port: &'p Port, asks: &mut Asks<'_, 'p>) {
    let Port {
        target,
        published,
        host_ip,
        protocol,
        app_protocol,
    } = port;
    asks.value(&["services.*.ports[].target"], target.to_string());
    if let Some(published) = published {
        asks.value(&["services.*.ports[].published"], published.to_string());
    }
    if let Some(address) = host_ip {
        asks.value(&["services.*.ports[].host_ip"], address);
    }
    match protocol {
        Protocol::Tcp => {}
        Protocol::Udp => asks.value(&["services.*.ports[].protocol"], "udp"),
    }
    asks.key_if(
        !app_protocol.is_http(),
        &["services.*.ports[].app_protocol"],
    );
}

fn uses<'p>(device: &'p Device, asks: &mut Asks<'_, 'p>) {
    let Device {
        source,
        target,
        permissions,
    } = device;
    asks.path(&["services.*.devices[].source"], source);
    asks.value(&["services.*.devices[].target"], target);
    if permissions != "rwm" {
        asks.value(&["services.*.devices[].permissions"], permissions);
    }
}

/// What `volumes_from` brings is asked for by the other service as well.
fn mounted<'p>(mount: &'p Mount, asks: &mut Asks<'_, 'p>) {
    const READ_ONLY: &[&str] = &["services.*.volumes[].read_only", "services.*.volumes_from"];
    const NOCOPY: &[&str] = &["services.*.volumes[].volume.nocopy"];
    asks.key(&[
        "services.*.volumes",
        "services.*.volumes_from",
        "services.*.tmpfs",
    ]);
    match mount {
        Mount::Volume {
            name,
            target: _,
            read_only,
            nocopy,
            subpath,
            // The volume's own.
            backing: _,
        } => {
            asks.value(&["services.*.volumes[].source"], name.as_str());
            asks.truth_if(*read_only, READ_ONLY);
            asks.truth_if(*nocopy, NOCOPY);
            let keys = &["services.*.volumes[].volume.subpath"];
            asks.key_if(subpath.is_some(), keys);
        }
        Mount::Anonymous {
            target,
            read_only,
            nocopy,
        } => {
            asks.value(&["services.*.volumes[].target"], target);
            asks.truth_if(*read_only, READ_ONLY);
            asks.truth_if(*nocopy, NOCOPY);
        }
        Mount::Bind {
            source: _,
            target: _,
            read_only,
            create_host_path: _,
        } => {
            asks.value(&["services.*.volumes[].type"], "bind");
            asks.truth_if(*read_only, READ_ONLY);
        }
        Mount::Tmpfs {
            target: _,
            size_bytes,
            mode,
            uid: _,
            gid: _,
            exec: _,
        } => {
            let keys = &[
                "services.*.volumes[].type",
                "services.*.tmpfs",
                "volumes.*.driver_opts",
            ];
            asks.value(keys, "tmpfs");
            let keys = &[
                "services.*.volumes[].tmpfs.size",
                "services.*.tmpfs",
                "volumes.*.driver_opts",
            ];
            asks.key_if(size_bytes.is_some(), keys);
            let keys = &[
                "services.*.volumes[].tmpfs.mode",
                "services.*.tmpfs",
                "volumes.*.driver_opts",
            ];
            asks.key_if(mode.is_some(), keys);
        }
    }
}

fn waits<'p>(other: &'p str, dependency: &Dependency, asks: &mut Asks<'_, 'p>) {
    let Dependency {
        condition,
        required,
        restart,
    } = dependency;
    asks.value(
        &[
            "services.*.depends_on",
            "services.*.links",
            "services.*.network_mode",
            "services.*.volumes_from",
        ],
        other,
    );
    let condition = match condition {
        Condition::ServiceStarted => None,
        Condition::ServiceHealthy => Some("service_healthy"),
        Condition::ServiceCompletedSuccessfully => Some("service_completed_successfully"),
    };
    if let Some(condition) = condition {
        asks.value(&["services.*.depends_on.*.condition"], condition);
    }
    if !*required {
        asks.value(&["services.*.depends_on.*.required"], "false");
    }
    let keys = &["services.*.depends_on.*.restart", "services.*.network_mode"];
    asks.truth_if(*restart, keys);
}

fn is_checked<'p>(check: &'p Healthcheck, asks: &mut Asks<'_, 'p>) {
    match check {
        Healthcheck::Disabled => {
            asks.key(&[
                "services.*.healthcheck.disable",
                "services.*.healthcheck.test",
            ]);
        }
        Healthcheck::Probe { test, timing } => {
            asks.key_if(test.is_some(), &["services.*.healthcheck.test"]);
            let ProbeTiming {
                interval,
                timeout,
                retries,
                start_period,
                start_interval,
            } = timing;
            asks.key_if(interval.is_some(), &["services.*.healthcheck.interval"]);
            asks.key_if(timeout.is_some(), &["services.*.healthcheck.timeout"]);
            asks.key_if(retries.is_some(), &["services.*.healthcheck.retries"]);
            asks.key_if(
                start_period.is_some(),
                &["services.*.healthcheck.start_period"],
            );
            asks.key_if(
                start_interval.is_some(),
                &["services.*.healthcheck.start_interval"],
            );
        }
    }
}

fn is_alive<'p>(liveness: &'p Liveness, asks: &mut Asks<'_, 'p>) {
    let Liveness { test: _, timing } = liveness;
    asks.key(&["havre.yaml: services.*.liveness.test"]);
    let ProbeTiming {
        interval,
        timeout,
        retries,
        start_period,
        start_interval,
    } = timing;
    asks.key_if(
        interval.is_some(),
        &["havre.yaml: services.*.liveness.interval"],
    );
    asks.key_if(
        timeout.is_some(),
        &["havre.yaml: services.*.liveness.timeout"],
    );
    asks.key_if(
        retries.is_some(),
        &["havre.yaml: services.*.liveness.retries"],
    );
    asks.key_if(
        start_period.is_some(),
        &["havre.yaml: services.*.liveness.start_period"],
    );
    asks.key_if(
        start_interval.is_some(),
        &["havre.yaml: services.*.liveness.start_interval"],
    );
}

fn restarts(restart: &RestartPolicy, asks: &mut Asks<'_, '_>) {
    const KEYS: &[&str] = &[
        "services.*.restart",
        "services.*.deploy.restart_policy.condition",
    ];
    // A policy that says nothing of it means the same.
    const ALWAYS: &[&str] = &["services.*.restart", "services.*.deploy.restart_policy"];
    match restart {
        RestartPolicy::Unset => {}
        RestartPolicy::No => asks.value(KEYS, "no"),
        RestartPolicy::Always => asks.value(ALWAYS, "always"),
        RestartPolicy::UnlessStopped => asks.value(KEYS, "unless-stopped"),
        RestartPolicy::OnFailure { max_retries } => {
            asks.value(KEYS, "on-failure");
            let keys = &[
                "services.*.deploy.restart_policy.max_attempts",
                "services.*.restart",
            ];
            asks.key_if(max_retries.is_some(), keys);
        }
    }
}

fn secret<'p>(grant: &'p FileGrant, asks: &mut Asks<'_, 'p>) {
    let FileGrant {
        source,
        target,
        uid,
        gid,
        mode,
    } = grant;
    asks.value(&["services.*.secrets[].source"], source);
    if *target != format!("/run/secrets/{source}") {
        asks.value(&["services.*.secrets[].target"], target);
    }
    asks.key_if(*uid != Account::ROOT, &["services.*.secrets[].uid"]);
    asks.key_if(*gid != Account::ROOT, &["services.*.secrets[].gid"]);
    asks.key_if(*mode != 0o444, &["services.*.secrets[].mode"]);
}

fn config<'p>(grant: &'p FileGrant, asks: &mut Asks<'_, 'p>) {
    let FileGrant {
        source,
        target,
        uid,
        gid,
        mode,
    } = grant;
    asks.value(&["services.*.configs[].source"], source);
    if *target != format!("/{source}") {
        asks.value(&["services.*.configs[].target"], target);
    }
    asks.key_if(*uid != Account::ROOT, &["services.*.configs[].uid"]);
    asks.key_if(*gid != Account::ROOT, &["services.*.configs[].gid"]);
    asks.key_if(*mode != 0o444, &["services.*.configs[].mode"]);
}

fn limits(resources: &Resources, asks: &mut Asks<'_, '_>) {
    let Resources {
        nano_cpus,
        memory_bytes,
        memory_reservation_bytes,
        pids,
    } = resources;
    asks.key_if(
        nano_cpus.is_some(),
        &[
            "services.*.deploy.resources.limits.cpus",
            "services.*.cpus",
            "services.*.cpu_quota",
        ],
    );
    asks.key_if(
        memory_bytes.is_some(),
        &[
            "services.*.deploy.resources.limits.memory",
            "services.*.mem_limit",
        ],
    );
    asks.key_if(
        memory_reservation_bytes.is_some(),
        &[
            "services.*.deploy.resources.reservations.memory",
            "services.*.mem_reservation",
        ],
    );
    asks.key_if(
        pids.is_some(),
        &[
            "services.*.deploy.resources.limits.pids",
            "services.*.pids_limit",
        ],
    );
}

fn updates(update: &UpdateConfig, asks: &mut Asks<'_, '_>) {
    let UpdateConfig {
        order,
        parallelism,
        delay,
        monitor,
        // Part of the rollout's.
        on_failure: _,
        rollback_order,
    } = update;
    let word = |order: UpdateOrder| match order {
        UpdateOrder::StartFirst => "start-first",
        UpdateOrder::StopFirst => "stop-first",
    };
    if let Some(order) = order {
        asks.value(&["services.*.deploy.update_config.order"], word(*order));
    }
    if let Some(order) = rollback_order {
        asks.value(&["services.*.deploy.rollback_config.order"], word(*order));
    }
    asks.key_if(
        parallelism.is_some(),
        &["services.*.deploy.update_config.parallelism"],
    );
    asks.key_if(delay.is_some(), &["services.*.deploy.update_config.delay"]);
    asks.key_if(
        monitor.is_some(),
        &["services.*.deploy.update_config.monitor"],
    );
}

/// The keys of hooks of one kind.
struct HookKeys {
    command: &'static [&'static str],
    user: &'static [&'static str],
    working_dir: &'static [&'static str],
    environment: &'static [&'static str],
}

const PRE_START: HookKeys = HookKeys {
    command: &["services.*.pre_start[].command"],
    user: &["services.*.pre_start[].user"],
    working_dir: &["services.*.pre_start[].working_dir"],
    environment: &["services.*.pre_start[].environment"],
};
const POST_START: HookKeys = HookKeys {
    command: &["services.*.post_start[].command"],
    user: &["services.*.post_start[].user"],
    working_dir: &["services.*.post_start[].working_dir"],
    environment: &["services.*.post_start[].environment"],
};
const PRE_STOP: HookKeys = HookKeys {
    command: &["services.*.pre_stop[].command"],
    user: &["services.*.pre_stop[].user"],
    working_dir: &["services.*.pre_stop[].working_dir"],
    environment: &["services.*.pre_stop[].environment"],
};

fn a_hook<'p>(hook: &'p Hook, keys: &HookKeys, asks: &mut Asks<'_, 'p>) {
    let Hook {
        image,
        command: _,
        user,
        working_dir,
        environment,
    } = hook;
    asks.key(keys.command);
    // Only hooks before the start have one.
    asks.key_if(image.is_some(), &["services.*.pre_start[].image"]);
    asks.key_if(user.is_some(), keys.user);
    asks.key_if(working_dir.is_some(), keys.working_dir);
    asks.each(keys.environment, environment.keys());
}
