//! Against the router on a port of the loopback: by a plain client, and by GitHub's own.

mod artifacts;
mod caches;
mod client;
mod faults;
mod peer;
mod world;
