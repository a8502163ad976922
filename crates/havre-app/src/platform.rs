//! What the tasks of the daemon share: one handle on each subsystem.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use havre_access::Exchange;
use havre_audit::Trail;
use havre_image::Images;
use havre_model::Tls;
use havre_release::{Release, ReplicaId};
use havre_secrets::{Seal, Secrets};

use tokio::sync::Notify;

use crate::certificates::{Certificates, Reading};
use crate::contents::Contents;
use crate::edge::EdgeHub;
use crate::environment::tables::Tables;
use crate::guard::Doorkeeper;
use crate::identity::Identities;
use crate::masks::Masks;
use crate::previews::tables::Tables as PreviewTables;
use crate::promotions::Promotions;
use crate::root::Root;
use crate::shared_networks::tables::Tables as NetworkTables;
use crate::tls::{CertificateFiles, LocalCa, TlsError};
use crate::vars::Vars;

/// Handles on the subsystems of one installation.
pub(crate) struct Platform {
    pub(crate) root: Root,
    /// The binary, for the processes it starts.
    pub(crate) exe: PathBuf,
    pub(crate) tables: Tables,
    /// Who is let in.
    pub(crate) door: Arc<Doorkeeper>,
    /// Logs people and programs in whom an issuer vouches for.
    pub(crate) exchange: Exchange,
    pub(crate) networks: NetworkTables,
    pub(crate) vars: Vars,
    pub(crate) identities: Identities,
    /// What goes from one environment to the next.
    pub(crate) promotions: Arc<Promotions>,
    /// Environments of branches.
    pub(crate) previews: PreviewTables,
    pub(crate) images: Images,
    pub(crate) hub: Arc<EdgeHub>,
    /// Certificates of authorities.
    pub(crate) authorities: havre_acme::Service,
    /// Of secrets and configs that releases need.
    pub(crate) contents: Contents,
    /// What projects from elsewhere have sent.
    pub(crate) sources: havre_sources::Store,
    /// What must not lie in clear is sealed by it.
    pub(crate) seal: Seal,
    pub(crate) masks: Masks,
    pub(crate) secrets: Secrets,
    pub(crate) ca: LocalCa,
    pub(crate) certificates: Certificates,
    pub(crate) trail: Trail,
    /// A build has ended, or found no room.
    pub(crate) built: Notify,
}

impl Platform {
    /// Scratch space of a container: the writable layer and small files.
    pub(crate) fn container_dir(&self, id: &ReplicaId) -> PathBuf {
        self.containers_dir().join(&id.0)
    }

    /// The containers' scratch space: a folder of each that is there.
    pub(crate) fn containers_dir(&self) -> PathBuf {
        self.root.state_dir().join("containers")
    }

    /// Output of an environment, one folder per container.
    pub(crate) fn log_dir(&self, environment_key: &str) -> PathBuf {
        self.root.state_dir().join("logs").join(environment_key)
    }

    /// Named volumes.
    pub(crate) fn volumes_dir(&self) -> PathBuf {
        self.root.state_dir().join("volumes")
    }

    /// The certificate for a release's hosts.
    pub(crate) fn certificate(
        &self,
        release: &Release,
        now: SystemTime,
    ) -> Result<Reading, TlsError> {
        match &release.tls {
            Tls::Files { certificate, key } => {
                let files = CertificateFiles {
                    chain: certificate.clone(),
                    key: key.clone(),
                };
                Ok(self.certificates.read(&files, &hosts(release), now))
            }
            // Serves until an authority has issued one.
            Tls::Auto | Tls::Acme | Tls::LocalCa => self.own_certificate(release, now),
        }
    }

    /// One that this machine's own authority signs.
    pub(crate) fn own_certificate(
        &self,
        release: &Release,
        now: SystemTime,
    ) -> Result<Reading, TlsError> {
        let hosts = hosts(release);
        let files = self.ca.certificate_for(&hosts, now)?;
        Ok(self.certificates.read(&files, &hosts, now))
    }
}

/// All that it is served under, in lower case.
fn hosts(release: &Release) -> Vec<String> {
    let routes = release
        .routes
        .iter()
        .filter_map(|route| route.host.as_ref());
    let all = release.hosts.iter().chain(routes);
    let hosts: BTreeSet<String> = all.map(|host| host.to_ascii_lowercase()).collect();
    hosts.into_iter().collect()
}
