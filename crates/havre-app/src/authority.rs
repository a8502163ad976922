//! Certificates of authorities, as this machine has them: how the edge proves and serves them, and how their
//! keys are kept.

use std::sync::Arc;

use havre_acme::{
    AuthoritySettings, BoxFuture, ExternalAccount, Loaded, Name, Outlet, Pair, Parts, Proof,
    Proofs, Service, ServiceError, Settings,
};
use havre_base::in_place;
use havre_model::machine;
use havre_secrets::Seal;
use havre_store::Store;

use crate::edge::EdgeHub;
use crate::sealed::Sealed;

/// The service with what the daemon before had, which the edge serves from its first state on.
pub(crate) fn open(
    settings: Settings,
    store: &Arc<Store>,
    seal: Seal,
    hub: &Arc<EdgeHub>,
) -> Result<Service, ServiceError> {
    let (service, loaded) = Service::new(Parts {
        settings,
        store: Arc::clone(store),
        sealing: Arc::new(Sealed(seal)),
        outlet: Arc::new(Edge(Arc::clone(hub))),
    })?;
    let Loaded { pairs, sealed } = loaded;
    hub.preload(pairs);
    for (name, chain, why) in sealed {
        // The edge goes on with what it has.
        match in_place(|| hub.kept_pair(&chain)) {
            Some(pair) => hub.preload([(name, pair)]),
            None => tracing::error!(
                %name,
                why,
                "the key of a certificate cannot be opened: this machine's own certificate serves"
            ),
        }
    }
    Ok(service)
}

/// What the machine's configuration says of authorities.
pub(crate) fn settings(machine: &machine::Acme) -> Settings {
    let authority = |it: &machine::Authority| AuthoritySettings {
        name: it.name.clone(),
        directory: it.directory.clone(),
        ca_file: it.ca_file.clone(),
        profile: it.profile.clone(),
        external_account: it.external_account.as_ref().map(|it| ExternalAccount {
            key_id: it.key_id.clone(),
            key_file: it.key_file.clone(),
        }),
    };
    Settings {
        email: machine.email.clone(),
        authorities: machine.authorities.iter().map(authority).collect(),
        dns_hook: machine.dns_hook.clone(),
    }
}

/// The edge, as whoever orders certificates needs it.
struct Edge(Arc<EdgeHub>);

impl Proofs for Edge {
    fn show<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.0.show(proof))
    }

    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()> {
        Box::pin(self.0.withdraw(proof))
    }
}

impl Outlet for Edge {
    fn serve<'a>(&'a self, name: &'a Name, pair: Pair) -> BoxFuture<'a, ()> {
        Box::pin(self.0.serve(name.clone(), pair))
    }
}
