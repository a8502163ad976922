//! What the edge has of authorities: certificates that they issued, which go before those of this machine,
//! and proofs that they look for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use havre_acme::{Name, Pair, Proof};
use havre_edge::{Certificate, Challenges, PrivateKey};
use tokio::sync::watch;

use super::{EdgeHub, EnvironmentEdge, HubState};

/// How long a proof waits for an edge that is being started.
const DEADLINE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// Certificates by name, and what is shown to authorities.
#[derive(Debug, Default)]
pub(super) struct Issued {
    pairs: BTreeMap<Name, Pair>,
    challenges: Challenges,
}

/// A host that is served, and what by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedHost {
    /// Key of its environment; `None`: the daemon's own.
    pub(crate) environment: Option<String>,
    pub(crate) host: String,
    /// Whether an authority's certificate is wanted for it.
    pub(crate) public: bool,
    /// The chain that serves it where no authority's does.
    pub(crate) chain: Option<String>,
}

impl Issued {
    /// Of a part of the edge's state: the certificates for its public hosts.
    pub(super) fn certificates<'a>(
        &'a self,
        part: &'a EnvironmentEdge,
    ) -> impl Iterator<Item = Certificate> + 'a {
        part.public.iter().filter_map(|host| {
            let pair = self.pairs.get(&Name::parse(host)?)?;
            Some(Certificate {
                hosts: vec![host.clone()],
                chain: pair.chain.clone(),
                key: PrivateKey(pair.key.clone()),
            })
        })
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, name: Name, chain: &str, key: &str) {
        let pair = Pair {
            chain: chain.to_owned(),
            key: key.to_owned(),
        };
        self.pairs.insert(name, pair);
    }

    pub(super) fn challenges(&self) -> Challenges {
        self.challenges.clone()
    }

    /// Hosts of `part` for which there is one.
    pub(super) fn known(&self, part: &EnvironmentEdge) -> BTreeSet<String> {
        let hosts = part.routes.iter().flat_map(|route| &route.hosts);
        let is_known = |host: &&String| {
            let name = Name::parse(host);
            name.is_some_and(|name| self.pairs.contains_key(&name))
        };
        hosts.filter(is_known).cloned().collect()
    }
}

impl EdgeHub {
    /// What the daemon before had; nothing is pushed yet.
    pub(crate) fn preload(&self, pairs: impl IntoIterator<Item = (Name, Pair)>) {
        self.issued().pairs.extend(pairs);
    }

    /// The pair of a chain, as the edge's folder has it. Reads a file: blocks.
    pub(crate) fn kept_pair(&self, chain: &str) -> Option<Pair> {
        let kept = self.launch.kept_state().ok()?;
        let mut all = kept.certificates.into_iter();
        let found = all.find(|certificate| certificate.chain == chain)?;
        Some(Pair {
            chain: found.chain,
            key: found.key.0,
        })
    }

    /// Serves a name by a certificate of an authority, from now on or from the edge's start.
    pub(crate) async fn serve(&self, name: Name, pair: Pair) {
        self.issued().pairs.insert(name, pair);
        self.push().await;
    }

    /// Shows a proof; returns once the edge does.
    pub(crate) async fn show(&self, proof: &Proof) -> Result<(), String> {
        self.change(proof, true);
        let shown = async {
            while !self.push().await {
                tokio::time::sleep(RETRY).await;
            }
        };
        let shown = tokio::time::timeout(DEADLINE, shown).await;
        shown.map_err(|_| "the edge does not answer: nobody would see the proof".to_owned())
    }

    /// Nobody looks for a proof any more.
    pub(crate) async fn withdraw(&self, proof: &Proof) {
        self.forget(proof);
        self.push().await;
    }

    /// The same, with the next change of the edge's state.
    pub(crate) fn forget(&self, proof: &Proof) {
        self.change(proof, false);
    }

    fn change(&self, proof: &Proof, show: bool) {
        let mut issued = self.issued();
        let Challenges { http, tls } = &mut issued.challenges;
        match proof {
            Proof::Http { token, answer } => {
                http.remove(token);
                if show {
                    http.insert(token.clone(), answer.clone());
                }
            }
            Proof::Tls {
                server_name,
                chain,
                key,
            } => {
                tls.retain(|certificate| certificate.hosts != [server_name.as_str()]);
                if show {
                    tls.push(Certificate {
                        hosts: vec![server_name.clone()],
                        chain: chain.clone(),
                        key: PrivateKey(key.clone()),
                    });
                }
            }
        }
    }

    /// Whether the edge serves what is wanted, after it was told.
    async fn push(&self) -> bool {
        let mut state = self.state.lock().await;
        self.sync(&mut state).await;
        state.status.is_some()
    }

    /// Names for which authorities' certificates are wanted.
    pub(crate) fn public_names(&self) -> watch::Receiver<BTreeSet<Name>> {
        self.public.subscribe()
    }

    /// Tells whoever keeps certificates which names are wanted.
    pub(super) fn announce(&self, state: &HubState) {
        let hosts = state.parts().flat_map(|(_, part)| &part.public);
        let names: BTreeSet<Name> = hosts.filter_map(|host| Name::parse(host)).collect();
        self.public.send_if_modified(|known| {
            let is_new = *known != names;
            *known = names;
            is_new
        });
    }

    /// All hosts that are served.
    pub(crate) async fn served_hosts(&self) -> Vec<ServedHost> {
        let state = self.state.lock().await;
        let mut all = Vec::new();
        for (key, part) in state.parts() {
            let hosts: BTreeSet<&String> = part.routes.iter().flat_map(|it| &it.hosts).collect();
            for host in hosts {
                let covers = |it: &&Certificate| it.hosts.contains(host);
                let certificate = part.certificates.iter().find(covers);
                all.push(ServedHost {
                    environment: key.cloned(),
                    host: host.clone(),
                    public: part.public.contains(host),
                    chain: certificate.map(|certificate| certificate.chain.clone()),
                });
            }
        }
        all
    }
}
