//! The planner, driven through a simulated machine.

mod application;
mod contents;
mod networks;
mod property;
mod provenance;
mod rollouts;
mod world;
