//! Images: content store, transfer, unpacking, snapshots and the Dockerfile builder.
//!
//! ```text
//! registry ─ pull ─┐                        ┌─► export
//! tar, OCI ─ import ┼─► blobs ─ unpack ─► layers ─► overlay ─► containers
//! Dockerfile ─ build ┘                       ▲                  │
//!                                            └─ layer_from_upper ┘
//! ```
//!
//! Everything is addressed by content and immutable; names, leases and the build cache are rows
//! of `havre-store`. Sizes are bytes, times of images are RFC 3339 texts as their makers wrote
//! them. Formats: OCI image specification 1.1, Docker image specification 1.2.

mod archive;
mod attest;
mod blobs;
pub mod builder;
mod compression;
pub mod config;
mod diff;
mod digest;
mod disk_usage;
pub mod dockerfile;
mod export;
mod gc;
mod image_layers;
mod images;
mod import;
mod layers;
mod limits;
mod look;
pub mod manifest;
mod names;
pub mod overlay;
pub mod progress;
mod pull;
mod push;
mod reference;
mod registry;
pub mod regular;
mod remove;
pub mod root;
mod tables;
mod unpack;

pub use archive::{Entry, EntryKind, TarError, TarReader, TarWriter};
pub use attest::AttestError;
pub use blobs::BlobError;
pub use config::ImageConfig;
pub use diff::DiffError;
pub use digest::{Digest, DigestError, Hashing};
pub use export::{ExportError, ExportFault, ExportFormat};
pub use gc::{Budget, Freed, Hold, Item, Judged, Kind, PruneError, PrunePolicy};
pub use images::{CommitError, Image, ImageError, Images, Layer, Named, OpenError};
pub use import::{ImportError, ImportFault, Imported};
pub use layers::{LayerError, chain_id};
pub use limits::{Capped, Limits, StreamLimit};
pub use manifest::Platform;
pub use names::{NameRefused, NameRights, NameUse};
pub use pull::{PullError, PullFault, PullOptions};
pub use push::{BlobBytes, BlobSource, PushError, PushFault, PushOptions, Pushable};
pub use reference::{ImageRef, RefError};
pub use registry::auth::{Credentials, CredentialsError, DockerLogins, Login};
pub use registry::{LoginState, RequestError, TransportError};
pub use remove::{remove_all_in, remove_tree, set_aside};
pub use tables::{Attestation, SCHEMA};
pub use unpack::{UnpackError, Unpacked, Unpacker};
