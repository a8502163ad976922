//! What tests share: waiting with a deadline, and fakes. Never linked into the product.
//!
//! A fake is stricter than what it stands for and says in its name that it is one.

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "compose")]
pub mod compose;
#[cfg(feature = "load")]
pub mod load;
#[cfg(feature = "pebble")]
pub mod pebble;
mod wait;

pub use wait::wait_until;
