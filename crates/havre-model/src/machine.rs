//! `machine.yaml`: what the machine itself is configured by, beside its projects. Every key is
//! optional; so is the file.
//!
//! ```text
//! machine.yaml ─► read (spans) ─► Settings
//! ```
//!
//! Paths are relative to the file's folder. Errors carry the place that caused them.

mod pipeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::canonical::Base;
use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::grant::{EnvironmentPattern, Role};
use crate::load::LoadFailure;
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::schema::machine as schema;
use crate::settings::{own_code, valid_domain};
use crate::suggest;
use crate::yaml;

pub use pipeline::{Ci, Git};

/// Authorities that need no `directory`, and where they are asked.
pub const KNOWN_AUTHORITIES: [(&str, &str); 3] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt-staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
];
/// Most jobs at once.
const MAX_JOBS: usize = 1000;
/// Most entries of a list.
const MAX_ITEMS: usize = 100;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Access from elsewhere.
    pub api: Option<Api>,
    /// Where certificates come from.
    pub acme: Acme,
    /// Whose tokens are exchanged, by name; no name twice.
    pub oidc: Vec<OidcIssuer>,
    /// Tells people of promotions.
    pub notify: Option<PathBuf>,
    /// How much repositories may take.
    pub git: Git,
    /// How much artifacts and caches may take, and on what jobs run.
    pub ci: Ci,
    /// What jobs of workflows may take.
    pub jobs: Jobs,
    /// Actions and workflows of other repositories.
    pub actions: Actions,
}

/// `jobs`: what its owner says; all else is as the machine allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Jobs at once.
    pub at_once: Option<usize>,
    /// Of these, jobs of one project.
    pub per_project: Option<usize>,
    /// Disk of one job.
    pub disk_bytes: Option<u64>,
    /// Disk that no job takes.
    pub disk_reserve_bytes: Option<u64>,
    /// Tools that a project's jobs keep.
    pub tool_cache_bytes: Option<u64>,
}

/// `actions`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// What `/OWNER/REPOSITORY` is added to.
    pub server: String,
    /// Owners whose workflows may be given all secrets at once, in small letters.
    pub trust: Vec<String>,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            server: "https://github.com".to_owned(),
            trust: Vec::new(),
        }
    }
}

/// `api`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// In lower case.
    pub host: String,
}

/// `acme`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// Where authorities may write to.
    pub email: Option<String>,
    /// Whom to ask, in this order; no name twice. Empty: nobody.
    pub authorities: Vec<Authority>,
    /// Sets and removes TXT records.
    pub dns_hook: Option<PathBuf>,
}

impl Default for Acme {
    /// As without a file: Let's Encrypt.
    fn default() -> Self {
        let [(name, directory), ..] = KNOWN_AUTHORITIES;
        Self {
            email: None,
            authorities: vec![Authority::new(name, directory)],
            dns_hook: None,
        }
    }
}

/// `acme.authorities[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name in commands.
    pub name: String,
    /// Address of its directory.
    pub directory: String,
    /// Certificates by which its server is known, in PEM; `None`: those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The kind of certificate, by its own name.
    pub profile: Option<String>,
    /// An account that it gave out by other ways.
    pub external_account: Option<ExternalAccount>,
}

impl Authority {
    fn new(name: &str, directory: &str) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            ca_file: None,
            profile: None,
            external_account: None,
        }
    }
}

/// `acme.authorities[].external_account`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The account's number.
    pub key_id: String,
    /// The file with its key, as the authority shows it.
    pub key_file: PathBuf,
}

/// `oidc[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcIssuer {
    /// Its name in commands.
    pub name: String,
    /// As its tokens name it.
    pub issuer: String,
    /// Whom tokens must be meant for.
    pub audience: String,
    /// What the command line calls itself there.
    pub client_id: Option<String>,
    /// Certificates by which its server is known, in PEM; `None`: those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The first that fits counts.
    pub rules: Vec<Rule>,
}

/// `oidc[].rules[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Claim → value; `*` at its end stands for any rest.
    pub claims: BTreeMap<String, String>,
    /// What its bearer may do.
    pub role: Role,
    /// Where.
    pub environments: Vec<EnvironmentPattern>,
}

/// Reads the file at `path`, with the findings that do not keep it from being used. No file says
/// as much as an empty one.
pub fn load(path: &Path) -> Result<(Settings, Vec<Diagnostic>), LoadFailure> {
    if !path.exists() {
        return Ok((Settings::default(), Vec::new()));
    }
    let mut report = crate::yaml::report(PathBuf::new());
    let settings = read(path, &mut report);
    let failed = report.has_errors();
    let (errors, warnings) = report.finish();
    match settings {
        Some(settings) if !failed => Ok((settings, warnings)),
        _ => Err(LoadFailure::new(errors, warnings)),
    }
}

fn read(path: &Path, report: &mut Report) -> Option<Settings> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mark = report.mark();
    let source = Files::of(directory).read(path, "file", None, report)?;
    let documents = yaml::parse(source, report)?;
    let settings = match &documents[..] {
        [] => Some(Settings::default()),
        [node] if node.is_null() => Some(Settings::default()),
        [node] => {
            let base = Base {
                directory: directory.to_owned(),
                home: None,
            };
            let fields = Fields::open("machine.yaml", node, &schema::TOP.section, report);
            fields.map(|fields| top(&fields, &base, report))
        }
        [_, second, ..] => {
            let message = "machine.yaml has more than one document";
            report.error("compose/value", second.span, message);
            None
        }
    };
    report.recode_since(mark, own_code);
    settings
}

fn top(fields: &Fields<'_>, base: &Base, report: &mut Report) -> Settings {
    let api = fields.get("api").and_then(|field| api(field, report));
    let acme = match fields.get("acme") {
        Some(field) => acme(field, base, report).unwrap_or_default(),
        None => Acme::default(),
    };
    let audience = api.as_ref().map(|api| format!("https://{}", api.host));
    let issuers = fields.get("oidc").map(|field| items(field, report));
    let mut oidc: Vec<OidcIssuer> = Vec::new();
    for field in issuers.unwrap_or_default() {
        let Some(issuer) = issuer(field, audience.as_deref(), base, report) else {
            continue;
        };
        let twice = |known: &OidcIssuer| known.name == issuer.name;
        if oidc.iter().any(twice) {
            value(field, report, format!("`{}` is given twice", issuer.name));
        }
        oidc.push(issuer);
    }
    Settings {
        api,
        acme,
        oidc,
        notify: file(fields, "notify", base, report),
        git: of(fields, "git", pipeline::git, report),
        ci: of(fields, "ci", pipeline::ci, report),
        jobs: of(fields, "jobs", jobs, report),
        actions: of(fields, "actions", actions, report),
    }
}

fn of<T: Default>(
    fields: &Fields<'_>,
    key: &str,
    read: fn(Field<'_>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> T {
    let field = fields.get(key);
    field
        .and_then(|field| read(field, report))
        .unwrap_or_default()
}

fn jobs(field: Field<'_>, report: &mut Report) -> Option<Jobs> {
    let fields = field.fields(&schema::JOBS.section, report)?;
    let mut count = |name: &str| {
        let field = fields.get(name)?;
        let number: usize = field.number(report)?;
        match (1..=MAX_JOBS).contains(&number) {
            true => Some(number),
            false => {
                value(field, report, format!("`{name}` is from 1 to {MAX_JOBS}"));
                None
            }
        }
    };
    let (at_once, per_project) = (count("at_once"), count("per_project"));
    let mut bytes = |name: &str| fields.get(name).and_then(|field| field.bytes(report));
    Some(Jobs {
        at_once,
        per_project,
        disk_bytes: bytes("disk"),
        disk_reserve_bytes: bytes("disk_reserve"),
        tool_cache_bytes: bytes("tool_cache"),
    })
}

fn actions(field: Field<'_>, report: &mut Report) -> Option<Actions> {
    let fields = field.fields(&schema::ACTIONS.section, report)?;
    let mut actions = Actions::default();
    if let Some(field) = fields.get("server") {
        let text = field.string(report)?;
        actions.server = match text.starts_with("git://") && !text.contains(char::is_whitespace) {
            true => text,
            false => url(field, report)?,
        };
    }
    let trust = fields.get("trust").map(|field| items(field, report));
    for item in trust.unwrap_or_default() {
        let owner = item.string(report)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if owner.is_empty() || owner.len() > 100 || !owner.chars().all(plain) {
            value(
                item,
                report,
                format!("`{owner}` is no owner of repositories"),
            );
        }
        actions.trust.push(owner.to_lowercase());
    }
    Some(actions)
}

fn api(field: Field<'_>, report: &mut Report) -> Option<Api> {
    let fields = field.fields(&schema::API.section, report)?;
    let field = needed(&fields, "host", report)?;
    let host = field.string(report)?.to_ascii_lowercase();
    if !valid_domain(&host) {
        value(field, report, format!("`{host}` is not a domain"))
            .hint("write it without scheme, port and path, e.g. `havre.example.org`");
        return None;
    }
    Some(Api { host })
}

fn acme(field: Field<'_>, base: &Base, report: &mut Report) -> Option<Acme> {
    let fields = field.fields(&schema::ACME.section, report)?;
    let email = fields.get("email").and_then(|field| {
        let email = field.string(report)?;
        let parts = email.split_once('@');
        if parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            return Some(email);
        }
        value(
            field,
            report,
            format!("`{email}` is not an address of e-mail"),
        );
        None
    });
    let mut acme = Acme {
        email,
        dns_hook: file(&fields, "dns_hook", base, report),
        ..Acme::default()
    };
    let Some(field) = fields.get("authorities") else {
        return Some(acme);
    };
    acme.authorities.clear();
    for item in items(field, report) {
        let Some(authority) = authority(item, base, report) else {
            continue;
        };
        let twice = |known: &Authority| known.name == authority.name;
        if acme.authorities.iter().any(twice) {
            value(item, report, format!("`{}` is given twice", authority.name));
        }
        acme.authorities.push(authority);
    }
    Some(acme)
}

fn authority(item: Field<'_>, base: &Base, report: &mut Report) -> Option<Authority> {
    let fields = item.fields(&schema::AUTHORITY.section, report)?;
    let name = name(&fields, report)?;
    let known = KNOWN_AUTHORITIES.iter().find(|(known, _)| *known == name);
    let directory = match (fields.get("directory"), known) {
        (Some(field), _) => url(field, report)?,
        (None, Some((_, directory))) => (*directory).to_owned(),
        (None, None) => {
            let names = KNOWN_AUTHORITIES.map(|(name, _)| name);
            let message = format!("the authority `{name}` has no `directory`");
            let error = report.error("compose/missing-key", fields.span, message);
            match suggest::nearest(&name, names) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!(
                    "give the address of its ACME directory; known are {}",
                    names.join(", ")
                )),
            };
            return None;
        }
    };
    let external_account = fields
        .get("external_account")
        .and_then(|field| external_account(field, base, report));
    Some(Authority {
        directory,
        ca_file: file(&fields, "ca_file", base, report),
        profile: fields.string("profile", report),
        external_account,
        name,
    })
}

fn external_account(field: Field<'_>, base: &Base, report: &mut Report) -> Option<ExternalAccount> {
    let fields = field.fields(&schema::EXTERNAL_ACCOUNT.section, report)?;
    let key_id = needed(&fields, "key_id", report).and_then(|field| field.string(report));
    needed(&fields, "key_file", report)?;
    Some(ExternalAccount {
        key_file: file(&fields, "key_file", base, report)?,
        key_id: key_id?,
    })
}

fn issuer(
    item: Field<'_>,
    audience: Option<&str>,
    base: &Base,
    report: &mut Report,
) -> Option<OidcIssuer> {
    let fields = item.fields(&schema::OIDC.section, report)?;
    let name = name(&fields, report)?;
    let issuer = needed(&fields, "issuer", report).and_then(|field| url(field, report))?;
    let audience = match fields.string("audience", report) {
        Some(audience) => audience,
        None => match audience {
            Some(audience) => audience.to_owned(),
            None => {
                let message = format!("the issuer `{name}` has no `audience`");
                report
                    .error("compose/missing-key", fields.span, message)
                    .hint("give one, or `api: {host: …}`, of which it follows");
                return None;
            }
        },
    };
    let rules = fields.get("rules").map(|field| items(field, report));
    let rules = rules.unwrap_or_default().into_iter();
    let rules: Vec<Rule> = rules.filter_map(|item| rule(item, report)).collect();
    Some(OidcIssuer {
        client_id: fields.string("client_id", report),
        ca_file: file(&fields, "ca_file", base, report),
        name,
        issuer,
        audience,
        rules,
    })
}

fn rule(item: Field<'_>, report: &mut Report) -> Option<Rule> {
    let fields = item.fields(&schema::RULE.section, report)?;
    let claims = needed(&fields, "claims", report).map(|field| claims(field, report));
    let role = needed(&fields, "role", report).and_then(|field| role(field, report));
    let environments = needed(&fields, "environments", report)?;
    let environments = items(environments, report).into_iter().filter_map(|item| {
        let text = item.string(report)?;
        match text.parse::<EnvironmentPattern>() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                value(item, report, error.to_string())
                    .hint("write `shop/production`, `shop/pr-*`, `*/staging` or `*`");
                None
            }
        }
    });
    let environments: Vec<EnvironmentPattern> = environments.collect();
    Some(Rule {
        claims: claims??,
        role: role?,
        environments,
    })
}

/// A rule without a claim would let in everybody whom the issuer knows.
fn claims(field: Field<'_>, report: &mut Report) -> Option<BTreeMap<String, String>> {
    let mut claims = BTreeMap::new();
    for (name, said) in field.pairs(report) {
        match said {
            Some(said) if !said.is_empty() && said != "*" => {
                claims.insert(name, said);
            }
            Some(_) | None => {
                value(field, report, format!("`{name}` matches everything"))
                    .hint("leave it out, or say what it must be");
                return None;
            }
        }
    }
    if claims.is_empty() {
        value(field, report, "the rule names no claim".to_owned())
            .hint("as it stands, it would let in everybody whom the issuer knows");
        return None;
    }
    Some(claims)
}

fn role(field: Field<'_>, report: &mut Report) -> Option<Role> {
    let word = field.string(report)?;
    let role = word.parse().ok();
    if role.is_none() {
        let words = Role::ALL.map(Role::word);
        let error = value(field, report, format!("`{word}` is no role"));
        error.hint(format!("it is one of {}", words.join(", ")));
    }
    role
}

fn name(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let field = needed(fields, "name", report)?;
    let name = field.string(report)?;
    if !crate::settings::valid_environment(&name) {
        value(field, report, format!("`{name}` is not a valid name"))
            .hint("small letters, digits and `-`, at most 40");
        return None;
    }
    Some(name)
}

fn url(field: Field<'_>, report: &mut Report) -> Option<String> {
    let url = field.string(report)?;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if url.len() <= 2048 && !url.contains(odd) && host.is_some_and(|host| !host.is_empty()) {
        return Some(url);
    }
    value(field, report, format!("`{url}` is not an address"))
        .hint("it begins with https:// and names a host");
    None
}

fn file(fields: &Fields<'_>, key: &str, base: &Base, report: &mut Report) -> Option<PathBuf> {
    let field = fields.get(key)?;
    let path = base.resolve(&field.string(report)?);
    if !path.is_file() {
        let message = format!("{} does not exist", path.display());
        report.error("compose/missing-file", field.span(), message);
    }
    Some(path)
}

fn needed<'f>(fields: &'f Fields<'_>, key: &'f str, report: &mut Report) -> Option<Field<'f>> {
    let field = fields.get(key);
    if field.is_none() {
        let message = format!("{} has no `{key}`", fields.owner);
        report.error("compose/missing-key", fields.span, message);
    }
    field
}

fn items<'n>(field: Field<'n>, report: &mut Report) -> Vec<Field<'n>> {
    let mut items = field.items(report);
    if items.len() > MAX_ITEMS {
        let message = format!("`{}` has more than {MAX_ITEMS} entries", field.key);
        value(field, report, message);
        items.truncate(MAX_ITEMS);
    }
    items
}

fn value<'r>(field: Field<'_>, report: &'r mut Report, message: String) -> &'r mut Diagnostic {
    report.error(
        "compose/value",
        field.span(),
        format!("{}: {message}", field.owner),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn said(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca.pem", "key", "hook"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let path = folder.path().join("machine.yaml");
        std::fs::write(&path, text).unwrap();
        let read = load(&path).map(|(settings, _)| settings);
        read.map_err(|failure| {
            let text = failure.to_string();
            text.replace(&format!("{}/", folder.path().display()), "")
        })
    }

    const ALL: &str = "\
api: {host: Havre.example.org}
jobs: {at_once: 8, per_project: 2, disk: 30gb, disk_reserve: 512m, tool_cache: 1g}
actions: {server: 'git://git.example.org', trust: [Acme]}
acme:
  email: ops@example.org
  dns_hook: hook
  authorities:
    - name: letsencrypt
    - {name: own, directory: 'https://ca.example.org/dir', ca_file: ca.pem, profile: shortlived,
       external_account: {key_id: a, key_file: key}}
oidc:
  - name: github
    issuer: https://token.actions.githubusercontent.com
    client_id: havre
    ca_file: ca.pem
    rules:
      - claims: {repository_id: 123456, ref: refs/heads/*}
        role: deployer
        environments: [shop/production, shop/*]
git: {push: 1g, repository: 2g, total: 3g, repositories: 4}
ci: {labels: {big: 'runner:1'}, artifacts: 1g, caches: 2g, total: 3g, keep: 720h}
";

    #[test]
    fn jobs_are_bounded_as_it_says() {
        let text =
            "jobs: {at_once: 8, per_project: 2, disk: 30gb, disk_reserve: 512m, tool_cache: 1g}";
        let jobs = said(text).unwrap().jobs;
        let expected = Jobs {
            at_once: Some(8),
            per_project: Some(2),
            disk_bytes: Some(30 << 30),
            disk_reserve_bytes: Some(512 << 20),
            tool_cache_bytes: Some(1 << 30),
        };
        assert_eq!(jobs, expected);
        assert_eq!(
            said("api: {host: a.example}").unwrap().jobs,
            Jobs::default()
        );
        for wrong in [
            "at_once: 0",
            "per_project: 2000",
            "disk: much",
            "memory: 1g",
        ] {
            assert!(said(&format!("jobs: {{{wrong}}}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let settings = said(ALL).unwrap();
        assert_eq!(settings.api.unwrap().host, "havre.example.org");
        let names: Vec<&str> = settings
            .acme
            .authorities
            .iter()
            .map(|authority| authority.name.as_str())
            .collect();
        assert_eq!(names, ["letsencrypt", "own"]);
        assert_eq!(settings.actions.server, "git://git.example.org");
        assert_eq!(settings.actions.trust, ["acme"]);
        let github = &settings.oidc[0];
        assert_eq!(github.audience, "https://havre.example.org");
        assert_eq!(github.rules[0].claims["repository_id"], "123456");
        assert_eq!(github.rules[0].role, Role::Deployer);
        let git = Git {
            push: Some(1 << 30),
            repository: Some(2 << 30),
            total: Some(3 << 30),
            repositories: Some(4),
        };
        assert_eq!(settings.git, git);
        assert_eq!(settings.ci.labels["big"], "runner:1");
        assert_eq!(settings.ci.artifacts, Some(1 << 30));
        assert_eq!(settings.ci.keep, Some(Duration::from_secs(720 * 3600)));
    }

    #[test]
    fn without_a_file_lets_encrypt_is_asked_and_an_empty_list_asks_nobody() {
        let absent = load(Path::new("/nowhere/machine.yaml")).unwrap().0;
        assert_eq!(absent, said("").unwrap());
        assert_eq!(absent.acme.authorities[0].name, "letsencrypt");
        let nobody = said("acme: {authorities: []}").unwrap();
        assert!(nobody.acme.authorities.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (text, place, says) in [
            ("api: {hosts: a}", "machine.yaml:1:7", "hosts"),
            ("api: {}", "machine.yaml:1:6", "has no `host`"),
            (
                "api: {host: 'https://a'}",
                "machine.yaml:1:13",
                "not a domain",
            ),
            (
                "acme: {authorities: [{name: own}]}",
                "machine.yaml:1:22",
                "no `directory`",
            ),
            (
                "acme: {authorities: [{name: letsencript}]}",
                "machine.yaml:1:22",
                "did you mean `letsencrypt`",
            ),
            (
                "acme: {dns_hook: gone}",
                "machine.yaml:1:18",
                "does not exist",
            ),
            ("notify: gone", "machine.yaml:1:9", "does not exist"),
            ("git: {push: 0}", "machine.yaml:1:13", "lets nothing in"),
            ("ci: {artifacts: much}", "machine.yaml:1:17", "a size like"),
            (
                "actions: {server: 'file:///x'}",
                "machine.yaml:1:19",
                "not an address",
            ),
            ("actions: {trust: ['a/b']}", "machine.yaml:1:19", "no owner"),
            (
                "acme: {authorities: [{name: a, directory: 'ftp://x'}]}",
                "machine.yaml:1:43",
                "not an address",
            ),
            (
                "acme: {authorities: [{name: zerossl}, {name: zerossl}]}",
                "machine.yaml:1:39",
                "given twice",
            ),
            (
                "oidc: [{name: a, issuer: 'https://i'}]",
                "machine.yaml:1:8",
                "no `audience`",
            ),
            (
                "oidc: [{name: a, issuer: 'https://i', audience: x, rules: [{claims: {}, role: admin, \
                 environments: ['*/*']}]}]",
                "machine.yaml:1:69",
                "names no claim",
            ),
            (
                "oidc: [{name: a, issuer: 'https://i', audience: x, rules: [{claims: {sub: '*'}, role: admin, \
                 environments: ['*/*']}]}]",
                "machine.yaml:1:69",
                "matches everything",
            ),
            (
                "oidc: [{name: a, issuer: 'https://i', audience: x, rules: [{claims: {sub: a}, role: root, \
                 environments: [shop]}]}]",
                "machine.yaml:1:85",
                "no role",
            ),
            (
                "oidc: [{name: a, issuer: 'https://i', audience: x, rules: [{claims: {sub: a}, role: admin, \
                 environments: [shop]}]}]",
                "machine.yaml:1:107",
                "\"shop\" names no environments: PROJECT/ENVIRONMENT",
            ),
        ] {
            let refused = said(text).expect_err(text);
            assert!(refused.contains(place), "{text}: {refused}");
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    #[test]
    fn every_key_is_read_and_no_other() {
        crate::read::trace::start();
        said(ALL).unwrap();
        let asked_for = crate::read::trace::stop();
        let described: BTreeSet<(&str, String)> = schema::SECTIONS
            .iter()
            .flat_map(|section| {
                let keys = section.keys.iter();
                keys.map(|key| (section.path, key.name.to_owned()))
            })
            .collect();
        assert_eq!(asked_for, described);
    }
}
