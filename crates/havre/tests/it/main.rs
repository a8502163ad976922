//! The program from outside: against a fake daemon behind the real API, and with its real daemon,
//! edge and containers on machines of their own.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod access;
mod allowed;
mod audit;
mod authorities;
mod builds;
mod certificates;
mod changes;
mod ci;
mod ci_runs;
mod command_line;
mod contexts;
mod daemon;
mod datagrams;
mod deaths;
mod dependents;
mod elsewhere;
mod exec;
mod failures;
mod fixtures;
mod full_disk;
mod git_push;
mod grpc;
mod hooks;
mod image_scan;
mod images;
mod install;
mod leftovers;
mod logins;
mod logs;
mod machine;
mod masking;
mod networks;
mod owners;
mod ports;
mod program;
mod project;
mod pty;
mod queries;
mod resolvers;
mod restarts;
mod rollouts;
mod rotation;
mod secret_files;
mod shared_networks;
mod sshd;
mod taking_down;
mod target;
mod unreadable;
mod up;
mod watching;
mod workflow;
mod writers;
