//! The planner, driven through a simulated machine.

mod application;
mod contents;
mod networks;
mod property;
mod rollouts;
mod world;
