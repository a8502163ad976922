//! `havre.yaml`: what a compose file cannot say. Every key is optional; so is the file.

mod gates;
mod rollout;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::allow::Allow;
use crate::canonical::Base;
use crate::decode;
use crate::files::Files;
use crate::project::{EnvironmentGates, EnvironmentName, Liveness, Reload, RouteProtocol, Tls};
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::schema;
use crate::source::{SourceId, Span};
use crate::suggest;
use crate::yaml::{self, Map, Node, Value};

pub(crate) use rollout::{USUAL_STEP, USUAL_STEPS, WrittenRollout};

/// The file's name.
pub(crate) const FILE_NAME: &str = "havre.yaml";
/// The environment that is meant when none is named.
pub(crate) const PRODUCTION: &str = "production";

/// What the file says about one environment.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Whether there is a file.
    pub present: bool,
    pub compose: Option<Vec<(PathBuf, Option<Span>)>>,
    pub name: Option<(String, Span)>,
    pub domains: Option<Vec<(String, Span)>>,
    /// The domains are the project's, not this environment's own.
    pub domains_inherited: bool,
    /// What the environment is called beyond the one of whose branches' it is.
    pub preview: Option<String>,
    pub env_files: Vec<(PathBuf, Option<Span>)>,
    pub routes: Option<Vec<WrittenRoute>>,
    pub tls: Option<Tls>,
    pub host_ca: Option<HostCa>,
    pub rollout: Option<WrittenRollout>,
    pub services: BTreeMap<String, WrittenService>,
    pub networks: BTreeMap<String, WrittenNetwork>,
    /// What has to hold before anything comes into an environment: of all of them, in their order.
    pub gates: Vec<EnvironmentGates>,
    /// The same as it stands in the file.
    pub written: Option<Map>,
}

/// What is said of one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenNetwork {
    pub place: Span,
    pub shared: bool,
}

impl Settings {
    /// Networks that the environment shares with others.
    pub fn shared(&self) -> BTreeSet<String> {
        let networks = self.networks.iter();
        let shared = networks.filter(|(_, network)| network.shared);
        shared.map(|(name, _)| name.clone()).collect()
    }

    /// Secrets that services have as variables.
    pub fn secret_variables(&self) -> BTreeSet<String> {
        let variables = self
            .services
            .values()
            .flat_map(|service| service.environment.values());
        variables.map(|(secret, _)| secret.clone()).collect()
    }

    /// What each service may have of the machine.
    pub fn allowed(&self) -> BTreeMap<String, BTreeSet<Allow>> {
        let said = self.services.iter();
        said.filter_map(|(name, service)| Some((name.clone(), service.allow.clone()?)))
            .collect()
    }
}

/// What is said of one service.
#[derive(Clone, Debug)]
pub(crate) struct WrittenService {
    pub place: Span,
    pub liveness: Option<Liveness>,
    pub allow: Option<BTreeSet<Allow>>,
    pub reload: Option<(Reload, Span)>,
    /// Variables and the secrets that they hold.
    pub environment: BTreeMap<String, (String, Span)>,
}

impl WrittenService {
    /// What is not said here is as `base` says.
    fn or(self, base: Self) -> Self {
        Self {
            place: self.place,
            liveness: self.liveness.or(base.liveness),
            allow: self.allow.or(base.allow),
            reload: self.reload.or(base.reload),
            environment: base
                .environment
                .into_iter()
                .chain(self.environment)
                .collect(),
        }
    }
}

/// `build: host_ca`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostCa {
    Yes,
    No,
    /// When the caller found the need for it.
    Auto,
}

/// A route as a person wrote it.
#[derive(Clone, Debug)]
pub(crate) struct WrittenRoute {
    pub span: Span,
    pub host: Option<(String, Span)>,
    pub path: (String, Span),
    pub service: (String, Span),
    pub port: Option<(u16, Span)>,
    pub strip_prefix: bool,
    /// `None`: what the port's `app_protocol` says.
    pub protocol: Option<RouteProtocol>,
}

/// Reads the file in `directory`, if there is one, for `environment`.
pub(crate) fn read(
    directory: &Path,
    home: Option<PathBuf>,
    environment: &EnvironmentName,
    files: &mut Files,
    report: &mut Report,
) -> Option<Settings> {
    let path = directory.join(FILE_NAME);
    if !path.exists() {
        return Some(Settings::default());
    }
    let mark = report.mark();
    let source = files.read(&path, "file", None, report)?;
    let base = Base {
        directory: directory.to_owned(),
        home,
    };
    let settings = of_source(source, &base, environment, report);
    report.recode_since(mark, own_code);
    settings
}

/// Reads a text of the file that is in no folder.
pub(crate) fn of_text(
    text: &str,
    environment: &EnvironmentName,
    report: &mut Report,
) -> Option<Settings> {
    let source = report.add_source(Path::new(FILE_NAME), text.to_owned());
    let base = Base {
        directory: PathBuf::from("/"),
        home: None,
    };
    let mark = report.mark();
    let settings = of_source(source, &base, environment, report);
    report.recode_since(mark, own_code);
    settings
}

impl Settings {
    /// Whether it answers at a name of `localhost`, as it does where nothing is said.
    pub(crate) fn is_of_localhost(&self) -> bool {
        let domains = self.domains.as_deref();
        let routes = self.routes.iter().flatten();
        let hosts = domains.into_iter().flatten();
        let mut hosts = hosts.chain(routes.filter_map(|route| route.host.as_ref()));
        domains.is_none() || hosts.any(|(host, _)| host.rsplit('.').next() == Some("localhost"))
    }
}

fn of_source(
    source: SourceId,
    base: &Base,
    environment: &EnvironmentName,
    report: &mut Report,
) -> Option<Settings> {
    let documents = yaml::parse(source, report)?;
    match &documents[..] {
        [] => Some(Settings {
            present: true,
            ..Settings::default()
        }),
        [node] if node.is_null() => Some(Settings {
            present: true,
            ..Settings::default()
        }),
        [node] => top(node, base, environment, report),
        [_, second, ..] => {
            report.error(
                "compose/value",
                second.span,
                "havre.yaml has more than one document",
            );
            None
        }
    }
}

/// The readers are shared with compose files; the codes are not.
pub(crate) fn own_code(code: &'static str) -> &'static str {
    match code {
        "compose/unknown-key" => "havre/unknown-key",
        "compose/type" => "havre/type",
        "compose/value" => "havre/value",
        "compose/healthcheck" => "havre/value",
        "compose/conflict" => "havre/conflict",
        "compose/missing-key" => "havre/missing-key",
        "compose/unsupported" => "havre/unsupported",
        other => other,
    }
}

fn top(
    node: &Node,
    base: &Base,
    environment: &EnvironmentName,
    report: &mut Report,
) -> Option<Settings> {
    let fields = Fields::open("havre.yaml", node, &schema::TOP.section, report)?;
    let mut settings = shared(&fields, base, report);
    settings.present = true;
    settings.domains_inherited = environment.as_str() != PRODUCTION;
    settings.name = fields
        .get("name")
        .and_then(|field| Some((field.string(report)?, field.span())));
    let build = fields
        .get("build")
        .and_then(|field| field.fields(&schema::BUILD.section, report));
    settings.host_ca = build.and_then(|build| host_ca(build.get("host_ca")?, report));
    let mut names = Vec::new();
    let mut laid = None;
    // What is said of each that could be meant.
    let mut said = Vec::new();
    if let Some(field) = fields.get("environments") {
        for (name, place, node) in field.entries(report) {
            names.push(name.to_owned());
            let owner = format!("environment `{name}`");
            if !valid_environment(name) {
                let message = format!("`{name}` is not a valid environment name");
                let hint = "small letters, digits and `-`, at most 40";
                report.error("havre/value", place, message).hint(hint);
            }
            if node.is_null() {
                let open = EnvironmentGates::open(EnvironmentName::new(name));
                settings.gates.push(open);
                continue;
            }
            // Every environment is checked, whichever is asked for.
            let Some(fields) = Fields::open(owner, node, &schema::ENVIRONMENT.section, report)
            else {
                continue;
            };
            let own = shared(&fields, base, report);
            let gates = gates::read(name, &fields, &settings.gates, report);
            settings.gates.push(gates);
            if environment.as_str().starts_with(name) {
                said.push((name, own, node.as_map()));
            }
        }
    }
    let preview = EnvironmentGates::preview_of(&settings.gates, environment);
    let preview = preview.map(|(of, branch)| (of.name.to_string(), branch.to_owned()));
    let meant = preview.as_ref().map_or(environment.as_str(), |(of, _)| of);
    if let Some((_, own, map)) = said.into_iter().find(|(name, ..)| *name == meant) {
        lay(&mut settings, own);
        laid = map;
    }
    let known = environment.as_str() == PRODUCTION || names.is_empty() || preview.is_some();
    settings.preview = preview.map(|(_, branch)| branch);
    if !known && !names.iter().any(|name| name == environment.as_str()) {
        let message = format!("havre.yaml has no environment `{environment}`");
        let near = suggest::nearest(environment.as_str(), names.iter().map(String::as_str));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it has {}", names.join(", ")),
        };
        report
            .error(
                "havre/environment",
                fields.key_span("environments"),
                message,
            )
            .hint(hint);
        return None;
    }
    settings.written = node.as_map().map(|top| written::lay(top, laid));
    Some(settings)
}

/// The keys that both the file and an environment in it may have.
fn shared(fields: &Fields<'_>, base: &Base, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    if let Some(field) = fields.get("compose") {
        settings.compose = Some(paths(field, base, report));
    }
    if let Some(field) = fields.get("env_file") {
        settings.env_files = paths(field, base, report);
    }
    settings.domains = domains(fields, report);
    if let Some(field) = fields.get("routes") {
        let items = field.items(report);
        settings.routes = Some(
            items
                .into_iter()
                .filter_map(|item| route(item, report))
                .collect(),
        );
    }
    settings.tls = fields.get("tls").and_then(|field| tls(field, base, report));
    settings.rollout = fields
        .get("rollout")
        .and_then(|field| WrittenRollout::read(field, report));
    if let Some(field) = fields.get("services") {
        for (name, place, node) in field.entries(report) {
            let owner = format!("havre.yaml: service `{name}`");
            let Some(fields) = Fields::open(owner, node, &schema::SERVICE.section, report) else {
                continue;
            };
            let liveness = fields
                .get("liveness")
                .and_then(|field| decode::liveness(field, report));
            let service = WrittenService {
                place,
                liveness,
                allow: fields.get("allow").map(|field| allow(field, report)),
                reload: fields
                    .get("secrets")
                    .and_then(|field| field.fields(&schema::SECRETS.section, report))
                    .and_then(|secrets| reload(secrets.get("reload")?, report)),
                environment: variables(&fields, report),
            };
            settings.services.insert(name.to_owned(), service);
        }
    }
    if let Some(field) = fields.get("networks") {
        for (name, place, node) in field.entries(report) {
            let owner = format!("havre.yaml: network `{name}`");
            let Some(fields) = Fields::open(owner, node, &schema::NETWORK.section, report) else {
                continue;
            };
            let shared = fields.truth("shared", report).unwrap_or(false);
            let network = WrittenNetwork { place, shared };
            settings.networks.insert(name.to_owned(), network);
        }
    }
    settings
}

fn lay(settings: &mut Settings, own: Settings) {
    if own.domains.is_some() {
        settings.domains_inherited = false;
    }
    settings.compose = own.compose.or(settings.compose.take());
    settings.domains = own.domains.or(settings.domains.take());
    settings.routes = own.routes.or(settings.routes.take());
    settings.tls = own.tls.or(settings.tls.take());
    settings.rollout = match own.rollout {
        Some(own) => Some(own.or(settings.rollout.take())),
        None => settings.rollout.take(),
    };
    for (name, service) in own.services {
        let service = match settings.services.remove(&name) {
            Some(base) => service.or(base),
            None => service,
        };
        settings.services.insert(name, service);
    }
    settings.networks.extend(own.networks);
    // Later files win, so what is the same everywhere can stand at the top.
    settings.env_files.extend(own.env_files);
}

/// Variables that hold secrets.
fn variables(fields: &Fields<'_>, report: &mut Report) -> BTreeMap<String, (String, Span)> {
    let mut variables = BTreeMap::new();
    let Some(field) = fields.get("environment") else {
        return variables;
    };
    for (name, place, node) in field.entries(report) {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            let message = format!("{}: `{name}` cannot name a variable", fields.owner);
            report.error("havre/value", place, message);
            continue;
        }
        let owner = format!("{}: variable `{name}`", fields.owner);
        if node.as_map().is_none() {
            let message = format!("{owner}: only what is secret stands here");
            report.error("havre/type", node.span, message).hint(format!(
                "`{name}: {{secret: NAME}}`; other values belong in the compose file"
            ));
            continue;
        }
        let Some(fields) = Fields::open(owner, node, &schema::VARIABLE.section, report) else {
            continue;
        };
        match fields.get("secret") {
            Some(field) => {
                if let Some(secret) = field.string(report) {
                    variables.insert(name.to_owned(), (secret, field.span()));
                }
            }
            None => {
                let message = format!("{}: `secret` is missing", fields.owner);
                report.error("havre/missing-key", fields.span, message);
            }
        }
    }
    variables
}

/// How replicas learn of other contents of their secrets.
fn reload(field: Field<'_>, report: &mut Report) -> Option<(Reload, Span)> {
    let span = field.span();
    if field.node.as_list().is_some() {
        let command: Vec<String> = field.strings(report);
        if command.first().is_none_or(String::is_empty) {
            let message = format!("{}: `reload` has no command", field.owner);
            report
                .error("havre/value", span, message)
                .hint("e.g. `reload: [nginx, -s, reload]`");
            return None;
        }
        return Some((Reload::Command(command), span));
    }
    let word = field.string(report)?;
    match word.as_str() {
        "restart" => Some((Reload::Restart, span)),
        "none" => Some((Reload::None, span)),
        signal => match decode::signal(signal) {
            // A stop is no reload, and the first process of a container hears neither.
            Ok(name) if name == "SIGKILL" || name == "SIGSTOP" => {
                let message = format!("{}: no program can reload by {name}", field.owner);
                report
                    .error("havre/value", span, message)
                    .hint("`restart` is what there is without a reload");
                None
            }
            Ok(name) => Some((Reload::Signal(name), span)),
            Err(near) => {
                let message = format!("{}: `{signal}` is no way to reload", field.owner);
                let known = ["none", "restart"];
                let hint = match suggest::nearest(signal, known) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!(
                        "a signal such as SIGHUP (or SIG{near}), a command as a list, `none` or `restart`"
                    ),
                };
                report.error("havre/value", span, message).hint(hint);
                None
            }
        },
    }
}

fn allow(field: Field<'_>, report: &mut Report) -> BTreeSet<Allow> {
    let mut allowed = BTreeSet::new();
    let items = field.one_or_many(report);
    if field.node.as_list().is_some_and(<[Node]>::is_empty) {
        let message = format!("{}: `allow` names nothing", field.owner);
        report
            .error("havre/value", field.span(), message)
            .hint("remove it");
    }
    for item in items {
        let Some(word) = item.string(report) else {
            continue;
        };
        match Allow::from_word(&word) {
            Some(one) => {
                allowed.insert(one);
            }
            None => {
                let words = Allow::ALL.map(Allow::word);
                let message = format!("{}: `{word}` cannot be allowed", field.owner);
                let error = report.error("havre/value", item.span(), message);
                match suggest::nearest(&word, words) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint(format!("it is one of {}", words.join(", "))),
                };
            }
        }
    }
    allowed
}

fn paths(field: Field<'_>, base: &Base, report: &mut Report) -> Vec<(PathBuf, Option<Span>)> {
    let mut paths = Vec::new();
    for item in field.one_or_many(report) {
        if let Some(text) = item.string(report) {
            paths.push((base.resolve(&text), Some(item.span())));
        }
    }
    if paths.is_empty() {
        let message = format!("{}: `{}` names no file", field.owner, field.key);
        report.error("havre/value", field.span(), message);
    }
    paths
}

fn domains(fields: &Fields<'_>, report: &mut Report) -> Option<Vec<(String, Span)>> {
    let field = match (fields.get("domain"), fields.get("domains")) {
        (Some(_), Some(both)) => {
            let message = format!("{} has both `domain` and `domains`", fields.owner);
            report
                .error("havre/conflict", both.span(), message)
                .hint("put all into `domains`");
            return None;
        }
        (one, many) => one.or(many)?,
    };
    let mut domains: Vec<(String, Span)> = Vec::new();
    for item in field.one_or_many(report) {
        let Some(text) = item.string(report) else {
            continue;
        };
        let domain = text.to_ascii_lowercase();
        if !valid_domain(&domain) {
            let message = format!("{}: `{text}` is not a domain", fields.owner);
            report
                .error("havre/value", item.span(), message)
                .hint("write it without scheme, port and path, e.g. `shop.example.org`");
        } else if domains.iter().any(|(known, _)| *known == domain) {
            let message = format!("{}: `{text}` is given twice", fields.owner);
            report.warn("havre/duplicate", item.span(), message);
        } else {
            domains.push((domain, item.span()));
        }
    }
    (!domains.is_empty()).then_some(domains)
}

pub(crate) fn valid_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

/// Whether an environment may be called so: it is part of host names, network names and paths.
pub fn valid_environment(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn route(item: Field<'_>, report: &mut Report) -> Option<WrittenRoute> {
    let fields = &item.fields(&schema::ROUTE.section, report)?;
    let Some(service) = fields.get("service") else {
        let message = "a route names no `service`";
        report.error("havre/missing-key", fields.span, message);
        return None;
    };
    let path = match fields.get("path") {
        Some(field) => {
            let path = field.string(report)?;
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) || path.contains("//") {
                let message = format!("`{path}` is not a path");
                report
                    .error("havre/value", field.span(), message)
                    .hint("start it with `/`");
                return None;
            }
            (path, field.span())
        }
        None => ("/".to_owned(), fields.span),
    };
    // One form of each prefix: `/api/` means `/api`.
    let trimmed = path.0.trim_end_matches('/');
    let path = (
        if trimmed.is_empty() {
            "/".to_owned()
        } else {
            trimmed.to_owned()
        },
        path.1,
    );
    let host = match fields.get("host") {
        Some(field) => Some((field.string(report)?.to_ascii_lowercase(), field.span())),
        None => None,
    };
    let port = match fields.get("port") {
        Some(field) => Some((field.port(report)?, field.span())),
        None => None,
    };
    let protocol = match fields.get("protocol") {
        Some(field) => Some(protocol(field, report)?),
        None => None,
    };
    Some(WrittenRoute {
        span: fields.span,
        host,
        path,
        service: (service.string(report)?, service.span()),
        port,
        strip_prefix: fields.truth("strip_prefix", report).unwrap_or(false),
        protocol,
    })
}

fn protocol(field: Field<'_>, report: &mut Report) -> Option<RouteProtocol> {
    match field.string(report)?.as_str() {
        "http" => Some(RouteProtocol::Http),
        "h2c" => Some(RouteProtocol::H2c),
        other => {
            let message = format!("{}: `{other}` is not known", field.owner);
            report
                .error("havre/value", field.span(), message)
                .hint("`http`, or `h2c` for gRPC");
            None
        }
    }
}

fn tls(field: Field<'_>, base: &Base, report: &mut Report) -> Option<Tls> {
    if matches!(field.node.value, Value::Scalar(_)) {
        match field.node.text() {
            Some("local") => return Some(Tls::LocalCa),
            Some("acme") => return Some(Tls::Acme),
            _ => {}
        }
        let message = format!(
            "{}: `tls` is `acme`, `local`, or has a certificate and a key",
            field.owner
        );
        report
            .error("havre/value", field.span(), message)
            .hint("tls: {certificate: ./cert.pem, key: ./key.pem}");
        return None;
    }
    let fields = field.fields(&schema::TLS.section, report)?;
    let file = |key: &str, report: &mut Report| -> Option<PathBuf> {
        let Some(field) = fields.get(key) else {
            let message = format!("{} has no `{key}`", fields.owner);
            report.error("havre/missing-key", fields.span, message);
            return None;
        };
        let path = base.resolve(&field.string(report)?);
        if !path.is_file() {
            let message = format!("{} does not exist", report.shown(&path));
            report.error("compose/missing-file", field.span(), message);
        }
        Some(path)
    };
    let (certificate, key) = (file("certificate", report), file("key", report));
    Some(Tls::Files {
        certificate: certificate?,
        key: key?,
    })
}

fn host_ca(field: Field<'_>, report: &mut Report) -> Option<HostCa> {
    if field.node.text() == Some("auto") {
        return Some(HostCa::Auto);
    }
    match field.truth(report)? {
        true => Some(HostCa::Yes),
        false => Some(HostCa::No),
    }
}
