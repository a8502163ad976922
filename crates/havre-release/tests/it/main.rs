//! The planner, driven through a simulated machine.

mod rollouts;
mod world;
