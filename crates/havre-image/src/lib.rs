//! Images: content store, transfer, unpacking, snapshots and the Dockerfile builder.

pub mod dockerfile;
pub mod overlay;
