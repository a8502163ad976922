//! Who is let in, and who is told what came of it.

use std::net::IpAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{ApiError, ErrorCode, LocalPeer, OperationId, Principal, Role, Scope};

/// Decides on every call before its handler sees it, and is told how each ended. Its methods are
/// called on threads that run other tasks too: they may wait for the database, and for nothing longer.
pub trait Guard: Send + Sync + 'static {
    /// Who asks. Called before anything is read of a request but its head.
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError>;

    /// Whether a call is listened to: asked before any of its body is read, while its scope is not known
    /// (`Visible`) and its subject is empty. So what nobody could be allowed by their role takes up no room.
    fn hear(&self, asked: &Asked) -> Result<(), ApiError>;

    /// Lets a call begin, or says why not.
    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError>;

    /// How a call ended that somebody was found to make: each one that `hear` was asked about, also one
    /// that it or `admit` refused. Of an operation when it has ended itself, whoever still listens.
    fn ended(&self, asked: &Asked, ended: Ended);
}

/// By what somebody shows who they are.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A process of this machine, at the other end of the Unix socket.
    Local(LocalPeer),
    /// Somebody behind the edge.
    Remote(RemotePeer),
}

impl Credential {
    /// Where somebody from elsewhere comes from.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Local(_) => None,
            Self::Remote(peer) => Some(peer.address),
        }
    }
}

/// Somebody behind the edge.
#[derive(Clone)]
pub struct RemotePeer {
    /// Where the edge saw them come from.
    pub address: IpAddr,
    /// What follows `Bearer` in the `Authorization` header.
    pub bearer: Option<String>,
}

/// Never shows the token.
impl std::fmt::Debug for RemotePeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemotePeer")
            .field("address", &self.address)
            .field("bearer", &self.bearer.as_ref().map(|_| "…"))
            .finish()
    }
}

/// A call that somebody makes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who.
    pub principal: Principal,
    /// Where somebody from elsewhere comes from.
    pub address: Option<IpAddr>,
    /// Which: `/v1/…`.
    pub path: &'static str,
    /// What it needs; `None`: the request itself proves who asks.
    pub role: Option<Role>,
    /// What it is about.
    pub scope: Scope,
    /// What exactly is asked, in a few words without any value (`release 3`, `web=2`); may be empty.
    pub subject: String,
    /// Its number, of an operation.
    pub operation: Option<OperationId>,
}

/// A call that was let in.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Cancelled when the principal has lost its rights (a token was revoked or has expired): what only
    /// answers them ends then. An operation is the daemon's and goes on.
    pub lost: CancellationToken,
    /// The guard's own number for the call, which it is told when the call ends.
    pub record: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// How long it took from its admission.
    pub elapsed: Duration,
    /// [`Admission::record`].
    pub record: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// A command in a container ended with that code.
    Exit(i32),
    /// It was refused, or failed.
    Failed(ErrorCode),
    /// The client went away before, or the daemon broke off.
    Left,
}

impl Outcome {
    /// Of what a handler said.
    pub fn of<T>(result: &Result<T, ApiError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) => Self::Failed(error.code),
        }
    }
}

/// Refuses what somebody may do nowhere by their role.
pub fn permit_somewhere(asked: &Asked) -> Result<(), ApiError> {
    match asked.role {
        Some(role) if asked.principal.grant.role < role => Err(forbidden(asked, role, "")),
        _ => Ok(()),
    }
}

/// Refuses what somebody may not do by their grant. All that a guard needs to decide on a call.
pub fn permit(asked: &Asked) -> Result<(), ApiError> {
    let Some(role) = asked.role else {
        return Ok(());
    };
    let grant = &asked.principal.grant;
    if grant.allows(role, &asked.scope) {
        return Ok(());
    }
    let place = match &asked.scope {
        Scope::Environment(id) => format!(" of {id}"),
        Scope::Visible => " of an environment".to_owned(),
        Scope::Machine => " of the whole machine".to_owned(),
    };
    Err(forbidden(asked, role, &place))
}

fn forbidden(asked: &Asked, role: Role, place: &str) -> ApiError {
    let name = asked.path.trim_start_matches("/v1/");
    let message = format!("{name} needs the role {role}{place}");
    let hint = format!("{} is {}", asked.principal, asked.principal.grant);
    ApiError::new(ErrorCode::Forbidden, message).with_hint(hint)
}
