//! The program from outside, against a fake daemon behind the real API.

mod changes;
mod command_line;
mod daemon;
mod exec;
mod fixtures;
mod images;
mod logs;
mod program;
mod pty;
mod queries;
mod up;
