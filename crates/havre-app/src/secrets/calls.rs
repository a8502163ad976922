//! What users do with secrets.

use std::collections::BTreeSet;
use std::sync::Arc;

use havre_api::{
    ApiError, ErrorCode, Principal, ReleaseId, SecretGetRequest, SecretListQuery, SecretOrigin,
    SecretQuery, SecretRemoveRequest, SecretRollbackRequest, SecretSetOutcome, SecretSetRequest,
    SecretSummary, SecretUse, SecretValue, SecretVersion,
};
use havre_base::{in_place, one_line};
use havre_model::ServiceName;
use havre_secrets::{Listed, Scope, SecretError, SecretName, Version};

use super::scope::{environment_of, scope_of};
use super::words::{named, of_first, refusal, refusal_to, some, time, warnings};
use super::{rotation, uses};
use crate::daemon::Daemon;
use crate::platform::Platform;

pub(crate) fn set(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretSetRequest,
) -> Result<SecretSetOutcome, ApiError> {
    let (scope, name) = (
        scope_of(request.environment.as_ref()),
        named(&request.name)?,
    );
    let origin = match request.origin {
        SecretOrigin::Set => "set",
        SecretOrigin::Generated => "generated",
        SecretOrigin::Imported => "imported",
    };
    let value = request.value.bytes();
    let platform = &daemon.platform;
    let set = platform
        .secrets
        .set(&scope, &name, value, &by.to_string(), origin)
        .map_err(refusal)?;
    let mut warnings = warnings(&name, value);
    if !set.unchanged {
        warnings.extend(of_first(platform, set.version));
    }
    Ok(SecretSetOutcome {
        version: set.version,
        unchanged: set.unchanged,
        warnings,
    })
}

pub(crate) fn get(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretGetRequest,
) -> Result<SecretValue, ApiError> {
    let (scope, name) = (
        scope_of(request.environment.as_ref()),
        named(&request.name)?,
    );
    let secrets = &daemon.platform.secrets;
    let value = match request.version {
        Some(_) => secrets.get(&scope, &name, request.version),
        None => secrets.resolve(&scope, &name),
    }
    .map_err(|error| refusal_to(&daemon.platform, by, error))?;
    tracing::info!(secret = %name, of = %value.scope, version = value.version, %by, reason = request.reason, "a secret was read");
    Ok(SecretValue {
        environment: environment_of(&value.scope),
        version: value.version,
        value: value.plain.into(),
    })
}

pub(crate) fn list(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: &SecretListQuery,
) -> Result<Vec<SecretSummary>, ApiError> {
    let secrets = &daemon.platform.secrets;
    // What is not seen is not read either.
    let is_seen = |scope: &Scope| environment_of(scope).is_none_or(|id| by.grant.sees(&id));
    let own = query.environment.as_ref().map(|id| scope_of(Some(id)));
    let listed = secrets.list(|scope| {
        let is_meant = own
            .as_ref()
            .is_none_or(|own| [own, &Scope::Machine].contains(&scope));
        is_meant && is_seen(scope)
    });
    let mut listed = listed.map_err(refusal)?;
    if let Some(own) = own {
        let names = listed.iter().filter(|one| one.scope == own);
        let names: BTreeSet<_> = names.map(|one| one.name.clone()).collect();
        listed.retain(|one| one.scope == own || !names.contains(&one.name));
    }
    listed.sort_by(|a, b| (&a.scope, &a.name).cmp(&(&b.scope, &b.name)));
    Ok(listed.into_iter().map(summary).collect())
}

pub(crate) fn history(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: &SecretQuery,
) -> Result<Vec<SecretVersion>, ApiError> {
    let (scope, name) = (scope_of(query.environment.as_ref()), named(&query.name)?);
    let versions = daemon.platform.secrets.history(&scope, &name);
    Ok(versions
        .map_err(|error| refusal_to(&daemon.platform, by, error))?
        .into_iter()
        .map(version)
        .collect())
}

pub(crate) fn rollback(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretRollbackRequest,
) -> Result<SecretSetOutcome, ApiError> {
    let (scope, name) = (
        scope_of(request.environment.as_ref()),
        named(&request.name)?,
    );
    let secrets = &daemon.platform.secrets;
    let before = secrets.get(&scope, &name, None).map(|value| value.version);
    let version = secrets
        .rollback(&scope, &name, request.version)
        .map_err(|error| refusal_to(&daemon.platform, by, error))?;
    Ok(SecretSetOutcome {
        version,
        unchanged: before.is_ok_and(|before| before == version),
        warnings: Vec::new(),
    })
}

pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretRemoveRequest,
) -> Result<(), ApiError> {
    let (scope, name) = (
        scope_of(request.environment.as_ref()),
        named(&request.name)?,
    );
    let under_way = in_place(|| daemon.platform.secrets.rotation(&scope, &name));
    // What is damaged is removed to be set again.
    if let (Ok(Some(rotation)), false) = (under_way, request.force) {
        let message = format!("`{name}` is being rotated: {}", rotation.step);
        return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
            "`havre secret rotate` goes on with it, with --abort back; --force removes it all the same",
        ));
    }
    let mut using = uses::of(daemon, request.environment.as_ref(), &name).await;
    using.retain(|one| one.scope == scope);
    if !using.is_empty() && !request.force {
        let users: Vec<String> = using.iter().map(user).collect();
        let message = format!("`{name}` of {scope} is in use by {}", some(&users));
        return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
            "what runs keeps its value, but the next `havre up` needs it; --force removes it all the same",
        ));
    }
    let platform = &daemon.platform;
    in_place(|| {
        let removed = platform.secrets.remove(&scope, &name);
        removed.map_err(|error| refusal_to(platform, by, error))
    })
}

/// `shop/production (web, worker)`.
fn user(one: &uses::Using) -> String {
    let services: Vec<&str> = one.services.iter().map(ServiceName::as_str).collect();
    match services.is_empty() {
        true => format!("{} (builds)", one.environment),
        false => format!("{} ({})", one.environment, services.join(", ")),
    }
}

pub(crate) async fn uses(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: &SecretQuery,
) -> Result<Vec<SecretUse>, ApiError> {
    let name = named(&query.name)?;
    let mut using = uses::of(daemon, query.environment.as_ref(), &name).await;
    using.retain(|one| by.grant.sees(&one.environment));
    let platform = &daemon.platform;
    in_place(|| {
        if using.is_empty() {
            let scope = scope_of(query.environment.as_ref());
            let found = platform.secrets.scopes_of(&name).map_err(refusal)?;
            if !found.contains(&scope) && !found.contains(&Scope::Machine) {
                let missing = SecretError::NotFound { scope, name };
                return Err(refusal_to(platform, by, missing));
            }
        }
        Ok(using
            .into_iter()
            .map(|one| used(platform, &name, one))
            .collect())
    })
}

pub(super) fn used(platform: &Platform, name: &SecretName, using: uses::Using) -> SecretUse {
    let secrets = &platform.secrets;
    let own = scope_of(Some(&using.environment));
    let next = secrets.resolve(&own, name).and_then(|value| {
        let content = secrets.fingerprint(&own, &value.plain)?;
        let is_other = using.contents.iter().any(|has| *has != content);
        Ok((value.version, is_other))
    });
    let (next, next_differs, problem) = match next {
        Ok((version, is_other)) => (Some(version), is_other, None),
        Err(SecretError::NotFound { .. }) => (None, false, None),
        Err(error) => (None, false, Some(one_line(&error))),
    };
    SecretUse {
        environment: using.environment,
        release: ReleaseId(using.release),
        own: using.own,
        services: using.services,
        version: using.version,
        rotation: rotation::under_way(platform, &using.scope, name),
        differing: using.differing,
        next,
        next_differs,
        problem,
    }
}

fn summary(listed: Listed) -> SecretSummary {
    let (current, problem) = match listed.current {
        Ok(current) => (Some(version(current)), None),
        Err(why) => (None, Some(why)),
    };
    SecretSummary {
        environment: environment_of(&listed.scope),
        name: listed.name,
        rotation: listed.rotation.as_ref().map(rotation::told),
        current,
        problem,
    }
}

fn version(version: Version) -> SecretVersion {
    SecretVersion {
        version: version.version,
        current: version.current,
        size_bytes: version.size,
        set_at: time(version.set_at),
        set_by: version.set_by,
        origin: version.origin,
    }
}
