//! The reverse proxy: HTTPS, routing, balancing and draining in a process of its own.

mod state;

pub use state::*;
