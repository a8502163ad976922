//! Every key of the compose specification and what Havre does with it.
//!
//! The reader refuses, warns and accepts from this table and from nothing else; the documentation
//! and the test against the specification's schema read the same table.

pub use havre_yaml::Support;

/// Why what asks for a GPU has no effect.
pub(crate) const NO_GPU: &str =
    "no GPU is given to containers: a program that can do without one uses the processor";

/// One key of a [`Section`].
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What becomes of it.
    pub support: Support,
}

/// The keys of one kind of mapping.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where it stands, e.g. `services.*.build`.
    pub path: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

impl Section {
    /// The entry of a key.
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Every section, for documentation and tests.
pub const SECTIONS: &[Section] = &[
    TOP,
    SERVICE,
    BUILD,
    HEALTHCHECK,
    DEPLOY,
    RESOURCES,
    LIMITS,
    RESERVATIONS,
    RESTART_POLICY,
    UPDATE_CONFIG,
    ROLLBACK_CONFIG,
    PLACEMENT,
    PORT,
    VOLUME_MOUNT,
    BIND_OPTIONS,
    VOLUME_OPTIONS,
    TMPFS_OPTIONS,
    DEVICE,
    ATTACHMENT,
    DEPENDENCY,
    GRANT,
    PRE_START,
    HOOK,
    ENV_FILE,
    LOGGING,
    EXTENDS,
    INCLUDE,
    ULIMIT,
    NETWORK,
    VOLUME,
    SECRET,
    CONFIG,
];

const fn yes(name: &'static str) -> Key {
    Key {
        name,
        support: Support::Honoured,
    }
}

const fn partly(name: &'static str, how: &'static str) -> Key {
    Key {
        name,
        support: Support::Partly(how),
    }
}

const fn quiet(name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        support: Support::Quiet(why),
    }
}

const fn ignored(name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        support: Support::Ignored(why),
    }
}

const fn refused(name: &'static str, why: &'static str, hint: &'static str) -> Key {
    Key {
        name,
        support: Support::Refused { why, hint },
    }
}

/// The file itself.
pub const TOP: Section = Section {
    path: "",
    keys: &[
        quiet(
            "version",
            "obsolete; the specification has no versions any more",
        ),
        yes("name"),
        yes("include"),
        yes("services"),
        yes("networks"),
        yes("volumes"),
        yes("secrets"),
        yes("configs"),
        refused(
            "models",
            "no AI model runner is managed here",
            "run the model as a service",
        ),
    ],
};

/// `services.*`
pub const SERVICE: Section = Section {
    path: "services.*",
    keys: &[
        quiet("annotations", "only read by other container runtimes"),
        quiet("attach", "output is always kept; `havre logs` shows it"),
        ignored(
            "blkio_config",
            "I/O limits per device are not set; builds and jobs are kept from starving services",
        ),
        yes("build"),
        yes("cap_add"),
        yes("cap_drop"),
        partly("cgroup", "`private`, which is what every container gets"),
        ignored("cgroup_parent", "Havre arranges the cgroups by environment"),
        yes("command"),
        yes("configs"),
        partly(
            "container_name",
            "a further name of the service in its networks",
        ),
        refused("cpu_count", "it is for Windows containers", "use `cpus`"),
        refused("cpu_percent", "it is for Windows containers", "use `cpus`"),
        yes("cpu_period"),
        yes("cpu_quota"),
        refused(
            "cpu_rt_period",
            "real-time scheduling is not offered",
            "remove it",
        ),
        refused(
            "cpu_rt_runtime",
            "real-time scheduling is not offered",
            "remove it",
        ),
        ignored("cpu_shares", "CPU is shared evenly; use `cpus` for a limit"),
        yes("cpus"),
        ignored(
            "cpuset",
            "services are not pinned to CPUs; use `cpus` to limit their number",
        ),
        refused(
            "credential_spec",
            "it is for Windows containers",
            "remove it",
        ),
        partly("depends_on", "conditions hold whenever a release starts"),
        yes("deploy"),
        quiet("develop", "only for development"),
        partly(
            "device_cgroup_rules",
            "with `allow: [devices]` in havre.yaml",
        ),
        partly("devices", "with `allow: [devices]` in havre.yaml"),
        partly(
            "dns",
            "asked for all names but the project's; the first three, and none of the container's own",
        ),
        yes("dns_opt"),
        yes("dns_search"),
        partly("domainname", "put behind `hostname`"),
        yes("entrypoint"),
        yes("env_file"),
        yes("environment"),
        yes("expose"),
        yes("extends"),
        refused(
            "external_links",
            "containers of other projects cannot be reached",
            "reach the other project by its domain",
        ),
        yes("extra_hosts"),
        ignored("gpus", NO_GPU),
        yes("group_add"),
        yes("healthcheck"),
        yes("hostname"),
        yes("image"),
        yes("init"),
        partly(
            "ipc",
            "`private` and `shareable`; `host` with `allow: [host-ipc]` in havre.yaml",
        ),
        refused("isolation", "it is for Windows containers", "remove it"),
        yes("label_file"),
        yes("labels"),
        yes("links"),
        partly(
            "logging",
            "the output is kept here: size and number of files; another driver has no effect",
        ),
        refused("mac_address", "addresses are chosen by Havre", "remove it"),
        yes("mem_limit"),
        yes("mem_reservation"),
        ignored("mem_swappiness", "the kernel's own setting stays"),
        ignored("memswap_limit", "swap is not limited apart from memory"),
        refused(
            "models",
            "no AI model runner is managed here",
            "run the model as a service",
        ),
        partly(
            "network_mode",
            "`none`, `service:NAME`; `host` with `allow: [host-network]` in havre.yaml",
        ),
        yes("networks"),
        ignored(
            "oom_kill_disable",
            "a container at its limit must not hang; raise `mem_limit`",
        ),
        ignored("oom_score_adj", "limits decide which container is ended"),
        partly(
            "pid",
            "a namespace of its own, which every container gets; `host` with `allow: [host-pid]` in havre.yaml",
        ),
        yes("pids_limit"),
        partly("platform", "the machine's own"),
        partly(
            "ports",
            "HTTP ports through the proxy, other TCP and UDP ports passed on as they are",
        ),
        yes("post_start"),
        yes("pre_start"),
        yes("pre_stop"),
        partly("privileged", "with `allow: [privileged]` in havre.yaml"),
        yes("profiles"),
        refused(
            "provider",
            "plug-ins of docker compose are not run",
            "use an image",
        ),
        partly(
            "pull_policy",
            "`always`, `missing`, `if_not_present`, `never`, `build`; by age means `missing`",
        ),
        refused(
            "pull_refresh_after",
            "images are not refreshed by age",
            "use `pull_policy`",
        ),
        yes("read_only"),
        partly(
            "restart",
            "`no` starts a replica once, whatever becomes of it; without the key one that fails is started again",
        ),
        partly(
            "runtime",
            "`runc`: Havre runs containers by itself; `nvidia` has no effect",
        ),
        yes("scale"),
        yes("secrets"),
        partly(
            "security_opt",
            "`no-new-privileges` and `seccomp:unconfined`",
        ),
        yes("shm_size"),
        yes("stdin_open"),
        yes("stop_grace_period"),
        yes("stop_signal"),
        ignored(
            "storage_opt",
            "the size of a container's layer is not limited",
        ),
        partly("sysctls", "namespaced settings"),
        yes("tmpfs"),
        yes("tty"),
        yes("ulimits"),
        refused(
            "use_api_socket",
            "there is no Docker API to give",
            "remove it",
        ),
        yes("user"),
        partly("userns_mode", "`host`: user namespaces are not used"),
        partly("uts", "a namespace of its own, which every container gets"),
        yes("volumes"),
        partly(
            "volumes_from",
            "of services of the project; a volume without a name cannot be shared",
        ),
        yes("working_dir"),
    ],
};

/// `services.*.build`
pub const BUILD: Section = Section {
    path: "services.*.build",
    keys: &[
        partly(
            "additional_contexts",
            "folders, git repositories, `service:NAME`, `docker-image://NAME`",
        ),
        yes("args"),
        quiet("cache_from", "the layer cache is local"),
        quiet("cache_to", "the layer cache is local"),
        partly(
            "context",
            "a local folder, or a git repository by https, http or git: `https://….git#REFERENCE:FOLDER`",
        ),
        yes("dockerfile"),
        yes("dockerfile_inline"),
        refused(
            "entitlements",
            "build steps get no further privileges",
            "remove it",
        ),
        yes("extra_hosts"),
        refused("isolation", "it is for Windows containers", "remove it"),
        yes("labels"),
        partly("network", "`default` and `none`"),
        yes("no_cache"),
        partly("platforms", "the machine's own"),
        refused("privileged", "build steps run unprivileged", "remove it"),
        quiet("provenance", "attestations are not part of the image"),
        ignored("pull", "base images are fetched when they are missing"),
        quiet("sbom", "attestations are not part of the image"),
        partly(
            "secrets",
            "for `RUN --mount=type=secret`, which says whose the file is",
        ),
        yes("shm_size"),
        refused(
            "ssh",
            "SSH agents are not forwarded into a build",
            "fetch before the build",
        ),
        yes("tags"),
        yes("target"),
        yes("ulimits"),
    ],
};

/// `services.*.healthcheck`
pub const HEALTHCHECK: Section = Section {
    path: "services.*.healthcheck",
    keys: &[
        yes("disable"),
        yes("interval"),
        yes("retries"),
        yes("start_interval"),
        yes("start_period"),
        yes("test"),
        yes("timeout"),
    ],
};

/// `services.*.deploy`
pub const DEPLOY: Section = Section {
    path: "services.*.deploy",
    keys: &[
        quiet(
            "endpoint_mode",
            "services answer by name to all their replicas' addresses",
        ),
        quiet("labels", "only read by other orchestrators"),
        partly(
            "mode",
            "`replicated`, and `global` as one replica on one machine",
        ),
        ignored("placement", "everything runs on this machine"),
        yes("replicas"),
        yes("resources"),
        yes("restart_policy"),
        partly(
            "rollback_config",
            "`order`; the rest follows `update_config`",
        ),
        yes("update_config"),
    ],
};

/// `services.*.deploy.resources`
pub const RESOURCES: Section = Section {
    path: "services.*.deploy.resources",
    keys: &[yes("limits"), yes("reservations")],
};

/// `services.*.deploy.resources.limits`
pub const LIMITS: Section = Section {
    path: "services.*.deploy.resources.limits",
    keys: &[yes("cpus"), yes("memory"), yes("pids")],
};

/// `services.*.deploy.resources.reservations`
pub const RESERVATIONS: Section = Section {
    path: "services.*.deploy.resources.reservations",
    keys: &[
        ignored("cpus", "CPU is shared evenly; only limits are set"),
        ignored("devices", NO_GPU),
        refused(
            "generic_resources",
            "there is no cluster to choose a node in",
            "remove it",
        ),
        yes("memory"),
    ],
};

/// `services.*.deploy.restart_policy`
pub const RESTART_POLICY: Section = Section {
    path: "services.*.deploy.restart_policy",
    keys: &[
        yes("condition"),
        ignored("delay", "Havre waits longer after each failure in a row"),
        yes("max_attempts"),
        ignored("window", "Havre waits longer after each failure in a row"),
    ],
};

/// `services.*.deploy.update_config`
pub const UPDATE_CONFIG: Section = Section {
    path: "services.*.deploy.update_config",
    keys: &[
        yes("delay"),
        partly(
            "failure_action",
            "`rollback` and `pause`: for the whole release",
        ),
        partly(
            "max_failure_ratio",
            "`0`: one failed replica fails the release",
        ),
        partly(
            "monitor",
            "how long the whole release is watched when it has all requests; the longest of all \
             services",
        ),
        yes("order"),
        partly(
            "parallelism",
            "that many replicas of the service are replaced at a time; without it all together, \
             beside the old ones",
        ),
    ],
};

/// `services.*.deploy.rollback_config`
pub const ROLLBACK_CONFIG: Section = Section {
    path: "services.*.deploy.rollback_config",
    keys: &[
        quiet("delay", "the way back is not slowed down"),
        quiet("failure_action", "there is nothing to go back to"),
        quiet("max_failure_ratio", "there is nothing to go back to"),
        quiet("monitor", "the release before was watched already"),
        yes("order"),
        quiet("parallelism", "the way back is not slowed down"),
    ],
};

/// `services.*.deploy.placement`
pub const PLACEMENT: Section = Section {
    path: "services.*.deploy.placement",
    keys: &[
        ignored("constraints", "everything runs on this machine"),
        ignored("max_replicas_per_node", "everything runs on this machine"),
        ignored("preferences", "everything runs on this machine"),
    ],
};

/// `services.*.ports[]`
pub const PORT: Section = Section {
    path: "services.*.ports[]",
    keys: &[
        partly(
            "app_protocol",
            "`h2c` and `grpc` have the proxy speak HTTP/2 there, others are for people",
        ),
        yes("host_ip"),
        quiet("mode", "there is one machine"),
        quiet("name", "for people"),
        partly("protocol", "`tcp` and `udp`"),
        yes("published"),
        yes("target"),
    ],
};

/// `services.*.volumes[]`
pub const VOLUME_MOUNT: Section = Section {
    path: "services.*.volumes[]",
    keys: &[
        yes("bind"),
        quiet("consistency", "only for Docker Desktop"),
        refused(
            "image",
            "images are not mounted",
            "copy the files in the Dockerfile",
        ),
        yes("read_only"),
        yes("source"),
        yes("target"),
        yes("tmpfs"),
        partly("type", "`volume`, `bind` and `tmpfs`"),
        yes("volume"),
    ],
};

/// `services.*.volumes[].bind`
pub const BIND_OPTIONS: Section = Section {
    path: "services.*.volumes[].bind",
    keys: &[
        yes("create_host_path"),
        partly(
            "propagation",
            "`rprivate` and `private`; `rslave` and `slave` have no effect",
        ),
        partly("recursive", "`enabled`"),
        quiet("selinux", "files are not relabelled"),
    ],
};

/// `services.*.volumes[].volume`
pub const VOLUME_OPTIONS: Section = Section {
    path: "services.*.volumes[].volume",
    keys: &[
        quiet("labels", "for people"),
        yes("nocopy"),
        partly("subpath", "a folder, made and filled when missing"),
    ],
};

/// `services.*.volumes[].tmpfs`
pub const TMPFS_OPTIONS: Section = Section {
    path: "services.*.volumes[].tmpfs",
    keys: &[yes("mode"), yes("size")],
};

/// `services.*.devices[]`
pub const DEVICE: Section = Section {
    path: "services.*.devices[]",
    keys: &[yes("permissions"), yes("source"), yes("target")],
};

/// `services.*.networks.*`
pub const ATTACHMENT: Section = Section {
    path: "services.*.networks.*",
    keys: &[
        yes("aliases"),
        ignored("driver_opts", "networks have no drivers here"),
        ignored("gw_priority", "the way out is the same from every network"),
        ignored("interface_name", "interfaces are named by Havre"),
        partly(
            "ipv4_address",
            "not kept, with a warning; refused where something else names the address",
        ),
        partly(
            "ipv6_address",
            "not kept, with a warning; refused where something else names the address",
        ),
        refused(
            "link_local_ips",
            "addresses are chosen by Havre",
            "remove it",
        ),
        refused("mac_address", "addresses are chosen by Havre", "remove it"),
        quiet("priority", "the order of interfaces does not matter here"),
    ],
};

/// `services.*.depends_on.*`
pub const DEPENDENCY: Section = Section {
    path: "services.*.depends_on.*",
    keys: &[yes("condition"), yes("required"), yes("restart")],
};

/// `services.*.secrets[]` and `services.*.configs[]`
pub const GRANT: Section = Section {
    path: "services.*.secrets[]",
    keys: &[
        yes("gid"),
        yes("mode"),
        yes("source"),
        yes("target"),
        yes("uid"),
    ],
};

/// `services.*.pre_start[]`
pub const PRE_START: Section = Section {
    path: "services.*.pre_start[]",
    keys: &[
        yes("command"),
        yes("environment"),
        yes("image"),
        partly("per_replica", "`false`: once per release"),
        refused(
            "privileged",
            "a hook has the service's privileges",
            "remove it",
        ),
        yes("user"),
        yes("working_dir"),
    ],
};

/// `services.*.post_start[]`, `pre_stop[]`
pub const HOOK: Section = Section {
    path: "services.*.post_start[]",
    keys: &[
        yes("command"),
        yes("environment"),
        refused(
            "privileged",
            "a hook has the service's privileges",
            "remove it",
        ),
        yes("user"),
        yes("working_dir"),
    ],
};

/// `services.*.env_file[]`
pub const ENV_FILE: Section = Section {
    path: "services.*.env_file[]",
    keys: &[partly("format", "`raw`"), yes("path"), yes("required")],
};

/// `services.*.logging`
pub const LOGGING: Section = Section {
    path: "services.*.logging",
    keys: &[
        partly("driver", "`json-file` and `local`"),
        partly("options", "`max-size` and `max-file`"),
    ],
};

/// `services.*.extends`
pub const EXTENDS: Section = Section {
    path: "services.*.extends",
    keys: &[yes("file"), yes("service")],
};

/// `include[]`
pub const INCLUDE: Section = Section {
    path: "include[]",
    keys: &[yes("env_file"), yes("path"), yes("project_directory")],
};

/// `services.*.ulimits.*`
pub const ULIMIT: Section = Section {
    path: "services.*.ulimits.*",
    keys: &[yes("hard"), yes("soft")],
};

/// `networks.*`
pub const NETWORK: Section = Section {
    path: "networks.*",
    keys: &[
        quiet("attachable", "only for Swarm"),
        partly("driver", "`bridge`"),
        ignored("driver_opts", "networks have no drivers here"),
        quiet("enable_ipv4", "networks have IPv4"),
        ignored("enable_ipv6", "networks inside the machine have IPv4 only"),
        partly(
            "external",
            "the machine's network of that name, which `havre network create` makes; without one the environment's own, with a warning: services of other projects are not on it",
        ),
        yes("internal"),
        ignored("ipam", "addresses are chosen by Havre"),
        yes("labels"),
        partly("name", "of an external or shared network"),
    ],
};

/// `volumes.*`
pub const VOLUME: Section = Section {
    path: "volumes.*",
    keys: &[
        partly("driver", "`local`"),
        partly(
            "driver_opts",
            "a folder of the machine (`type: none`, `o: bind`, `device`), or memory for one service (`type: tmpfs`)",
        ),
        yes("external"),
        yes("labels"),
        yes("name"),
    ],
};

/// `secrets.*`
pub const SECRET: Section = Section {
    path: "secrets.*",
    keys: &[
        refused(
            "driver",
            "there is no Swarm to ask",
            "use `file` or `environment`",
        ),
        refused(
            "driver_opts",
            "there is no Swarm to ask",
            "use `file` or `environment`",
        ),
        yes("environment"),
        partly(
            "external",
            "from the machine's store, which `havre secret set` fills",
        ),
        yes("file"),
        quiet("labels", "for people"),
        partly("name", "of an external one"),
        refused("template_driver", "secrets are not templates", "remove it"),
    ],
};

/// `configs.*`
pub const CONFIG: Section = Section {
    path: "configs.*",
    keys: &[
        yes("content"),
        yes("environment"),
        refused(
            "external",
            "there is no Swarm to ask",
            "use `file`, `content` or `environment`",
        ),
        yes("file"),
        quiet("labels", "for people"),
        quiet("name", "for people"),
        refused("template_driver", "configs are not templates", "remove it"),
    ],
};
