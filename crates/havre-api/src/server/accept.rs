//! Reading requests: size, JSON, and names that later become paths.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::response::Response;
use http::Request;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::refusal;
use crate::*;

/// A request body that was decoded and whose names are sound.
pub(super) struct Checked<T>(pub(super) T);

impl<T: DeserializeOwned + Check, S: Send + Sync> FromRequest<S> for Checked<T> {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Response> {
        read(request.into_body())
            .await
            .map(Self)
            .map_err(|error| refusal(&error))
    }
}

pub(super) async fn read<T: DeserializeOwned + Check>(body: Body) -> Result<T, ApiError> {
    let invalid = |why: String| {
        let mut error = ApiError::new(ErrorCode::Invalid, "cannot read the request");
        error.causes.push(why);
        error
    };
    let body = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await;
    let bytes = body.map_err(|error| invalid(error.to_string()))?.to_bytes();
    let value: T = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    value.check()?;
    Ok(value)
}

/// A request that can say whether its names are sound.
pub(super) trait Check {
    fn check(&self) -> Result<(), ApiError>;
}

impl Check for Empty {
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
        })
    }
}

impl Check for ImageRemoveRequest {
    fn check(&self) -> Result<(), ApiError> {
        refuse_unless(!self.images.is_empty(), || "no image was named".to_owned())
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
        self.services.iter().try_for_each(service)
    }
}

impl Check for LogQuery {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        self.services.iter().try_for_each(service)
    }
}

impl Check for ExecRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        service(&self.service)?;
        refuse_unless(!self.argv.is_empty(), || "no command was given".to_owned())
    }
}

impl Check for UpRequest {
    fn check(&self) -> Result<(), ApiError> {
        names(&self.project)
    }
}

impl Check for PlanRequest {
    fn check(&self) -> Result<(), ApiError> {
        names(&self.project)
    }
}

fn names(project: &havre_model::Project) -> Result<(), ApiError> {
    project_name(project.name.as_str())?;
    environment_name(project.environment.as_str())?;
    project.services.keys().try_for_each(service)
}

impl Check for DownRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)
    }
}

impl Check for RestartRequest {
    fn check(&self) -> Result<(), ApiError> {
        environment(&self.environment)?;
        self.services.iter().try_for_each(service)
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
        self.replicas.keys().try_for_each(service)
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
