//! The configuration document of an image: what it was built for and how it wants to be run.
//!
//! An own model, because Docker's `Healthcheck`, `Shell` and `OnBuild` are not in the OCI types.
//! Keys this version does not know are kept, so that an image built on a foreign base loses
//! nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::Digest;

/// The configuration document; its digest is what Docker calls the image id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made (RFC 3339); absent where that would break reproducibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// As Go names it: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture, e.g. `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// As Go names it: `linux`.
    #[serde(default)]
    pub os: String,
    /// How to run it.
    #[serde(default, rename = "config", deserialize_with = "null_is_default")]
    pub run: RunConfig,
    /// The layers, uncompressed.
    #[serde(default)]
    pub rootfs: RootFs,
    /// The steps that made it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How an image wants to be run; all of it can be overridden by who runs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers; empty: root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `8080/tcp`, …
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The program; `None` and an empty list mean the same: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the program where there is no entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Folders that want a volume of their own.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// Working directory; empty: `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the process to end; `None`: SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Shell of the builder's shell forms; `None`: `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for builds that start from this image.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `{}`, the value in Docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's HEALTHCHECK. Times are nanoseconds; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "line"]`; empty: inherited.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Nanoseconds between probes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds a probe may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between probes during that time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image, uncompressed, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// A step that made the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step changed only the configuration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// An empty configuration for this machine.
    pub fn for_this_machine() -> Self {
        let platform = crate::Platform::of_this_machine();
        Self {
            architecture: platform.architecture,
            os: platform.os,
            ..Self::default()
        }
    }
}

/// Docker writes `null` for empty lists and maps.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `json` and writes it again.
    fn round_trip(json: &str) -> Value {
        let config: ImageConfig = serde_json::from_str(json).unwrap();
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn what_docker_writes_survives() {
        let json = r#"{
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "docker_version": "20.10", "container_config": {"Cmd": ["x"]},
            "config": {
                "User": "app:app", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1", "B=2"],
                "Entrypoint": ["/e"], "Cmd": ["c"], "Volumes": {"/v": {}}, "WorkingDir": "/w",
                "Labels": {"l": "m"}, "StopSignal": "SIGINT", "Shell": ["/bin/bash", "-c"],
                "OnBuild": ["RUN x"], "ArgsEscaped": true,
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5000000000,
                    "Timeout": 1000000000, "StartPeriod": 2000000000, "StartInterval": 100000000,
                    "Retries": 3}
            },
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [{"created_by": "FROM", "empty_layer": true, "x": 1}]
        }"#;
        assert_eq!(
            round_trip(json),
            serde_json::from_str::<Value>(json).unwrap()
        );
    }

    #[test]
    fn nulls_are_empty() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","history":null,
                "config":{"Env":null,"Cmd":null,"Volumes":null,"Labels":null,"OnBuild":null},
                "rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert_eq!(config.run, RunConfig::default());
        assert!(config.rootfs.diff_ids.is_empty());
    }
}
