//! What processes and crates that share nothing else do alike: replace a file as a whole, read a small one, say what
//! caused an error, cut a text, write a time, tell networks apart, read a body that came over HTTP, keep little memory. It knows
//! nothing of Havre, and depends on no other crate of it.

#[cfg(feature = "tokio")]
mod blocking;
#[cfg(feature = "http")]
pub mod body;
mod causes;
mod files;
#[cfg(feature = "memory")]
pub mod memory;
mod network;
mod sealing;
mod text;
pub mod time;
mod words;

#[cfg(feature = "tokio")]
pub use blocking::{blocking, in_place};
pub use causes::{causes, one_line};
pub use files::{Durability, read_small, replace};
pub use network::network;
pub use sealing::Sealing;
pub use text::{clipped, shell_word};
pub use words::shell_words;
