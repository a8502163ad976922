//! What each request is about: the environment, and what of it, without any value.

mod mirrors;
mod runs;
mod vars;

use havre_model::{EnvironmentName, ProjectName};

use crate::*;

/// Most bytes that are told of what is asked.
const MAX_SUBJECT_BYTES: usize = 200;

/// Shorter than any token.
pub(crate) const MAX_TOKEN_NAME_BYTES: usize = 40;

/// A request that can say what it is about, for whoever decides on it and for the record.
pub trait Concern {
    /// The environment, or what else.
    fn scope(&self) -> Scope;

    /// What exactly is asked, in a few words: names and numbers, never a value that may be secret.
    fn subject(&self) -> String;
}

/// What is told of a request: on one line, and short.
pub(crate) fn subject(request: &impl Concern) -> String {
    plain(&request.subject())
}

/// The same of any text.
pub(crate) fn plain(subject: &str) -> String {
    let start = havre_base::clipped(subject, MAX_SUBJECT_BYTES);
    let mut plain: String = start
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if start.len() < subject.len() {
        plain.push('…');
    }
    plain
}

impl Concern for Empty {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for MachineQuery {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        String::new()
    }
}

/// The server knows the operation, and so its environment.
impl Concern for CancelRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        format!("operation {}", self.operation)
    }
}

impl Concern for ShutdownRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        flags(&[("force", self.force)])
    }
}

impl Concern for ImagePruneRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        flags(&[("all", self.all), ("dry run", self.dry_run)])
    }
}

impl Concern for ImageImportRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.path.display().to_string()
    }
}

impl Concern for ImageProvenanceQuery {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.image.clone()
    }
}

impl Concern for ImageScanRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.image.clone()
    }
}

impl Concern for ImageRemoveRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        listed(&self.images)
    }
}

/// The host's environment is known to whoever answers, and decides.
impl Concern for CertificateQuery {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        self.host.clone()
    }
}

impl Concern for CertificateImport {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        listed(&self.hosts)
    }
}

impl Concern for NetworkCreateRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for NetworkRemoveRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for OidcLoginRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for TokenCreateRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        format!("{}: {}", self.name, self.grant)
    }
}

impl Concern for TokenRevokeRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    /// Somebody may give the token itself for its name.
    fn subject(&self) -> String {
        match self.token.len() > MAX_TOKEN_NAME_BYTES {
            true => String::new(),
            false => self.token.clone(),
        }
    }
}

impl Concern for UserAddRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        format!("{}: {}", self.name, self.grant)
    }
}

impl Concern for UserRemoveRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for SecretSetRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for SecretGetRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        let version = self.version.map(|version| format!(" version {version}"));
        format!(
            "{}{}: {}",
            self.name,
            version.unwrap_or_default(),
            self.reason
        )
    }
}

impl Concern for SecretRotateRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        match (self.values, self.reason.is_empty()) {
            (_, true) => self.name.clone(),
            (true, false) => format!("{}, both values: {}", self.name, self.reason),
            (false, false) => format!("{}: {}", self.name, self.reason),
        }
    }
}

impl Concern for SecretStepRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        format!(
            "{} version {}: {}",
            self.name,
            self.version,
            self.step.word()
        )
    }
}

impl Concern for SecretListQuery {
    fn scope(&self) -> Scope {
        match &self.environment {
            Some(id) => Scope::Environment(id.clone()),
            None => Scope::Visible,
        }
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for SecretQuery {
    fn scope(&self) -> Scope {
        match &self.environment {
            Some(id) => Scope::Environment(id.clone()),
            None => Scope::Visible,
        }
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for SecretRollbackRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        match self.version {
            Some(version) => format!("{} to version {version}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Concern for SecretRemoveRequest {
    fn scope(&self) -> Scope {
        of_secret(self.environment.as_ref())
    }

    fn subject(&self) -> String {
        self.name.clone()
    }
}

impl Concern for SealAddRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        match self {
            Self::Passphrase { .. } => "passphrase".to_owned(),
            Self::Age { recipient } => format!("age {recipient}"),
            Self::Machine { with } => format!("machine {with:?}").to_lowercase(),
        }
    }
}

impl Concern for SealRemoveRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        format!("slot {}", self.slot)
    }
}

impl Concern for SealUnlockRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for StatusQuery {
    fn scope(&self) -> Scope {
        named(self.project.as_ref(), self.environment.as_ref())
    }

    fn subject(&self) -> String {
        filter(self.project.as_ref(), self.environment.as_ref())
    }
}

impl Concern for ReplicaQuery {
    fn scope(&self) -> Scope {
        named(self.project.as_ref(), self.environment.as_ref())
    }

    fn subject(&self) -> String {
        match self.services.is_empty() {
            true => filter(self.project.as_ref(), self.environment.as_ref()),
            false => listed(&self.services),
        }
    }
}

impl Concern for LogQuery {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        listed(&self.services)
    }
}

/// Of the command its program alone: arguments and variables may be secret.
impl Concern for ExecRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        let program = self.argv.first().map(String::as_str).unwrap_or_default();
        match self.argv.len() {
            0 | 1 => format!("{}: {program}", self.service),
            count => format!("{}: {program} and {} arguments", self.service, count - 1),
        }
    }
}

impl Concern for UpRequest {
    fn scope(&self) -> Scope {
        of_project(&self.project)
    }

    fn subject(&self) -> String {
        let services = listed(self.project.services.keys());
        match &self.overridden {
            Some(reason) => format!("override: {reason}; {services}"),
            None => services,
        }
    }
}

impl Concern for PromoteRequest {
    fn scope(&self) -> Scope {
        of_project(&self.project)
    }

    fn subject(&self) -> String {
        let from = &self.from;
        let what = match self.release {
            Some(release) => format!("release {release} of {from}"),
            None => format!("what serves in {from}"),
        };
        match self.dry_run {
            true => format!("{what}, to look"),
            false => what,
        }
    }
}

impl Concern for PromotionsQuery {
    fn scope(&self) -> Scope {
        named(self.project.as_ref(), self.environment.as_ref())
    }

    fn subject(&self) -> String {
        match self.promotion {
            Some(promotion) => format!("promotion {promotion}"),
            None => filter(self.project.as_ref(), self.environment.as_ref()),
        }
    }
}

impl Concern for PromotionAnswer {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        match &self.comment {
            Some(comment) => format!("promotion {}: {comment}", self.promotion),
            None => format!("promotion {}", self.promotion),
        }
    }
}

impl Concern for FreezeRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        let Some(FreezeOrder { until, reason }) = &self.freeze else {
            return "off".to_owned();
        };
        let until = until.map(|until| format!("until {until}"));
        listed(until.into_iter().chain(reason.clone()))
    }
}

/// Each environment is the handler's to decide on.
impl Concern for GatesRequest {
    fn scope(&self) -> Scope {
        Scope::Visible
    }

    fn subject(&self) -> String {
        let names = self.gates.iter().map(|one| &one.name);
        format!("{}: {}", self.project, listed(names))
    }
}

impl Concern for TestReportRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        let verdict = if self.passed { "passed" } else { "failed" };
        match self.release {
            Some(release) => format!("{} {verdict}, release {release}", self.test),
            None => format!("{} {verdict}", self.test),
        }
    }
}

impl Concern for EnterRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        format!("job {} of run {}", self.job, self.run)
    }
}

impl Concern for ProvenanceQuery {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        format!("release {}", self.release)
    }
}

impl Concern for PlanRequest {
    fn scope(&self) -> Scope {
        of_project(&self.project)
    }

    fn subject(&self) -> String {
        listed(self.project.services.keys())
    }
}

impl Concern for SourceOffer {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        format!("{} trees", self.trees.len())
    }
}

impl Concern for SourcePieces {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        format!("{} pieces", self.pieces.len())
    }
}

impl Concern for DownRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        flags(&[("with volumes", self.options.volumes)])
    }
}

impl Concern for RestartRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        listed(&self.services)
    }
}

impl Concern for RollbackRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        match self.release {
            Some(release) => format!("release {release}"),
            None => "the release before".to_owned(),
        }
    }
}

impl Concern for SteerRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        match self.course {
            Course::Pause => "pause",
            Course::Resume => "resume",
            Course::Abort => "abort",
        }
        .to_owned()
    }
}

impl Concern for ReleasesQuery {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for WhyQuery {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        self.service.to_string()
    }
}

impl Concern for ScaleRequest {
    fn scope(&self) -> Scope {
        Scope::Environment(self.environment.clone())
    }

    fn subject(&self) -> String {
        let each = self.replicas.iter();
        listed(each.map(|(service, count)| format!("{service}={count}")))
    }
}

impl Concern for AuditQuery {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for AuditVerifyRequest {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Concern for AuditExportQuery {
    fn scope(&self) -> Scope {
        Scope::Machine
    }

    fn subject(&self) -> String {
        format!("from record {}", self.from)
    }
}

/// An environment's, or the machine's, which every environment has.
fn of_secret(environment: Option<&EnvironmentId>) -> Scope {
    match environment {
        Some(id) => Scope::Environment(id.clone()),
        None => Scope::Machine,
    }
}

fn of_project(project: &havre_model::Project) -> Scope {
    Scope::Environment(EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    })
}

/// A query of one environment, or of those that can be seen.
fn named(project: Option<&ProjectName>, environment: Option<&EnvironmentName>) -> Scope {
    match (project, environment) {
        (Some(project), Some(environment)) => Scope::Environment(EnvironmentId {
            project: project.clone(),
            environment: environment.clone(),
        }),
        _ => Scope::Visible,
    }
}

fn filter(project: Option<&ProjectName>, environment: Option<&EnvironmentName>) -> String {
    match (project, environment) {
        // The scope says it.
        (Some(_), Some(_)) | (None, None) => String::new(),
        (Some(project), None) => format!("{project}/*"),
        (None, Some(environment)) => format!("*/{environment}"),
    }
}

fn flags(flags: &[(&str, bool)]) -> String {
    listed(flags.iter().filter(|(_, set)| *set).map(|(name, _)| name))
}

/// As many as have room.
fn listed<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&name.to_string());
        if text.len() > MAX_SUBJECT_BYTES {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(argv: &[&str]) -> ExecRequest {
        ExecRequest {
            environment: EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("production"),
            },
            service: havre_model::ServiceName::new("db"),
            replica: None,
            argv: argv.iter().map(ToString::to_string).collect(),
            env: [("PGPASSWORD".to_owned(), "hunter2".to_owned())].into(),
            user: None,
            working_dir: None,
            stdin: false,
            tty: None,
        }
    }

    #[test]
    fn arguments_of_a_command_are_not_told() {
        let told = subject(&exec(&["psql", "-c", "ALTER USER app PASSWORD 'hunter2'"]));
        assert_eq!(told, "db: psql and 2 arguments");
    }

    #[test]
    fn what_is_told_is_one_short_line() {
        let told = subject(&exec(&["a\nb\u{1b}[2J"]));
        assert_eq!(told, "db: a?b?[2J");
        let images = vec!["é".repeat(80); 9];
        let told = subject(&ImageRemoveRequest { images });
        assert!(told.len() <= MAX_SUBJECT_BYTES + '…'.len_utf8(), "{told}");
        assert!(told.ends_with('…'), "{told}");
    }

    #[test]
    fn a_query_of_all_is_about_what_can_be_seen() {
        let mut query = StatusQuery {
            project: Some(ProjectName::new("shop")),
            environment: None,
        };
        assert_eq!(query.scope(), Scope::Visible);
        assert_eq!(query.subject(), "shop/*");
        query.environment = Some(EnvironmentName::new("production"));
        assert!(matches!(query.scope(), Scope::Environment(_)));
    }
}
