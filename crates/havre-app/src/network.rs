//! Keeps the network of an environment that runs: what another program removed (a firewall that was
//! reloaded, a deleted route) and a name server that died come back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use havre_base::one_line;
use havre_model::Network;
use havre_net::{NetError, NetworkSpec};
use havre_release::Release;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::host::Host;

/// Pause between two looks at what nobody tells us about.
const PERIOD: Duration = Duration::from_secs(5);
/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// One environment's network.
#[derive(Default)]
pub(crate) struct NetworkKeeper {
    /// `None`: now.
    due: Option<Instant>,
    resolver: Option<AsyncFd<OwnedFd>>,
    /// Why the newest look brought nothing back.
    failed: Option<String>,
}

/// Why a network could not be brought back.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("cannot keep the network up")]
    Net(#[from] NetError),
    #[error("a thread broke off")]
    Thread(#[from] JoinError),
    #[error("cannot watch the name server")]
    Watch(#[from] io::Error),
}

impl NetworkKeeper {
    /// Ends when [`Self::keep`] has something to do that it was not asked for yet.
    pub(crate) async fn wait(&mut self) {
        let died = async {
            match &self.resolver {
                // An error of the reactor counts as its end: it is looked at again.
                Some(pidfd) => pidfd.readable().await.map(drop).unwrap_or_default(),
                None => std::future::pending().await,
            }
        };
        let due = async {
            match self.due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = died => {}
            () = due => {}
        }
        self.due = None;
        self.resolver = None;
    }

    /// There is no network to keep.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }

    /// Brings back what is missing, if it is time, and returns why it is not back. The environment has a
    /// network already.
    pub(crate) async fn keep(
        &mut self,
        host: &Host,
        key: &str,
        releases: &BTreeMap<u64, Release>,
    ) -> Option<String> {
        if self.due.is_none() {
            let tried = self.bring_back(host, key, releases).await;
            self.failed = tried.err().map(|error| one_line(&error));
        }
        // Between two looks nothing has become better.
        self.failed.clone()
    }

    async fn bring_back(
        &mut self,
        host: &Host,
        key: &str,
        releases: &BTreeMap<u64, Release>,
    ) -> Result<(), KeepError> {
        self.due = Some(Instant::now() + AGAIN);
        let (net, exe) = (Arc::clone(&host.net), host.platform.exe.clone());
        let (key, specs) = (key.to_owned(), network_specs(releases));
        let ensured = tokio::task::spawn_blocking(move || {
            net.ensure_environment(&key, &specs)?;
            net.ensure_dns(&key, &exe)
        });
        let resolver = ensured.await??;
        // SAFETY: an owned descriptor stays open as long as its owner, which the AsyncFd becomes.
        self.resolver =
            Some(unsafe { AsyncFd::register(resolver.pidfd) }.map_err(io::Error::from)?);
        self.due = Some(Instant::now() + PERIOD);
        Ok(())
    }
}

/// The networks of all releases in play: during a rollout containers of two are on them.
pub(crate) fn network_specs(releases: &BTreeMap<u64, Release>) -> Vec<NetworkSpec> {
    let networks: BTreeMap<&str, &Network> = releases
        .values()
        .flat_map(|release| &release.networks)
        .map(|(name, network)| (name.as_str(), network))
        .collect();
    networks
        .into_iter()
        .map(|(name, network)| NetworkSpec {
            name: name.to_owned(),
            internal: network.internal,
            shared: network.shared.is_some(),
            confined: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_network_that_is_not_back_is_not_well_between_two_looks() {
        let mut keeper = NetworkKeeper {
            due: Some(Instant::now() + AGAIN),
            resolver: None,
            failed: Some("no route".to_owned()),
        };
        keeper.wait().await;
        assert!(keeper.due.is_none(), "it is looked at again");
        assert_eq!(keeper.failed.as_deref(), Some("no route"));
        keeper.rest();
        assert!(keeper.failed.is_none());
    }
}
