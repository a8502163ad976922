//! Who is let in by the API.

use havre_api::{
    Admission, ApiError, Asked, Credential, Ended, ErrorCode, Grant, Guard, LocalPeer, Outcome,
    Principal, Role, Who, permit,
};

/// Trusts root and the user that the daemon runs as, who can reach the socket, and nobody else.
pub(crate) struct SocketGuard;

impl Guard for SocketGuard {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        match credential {
            Credential::Local(peer) if is_trusted(peer) => Ok(Principal {
                who: Who::Local(peer.clone()),
                grant: Grant::everywhere(Role::Admin),
            }),
            Credential::Local(_) | Credential::Remote(_) => {
                let message = "the daemon answers only to root";
                Err(ApiError::new(ErrorCode::Unauthenticated, message).with_hint("use sudo"))
            }
        }
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        permit(asked).map(|()| Admission::default())
    }

    fn ended(&self, asked: &Asked, ended: Ended) {
        let outcome = match ended.outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Exit(code) => format!("exit {code}"),
            Outcome::Failed(code) => format!("{code:?}"),
            Outcome::Left => "left".to_owned(),
        };
        tracing::debug!(
            path = asked.path,
            by = %asked.principal,
            subject = asked.subject,
            outcome,
            elapsed = ?ended.elapsed,
            "call ended"
        );
    }
}

fn is_trusted(peer: &LocalPeer) -> bool {
    peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw()
}
