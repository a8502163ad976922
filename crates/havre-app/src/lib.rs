//! The daemon: wires the subsystems and owns every task.
//!
//! ```text
//! api.sock ─► subsystems ─► operations ─► Target: environment task ─► Machine: engine, net, edge hub
//!                 │             └► Builder: builds (RUN steps in containers)
//!                 └► status, why, logs, exec: of a TargetStatus
//! ```
//!
//! Shutdown: accept no calls, end the environment tasks between two rounds, leave. Containers, the
//! edge and the name servers go on; the next daemon adopts them.

mod action;
mod admission;
mod app;
mod attach;
mod audit;
mod authority;
mod beyond;
mod builder;
mod builds;
mod cache_limits;
mod capabilities;
mod certificates;
mod clock;
mod conflict;
mod container;
mod contents;
mod daemon;
mod databases;
mod domains;
mod edge;
mod environment;
mod exec;
mod execute;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fault;
mod files;
mod gateway;
mod git;
mod glance;
mod guard;
mod handle;
mod history;
mod hooks;
mod host;
mod host_mounts;
mod housekeeping;
mod identity;
mod image_names;
mod image_scan;
mod images;
mod inventory;
mod jobs;
mod labels;
mod leases;
mod leftovers;
mod listening;
mod local;
mod lock;
mod log;
mod logs;
mod machine;
mod machine_file;
mod masks;
mod mirrors;
mod names;
mod network;
mod notify;
mod observe;
mod operations;
mod options;
mod output;
mod pages;
mod pipeline;
mod plans;
mod platform;
mod port_owner;
mod ports;
mod pressure;
mod previews;
mod progress;
mod project_rights;
mod promotions;
mod public_hosts;
mod pulls;
mod reachability;
mod readiness;
mod releases;
mod report;
mod repositories;
mod rivals;
mod root;
mod run_calls;
mod scaling;
mod sealed;
mod secrets;
mod shared_networks;
mod sources;
mod status;
mod steps;
mod subsystem;
mod subsystems;
mod supervisor;
mod tls;
mod turns;
mod variables;
mod vars;
mod volumes;
mod way;
mod why;
mod workshop;

pub use app::{DaemonEnd, DaemonError, run};
pub use cache_limits::{CacheLimits, Share, ShareError};
pub use havre_edge::is_network;
pub use jobs::{LocalError, LocalRun, LocalSettings};
pub use lock::holder;
pub use machine_file::{MachineFileError, machine_settings};
pub use options::DaemonOptions;
pub use root::{FolderError, Root};
