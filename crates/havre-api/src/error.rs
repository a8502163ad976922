//! The error that travels: what failed, why, and what to do next.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a call failed, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs; decides the HTTP status and the exit code of the CLI.
    pub code: ErrorCode,
    /// What was attempted and on what; a sentence without a period.
    pub message: String,
    /// What caused it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Kinds of failure that a caller can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request contradicts itself or names something impossible.
    Invalid,
    /// The project, environment, service, replica, image … does not exist.
    NotFound,
    /// Something else holds it (another operation on the environment, an image in use).
    Conflict,
    /// The operation was tried and failed; nothing was changed, or what was is said.
    Failed,
    /// The rollout failed and the release before it serves on.
    RolledBack,
    /// A user cancelled it.
    Cancelled,
    /// It is not known who asks: no token, or one that is wrong, revoked or expired.
    Unauthenticated,
    /// Who asks may not do that.
    Forbidden,
    /// Too much was asked in a short time.
    TooMany,
    /// The daemon is starting or shutting down.
    Unavailable,
    /// A fault of Havre itself.
    Internal,
}

impl ApiError {
    /// An error without causes and hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// An error with the causes found by walking `source()`.
    pub fn from_error(code: ErrorCode, error: &dyn Error) -> Self {
        Self::new(code, error.to_string()).caused_by(error.source())
    }

    /// Adds `cause` and what caused it in turn.
    #[must_use]
    pub fn caused_by(mut self, cause: Option<&dyn Error>) -> Self {
        if let Some(cause) = cause {
            self.causes.push(cause.to_string());
            self.causes
                .extend(havre_base::causes(cause).map(ToString::to_string));
        }
        self
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ApiError {}

impl ErrorCode {
    /// The HTTP status that carries it.
    pub fn status(self) -> http::StatusCode {
        use http::StatusCode as S;
        match self {
            Self::Invalid => S::BAD_REQUEST,
            Self::NotFound => S::NOT_FOUND,
            Self::Conflict => S::CONFLICT,
            Self::Failed | Self::RolledBack | Self::Cancelled => S::UNPROCESSABLE_ENTITY,
            Self::Unauthenticated => S::UNAUTHORIZED,
            Self::Forbidden => S::FORBIDDEN,
            Self::TooMany => S::TOO_MANY_REQUESTS,
            Self::Unavailable => S::SERVICE_UNAVAILABLE,
            Self::Internal => S::INTERNAL_SERVER_ERROR,
        }
    }
}
