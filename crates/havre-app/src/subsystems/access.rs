//! Who has access: tokens and users, their calls of the API, and the end of what expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use havre_access::{
    AccessError, Exchange, Group, Holder, LoginError, NewToken, NoKey, Register, TokenRecord,
    Unproven, User, UserKind, is_member,
};
use havre_api::{
    ApiError, ErrorCode, Identity, IdentityRotate, IdentityShow, IssuedToken, KnownBy, Login,
    LoginOffers, LoginOidc, OidcOffer, Principal, Routes, TokenCreate, TokenCreateRequest,
    TokenInfo, TokenRevoke, TokenText, Tokens, UserAdd, UserAddRequest, UserInfo, UserRemove,
    Users, WhoAmI,
};
use havre_base::in_place;

use crate::pipeline::token::is_of_jobs;
use crate::platform::Platform;
use crate::subsystem::{Part, Subsystem, Task};

pub(crate) const PART: Part = Part {
    schema: Some(havre_access::SCHEMA),
    build: |daemon, _| {
        Box::new(Access {
            register: Arc::clone(&daemon.platform.door.register),
            platform: Arc::clone(&daemon.platform),
        })
    },
};

struct Access {
    register: Arc<Register>,
    platform: Arc<Platform>,
}

impl Subsystem for Access {
    fn calls(&self) -> Option<Routes<()>> {
        let logins = Routes::new(Arc::clone(&self.platform))
            .call::<Login, _>(async |platform, _, _| Ok(offers(&platform.exchange)))
            .call::<LoginOidc, _>(async |platform, _, request| {
                login(&platform.exchange, &request.token).await
            });
        let routes = Routes::new(Arc::clone(&self.register))
            .call::<WhoAmI, _>(async |_, by, _| Ok(identity(by)))
            .call::<Tokens, _>(async |register, _, _| {
                Ok(register.tokens().into_iter().map(token_info).collect())
            })
            .call::<TokenCreate, _>(async |register, by, request| create(&register, &by, request))
            .call::<TokenRevoke, _>(async |register, _, request| {
                let revoked = register.revoke(&request.token).map_err(failed)?;
                Ok(token_info(revoked))
            })
            .call::<Users, _>(async |register, _, _| {
                Ok(register.users().into_iter().map(user_info).collect())
            })
            .call::<UserAdd, _>(async |register, by, request| add(&register, &by, request))
            .call::<UserRemove, _>(async |register, _, request| {
                keeps_less(&register, &request.name)?;
                let removed = register.remove_user(&request.name).map_err(failed)?;
                Ok(user_info(removed))
            });
        let identities = Routes::new(Arc::clone(&self.platform))
            .call::<IdentityShow, _>(async |platform, _, _| {
                in_place(|| platform.identities.shown())
            })
            .call::<IdentityRotate, _>(async |platform, _, _| {
                in_place(|| platform.identities.rotate())
            });
        let others = logins.erased().merge(identities.erased());
        Some(routes.erased().merge(others))
    }

    fn beside(&self) -> Option<Router> {
        self.platform.identities.published()
    }

    fn tasks(&self) -> Vec<Task> {
        let register = Arc::clone(&self.register);
        vec![Task::new("tokens", move |task| {
            let register = Arc::clone(&register);
            async move {
                tokio::select! {
                    () = task.end.cancelled() => {}
                    () = register.expire() => {}
                }
            }
        })]
    }
}

fn identity(by: Principal) -> Identity {
    Identity {
        name: by.to_string(),
        grant: by.grant,
    }
}

fn offers(exchange: &Exchange) -> LoginOffers {
    let offers = exchange.issuers().map(|issuer| OidcOffer {
        name: issuer.name.clone(),
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        client_id: issuer.client_id.clone(),
    });
    LoginOffers {
        oidc: offers.collect(),
    }
}

async fn login(exchange: &Exchange, token: &str) -> Result<IssuedToken, ApiError> {
    let issued = exchange.login(token, SystemTime::now()).await;
    let issued = issued.map_err(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a login was refused"
        );
        not_logged_in(&error)
    })?;
    let info = token_info(issued.record);
    tracing::info!(id = info.id, issuer = info.issuer, name = info.name, grant = %info.grant, "login");
    Ok(IssuedToken {
        token: TokenText::new(issued.text),
        info,
    })
}

fn not_logged_in(error: &LoginError) -> ApiError {
    let (code, hint) = match error {
        LoginError::Issuer => (
            ErrorCode::Unauthenticated,
            Some("machine.yaml names it under `oidc`, to the letter"),
        ),
        LoginError::Unproven(Unproven::Audience(_)) => (
            ErrorCode::Unauthenticated,
            Some("ask the issuer for a token with that audience"),
        ),
        LoginError::Unproven(_) | LoginError::Key(NoKey::Unknown) | LoginError::Replayed => {
            (ErrorCode::Unauthenticated, None)
        }
        LoginError::NoRule { .. } => (
            ErrorCode::Forbidden,
            Some(
                "add a rule to machine.yaml, or a person by \
                 `havre user add NAME --issuer ISSUER --subject SUB`",
            ),
        ),
        LoginError::Renamed { .. } => (
            ErrorCode::Forbidden,
            Some("where that is right, name the new number in the rule of machine.yaml"),
        ),
        LoginError::Key(NoKey::Fetch(_) | NoKey::Later(_)) => (ErrorCode::Unavailable, None),
        LoginError::Access(_) | LoginError::Store(_) => (ErrorCode::Failed, None),
    };
    let message = format!("the identity token lets nobody in: {error}");
    let refused = ApiError::new(code, message).caused_by(std::error::Error::source(error));
    match hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

fn create(
    register: &Register,
    by: &Principal,
    request: TokenCreateRequest,
) -> Result<IssuedToken, ApiError> {
    if is_of_jobs(&request.name) {
        let message = format!("{:?} would be taken for a token of a job", request.name);
        return Err(ApiError::new(ErrorCode::Invalid, message).with_hint("call it otherwise"));
    }
    let new = NewToken {
        name: request.name,
        holder: Holder::Token,
        grant: request.grant,
        created_by: by.to_string(),
        lifetime: request.lifetime_s.map(Duration::from_secs),
    };
    let issued = register.create(new, SystemTime::now()).map_err(failed)?;
    Ok(IssuedToken {
        token: TokenText::new(issued.text),
        info: token_info(issued.record),
    })
}

fn add(register: &Register, by: &Principal, request: UserAddRequest) -> Result<UserInfo, ApiError> {
    let user = User {
        name: request.name,
        kind: match request.known_by {
            KnownBy::Local => UserKind::Local,
            KnownBy::Oidc { issuer, subject } => UserKind::Oidc { issuer, subject },
        },
        grant: request.grant,
        created_at: SystemTime::now(),
        created_by: by.to_string(),
    };
    if user.kind != UserKind::Local {
        keeps_less(register, &user.name)?;
    }
    register.put_user(user.clone()).map_err(failed)?;
    Ok(user_info(user))
}

/// Refuses to forget of a member of the group that they may do less than the others.
fn keeps_less(register: &Register, name: &str) -> Result<(), ApiError> {
    if register.local_user(name).is_none() {
        return Ok(());
    }
    let unknown = |error| ApiError::from_error(ErrorCode::Internal, &error);
    let group = Group::read().map_err(unknown)?;
    let is_member = match &group {
        Some(group) => is_member(name, group).map_err(unknown)?,
        None => false,
    };
    if !is_member {
        return Ok(());
    }
    let message = format!("{name} is in the group havre and could do everything then");
    Err(
        ApiError::new(ErrorCode::Conflict, message).with_hint(format!(
            "have root take them out of it first (gpasswd -d {name} havre), or say that they may: \
         `havre user add {name} --role admin --env '*'`"
        )),
    )
}

pub(crate) fn token_info(record: TokenRecord) -> TokenInfo {
    TokenInfo {
        id: record.id,
        name: record.name,
        issuer: match record.holder {
            Holder::Token => None,
            Holder::Login { issuer, .. } => Some(issuer),
        },
        grant: record.grant,
        created: record.created_at.into(),
        created_by: record.created_by,
        expires: record.expires_at.map(Into::into),
        last_used: record.last_used_at.map(Into::into),
    }
}

fn user_info(user: User) -> UserInfo {
    UserInfo {
        name: user.name,
        known_by: match user.kind {
            UserKind::Local => KnownBy::Local,
            UserKind::Oidc { issuer, subject } => KnownBy::Oidc { issuer, subject },
        },
        grant: user.grant,
        created: user.created_at.into(),
        created_by: user.created_by,
    }
}

fn failed(error: AccessError) -> ApiError {
    let code = match &error {
        AccessError::Random(_) | AccessError::Store(_) | AccessError::Unwritten { .. } => {
            ErrorCode::Failed
        }
        AccessError::TokenExists(_)
        | AccessError::UserExists(_)
        | AccessError::UserChanged(_)
        | AccessError::Full(_) => ErrorCode::Conflict,
        AccessError::NoToken(_) | AccessError::NoUser(_) => ErrorCode::NotFound,
        AccessError::Lifetime => ErrorCode::Invalid,
    };
    let hint = match &error {
        AccessError::Random(_) | AccessError::Store(_) | AccessError::Lifetime => None,
        AccessError::Unwritten { .. } => Some(
            "make room on the disk: the daemon tries again each minute, and `havre token revoke` once more says when it \
             is done",
        ),
        AccessError::UserChanged(_) => Some("log in again"),
        AccessError::TokenExists(_) => Some("choose another name, or revoke it first"),
        AccessError::UserExists(_) | AccessError::NoUser(_) => Some("see `havre user ls`"),
        AccessError::NoToken(_) => Some("see `havre token ls`"),
        AccessError::Full(_) => Some("remove what nobody uses: see `havre token ls`"),
    };
    let error = ApiError::from_error(code, &error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
