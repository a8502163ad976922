//! The API's calls, each answered by one subsystem or operation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{
    ApiError, Backend, CaCertificate, ChangeOutcome, DaemonInfo, DownOutcome, DownRequest,
    EdgeInfo, EnvironmentId, EnvironmentStatus, ErrorCode, EventSink, ExecRequest, ExecSession,
    ImageImportOutcome, ImageImportRequest, ImagePruneRequest, ImageRemoveOutcome,
    ImageRemoveRequest, ImageSummary, LogQuery, LogSink, NetworkCreateRequest,
    NetworkRemoveRequest, PlanOutcome, PlanRequest, ReleaseStatus, ReleasesQuery, ReplicaQuery,
    ReplicaStatus, RestartRequest, RollbackRequest, ScaleRequest, SharedNetwork, ShutdownRequest,
    StatusQuery, SteerOutcome, SteerRequest, UpOutcome, UpRequest, WhyQuery, WhyReport,
};
use havre_engine::{State, Stats};

use crate::daemon::Daemon;
use crate::environment::EnvironmentHandle;
use crate::{exec, images, logs, operations, plans, releases, shared_networks, status, why};

/// Time between the two looks that give a share of CPU.
const CPU_SAMPLE: Duration = Duration::from_millis(200);

/// The daemon as the API sees it.
pub(crate) struct Service {
    daemon: Arc<Daemon>,
}

impl Service {
    pub(crate) fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }

    /// Environments that a query names; `NotFound` for one that is named and not there.
    async fn chosen(
        &self,
        project: Option<&havre_model::ProjectName>,
        environment: Option<&havre_model::EnvironmentName>,
    ) -> Result<Vec<EnvironmentHandle>, ApiError> {
        if let (Some(project), Some(environment)) = (project, environment) {
            let id = EnvironmentId {
                project: project.clone(),
                environment: environment.clone(),
            };
            return Ok(vec![self.daemon.environment(&id).await?]);
        }
        let mut all = self.daemon.environments().await;
        all.retain(|handle| {
            project.is_none_or(|project| &handle.id.project == project)
                && environment.is_none_or(|environment| &handle.id.environment == environment)
        });
        Ok(all)
    }
}

impl Backend for Service {
    async fn info(&self) -> Result<DaemonInfo, ApiError> {
        let daemon = &self.daemon;
        let edge = daemon.platform.hub.status().await;
        Ok(DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            root: daemon.options.root.base().map(Into::into),
            since: daemon.since.into(),
            http: daemon.options.http.clone(),
            https: daemon.options.https.clone(),
            given: Some(daemon.options.given.clone()),
            edge: edge.map(|edge| EdgeInfo {
                pid: edge.pid,
                version: edge.version.clone(),
            }),
            problems: daemon.problems().await,
        })
    }

    async fn status(&self, query: StatusQuery) -> Result<Vec<EnvironmentStatus>, ApiError> {
        let port = self.daemon.https_port();
        let handles = self
            .chosen(query.project.as_ref(), query.environment.as_ref())
            .await?;
        let edge_problems = self.daemon.problems().await;
        Ok(handles
            .iter()
            .map(|handle| {
                let mut status = status::environment(&handle.id, &handle.snapshot(), port);
                status.problems.extend(edge_problems.iter().cloned());
                status
            })
            .collect())
    }

    async fn replicas(&self, query: ReplicaQuery) -> Result<Vec<ReplicaStatus>, ApiError> {
        let handles = self
            .chosen(query.project.as_ref(), query.environment.as_ref())
            .await?;
        let mut replicas = Vec::new();
        for handle in handles {
            let snapshot = handle.snapshot();
            for one in &snapshot.seen {
                let running = matches!(one.container.state, State::Running { .. });
                let wanted =
                    query.services.is_empty() || query.services.contains(&one.place.service);
                if wanted && (running || query.all) {
                    replicas.push(status::replica(one, &snapshot));
                }
            }
        }
        self.measure(&mut replicas).await;
        replicas.sort_by(|a, b| {
            (&a.environment, &a.service, &a.id).cmp(&(&b.environment, &b.service, &b.id))
        });
        Ok(replicas)
    }

    async fn plan(&self, request: PlanRequest) -> Result<PlanOutcome, ApiError> {
        plans::foresee(&self.daemon, request).await
    }

    async fn releases(&self, query: ReleasesQuery) -> Result<Vec<ReleaseStatus>, ApiError> {
        releases::list(&self.daemon, &query).await
    }

    async fn why(&self, query: WhyQuery) -> Result<WhyReport, ApiError> {
        let mut report = why::explain(&self.daemon, &query).await?;
        for replica in &mut report.replicas {
            self.measure(std::slice::from_mut(&mut replica.status))
                .await;
        }
        Ok(report)
    }

    async fn rollback(
        &self,
        request: RollbackRequest,
        events: EventSink,
    ) -> Result<UpOutcome, ApiError> {
        releases::rollback(&self.daemon, request, &events).await
    }

    async fn steer(&self, request: SteerRequest) -> Result<SteerOutcome, ApiError> {
        operations::steer(&self.daemon, &request).await
    }

    async fn up(&self, request: UpRequest, events: EventSink) -> Result<UpOutcome, ApiError> {
        operations::up(&self.daemon, request, &events).await
    }

    async fn down(&self, request: DownRequest, events: EventSink) -> Result<DownOutcome, ApiError> {
        operations::down(&self.daemon, request, &events).await
    }

    async fn restart(
        &self,
        request: RestartRequest,
        events: EventSink,
    ) -> Result<ChangeOutcome, ApiError> {
        operations::restart(&self.daemon, request, &events).await
    }

    async fn scale(
        &self,
        request: ScaleRequest,
        events: EventSink,
    ) -> Result<ChangeOutcome, ApiError> {
        operations::scale(&self.daemon, request, &events).await
    }

    async fn logs(&self, query: LogQuery, lines: LogSink) -> Result<(), ApiError> {
        logs::send(&self.daemon, query, lines).await
    }

    async fn exec(&self, request: ExecRequest, session: ExecSession) -> Result<i32, ApiError> {
        exec::run(&self.daemon, request, session).await
    }

    async fn images(&self) -> Result<Vec<ImageSummary>, ApiError> {
        images::list(&self.daemon).await
    }

    async fn image_import(
        &self,
        request: ImageImportRequest,
    ) -> Result<ImageImportOutcome, ApiError> {
        images::import(&self.daemon, request).await
    }

    async fn image_remove(
        &self,
        request: ImageRemoveRequest,
    ) -> Result<ImageRemoveOutcome, ApiError> {
        images::remove(&self.daemon, request).await
    }

    async fn image_prune(
        &self,
        request: ImagePruneRequest,
    ) -> Result<ImageRemoveOutcome, ApiError> {
        images::prune(&self.daemon, request).await
    }

    async fn networks(&self) -> Result<Vec<SharedNetwork>, ApiError> {
        shared_networks::list(&self.daemon).await
    }

    async fn network_create(
        &self,
        request: NetworkCreateRequest,
    ) -> Result<SharedNetwork, ApiError> {
        shared_networks::create(&self.daemon, request).await
    }

    async fn network_remove(&self, request: NetworkRemoveRequest) -> Result<(), ApiError> {
        shared_networks::remove(&self.daemon, request).await
    }

    async fn ca_certificate(&self) -> Result<CaCertificate, ApiError> {
        let pem = self
            .daemon
            .platform
            .ca
            .certificate()
            .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
        Ok(CaCertificate { pem })
    }

    async fn shutdown(&self, request: ShutdownRequest) -> Result<(), ApiError> {
        let environments = self.daemon.environments().await;
        if !environments.is_empty() && !request.force {
            let (new, up): (Vec<_>, Vec<_>) = environments.iter().partition(|e| e.is_blank());
            let names = |of: &[&EnvironmentHandle]| {
                let names: Vec<String> = of.iter().map(|one| one.id.to_string()).collect();
                names.join(", ")
            };
            let message = match up.is_empty() {
                true => format!("an operation is under way for {}", names(&new)),
                false => format!("environments are up: {}", names(&up)),
            };
            return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
                "take them down with `havre down`, or pass --force: they go on running but \
                 nobody can reach them",
            ));
        }
        self.daemon.shut_down().await;
        Ok(())
    }
}

impl Service {
    /// Adds use of CPU and memory.
    async fn measure(&self, replicas: &mut [ReplicaStatus]) {
        let before = self.stats(replicas).await;
        let since = SystemTime::now();
        tokio::time::sleep(CPU_SAMPLE).await;
        let after = self.stats(replicas).await;
        let elapsed = since.elapsed().unwrap_or(CPU_SAMPLE).as_secs_f64();
        for ((replica, before), after) in replicas.iter_mut().zip(before).zip(after) {
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            replica.memory_bytes = Some(after.memory_current);
            let used = after.cpu_usec.saturating_sub(before.cpu_usec);
            // Microseconds of CPU fit into the 52 bits of a double for 140 years.
            replica.cpu_percent = Some(used as f64 / 1e6 / elapsed * 100.0);
        }
    }

    async fn stats(&self, replicas: &[ReplicaStatus]) -> Vec<Option<Stats>> {
        let mut all = Vec::with_capacity(replicas.len());
        for replica in replicas {
            let id = havre_engine::ContainerId(replica.id.clone());
            all.push(self.daemon.platform.engine.stats(&id).await.ok());
        }
        all
    }
}
