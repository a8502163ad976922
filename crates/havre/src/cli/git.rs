//! `havre git`.

use clap::{Args, Subcommand};

use super::mirror::MirrorCommand;
use crate::target::FolderArgs;

/// `havre git`.
#[derive(Debug, Subcommand)]
pub enum GitCommand {
    /// Show the address of a project's repository, and what git needs to know
    Remote(GitRemoteArgs),
    /// Mirror a project's repository from and to other servers
    #[command(subcommand)]
    Mirror(Box<MirrorCommand>),
    /// Give git the context's token as a password, for the context's host alone
    Credential {
        /// As git says it: get, store or erase
        operation: String,
    },
}

/// `havre git remote`.
#[derive(Args, Debug)]
pub struct GitRemoteArgs {
    /// Add it to the git repository at hand, as `havre`
    #[arg(long)]
    pub add: bool,
    #[command(flatten)]
    pub folder: FolderArgs,
}
