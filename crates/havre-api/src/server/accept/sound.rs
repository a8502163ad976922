//! Whether requests are sound: names that later become paths, and every number, list and text.

mod mirrors;
mod runs;
mod vars;

use havre_model::MAX_REPLICAS;

use crate::*;

/// Things named in one request; nobody types more.
const MAX_NAMED: usize = 1000;
/// Records of the audit trail in one answer: some 4 MB.
const MAX_RECORDS: usize = 10_000;
/// The longest identity token that is looked at.
const MAX_IDENTITY_BYTES: usize = 16 * 1024;
/// A user, a replica, who asks.
const MAX_WORD_BYTES: usize = 256;
/// Linux: PATH_MAX.
const MAX_PATH_BYTES: usize = 4096;
/// A hundred years: nobody waits longer, and every calendar has the end of it.
const MAX_LIFETIME_S: u64 = 100 * 366 * 24 * 3600;
/// Far more than any chain.
const MAX_CERTIFICATE_BYTES: usize = 1024 * 1024;
/// The longest that image references are taken.
const MAX_REFERENCE_BYTES: usize = 512;
/// Linux: MAX_ARG_STRLEN, and all together as much as `execve` takes with the usual stack.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;
const MAX_ARGUMENTS_BYTES: usize = 2 * 1024 * 1024;
const MAX_ARGUMENTS: usize = 100_000;
/// A little more than a secret may have, so that who keeps them says what is too much.
const MAX_SECRET_BYTES: usize = 2 * 1024 * 1024;
const MAX_SECRET_NAME_BYTES: usize = 1024;
const MAX_REASON_BYTES: usize = 1000;
/// Also an age identity with the comments around it.
const MAX_PASSPHRASE_BYTES: usize = 4096;

impl Check for Empty {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for MachineQuery {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for CancelRequest {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for ShutdownRequest {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for ImagePruneRequest {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for ImageImportRequest {
    fn check(&self) -> Result<(), ApiError> {
        refuse_unless(self.path.is_absolute(), || {
            format!(
                "the path of an image to import must be absolute: {}",
                self.path.display()
            )
        })?;
        text("path", &self.path.to_string_lossy(), MAX_PATH_BYTES)?;
        let reference = self.reference.as_deref().unwrap_or_default();
        text("image name", reference, MAX_REFERENCE_BYTES)
    }
}

impl Check for ImageRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        refuse_unless(!self.images.is_empty(), || "no image was named".to_owned())?;
        list("images", self.images.len(), MAX_NAMED)?;
        let mut names = self.images.iter();
        names.try_for_each(|name| text("image name", name, MAX_REFERENCE_BYTES))
    }
}

impl Check for ImageProvenanceQuery {
    fn check(&self) -> Result<(), ApiError> {
        refuse_unless(!self.image.is_empty(), || "no image was named".to_owned())?;
        text("image name", &self.image, MAX_REFERENCE_BYTES)
    }
}

impl Check for ImageScanRequest {
    fn check(&self) -> Result<(), ApiError> {
        refuse_unless(!self.image.is_empty(), || "no image was named".to_owned())?;
        text("image name", &self.image, MAX_REFERENCE_BYTES)
    }
}

impl Check for CertificateQuery {
    fn check(&self) -> Result<(), ApiError> {
        text("host", &self.host, MAX_WORD_BYTES)
    }
}

impl Check for CertificateImport {
    fn check(&self) -> Result<(), ApiError> {
        list("hosts", self.hosts.len(), MAX_NAMED)?;
        let mut hosts = self.hosts.iter();
        hosts.try_for_each(|host| text("host", host, MAX_WORD_BYTES))?;
        text("certificate", &self.chain, MAX_CERTIFICATE_BYTES)?;
        text("key", &self.key, MAX_CERTIFICATE_BYTES)
    }
}

impl Check for NetworkCreateRequest {
    fn check(&self) -> Result<(), ApiError> {
        network(&self.name)
    }
}

impl Check for NetworkRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        network(&self.name)
    }
}

impl Check for OidcLoginRequest {
    fn check(&self) -> Result<(), ApiError> {
        text("identity token", &self.token, MAX_IDENTITY_BYTES)
    }
}

impl Check for TokenCreateRequest {
    fn check(&self) -> Result<(), ApiError> {
        called("token", &self.name)?;
        granted(&self.grant)?;
        refuse_unless(self.lifetime_s.is_none_or(|seconds| seconds > 0), || {
            "a token that holds for no time is of no use".to_owned()
        })?;
        let within = self.lifetime_s.is_none_or(|most| most <= MAX_LIFETIME_S);
        refuse_unless(within, || {
            "a token holds for a hundred years at most, or until it is revoked".to_owned()
        })
    }
}

impl Check for TokenRevokeRequest {
    fn check(&self) -> Result<(), ApiError> {
        called("token", &self.token)
    }
}

impl Check for UserAddRequest {
    fn check(&self) -> Result<(), ApiError> {
        called("user", &self.name)?;
        granted(&self.grant)?;
        match &self.known_by {
            KnownBy::Local => Ok(()),
            KnownBy::Oidc { issuer, subject } => {
                called("issuer", issuer)?;
                text("subject", subject, MAX_WORD_BYTES)?;
                refuse_unless(!subject.is_empty(), || "the subject is empty".to_owned())
            }
        }
    }
}

impl Check for UserRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        called("user", &self.name)
    }
}

impl Check for SecretSetRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)?;
        list("bytes", self.value.bytes().len(), MAX_SECRET_BYTES)
    }
}

impl Check for SecretGetRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)?;
        refuse_unless(!self.reason.trim().is_empty(), || {
            "a secret is told only for a reason".to_owned()
        })?;
        text("reason", &self.reason, MAX_REASON_BYTES)
    }
}

impl Check for SecretRotateRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)?;
        refuse_unless(!self.values || !self.reason.trim().is_empty(), || {
            "a secret is told only for a reason".to_owned()
        })?;
        text("reason", &self.reason, MAX_REASON_BYTES)?;
        let bytes = self.value.as_ref().map_or(0, |value| value.bytes().len());
        list("bytes", bytes, MAX_SECRET_BYTES)
    }
}

impl Check for SecretStepRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)
    }
}

impl Check for SecretListQuery {
    fn check(&self) -> Result<(), ApiError> {
        self.environment.as_ref().map_or(Ok(()), environment)
    }
}

impl Check for SecretQuery {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)
    }
}

impl Check for SecretRollbackRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)
    }
}

impl Check for SecretRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        secret(self.environment.as_ref(), &self.name)
    }
}

impl Check for SealAddRequest {
    fn check(&self) -> Result<(), ApiError> {
        match self {
            Self::Passphrase { passphrase, again } => {
                text("passphrase", passphrase.text(), MAX_PASSPHRASE_BYTES)?;
                text("passphrase", again.text(), MAX_PASSPHRASE_BYTES)
            }
            Self::Age { recipient } => text("recipient", recipient, MAX_PASSPHRASE_BYTES),
            Self::Machine { with: _ } => Ok(()),
        }
    }
}

impl Check for SealRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Check for SealUnlockRequest {
    fn check(&self) -> Result<(), ApiError> {
        text("secret", self.secret.text(), MAX_PASSPHRASE_BYTES)
    }
}

impl Check for StatusQuery {
    fn check(&self) -> Result<(), ApiError> {
        filter(self.project.as_ref(), self.environment.as_ref())
    }
}

impl Check for ReplicaQuery {
    fn check(&self) -> Result<(), ApiError> {
        filter(self.project.as_ref(), self.environment.as_ref())?;
        services(&self.services)
    }
}

impl Check for LogQuery {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        services(&self.services)
    }
}

impl Check for SourceOffer {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        list("trees", self.trees.len(), MAX_TREES)
    }
}

impl Check for SourcePieces {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        list("pieces", self.pieces.len(), MAX_PIECES)?;
        let bytes = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        list("bytes of pieces", bytes, MAX_PIECES_BYTES)
    }
}

impl Check for ExecRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        service(&self.service)?;
        let optional = |what, value: &Option<String>, most| {
            value
                .as_deref()
                .map_or(Ok(()), |value| text(what, value, most))
        };
        optional("replica", &self.replica, MAX_WORD_BYTES)?;
        optional("user", &self.user, MAX_WORD_BYTES)?;
        optional("working directory", &self.working_dir, MAX_PATH_BYTES)?;
        refuse_unless(!self.argv.is_empty(), || "no command was given".to_owned())?;
        for name in self.env.keys() {
            refuse_unless(!name.is_empty() && !name.contains('='), || {
                format!("{name:?} is not a name for a variable")
            })?;
        }
        let variables = self.env.iter().flat_map(|(name, value)| [name, value]);
        let words: Vec<&String> = self.argv.iter().chain(variables).collect();
        list("arguments and variables", words.len(), MAX_ARGUMENTS)?;
        let mut each = words.iter();
        each.try_for_each(|word| text("argument or variable", word, MAX_ARGUMENT_BYTES))?;
        let total = words.iter().map(|word| word.len()).sum();
        list(
            "bytes of arguments and variables",
            total,
            MAX_ARGUMENTS_BYTES,
        )
    }
}

/// Most other environments of a project whose configuration is sent with one.
const MAX_ELSEWHERE: usize = 64;

impl Check for UpRequest {
    fn check(&self) -> Result<(), ApiError> {
        project(&self.project)?;
        list("other environments", self.elsewhere.len(), MAX_ELSEWHERE)?;
        self.elsewhere.iter().try_for_each(project)?;
        self.origin.as_ref().map_or(Ok(()), origin)?;
        match &self.overridden {
            Some(reason) => said("reason", Some(reason))
                .and(refuse_unless(!reason.trim().is_empty(), || {
                    "the reason for the override is empty".to_owned()
                })),
            None => Ok(()),
        }
    }
}

impl Check for PromoteRequest {
    fn check(&self) -> Result<(), ApiError> {
        project(&self.project)?;
        environment_name(self.from.as_str())?;
        self.origin.as_ref().map_or(Ok(()), origin)
    }
}

impl Check for PromotionsQuery {
    fn check(&self) -> Result<(), ApiError> {
        filter(self.project.as_ref(), self.environment.as_ref())
    }
}

impl Check for PromotionAnswer {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        said("comment", self.comment.as_deref())
    }
}

impl Check for FreezeRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        let order = self.freeze.as_ref();
        said("reason", order.and_then(|order| order.reason.as_deref()))
    }
}

impl Check for GatesRequest {
    fn check(&self) -> Result<(), ApiError> {
        project_name(self.project.as_str())?;
        havre_model::gates_in_bounds(&self.gates)
            .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()))
    }
}

impl Check for TestReportRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        line("test", &self.test, MAX_WORD_BYTES)?;
        self.run
            .as_deref()
            .map_or(Ok(()), |run| line("run", run, MAX_REFERENCE_BYTES))
    }
}

impl Check for EnterRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        line("run", &self.run, MAX_REFERENCE_BYTES)?;
        line("job", &self.job, MAX_REFERENCE_BYTES)?;
        origin(&self.origin)
    }
}

impl Check for ProvenanceQuery {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

/// It is shown in tables, and compared with names.
fn origin(origin: &Origin) -> Result<(), ApiError> {
    let Origin {
        commit,
        repository,
        reference,
        run,
        actor,
    } = origin;
    for (what, value) in [
        ("commit", commit),
        ("repository", repository),
        ("reference", reference),
        ("run", run),
        ("actor", actor),
    ] {
        value
            .as_deref()
            .map_or(Ok(()), |value| line(what, value, MAX_REFERENCE_BYTES))?;
    }
    Ok(())
}

/// What somebody says, or nothing.
fn said(what: &str, value: Option<&str>) -> Result<(), ApiError> {
    text(what, value.unwrap_or_default(), MAX_REASON_BYTES)
}

fn line(what: &str, value: &str, most: usize) -> Result<(), ApiError> {
    text(what, value, most)?;
    refuse_unless(
        !value.is_empty() && !value.contains(char::is_control),
        || format!("the {what} is not one line"),
    )
}

impl Check for PlanRequest {
    fn check(&self) -> Result<(), ApiError> {
        project(&self.project)
    }
}

fn project(project: &havre_model::Project) -> Result<(), ApiError> {
    project_name(project.name.as_str())?;
    environment_name(project.environment.as_str())?;
    project.services.keys().try_for_each(service)?;
    project
        .in_bounds()
        .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()))
}

impl Check for DownRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

impl Check for RestartRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        services(&self.services)
    }
}

impl Check for RollbackRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

impl Check for SteerRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

impl Check for ReleasesQuery {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

impl Check for WhyQuery {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        service(&self.service)
    }
}

impl Check for ScaleRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        refuse_unless(!self.replicas.is_empty(), || {
            "no service was named".to_owned()
        })?;
        list("services", self.replicas.len(), MAX_NAMED)?;
        self.replicas.iter().try_for_each(|(name, count)| {
            service(name)?;
            refuse_unless(*count <= MAX_REPLICAS, || {
                format!("{name}: {count} replicas are more than {MAX_REPLICAS}")
            })
        })
    }
}

/// What a token, a user or an issuer is called.
fn called(kind: &str, name: &str) -> Result<(), ApiError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= concern::MAX_TOKEN_NAME_BYTES
        && name.chars().all(sound);
    // Neither is it repeated: it may be the token itself.
    refuse_unless(plain, || {
        format!("that is not a name for a {kind}: at most 40 letters, digits and . _ - @")
    })
}

fn granted(grant: &Grant) -> Result<(), ApiError> {
    refuse_unless(!grant.environments.is_empty(), || {
        "no environment is named: PROJECT/ENVIRONMENT, or `*` for the whole machine".to_owned()
    })?;
    list("environments", grant.environments.len(), MAX_NAMED)
}

impl Check for AuditQuery {
    fn check(&self) -> Result<(), ApiError> {
        filter(self.project.as_ref(), self.environment.as_ref())?;
        let word = |what, value: &Option<String>| {
            text(what, value.as_deref().unwrap_or_default(), MAX_WORD_BYTES)
        };
        word("principal", &self.principal)?;
        word("action", &self.action)?;
        list("records", self.limit as usize, MAX_RECORDS)
    }
}

impl Check for AuditVerifyRequest {
    fn check(&self) -> Result<(), ApiError> {
        list("heads", self.heads.len(), MAX_NAMED)?;
        let mut heads = self.heads.iter();
        heads.try_for_each(|head| text("head", head, MAX_WORD_BYTES))
    }
}

impl Check for AuditExportQuery {
    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

fn filter(
    project: Option<&havre_model::ProjectName>,
    environment: Option<&havre_model::EnvironmentName>,
) -> Result<(), ApiError> {
    project.map_or(Ok(()), |name| project_name(name.as_str()))?;
    environment.map_or(Ok(()), |name| environment_name(name.as_str()))
}

fn environment(id: &EnvironmentId) -> Result<(), ApiError> {
    project_name(id.project.as_str())?;
    environment_name(id.environment.as_str())
}

/// The store says which names are sound.
fn secret(of: Option<&EnvironmentId>, name: &str) -> Result<(), ApiError> {
    of.map_or(Ok(()), environment)?;
    text("name of the secret", name, MAX_SECRET_NAME_BYTES)
}

fn project_name(name: &str) -> Result<(), ApiError> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    checked_name("project", name, sound)
}

fn environment_name(name: &str) -> Result<(), ApiError> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    checked_name("environment", name, sound)
}

fn service(name: &havre_model::ServiceName) -> Result<(), ApiError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    checked_name("service", name.as_str(), sound)
}

fn network(name: &str) -> Result<(), ApiError> {
    refuse_unless(havre_model::is_network_name(name), || {
        format!("{name:?} is not a name for a network")
    })
}

fn services(names: &[havre_model::ServiceName]) -> Result<(), ApiError> {
    list("services", names.len(), MAX_NAMED)?;
    names.iter().try_for_each(service)
}

/// What becomes a path, an argument or a line ends where C says it does.
fn text(what: &str, value: &str, most: usize) -> Result<(), ApiError> {
    refuse_unless(value.len() <= most, || {
        format!("the {what} has {} bytes, {most} at most", value.len())
    })?;
    refuse_unless(!value.contains('\0'), || {
        format!("the {what} has a NUL byte in it")
    })
}

fn list(what: &str, length: usize, most: usize) -> Result<(), ApiError> {
    refuse_unless(length <= most, || {
        format!("{length} {what} are more than {most}")
    })
}

/// Names become parts of paths and container ids: short, plain, and never `.` or `..`.
fn checked_name(kind: &str, name: &str, sound: impl Fn(char) -> bool) -> Result<(), ApiError> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 63
        && name.chars().all(sound);
    refuse_unless(plain, || format!("{name:?} is not a name for a {kind}"))
}

fn refuse_unless(holds: bool, why: impl FnOnce() -> String) -> Result<(), ApiError> {
    if holds {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::Invalid, why()))
    }
}

#[cfg(test)]
mod tests {
    use havre_model::{EnvironmentName, ProjectName};
    use havre_sources::Digest;

    use super::*;

    #[test]
    fn the_largest_that_is_sound_has_room() {
        let environment = EnvironmentId {
            project: ProjectName::new("p".repeat(63)),
            environment: EnvironmentName::new("e".repeat(63)),
        };
        let secret = SecretSetRequest {
            environment: Some(environment.clone()),
            name: "n".repeat(MAX_SECRET_NAME_BYTES),
            value: SecretBytes::new(vec![0; MAX_SECRET_BYTES]),
            origin: SecretOrigin::default(),
        };
        let piece = SourcePiece {
            digest: Digest::of(b"x"),
            offset: u64::MAX,
            bytes: vec![0; MAX_PIECES_BYTES / MAX_PIECES],
        };
        let pieces = SourcePieces {
            environment,
            pieces: vec![piece; MAX_PIECES],
        };
        let lines = "0123456789\n".repeat(MAX_CERTIFICATE_BYTES / 11);
        let certificate = CertificateImport {
            hosts: vec!["h".repeat(MAX_WORD_BYTES); MAX_NAMED],
            chain: lines.clone(),
            key: lines,
        };
        let bytes = |request: serde_json::Result<Vec<u8>>| request.expect("JSON").len();
        assert!(bytes(serde_json::to_vec(&secret)) <= SecretSet::MAX_REQUEST);
        assert!(bytes(serde_json::to_vec(&pieces)) <= SourcesPut::MAX_REQUEST);
        assert!(bytes(serde_json::to_vec(&certificate)) <= CertificatesImport::MAX_REQUEST);
    }
}
