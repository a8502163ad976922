//! Why a service is as it is.

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, FailureReport, ProbeReport, ReplicaStatus, ServiceStatus, Timestamp};

/// Which service to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyQuery {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub service: ServiceName,
}

/// Why a service is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The service as a whole.
    pub service: ServiceStatus,
    /// It does not start before this one is ready.
    pub waits_for: Option<ServiceName>,
    /// Its replicas, those that are not well first.
    pub replicas: Vec<ReplicaReport>,
    /// Why the newest rollout went back, where this service is to blame.
    pub failure: Option<FailureReport>,
    /// What to do next.
    pub hint: Option<String>,
}

/// One replica, seen from all sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Its process.
    pub status: ReplicaStatus,
    /// It runs and its probe, if it has one, says yes.
    pub ready: bool,
    /// What the edge knows; `None` where no request can reach it.
    pub edge: Option<EdgeReport>,
    /// What its probe said last.
    pub probe: Option<ProbeReport>,
    /// Last lines of its output, at most 20, where it is not well.
    pub log: Vec<String>,
}

/// A replica as the edge sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// New requests go to it.
    pub serving: bool,
    /// Requests and streams under way.
    pub in_flight: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests it broke off or never answered.
    pub failed: u64,
    /// Answers with 5xx.
    pub server_errors: u64,
    /// The last request that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailedRequestReport>,
}

/// A request that the proxy answered with an error, or broke off, because of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRequestReport {
    /// When it arrived.
    pub at: Timestamp,
    /// As its answer and the access log name it.
    pub request_id: String,
    /// What went wrong.
    pub cause: String,
}
