//! Compose files and `havre.yaml` become one validated [`Project`].
//!
//! ```text
//! compose.yaml … ─► read (spans) ─► interpolate ─► canonical ─► extend, include, merge ─► decode
//! havre.yaml   ─────────────────────────────────────────────────────────────► validate ─► Project
//! ```
//!
//! Nothing here touches the network or a container; the only input are the project's own files.
//! Every error carries the place in the user's file that caused it, and all are found in one go.
//!
//! - [`load`] is the way in, [`config`] shows the same as one compose file; [`LoadOptions`] says what to load; [`identify`] finds only names.
//! - [`rules`] looks for traps, [`codes`] says what the codes of all other findings mean.
//! - [`keys`] says what becomes of every key of the specification.
//! - [`routes`] is the rule that finds front end and back end where nobody named them.

mod allow;
mod bounds;
mod canonical;
mod capabilities;
pub mod codes;
mod config;
mod databases;
mod decode;
mod dotenv;
mod env_values;
mod environment_id;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod grant;
pub mod host_path;
mod hosts;
mod image_name;
mod interpolate;
pub mod keys;
mod load;
pub mod machine;
pub mod mask;
mod merge;
mod model;
mod paths;
mod probes;
mod project;
mod read;
mod regular;
pub mod routes;
pub mod rules;
mod scalar;
pub mod schema;
mod settings;
mod strategy;
mod validate;
mod words;
mod yaml;

use havre_yaml::{diagnostic, report, source, suggest};

pub use allow::Allow;
pub use bounds::{
    MAX_REPLICAS, OWN_USERS, OutOfBounds, gates_in_bounds, is_network_name, is_volume_name,
};
pub use capabilities::{Capabilities, Lack, LackError, Unsupported, target_keys};
pub use config::{Config, ConfigView, images};
pub use databases::{
    DatabaseSign, FoundDatabases, HEAD_BYTES, is_database_head, is_database_name, served_mounts,
    writable_mounts,
};
pub use diagnostic::{Diagnostic, Location, Severity};
pub use env_values::{EnvValuesError, env_values};
pub use environment_id::EnvironmentId;
pub use files::means_file;
pub use load::{
    LoadFailure, LoadOptions, Loaded, advise, config, gates_of, identify, is_of_localhost, load,
};
pub use paths::{PathUse, each_path, rights_over_machine};
pub use probes::local_port;
pub use project::*;
pub use settings::valid_environment;
pub use strategy::{
    Strategy, StrategyReason, is_same_program, is_worker, strategy, written_mounts,
};
