//! Images: content store, transfer, unpacking, snapshots and the Dockerfile builder.

pub mod overlay;
