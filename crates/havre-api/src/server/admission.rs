//! Before and after a handler: who asks, whether they may, and what came of it.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use http::{Extensions, Request};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{Api, Peer, accept};
use crate::*;

/// Most bytes of a request of whom nobody knows yet.
const MAX_STRANGERS_BYTES: usize = 64 * 1024;

/// A call that was let in. Its end is told once, whatever becomes of it: dropped without
/// [`Underway::end`], that its client left.
pub(super) struct Underway {
    guard: Arc<dyn Guard>,
    asked: Asked,
    begun: Instant,
    lost: CancellationToken,
    record: Option<u64>,
    is_told: bool,
}

impl Underway {
    /// What is known of it.
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Who asks.
    pub(super) fn principal(&self) -> Principal {
        self.asked.principal.clone()
    }

    /// Cancelled when who asks has lost the right to be answered.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// It is the operation of that number.
    pub(super) fn number(&mut self, operation: OperationId) {
        self.asked.operation = Some(operation);
    }

    /// What came of it belongs to the record.
    pub(super) fn told(&mut self, told: &str) {
        self.asked.subject = concern::plain(told);
    }

    /// What it is about.
    pub(super) fn scope(&self) -> &Scope {
        &self.asked.scope
    }

    /// It has ended.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    /// It has not begun.
    fn refuse(self, error: ApiError) -> ApiError {
        self.end(Outcome::Failed(error.code));
        error
    }

    fn tell(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.is_told, true) {
            let elapsed = self.begun.elapsed();
            let record = self.record;
            let ended = Ended {
                outcome,
                elapsed,
                record,
            };
            self.guard.ended(&self.asked, ended);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.tell(Outcome::Left);
    }
}

/// What who asks is told whose token was revoked, or has expired, meanwhile.
pub(super) fn rights_lost() -> ApiError {
    ApiError::new(
        ErrorCode::Unauthenticated,
        "the token was revoked or has expired",
    )
    .with_hint("log in again, or have an admin create another token")
}

/// Finds out who asks, reads the request, and lets it begin if the guard does.
pub(super) async fn admit<T: DeserializeOwned + Check + Concern>(
    api: &Api,
    request: Request<Body>,
    path: &'static str,
    role: Option<Role>,
    most_bytes: usize,
) -> Result<(T, Underway), ApiError> {
    let most_bytes = match role {
        Some(_) => most_bytes,
        None => most_bytes.min(MAX_STRANGERS_BYTES),
    };
    let caller = match Caller::of(api, request.extensions(), path, role) {
        Ok(caller) => caller,
        Err(error) => {
            accept::discard(request.into_body(), most_bytes).await;
            return Err(error);
        }
    };
    let (request, caller) = caller.read::<T>(api, request, most_bytes).await?;
    let (scope, subject) = (request.scope(), concern::subject(&request));
    let underway = caller.begin(scope, subject)?;
    Ok((request, underway))
}

/// Who asks, and is listened to, before it is known what.
pub(super) struct Caller(Underway);

impl Caller {
    /// By the connection, and what the guard says before anything is read.
    pub(super) fn of(
        api: &Api,
        connection: &Extensions,
        path: &'static str,
        role: Option<Role>,
    ) -> Result<Self, ApiError> {
        let credential = credential(connection)?;
        let principal = match role {
            Some(_) => api.guard.authenticate(&credential)?,
            None => Principal {
                who: Who::Nobody,
                grant: Grant::nothing(),
            },
        };
        let underway = Underway {
            guard: Arc::clone(&api.guard),
            asked: Asked {
                address: credential.address(),
                principal,
                path,
                role,
                scope: Scope::Visible,
                subject: String::new(),
                operation: None,
            },
            begun: Instant::now(),
            lost: CancellationToken::new(),
            record: None,
            is_told: false,
        };
        match api.guard.hear(&underway.asked) {
            Ok(()) => Ok(Self(underway)),
            Err(error) => Err(underway.refuse(error)),
        }
    }

    /// What is known of the call.
    pub(super) fn asked(&self) -> &Asked {
        self.0.asked()
    }

    /// What they may do.
    pub(super) fn grant(&self) -> &Grant {
        &self.0.asked.principal.grant
    }

    /// Reads what they ask.
    pub(super) async fn read<T: DeserializeOwned + Check>(
        self,
        api: &Api,
        request: Request<Body>,
        most_bytes: usize,
    ) -> Result<(T, Self), ApiError> {
        match accept::read(&api.room, self.asked(), request.into_body(), most_bytes).await {
            Ok(request) => Ok((request, self)),
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// They are not understood.
    pub(super) fn refuse(self, error: ApiError) -> ApiError {
        self.0.refuse(error)
    }

    /// Lets the call begin, or tells the guard at once that it does not.
    pub(super) fn begin(self, scope: Scope, subject: String) -> Result<Underway, ApiError> {
        let Self(mut underway) = self;
        underway.asked.scope = scope;
        underway.asked.subject = subject;
        underway.begun = Instant::now();
        match underway.guard.admit(&underway.asked) {
            Ok(admission) => {
                underway.lost = admission.lost;
                underway.record = admission.record;
                Ok(underway)
            }
            Err(error) => Err(underway.refuse(error)),
        }
    }
}

/// By what somebody shows who they are, as the connection tells and whoever made it: of a request that [`Server`]
/// passes on to what is served beside its calls.
///
/// [`Server`]: crate::Server
pub fn credential(connection: &Extensions) -> Result<Credential, ApiError> {
    if let Some(peer) = connection.get::<RemotePeer>() {
        return Ok(Credential::Remote(peer.clone()));
    }
    let peer = connection.get::<ConnectInfo<Peer>>();
    let peer = peer.and_then(|ConnectInfo(Peer(peer))| peer.clone());
    peer.map(Credential::Local).ok_or_else(|| {
        let message = "the daemon cannot find out who asks";
        ApiError::new(ErrorCode::Internal, message)
    })
}
