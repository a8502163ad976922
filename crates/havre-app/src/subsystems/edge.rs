//! The edge: kept running, and asked for the authority that it goes by.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use havre_api::{ApiError, Ca, CaCertificate, ErrorCode, Routes};
use havre_release::Answer;

use crate::daemon::Daemon;
use crate::subsystem::{Part, Subsystem, Task};

/// How long the edge may take for its last requests.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) const PART: Part = Part {
    schema: None,
    build: |daemon, _| Box::new(Edge(Arc::clone(daemon))),
};

struct Edge(Arc<Daemon>);

impl Subsystem for Edge {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Ca, _>(async |daemon, _, _| ca_certificate(&daemon));
        Some(routes.erased())
    }

    fn tasks(&self) -> Vec<Task> {
        let platform = Arc::clone(&self.0.platform);
        let supervise = move |task| {
            let platform = Arc::clone(&platform);
            async move { platform.hub.supervise(&task).await }
        };
        vec![Task::new("edge", supervise)]
    }

    /// Where another daemon is to come, the edge goes on.
    fn drain(&self) -> Answer<'_, ()> {
        Box::pin(async {
            if self.0.shutdown_requested.load(Ordering::Relaxed) {
                self.0.platform.hub.shut_down(GRACE).await;
            }
        })
    }
}

fn ca_certificate(daemon: &Daemon) -> Result<CaCertificate, ApiError> {
    let pem = daemon
        .platform
        .ca
        .certificate()
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    Ok(CaCertificate { pem })
}
