//! What runs in a container: command, environment, hooks, health check, limits of the process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Surroundings, image};
use crate::bounds::{MAX_LOG_FILES, MIN_LOG_FILE, OWN_USERS};
use crate::dotenv::{self, Around, Format};
use crate::keys;
use crate::project::{Healthcheck, Hook, Liveness, Logging, Probe, ProbeTiming, Shares};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::schema;
use crate::words;
use crate::yaml::{Node, Value};

/// A command as a list, or as a text that is split into words.
pub(super) fn command(field: Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    if matches!(field.node.value, Value::List(_)) {
        return Some(field.strings(report));
    }
    let text = field.string(report)?;
    let Some(words) = words::split(&text) else {
        let message = format!(
            "{}: a quote in `{}` is never closed",
            field.owner, field.key
        );
        report.error("compose/value", field.span(), message);
        return None;
    };
    if let Some(operator) = words::shell_operator(&words) {
        let message = format!(
            "{}: `{}` is not run by a shell, so `{operator}` is passed on as a word",
            field.owner, field.key
        );
        let hint = format!("write `{}: [\"sh\", \"-c\", \"…\"]`", field.key);
        report
            .warn("compose/shell-operator", field.span(), message)
            .hint(hint);
    }
    Some(words)
}

/// `env_file` in their order, then `environment` over them.
pub(super) fn environment(
    service: &Fields<'_>,
    around: &mut Surroundings<'_>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for item in service
        .get("env_file")
        .map(|f| f.items(around.report))
        .unwrap_or_default()
    {
        if let Some(values) = env_file(item, &environment, around) {
            environment.extend(values);
        }
    }
    let pairs = service.pairs("environment", around.report);
    environment.extend(from_caller(service, "environment", pairs, around));
    environment
}

/// A name without a value takes the caller's; without one there, it is not set.
fn from_caller(
    fields: &Fields<'_>,
    key: &str,
    pairs: BTreeMap<String, Option<String>>,
    around: &mut Surroundings<'_>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, value) in pairs {
        if let Some(value) = value.or_else(|| around.variables.get(&name).map(str::to_owned)) {
            values.insert(name, value);
            continue;
        }
        let map = fields.get(key).and_then(|field| field.node.as_map());
        let place = map.and_then(|map| map.key_span(&name));
        // Without the service: an anchor's line is shown once, however many use it.
        let message = format!("`{name}` is passed on from the environment, which does not have it");
        let hint = format!("set it, or remove it, or give it a value: {name}=…");
        around
            .report
            .warn("compose/not-passed-on", place, message)
            .hint(hint);
    }
    values
}

/// `earlier`: what the files before it say.
fn env_file(
    item: Field<'_>,
    earlier: &BTreeMap<String, String>,
    around: &mut Surroundings<'_>,
) -> Option<BTreeMap<String, String>> {
    let fields = item.fields(&keys::ENV_FILE, around.report)?;
    let Some(path) = fields.get("path") else {
        let message = format!("{} names no `path`", fields.owner);
        around
            .report
            .error("compose/missing-key", fields.span, message);
        return None;
    };
    let path = PathBuf::from(path.string(around.report)?);
    let required = fields.truth("required", around.report).unwrap_or(true);
    let format = match fields.get("format") {
        None => Format::Compose,
        Some(field) => match field.string(around.report)?.as_str() {
            "raw" => Format::Raw,
            _ => {
                refuse(
                    field,
                    "the only other format is `raw`",
                    "remove it",
                    around.report,
                );
                return None;
            }
        },
    };
    if !required && !path.exists() {
        return None;
    }
    let source = around
        .files
        .read(&path, "env file", Some(item.span()), around.report)?;
    let variables = around.variables;
    let beside = Around {
        outer: &|name| variables.get(name).map(str::to_owned),
        earlier,
    };
    Some(dotenv::parse(source, format, &beside, around.report))
}

/// `label_file` in their order, then `labels` over them.
pub(super) fn labels(
    service: &Fields<'_>,
    around: &mut Surroundings<'_>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for item in service
        .get("label_file")
        .map(|f| f.one_or_many(around.report))
        .unwrap_or_default()
    {
        let Some(path) = item.string(around.report) else {
            continue;
        };
        let path = PathBuf::from(path);
        let Some(source) = around
            .files
            .read(&path, "label file", Some(item.span()), around.report)
        else {
            continue;
        };
        let alone = Around {
            outer: &|_| None,
            earlier: &BTreeMap::new(),
        };
        labels.extend(dotenv::parse(source, Format::Raw, &alone, around.report));
    }
    labels.extend(service.labels("labels", around.report));
    labels
}

pub(super) fn hooks(service: &Fields<'_>, key: &str, around: &mut Surroundings<'_>) -> Vec<Hook> {
    let Some(field) = service.get(key) else {
        return Vec::new();
    };
    // Steps before the start have containers of their own, and more keys.
    let section = if key == "pre_start" {
        &keys::PRE_START
    } else {
        &keys::HOOK
    };
    let mut hooks = Vec::new();
    for item in field.items(around.report) {
        let Some(fields) = item.fields(section, around.report) else {
            continue;
        };
        let image = fields.string("image", around.report);
        let Some(field) = fields.get("command") else {
            if image.is_some() {
                hooks.push(hook(image, Vec::new(), &fields, around));
                continue;
            }
            let message = format!("{} has no `command`", fields.owner);
            around
                .report
                .error("compose/missing-key", fields.span, message);
            continue;
        };
        let Some(command) = command(field, around.report) else {
            continue;
        };
        if command.is_empty() {
            let message = format!("{}: the command is empty", fields.owner);
            around.report.error("compose/value", field.span(), message);
            continue;
        }
        hooks.push(hook(image, command, &fields, around));
    }
    hooks
}

fn hook(
    image: Option<String>,
    command: Vec<String>,
    fields: &Fields<'_>,
    around: &mut Surroundings<'_>,
) -> Hook {
    if let (Some(image), Some(field)) = (&image, fields.get("image")) {
        image::check_image(image, field, around.report);
    }
    if let Some(field) = fields.get("per_replica")
        && field.truth(around.report) == Some(true)
    {
        let why = "a step runs once per release";
        let hint = "use `post_start` for what each replica needs";
        refuse(field, why, hint, around.report);
    }
    let pairs = fields.pairs("environment", around.report);
    Hook {
        image,
        command,
        user: user(fields, around.report),
        working_dir: working_dir(fields, around.report),
        environment: from_caller(fields, "environment", pairs, around),
    }
}

pub(super) fn working_dir(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let field = fields.get("working_dir")?;
    let path = field.string(report)?;
    if !path.starts_with('/') {
        let message = format!("{}: `working_dir` must be an absolute path", fields.owner);
        report.error("compose/value", field.span(), message);
        return None;
    }
    Some(path)
}

pub(super) fn healthcheck(field: Field<'_>, report: &mut Report) -> Option<Healthcheck> {
    let fields = &field.fields(&keys::HEALTHCHECK, report)?;
    if fields.truth("disable", report) == Some(true) {
        return Some(Healthcheck::Disabled);
    }
    let test = match fields.get("test") {
        None => None,
        Some(test) => match probe(test, report)? {
            Test::Inherited => None,
            Test::None => return Some(Healthcheck::Disabled),
            Test::Probe(probe) => Some(probe),
        },
    };
    Some(Healthcheck::Probe {
        test,
        timing: timing(fields, report),
    })
}

/// `liveness` of havre.yaml, in the form of a health check.
pub(super) fn liveness(field: Field<'_>, report: &mut Report) -> Option<Liveness> {
    let fields = &field.fields(&schema::LIVENESS.section, report)?;
    let timing = timing(fields, report);
    let test = match fields.get("test") {
        Some(test) => probe(test, report)?,
        None => Test::None,
    };
    let Test::Probe(test) = test else {
        let message = format!("{} has no `test`", fields.owner);
        report
            .error("compose/missing-key", fields.span, message)
            .hint("say what is run, or leave `liveness` out");
        return None;
    };
    Some(Liveness { test, timing })
}

fn timing(fields: &Fields<'_>, report: &mut Report) -> ProbeTiming {
    let mut duration = |key| fields.get(key).and_then(|f| f.duration(report));
    let (start_period, mut positive) = (duration("start_period"), |key| {
        duration(key).filter(|d| !d.is_zero())
    });
    ProbeTiming {
        start_period,
        interval: positive("interval"),
        timeout: positive("timeout"),
        start_interval: positive("start_interval"),
        retries: fields
            .get("retries")
            .and_then(|f| f.number(report))
            .filter(|n| *n > 0),
    }
}

enum Test {
    /// Written, but empty: the image's own.
    Inherited,
    None,
    Probe(Probe),
}

fn probe(field: Field<'_>, report: &mut Report) -> Option<Test> {
    if field.node.text().is_some() {
        let text = field.string(report)?;
        return Some(if text.is_empty() {
            Test::None
        } else {
            Test::Probe(Probe::Shell(text))
        });
    }
    let mut words = field.strings(report);
    let hint = "start it with CMD, CMD-SHELL or NONE, or write it as one text";
    if words.is_empty() {
        return Some(Test::Inherited);
    }
    let form = words.remove(0);
    let problem = match (form.as_str(), words.len()) {
        ("NONE", _) => return Some(Test::None),
        ("CMD", 1..) => return Some(Test::Probe(Probe::Exec(words))),
        ("CMD-SHELL", 1) => return Some(Test::Probe(Probe::Shell(words.remove(0)))),
        ("CMD-SHELL", 2..) => return Some(Test::Probe(several_words(words, field, report))),
        ("CMD" | "CMD-SHELL", 0) => format!("`test` has {form} and no command"),
        _ => format!("`test` starts with `{form}`, which is not a form"),
    };
    let message = format!("{}: {problem}", field.owner);
    report
        .error("compose/healthcheck", field.span(), message)
        .hint(hint);
    None
}

/// Docker hands the shell the first text alone, and the rest as its arguments.
fn several_words(words: Vec<String>, field: Field<'_>, report: &mut Report) -> Probe {
    let message = format!(
        "{}: `test` with CMD-SHELL takes one text: the shell runs `{}` without the words behind it",
        field.owner, words[0]
    );
    let line = words.join(" ");
    report
        .warn("compose/healthcheck", field.span(), message)
        .hint(format!(
            "write `[\"CMD-SHELL\", \"{line}\"]`, or start it with CMD"
        ));
    let shell = ["/bin/sh", "-c"].map(str::to_owned);
    Probe::Exec(shell.into_iter().chain(words).collect())
}

/// `user[:group]`, each a name or a number.
pub(super) fn user(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let field = fields.get("user")?;
    let user = field.string(report)?;
    for id in user.splitn(2, ':') {
        refuse_own(id, field, report);
    }
    Some(user)
}

pub(super) fn group_add(fields: &Fields<'_>, report: &mut Report) -> Vec<String> {
    let Some(field) = fields.get("group_add") else {
        return Vec::new();
    };
    let groups = field.items(report).into_iter().filter_map(|item| {
        let group = item.string(report)?;
        refuse_own(&group, item, report);
        Some(group)
    });
    groups.collect()
}

/// A number of a process of Havre's own. Names are known when a container starts.
fn refuse_own(id: &str, field: Field<'_>, report: &mut Report) {
    if id.parse().is_ok_and(|id| OWN_USERS.contains(&id)) {
        let message = format!(
            "{}: `{}` {id} belongs to Havre's own processes",
            field.owner, field.key
        );
        report
            .error("compose/value", field.span(), message)
            .hint("any other number will do");
    }
}

/// Always with its name: `15` and `term` become `SIGTERM`.
pub(super) fn stop_signal(service: &Fields<'_>, report: &mut Report) -> Option<String> {
    let field = service.get("stop_signal")?;
    let signal = field.string(report)?;
    match self::signal(&signal) {
        Ok(name) => Some(name),
        Err(near) => {
            let message = format!("{}: `{signal}` is not a signal", service.owner);
            report
                .error("compose/value", field.span(), message)
                .hint(format!("e.g. SIG{near}"));
            None
        }
    }
}

/// `SIGTERM` of `TERM`, `sigterm` and `15`; an error is one that is near.
pub(super) fn signal(written: &str) -> Result<String, &'static str> {
    let upper = written.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_number = name
        .parse::<usize>()
        .ok()
        .and_then(|n| SIGNALS.get(n.checked_sub(1)?));
    let name = by_number.copied().unwrap_or(name);
    match SIGNALS.contains(&name) || real_time(name) {
        true => Ok(format!("SIG{name}")),
        false => Err(crate::suggest::nearest(name, SIGNALS.iter().copied()).unwrap_or("TERM")),
    }
}

/// signal(7) on x86 and Arm, from 1.
const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`.
fn real_time(name: &str) -> bool {
    let offset = |rest: &str, sign: char| {
        rest.is_empty()
            || rest
                .strip_prefix(sign)
                .and_then(|n| n.parse::<u8>().ok())
                .is_some_and(|n| n <= 30)
    };
    name.strip_prefix("RTMIN")
        .is_some_and(|rest| offset(rest, '+'))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-'))
}

/// Limits of setrlimit(2) under the names that docker gives them.
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn ulimits(service: &Fields<'_>, report: &mut Report) -> BTreeMap<String, (u64, u64)> {
    let mut limits = BTreeMap::new();
    let Some(field) = service.get("ulimits") else {
        return limits;
    };
    for (name, place, node) in field.entries(report) {
        if !ULIMITS.contains(&name) {
            let message = format!("{}: `{name}` is not a limit", service.owner);
            let near = crate::suggest::nearest(name, ULIMITS.iter().copied());
            let error = report.error("compose/value", place, message);
            if let Some(near) = near {
                error.hint(format!("did you mean `{near}`?"));
            }
            continue;
        }
        if let Some(limit) = ulimit(&service.owner, name, node, report) {
            limits.insert(name.to_owned(), limit);
        }
    }
    limits
}

fn ulimit(owner: &str, name: &str, node: &Node, report: &mut Report) -> Option<(u64, u64)> {
    let read = |field: Field<'_>, report: &mut Report| match field.node.text() {
        Some("-1") => Some(u64::MAX),
        _ => field.number::<u64>(report),
    };
    let field = Field {
        owner,
        key: name,
        node,
    };
    if node.as_map().is_none() {
        return read(field, report).map(|both| (both, both));
    }
    let fields = field.fields(&keys::ULIMIT, report)?;
    let (Some(soft), Some(hard)) = (fields.get("soft"), fields.get("hard")) else {
        let message = format!("{} needs both `soft` and `hard`", fields.owner);
        report.error("compose/missing-key", fields.span, message);
        return None;
    };
    let (soft, hard) = (read(soft, report)?, read(hard, report)?);
    if soft > hard {
        let message = format!("{}: `soft` is above `hard`", fields.owner);
        report.error("compose/value", fields.span, message);
        return None;
    }
    Some((soft, hard))
}

/// Settings that belong to the container's own namespaces; any other would change the machine.
pub(super) fn sysctls(
    service: &Fields<'_>,
    shares: Shares,
    report: &mut Report,
) -> BTreeMap<String, String> {
    const OWN: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let Some(field) = service.get("sysctls") else {
        return BTreeMap::new();
    };
    let mut settings = BTreeMap::new();
    for (name, value) in field.pairs(report) {
        let dotted = name.replace('/', ".");
        // A setting belongs to a namespace: where that is the machine's, so is the setting.
        let own = if dotted.starts_with("net.") {
            !shares.network
        } else {
            !shares.ipc && (dotted.starts_with("fs.mqueue.") || OWN.contains(&dotted.as_str()))
        };
        if own {
            settings.insert(dotted, value.unwrap_or_default());
            continue;
        }
        let place = field.node.as_map().and_then(|map| map.key_span(&name));
        let message = format!(
            "{}: sysctl `{name}` belongs to the whole machine",
            service.owner
        );
        report
            .error("compose/unsupported", place, message)
            .hint(format!("set it on the machine: sysctl -w {name}=…"));
    }
    settings
}

pub(super) fn logging(service: &Fields<'_>, report: &mut Report) -> Logging {
    let mut logging = Logging::default();
    let Some(fields) = service
        .get("logging")
        .and_then(|f| f.fields(&keys::LOGGING, report))
    else {
        return logging;
    };
    if let Some(field) = fields.get("driver")
        && let Some(driver) = field.string(report)
        && !matches!(driver.as_str(), "json-file" | "local")
    {
        // Nobody is hurt by output that is kept: what the driver's options say is about elsewhere.
        let message = format!(
            "{}: `driver: {driver}` has no effect: the output is kept here",
            fields.owner
        );
        report
            .warn("compose/ignored", field.span(), message)
            .hint("`havre logs` shows it; remove the driver, or send the output on from there");
        return logging;
    }
    let Some(options) = fields.get("options") else {
        return logging;
    };
    for (name, place, node) in options.entries(report) {
        let option = Field {
            owner: &fields.owner,
            key: name,
            node,
        };
        match name {
            // No value, or how docker says "without a limit": the default.
            "max-size" | "max-file" if matches!(node.text(), None | Some("" | "-1")) => {}
            "max-size" => {
                logging.max_size_bytes = option.bytes(report);
                if logging
                    .max_size_bytes
                    .is_some_and(|size| size < MIN_LOG_FILE)
                {
                    let message = format!("{}: `max-size` is less than 4 KiB", fields.owner);
                    report
                        .error("compose/value", option.span(), message)
                        .hint("write e.g. `max-size: 10m`");
                }
            }
            "max-file" => {
                logging.max_files = option.number(report);
                if logging.max_files.is_some_and(|files| files > MAX_LOG_FILES) {
                    let message = format!(
                        "{}: `max-file` is more than {MAX_LOG_FILES} files",
                        fields.owner
                    );
                    report
                        .error("compose/value", option.span(), message)
                        .hint("keep fewer, and make them larger with `max-size`");
                }
            }
            _ => {
                let message = format!("{}: option `{name}` has no effect", fields.owner);
                report.warn("compose/ignored", place, message);
            }
        }
    }
    logging
}
