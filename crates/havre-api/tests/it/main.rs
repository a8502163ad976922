//! Client and server over a real socket, with a fake daemon behind them.

mod calls;
mod exec;
mod fixtures;
mod guard;
mod operations;
mod principal;
