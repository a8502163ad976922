//! The whole loop of an environment, on a fake machine and by a paused clock.

mod canary;
mod commands;
mod failing;
mod first;
mod full_disk;
mod going;
mod healing;
mod restarts;
mod rollouts;
mod secrets;
pub(crate) mod world;
