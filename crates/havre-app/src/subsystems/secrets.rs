//! Secrets and the seal: their tables and calls.

use std::sync::Arc;

use havre_api::{
    Empty, Routes, Seal, SealAdd, SealRekey, SealRemove, SealUnlock, SecretGet, SecretHistory,
    SecretList, SecretRemove, SecretRollback, SecretRotate, SecretSet, SecretStep, SecretSwitch,
    SecretUses,
};
use havre_base::in_place;

use crate::daemon::Daemon;
use crate::secrets::{calls, rotation, slots};
use crate::subsystem::{Part, Subsystem};

pub(crate) const PART: Part = Part {
    schema: Some(havre_secrets::SCHEMA),
    build: |daemon, _| Box::new(Secrets(Arc::clone(daemon))),
};

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
            .call::<SecretList, _>(async |daemon, by, query| {
                in_place(|| calls::list(&daemon, &by, &query))
            })
            .call::<SecretHistory, _>(async |daemon, _, query| {
                in_place(|| calls::history(&daemon, &query))
            })
            .call::<SecretRollback, _>(async |daemon, _, request| {
                in_place(|| calls::rollback(&daemon, &request))
            })
            .call::<SecretRemove, _>(async |daemon, _, request| {
                calls::remove(&daemon, &request).await.map(|()| Empty {})
            })
            .call::<SecretRotate, _>(async |daemon, by, request| {
                in_place(|| rotation::rotate(&daemon, &by, &request))
            })
            .call::<SecretStep, _>(async |daemon, _, request| {
                rotation::step(&daemon, &request).await
            })
            .operation::<SecretSwitch, _>(async |daemon, by, request, events| {
                rotation::switch(&daemon, &by, request, &events).await
            })
            .call::<SecretUses, _>(async |daemon, by, query| {
                calls::uses(&daemon, &by, &query).await
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
        Some(routes.erased())
    }
}
