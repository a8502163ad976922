//! What a service asks for of the machine itself: each is refused unless havre.yaml allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::allow::Allow;
use crate::diagnostic::Severity;
use crate::host_path;
use crate::keys;
use crate::project::{Device, Mount, Shares};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::settings;
use crate::source::Span;

/// What endangers the machine and is not allowed.
const NOT_ALLOWED: &str = "havre/not-allowed";
/// Of shared memory, instead of the machine's: browsers, which have it mounted, need more than the usual.
const ROOMY_MEMORY: u64 = 1 << 30;
/// Most devices, and rules for them, of one service.
const MOST_DEVICES: usize = 256;

/// Collects what one service asks for, so that the line which would allow it names all of it.
pub(super) struct AllowRequests<'a> {
    service: &'a str,
    ground: HostContext<'a>,
    allowed: Option<&'a BTreeSet<Allow>>,
    asked: Vec<Asked>,
    /// It was to share the machine's memory for programs, and has its own.
    own_memory: bool,
    /// It has a writable mount of the folder in which havre.yaml is, or would be.
    writes_settings: bool,
}

/// What the owner of the machine gave.
#[derive(Clone, Copy)]
pub(crate) struct HostContext<'a> {
    /// The project's own folder, absolute.
    pub directory: &'a Path,
    /// What havre.yaml lets each service have of the machine.
    pub allowed: &'a BTreeMap<String, BTreeSet<Allow>>,
    /// Networks that the environment shares with others, as havre.yaml has it.
    pub shared: &'a BTreeSet<String>,
    /// Shared networks that the machine has; `None`: not known.
    pub known: Option<&'a BTreeSet<String>>,
}

/// What havre.yaml would have to say for one service.
pub(crate) struct ToAllow {
    service: String,
    /// What it has already, and what it asks for.
    all: BTreeSet<Allow>,
    is_refused: bool,
    writes_settings: bool,
}

struct Asked {
    what: String,
    needs: Allow,
    at: Span,
}

impl<'a> AllowRequests<'a> {
    pub fn new(service: &'a str, ground: HostContext<'a>) -> Self {
        Self {
            service,
            ground,
            allowed: ground.allowed.get(service),
            asked: Vec::new(),
            own_memory: false,
            writes_settings: false,
        }
    }

    /// Size of the container's own shared memory, where the file names none.
    pub fn shared_memory(&self) -> Option<u64> {
        self.own_memory.then_some(ROOMY_MEMORY)
    }

    /// The project's folder, links resolved.
    pub fn real_directory(&self) -> PathBuf {
        let own = self.ground.directory;
        std::fs::canonicalize(own).unwrap_or_else(|_| own.to_owned())
    }

    pub fn ask(&mut self, needs: Allow, what: impl Into<String>, at: Span) {
        let what = what.into();
        self.asked.push(Asked { what, needs, at });
    }

    /// Many stacks bring a helper that watches Docker. They run without its socket, which would be
    /// no use: what it shows is not here.
    fn leave_socket_out(&self, shown: &str, at: Span, report: &mut Report) {
        let service = self.service;
        let line = self.line([Allow::DockerSocket]);
        let message = format!(
            "service `{service}`: the mount of {shown} is left out: there is no Docker API here"
        );
        report
            .warn("havre/docker-socket", at, message)
            .hint(format!(
                "routes of havre.yaml take the place of a proxy that watches containers, `havre logs` \
                 and `havre status` that of viewers, and releases that of updaters; if the socket of \
                 another engine is meant, write in havre.yaml:\nservices:\n{line}"
            ));
    }

    /// Browsers and what streams video have it mounted for its size alone.
    fn leave_memory_out(&mut self, at: Span, report: &mut Report) {
        let (service, line) = (self.service, self.line([Allow::HostIpc]));
        let message = format!(
            "service `{service}`: the mount of /dev/shm is left out: the container has its own there"
        );
        report.warn("havre/own-instead", at, message).hint(format!(
            "1 GiB, or as much as `shm_size` says; if that of the machine's programs is meant, write in \
             havre.yaml:\nservices:\n{line}"
        ));
        self.own_memory = true;
    }

    /// The line of havre.yaml that allows these as well.
    fn line(&self, more: impl IntoIterator<Item = Allow>) -> String {
        line(self.service, &self.all(more))
    }

    fn all(&self, more: impl IntoIterator<Item = Allow>) -> BTreeSet<Allow> {
        let allowed = self.allowed.into_iter().flatten().copied();
        allowed.chain(more).collect()
    }

    fn is_allowed(&self, needs: Allow) -> bool {
        self.allowed.is_some_and(|allowed| allowed.contains(&needs))
    }

    /// Refuses what is not allowed, and tells what is.
    pub fn settle(self, report: &mut Report) -> ToAllow {
        let service = self.service;
        let mut told = BTreeSet::new();
        let mut is_refused = false;
        for Asked { what, needs, at } in &self.asked {
            let gives_away = needs.gives_away();
            if self.is_allowed(*needs) {
                if told.insert(*needs) {
                    let message = format!("service `{service}` {gives_away} ({what})");
                    report.record(Severity::Note, "havre/allowed", *at, message);
                }
                continue;
            }
            let message = format!("service `{service}`: {what} is not allowed: it {gives_away}");
            report
                .error(NOT_ALLOWED, *at, message)
                .hint(instead(*needs));
            is_refused = true;
        }
        let unused = self.allowed.into_iter().flatten();
        let unused: Vec<&str> = unused
            .filter(|one| !self.asked.iter().any(|asked| asked.needs == **one))
            .map(|one| one.word())
            .collect();
        if !unused.is_empty() {
            let message = format!(
                "havre.yaml allows service `{service}` what it does not ask for: {}",
                unused.join(", ")
            );
            report
                .warn("havre/allow-unused", None, message)
                .hint("remove it there");
        }
        ToAllow {
            service: service.to_owned(),
            all: self.all(self.asked.iter().map(|asked| asked.needs)),
            is_refused,
            writes_settings: self.writes_settings,
        }
    }
}

fn line(service: &str, all: &BTreeSet<Allow>) -> String {
    let words: Vec<&str> = all.iter().map(|one| one.word()).collect();
    format!("  {service}: {{allow: [{}]}}", words.join(", "))
}

/// Says, where the last of what is refused stands, what allows all of it: nobody pastes twice. With
/// the pasted lines there is an `allow`, which no container may change without a word of its own.
pub(super) fn suggest_lines(to_allow: Vec<ToAllow>, report: &mut Report) {
    if !to_allow.iter().any(|one| one.is_refused) {
        return;
    }
    let (mut lines, mut writers) = (Vec::new(), Vec::new());
    for mut one in to_allow {
        let is_new = one.writes_settings && one.all.insert(Allow::HostPaths);
        if is_new || one.is_refused {
            lines.push(line(&one.service, &one.all));
        }
        if is_new {
            writers.push(format!("`{}`", one.service));
        }
    }
    let writers = match &writers[..] {
        [] => String::new(),
        names => format!(
            ", and that {} can change these lines by a writable mount of the project's folder",
            names.join(", ")
        ),
    };
    let lines = lines.join("\n");
    report.hint_at_last(NOT_ALLOWED, |others| {
        let meant = match others {
            0 => "that is meant".to_owned(),
            1 => "that and the other above that is not allowed are meant".to_owned(),
            others => format!("that and the {others} others above that are not allowed are meant"),
        };
        format!("; if {meant}{writers}, write in havre.yaml:\nservices:\n{lines}")
    });
}

/// What to do where it is not meant.
fn instead(needs: Allow) -> &'static str {
    match needs {
        Allow::Capabilities => "remove it, or add a smaller one: what a program lacks, it names",
        Allow::Devices | Allow::DockerSocket => "remove it",
        Allow::HostIpc | Allow::HostPid => "remove it: each container has one of its own",
        Allow::HostNetwork => "remove it, and publish what must be reachable with `ports`",
        Allow::HostPaths => {
            "use a smaller folder, read-only where reading will do, or a copy in the project's folder"
        }
        Allow::Privileged => "add what it needs with `cap_add`",
    }
}

/// `privileged`, and namespaces that are the machine's.
pub(super) fn shares(
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) -> (bool, Shares) {
    let mut shares = Shares::default();
    let privileged = fields.get("privileged");
    let privileged = privileged.filter(|field| field.truth(report) == Some(true));
    if let Some(field) = privileged {
        requests.ask(Allow::Privileged, "`privileged: true`", field.span());
    }
    let kinds = [
        ("network_mode", Allow::HostNetwork, &mut shares.network),
        ("pid", Allow::HostPid, &mut shares.pid),
        ("ipc", Allow::HostIpc, &mut shares.ipc),
    ];
    for (key, needs, shared) in kinds {
        if let Some(field) = fields.get(key)
            && field.node.text() == Some("host")
        {
            requests.ask(needs, format!("`{key}: host`"), field.span());
            *shared = true;
        }
    }
    (privileged.is_some(), shares)
}

/// `devices`.
pub(super) fn devices(
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) -> Vec<Device> {
    let Some(field) = fields.get("devices") else {
        return Vec::new();
    };
    let mut devices = Vec::new();
    for item in field.items(report) {
        let Some(device) = device(item, report) else {
            continue;
        };
        let what = format!("device {}", device.source.display());
        requests.ask(Allow::Devices, what, item.span());
        devices.push(device);
    }
    check_number(devices.len(), field, report);
    devices
}

fn device(item: Field<'_>, report: &mut Report) -> Option<Device> {
    let fields = &item.fields(&keys::DEVICE, report)?;
    let Some(source) = fields.string("source", report) else {
        let message = format!("{} has no `source`", fields.owner);
        report.error("compose/missing-key", fields.span, message);
        return None;
    };
    if !source.starts_with('/') {
        let why =
            "a device is a path of this machine; descriptions of other kinds (CDI) are not read";
        refuse(item, why, "write `/dev/NAME`", report);
        return None;
    }
    let target = fields.string("target", report);
    let target = target.unwrap_or_else(|| source.clone());
    let inside = Path::new(&target);
    if !inside.starts_with("/dev") || target.contains("/..") || inside == Path::new("/dev") {
        let message = format!("{}: `{target}` is not a path below /dev", fields.owner);
        report.error("compose/value", item.span(), message);
        return None;
    }
    let permissions = fields.string("permissions", report);
    let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
    if !are_permissions(&permissions) {
        let message = format!("{}: `{permissions}` are no permissions", fields.owner);
        report
            .error("compose/value", item.span(), message)
            .hint("write `r` (read), `w` (write) and `m` (make), at least one of them");
        return None;
    }
    let source = PathBuf::from(source);
    if !source.exists() {
        let message = format!(
            "{}: {} is not there on this machine",
            fields.owner,
            source.display()
        );
        report
            .warn("compose/missing-file", item.span(), message)
            .hint("without it the service cannot start");
    }
    Some(Device {
        source,
        target,
        permissions,
    })
}

fn are_permissions(text: &str) -> bool {
    (1..=3).contains(&text.len())
        && text
            .char_indices()
            .all(|(at, c)| matches!(c, 'r' | 'w' | 'm') && !text[..at].contains(c))
}

/// `device_cgroup_rules`.
pub(super) fn device_rules(
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) -> Vec<String> {
    let Some(field) = fields.get("device_cgroup_rules") else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    for item in field.items(report) {
        let Some(rule) = item.string(report) else {
            continue;
        };
        if !is_rule(&rule) {
            let message = format!("{}: `{rule}` is not a rule for devices", field.owner);
            report
                .error("compose/value", item.span(), message)
                .hint("write kind, numbers and permissions: `c 189:* rmw`");
            continue;
        }
        let what = format!("the rule for devices `{rule}`");
        requests.ask(Allow::Devices, what, item.span());
        rules.push(rule);
    }
    check_number(rules.len(), field, report);
    rules
}

fn is_rule(rule: &str) -> bool {
    let parts: Vec<&str> = rule.split(' ').collect();
    let [kind, numbers, permissions] = parts[..] else {
        return false;
    };
    let number = |text: &str| {
        text == "*"
            || text.len() <= 7 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
    };
    matches!(kind, "a" | "b" | "c")
        && numbers
            .split_once(':')
            .is_some_and(|(major, minor)| number(major) && number(minor))
        && are_permissions(permissions)
}

fn check_number(count: usize, field: Field<'_>, report: &mut Report) {
    if count > MOST_DEVICES {
        let message = format!("{}: more than {MOST_DEVICES} `{}`", field.owner, field.key);
        report.error("compose/too-large", field.span(), message);
    }
}

/// Looks at one mount: what it gives of the machine, and what it covers in the container. Returns
/// whether it is made; one that is meant for reading alone is made for that.
pub(super) fn mount(
    mount: &mut Mount,
    at: Span,
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) -> bool {
    let mut always = true;
    let (source, target, read_only) = match mount {
        Mount::Bind {
            source,
            target,
            read_only,
            ..
        } => (Some(&*source), target, read_only),
        Mount::Volume {
            backing,
            target,
            read_only,
            ..
        } => (backing.as_ref(), target, read_only),
        Mount::Anonymous { target, .. } | Mount::Tmpfs { target, .. } => {
            (None, target, &mut always)
        }
    };
    if let Some(why) = host_path::taken(Path::new(target)) {
        if source.is_some_and(|source| host_path::is_same(source, Path::new(target))) {
            let message = format!(
                "{}: the mount of {target} is left out: the container has its own there",
                fields.owner
            );
            let hint = format!("{why}; the machine's own is mounted elsewhere, e.g. below /host");
            report.warn("havre/own-instead", at, message).hint(hint);
            return false;
        }
        let message = format!(
            "{}: nothing can be mounted at {target}: {why}",
            fields.owner
        );
        report
            .error("compose/volume", at, message)
            .hint("choose another place, e.g. below /host");
        return false;
    }
    if let Some(source) = source {
        if host_path::is_shared_memory(source)
            && host_path::is_same(source, Path::new(target))
            && !requests.is_allowed(Allow::HostIpc)
        {
            requests.leave_memory_out(at, report);
            return false;
        }
        let own = requests.ground.directory;
        // A link of the project may lead anywhere; the letter counts too, for machines to come.
        let real = std::fs::canonicalize(source).unwrap_or_else(|_| source.clone());
        let real_own = requests.real_directory();
        let look = |read_only| {
            host_path::endangered(&real, read_only, &real_own)
                .or_else(|| host_path::endangered(source, read_only, own))
                .or_else(|| host_path::endangered_inside(&real))
        };
        let mut found = look(*read_only);
        let for_reading = host_path::is_for_reading(source) || host_path::is_for_reading(&real);
        if found
            .as_ref()
            .is_some_and(|found| !requests.is_allowed(found.needs))
            && for_reading
            && !*read_only
            && look(true).is_none()
        {
            *read_only = true;
            found = None;
            let shown = report.shown(source);
            only_read(&shown, at, requests, report);
        }
        let read_only = *read_only;
        let settings = real_own.join(settings::FILE_NAME);
        let writes_settings = !read_only && settings.starts_with(&real);
        requests.writes_settings |= writes_settings;
        if writes_settings && settings.exists() {
            rewrites_settings(source, at, fields, requests, report);
        }
        if let Some(found) = found {
            let shown = report.shown(source);
            let is_socket = found.needs == Allow::DockerSocket && found.holds.is_none();
            if is_socket && !requests.is_allowed(found.needs) {
                requests.leave_socket_out(&shown, at, report);
                return false;
            }
            let how = if read_only {
                "the mount"
            } else {
                "the writable mount"
            };
            let what = match found.holds {
                None => format!("{how} of {shown}"),
                Some(path) => format!("{how} of {shown}, with {path} in it"),
            };
            requests.ask(found.needs, what, at);
        }
    }
    true
}

/// Whoever writes there can take the machine over, and hardly a container means to.
fn only_read(shown: &str, at: Span, requests: &AllowRequests<'_>, report: &mut Report) {
    let (service, line) = (requests.service, requests.line([Allow::HostPaths]));
    let message = format!("service `{service}`: {shown} is mounted to be read only");
    report.warn("havre/only-read", at, message).hint(format!(
        "write `:ro` behind it; by writing there the machine can be taken over: if that is meant, \
             write in havre.yaml:\nservices:\n{line}"
    ));
}

/// What is mounted holds havre.yaml: whoever breaks into the container writes there what is allowed.
fn rewrites_settings(
    source: &Path,
    at: Span,
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) {
    let shown = report.shown(source);
    if !requests.ground.allowed.is_empty() {
        let what = format!("the writable mount of {shown}, with havre.yaml and its `allow` in it");
        requests.ask(Allow::HostPaths, what, at);
        return;
    }
    let message = format!(
        "{}: the writable mount of {shown} holds havre.yaml: the container can change what is run \
         at the next `up`",
        fields.owner
    );
    report
        .warn("havre/writable-settings", at, message)
        .hint("mount a folder below it, or mount it read-only");
}

/// Capabilities with which a program becomes root of the machine, whatever else confines it.
const HAND_OVER: [&str; 10] = [
    "ALL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "PERFMON",
    "SYS_ADMIN",
    // `kexec_load` puts another kernel in the place of this one.
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_RAWIO",
];

/// Whether this capability hands the machine over.
fn hands_over(name: &str) -> bool {
    HAND_OVER.contains(&name)
}

/// Capabilities by which a container has no more than what is its own: Docker's default, and those that its
/// namespaces confine.
const CONFINED: [&str; 21] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PTRACE",
];

/// Whether a container with this capability changes or sees what is the machine's: its clock, its kernel's
/// log, limits of all.
pub(crate) fn is_of_machine(name: &str) -> bool {
    !CONFINED.contains(&name)
}

/// Asked for by what was written before kernels had WireGuard: such programs run without it.
const LOADS_MODULES: &str = "SYS_MODULE";

/// `cap_add`, as it was read.
pub(super) fn capabilities(
    added: &mut Vec<String>,
    fields: &Fields<'_>,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) {
    let Some(field) = fields.get("cap_add") else {
        return;
    };
    let is_loader = |name: &String| name == LOADS_MODULES;
    if added.iter().any(is_loader) && !requests.is_allowed(Allow::Capabilities) {
        added.retain(|name| !is_loader(name));
        let message = format!(
            "{}: `cap_add: {LOADS_MODULES}` has no effect: containers load no modules into the kernel",
            fields.owner
        );
        let line = requests.line([Allow::Capabilities]);
        report
            .warn("compose/ignored", field.span(), message)
            .hint(format!(
                "the kernel loads those of network interfaces, WireGuard among them, by itself, and the \
                 machine others at boot (/etc/modules-load.d); if it is meant all the same, write in \
                 havre.yaml:\nservices:\n{line}"
            ));
    }
    for name in added.iter().filter(|name| hands_over(name)) {
        requests.ask(
            Allow::Capabilities,
            format!("capability {name}"),
            field.span(),
        );
    }
}
