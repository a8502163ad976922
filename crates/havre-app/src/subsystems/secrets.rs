//! Secrets and the seal: their tables and calls.

use std::sync::Arc;

use havre_api::{
    ApiError, Empty, Principal, Routes, Seal, SealAdd, SealRekey, SealRemove, SealUnlock,
    SecretGet, SecretHistory, SecretList, SecretRemove, SecretRollback, SecretRotate, SecretSet,
    SecretStep, SecretSwitch, SecretUses,
};
use havre_base::in_place;

use crate::daemon::Daemon;
use crate::secrets::{calls, rotation, slots};
use crate::subsystem::{Part, Subsystem};
use crate::turns::{Turn, Turns};

pub(crate) const PART: Part = Part {
    schema: Some(havre_secrets::SCHEMA),
    build: |daemon, _| Box::new(Secrets(Arc::clone(daemon))),
};

/// How many look through secrets at once: who only looks is to hold up nobody.
const AT_ONCE: usize = 2;

struct Secrets(Arc<Daemon>);

impl Subsystem for Secrets {
    fn calls(&self) -> Option<Routes<()>> {
        // What is encrypted or derived from a passphrase keeps its thread for up to a second.
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<SecretSet, _>(async |daemon, by, request| {
                in_place(|| calls::set(&daemon, &by, &request))
            })
            .call::<SecretGet, _>(async |daemon, by, request| {
                in_place(|| calls::get(&daemon, &by, &request))
            })
            .call::<SecretRollback, _>(async |daemon, by, request| {
                in_place(|| calls::rollback(&daemon, &by, &request))
            })
            .call::<SecretRemove, _>(async |daemon, by, request| {
                let removed = calls::remove(&daemon, &by, &request).await;
                removed.map(|()| Empty {})
            })
            .call::<SecretRotate, _>(async |daemon, by, request| {
                rotation::rotate(&daemon, &by, &request).await
            })
            .call::<SecretStep, _>(async |daemon, _, request| {
                rotation::step(&daemon, &request).await
            })
            .operation::<SecretSwitch, _>(async |daemon, by, request, events| {
                rotation::switch(&daemon, &by, request, &events).await
            })
            .call::<Seal, _>(async |daemon, _, _| in_place(|| Ok(slots::report(&daemon.platform))))
            .call::<SealAdd, _>(async |daemon, _, request| {
                in_place(|| slots::add(&daemon, &request))
            })
            .call::<SealRemove, _>(async |daemon, _, request| {
                in_place(|| slots::remove(&daemon, request))
            })
            .call::<SealUnlock, _>(async |daemon, _, request| {
                in_place(|| slots::unlock(&daemon, &request))
            })
            .call::<SealRekey, _>(async |daemon, _, _| in_place(|| slots::rekey(&daemon)));
        let state = Arc::new((Arc::clone(&self.0), Turns::new(AT_ONCE)));
        let looks = Routes::new(state)
            .call::<SecretList, _>(async |state: Arc<(Arc<Daemon>, Turns)>, by, query| {
                let _turn = turn(&state.1, &by).await?;
                in_place(|| calls::list(&state.0, &by, &query))
            })
            .call::<SecretHistory, _>(async |state: Arc<(Arc<Daemon>, Turns)>, by, query| {
                let _turn = turn(&state.1, &by).await?;
                in_place(|| calls::history(&state.0, &by, &query))
            })
            .call::<SecretUses, _>(async |state: Arc<(Arc<Daemon>, Turns)>, by, query| {
                let _turn = turn(&state.1, &by).await?;
                calls::uses(&state.0, &by, &query).await
            });
        Some(routes.erased().merge(looks.erased()))
    }
}

async fn turn(turns: &Turns, by: &Principal) -> Result<Turn, ApiError> {
    let who = by.to_string();
    let crowd = || format!("too many calls of {by} look at secrets at once");
    turns.of(who, crowd).await
}
