//! The planner, driven through a simulated machine.

mod application;
mod property;
mod rollouts;
mod world;
