//! Masks what is secret in what Havre writes, shows or answers.
//!
//! ```text
//! values ─► forms (lines, JSON leaves, base64, hex, escapes) ─► Filter ─► Stream: bytes in, `***` out
//! ```
//! Pure: no I/O, no clock. A [`Filter`] is made once for each set of values and shared; a [`Stream`] is
//! what is left over between two chunks of one output, at most [`MAX_HELD`] bytes. However an output is
//! cut into chunks, what comes out is the same. Base64 and hex on lines are found as if they were on one.
//!
//! Names of secrets are no secret, and yet the mask does not tell them: a reader of logs who may not
//! read secrets would learn which value equals which.
//!
//! What is not masked: values shorter than [`MIN_BYTES`] and the rest of those beyond [`MAX_VALUE`], both
//! of which [`Filter::new`] names; a value that was cut, hashed, compressed, or encoded twice.

mod build;
mod filter;
mod forms;
mod layout;
mod rows;
mod stream;

pub use filter::Filter;
pub use forms::{MAX_VALUE, MIN_BYTES, Unmasked, Why, judge};
pub use layout::Unreadable;
pub use rows::MAX_HELD;
pub use stream::Stream;

/// What stands for a secret.
pub const MASK: &str = "***";
