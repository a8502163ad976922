//! The builder executed for real: overlays, layers and commands in a small root file system.

mod bounds;
mod budget;
mod cache;
mod copy;
mod faults;
mod given;
mod names;
mod run;
mod runner;
mod semantics;
mod support;
