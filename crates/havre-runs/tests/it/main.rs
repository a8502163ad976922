//! Runs on a fake world: what is killed, cancelled, called, waited for.

mod driven;
mod elsewhere;
mod kept;
mod killed;
mod world;
