//! What a client is told when a call fails.

use havre_store::StoreError;

use crate::blobs::BlobError;
use crate::error::ResultsError;
use crate::names::BadName;

/// What kind of failure it is, in Twirp's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Malformed,
    InvalidArgument,
    BadRoute,
    NotFound,
    Unauthenticated,
    PermissionDenied,
    AlreadyExists,
    Aborted,
    /// No room: not Twirp's `resource_exhausted`, whose 429 clients take for "try again".
    FailedPrecondition,
    Internal,
}

impl Code {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::InvalidArgument => "invalid_argument",
            Self::BadRoute => "bad_route",
            Self::NotFound => "not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::AlreadyExists => "already_exists",
            Self::Aborted => "aborted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Internal => "internal",
        }
    }

    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::BadRoute | Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::FailedPrecondition => 412,
            Self::Internal => 500,
        }
    }
}

/// A call that failed, as its client is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Our fault: told to the log, and to the client only that it is.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %havre_base::one_line(error), "a call for artifacts or caches failed");
        Self::new(
            Code::Internal,
            "this machine could not do it; its log says why",
        )
    }
}

/// Refuses what a client says of its upload where that is not so.
pub(crate) fn same_size(uploaded: u64, said: u64) -> Result<(), Failure> {
    match uploaded == said {
        true => Ok(()),
        false => Err(Failure::new(
            Code::InvalidArgument,
            format!("{uploaded} bytes were uploaded, not {said}"),
        )),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<ResultsError> for Failure {
    fn from(error: ResultsError) -> Self {
        Self::internal(&error)
    }
}

impl From<BadName> for Failure {
    fn from(error: BadName) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        let code = match &error {
            BlobError::Unknown => Code::NotFound,
            BlobError::Sealed => Code::Aborted,
            BlobError::NoRoom | BlobError::TooLarge { .. } => Code::FailedPrecondition,
            BlobError::TooManyBlocks
            | BlobError::NoBlock
            | BlobError::NoList
            | BlobError::Length { .. } => Code::InvalidArgument,
            BlobError::Io { .. } => return Self::internal(&error),
        };
        Self::new(code, error.to_string())
    }
}
