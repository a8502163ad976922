//! What can go wrong with the network of an environment.

use std::io;
use std::path::{Path, PathBuf};

use crate::netlink::NetlinkError;

/// An operation on the network failed. What was done so far stays and is completed or removed
/// by the next call.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A name that would not be safe in a path or a link's name.
    #[error("{name:?} cannot be the name of {what}: use {allowed}")]
    Name {
        /// The name.
        name: String,
        /// Of what.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of ours holds something else than we wrote.
    #[error("{} is damaged: remove it and try again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The kernel's network configuration.
    #[error("cannot {action}")]
    Kernel {
        /// What was attempted, and on what.
        action: String,
        /// Why not.
        source: NetlinkError,
    },
    /// A kernel setting.
    #[error("cannot set {name} to {value}")]
    Setting {
        /// As for sysctl.
        name: String,
        /// The value.
        value: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A thread of our own could not do its work in a namespace.
    #[error("cannot work in network namespace {}", path.display())]
    Namespace {
        /// Where it is pinned.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program.
    #[error("cannot {action}: {detail}")]
    Program {
        /// What it was to do.
        action: String,
        /// Its last words.
        detail: String,
    },
    /// A port of the resolver.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Another operation holds the lock.
    #[error("waited {seconds} s for another operation on {what}", what = path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
    /// All subnets of the pools overlap routes of the machine or are given away.
    #[error(
        "no free subnet for network {network} of {environment}: every one of {pools} is in use on this machine"
    )]
    NoSubnet {
        /// Environment.
        environment: String,
        /// Network.
        network: String,
        /// The pools searched.
        pools: String,
    },
    /// All uplink addresses are given away.
    #[error("no free uplink address for {environment} in 100.64.0.0/10")]
    NoUplink {
        /// Environment.
        environment: String,
    },
    /// All addresses of a network are given away.
    #[error("network {network} of {environment} has no free address in {subnet}")]
    NoAddress {
        /// Environment.
        environment: String,
        /// Network.
        network: String,
        /// Its subnet.
        subnet: crate::Subnet,
    },
    /// Other programs take each subnet before we do.
    #[error("the subnets chosen for {environment} were taken by another program {attempts} times")]
    Contended {
        /// Environment.
        environment: String,
        /// Tries.
        attempts: u32,
    },
    /// `ensure_environment` was not called, or the machine was restarted since.
    #[error("the network of environment {environment} is not set up")]
    NotSetUp {
        /// Environment.
        environment: String,
    },
    /// The environment has no such network.
    #[error("environment {environment} has no network {network}")]
    UnknownNetwork {
        /// Environment.
        environment: String,
        /// Network.
        network: String,
    },
}

impl NetError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn kernel(action: impl Into<String>) -> impl FnOnce(NetlinkError) -> Self {
        move |source| Self::Kernel {
            action: action.into(),
            source,
        }
    }
}
