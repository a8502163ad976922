//! Files of a project that is deployed from elsewhere.
//!
//! ```text
//! laptop   Snapshot ── Tree (paths, modes, digests) ──► offer ──► which of it is lacking
//!             └─────── pieces of the files that are ──► put   ──► parts/<digest>
//! server   Store: parts ─► trees/<id>, a folder as it was there ─► the builder, mounts, certificates
//! ```
//!
//! A tree is called by the digest of what is in it, so that the same files are never sent twice. Each
//! environment has a folder of its own: what one has sent no other can name. A file's times go with it,
//! but are no part of what it is called by, as they are none of the build cache's keys.
//!
//! What a tree says comes from outside: it is bounded, its paths lead nowhere else, and nothing is written
//! through a link. An upload may be killed anywhere, on both sides: what was written of a file stays, and is
//! checked against its digest once it is whole; a tree appears as a whole or not at all.

mod digest;
mod snapshot;
mod store;
mod tree;

pub use digest::{Digest, DigestError, Hasher};
pub use snapshot::{Found, Snapshot, SnapshotError};
pub use store::{
    Held, Lacking, NoRoom, Offer, OfferError, Offered, PathError, Piece, PutError, Store,
    SweepError,
};
pub use tree::{Entry, Limits, Node, Tree, TreeError};
