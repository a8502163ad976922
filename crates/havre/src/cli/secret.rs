//! `havre secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::JsonArg;
use crate::target::{Named, ScopeArgs};

/// `havre secret`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret: its value is asked for, or comes from --stdin, --from-file or --generate
    Set(SetArgs),
    /// Print the value of a secret
    Get(GetArgs),
    /// List secrets, without their values
    Ls(ListArgs),
    /// List the versions of a secret, without their values
    History(NameArgs),
    /// Put an earlier version of a secret into use
    Rollback(RollbackArgs),
    /// Remove a secret with all its versions
    Rm(RemoveArgs),
    /// Put another value in the place of the one in use, step by step, or go on with that
    Rotate(RotateArgs),
    /// Show which environments and services use a secret
    Who(NameArgs),
    /// Import the secrets of a .env file, or of a file that sops has encrypted to age
    Import(ImportArgs),
    /// Print the secrets that an environment gets (-E), or those of the machine, as a file that sops decrypts
    Export(ExportArgs),
    /// Find secrets that lie in clear in files, in the history of git, or in an image
    Scan(ScanArgs),
    /// The keys under which secrets are kept, and the ways to open them
    #[command(subcommand)]
    Seal(SealCommand),
}

/// `havre secret set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// Its name; folders are parted by slashes
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub value: ValueArgs,
    #[command(flatten)]
    pub project: ScopeArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Where a value is from; nowhere: it is asked for.
#[derive(Args, Debug)]
#[group(id = "source", multiple = false)]
pub struct ValueArgs {
    /// Read the value from standard input, without one line break at its end
    #[arg(long)]
    pub stdin: bool,
    /// Read the value from a file, as it is
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Make one of that many letters and digits
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        default_missing_value = "32",
        value_parser = clap::value_parser!(u16).range(8..=4096)
    )]
    pub generate: Option<u16>,
}

/// `havre secret get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Why you need it: it is kept with your name; asked for where it is not said
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Of this version, instead of the one in use
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
    #[command(flatten)]
    pub project: ScopeArgs,
}

/// `havre secret ls`.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub project: ScopeArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre secret history` and `who`.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub project: ScopeArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre secret rollback`.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which version, instead of the one before
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
    #[command(flatten)]
    pub project: ScopeArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre secret rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub value: ValueArgs,
    /// Run this program with `add`, `verify` and `retire`: it makes the new value valid, tries it, and makes the one
    /// before invalid. Both are in the files $HAVRE_NEW_FILE and $HAVRE_OLD_FILE; it may be run again at any time
    #[arg(long, value_name = "SCRIPT")]
    pub with: Option<PathBuf>,
    /// Go back to the version before, while it was not retired yet; the script retires the new one
    #[arg(long, conflicts_with = "source")]
    pub abort: bool,
    /// Why: it is kept with your name
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub project: ScopeArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre secret rm`.
#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Even while environments use it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub project: ScopeArgs,
}

/// `havre secret import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// A .env file, or a .yaml, .json or .env file of sops; names in it that lead to a value are parted by slashes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Identities of age that open a file of sops, instead of those that sops itself would take
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Put this before each name
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Import nothing: print the names
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub project: ScopeArgs,
}

/// `havre secret export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// As a file of sops
    #[arg(long, required = true)]
    pub sops: bool,
    /// Who is to open it: a recipient of age (age1…); may be repeated
    #[arg(long, value_name = "RECIPIENT", required = true)]
    pub age: Vec<String>,
    /// Its form
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: ExportFormat,
    /// Why you need it: it is kept with your name, for each secret
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub project: ScopeArgs,
}

/// The form of a file of sops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// YAML
    #[default]
    Yaml,
    /// JSON
    Json,
    /// Lines of NAME=value
    Dotenv,
}

/// `havre secret scan`.
#[derive(Args, Debug)]
pub struct ScanArgs {
    /// A folder or a file instead of the current folder
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Every version that git keeps, instead of the files that are there
    #[arg(long)]
    pub history: bool,
    /// A stored image, by name or digest: its configuration, and the files of all its layers
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["path", "history"])]
    pub image: Option<String>,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `havre secret seal`.
#[derive(Debug, Subcommand)]
pub enum SealCommand {
    /// Show whether secrets are open, and by what they can be opened
    Status(JsonArg),
    /// Add a way to open them
    #[command(subcommand)]
    AddSlot(SlotCommand),
    /// Remove a way to open them
    RemoveSlot {
        /// Its number
        #[arg(value_name = "SLOT")]
        slot: u32,
    },
    /// Make another root key, and other keys under it
    Rekey,
    /// Open them with a passphrase or an age identity; open ones: see whether it would
    Unlock {
        /// Read the passphrase or identity from standard input
        #[arg(long)]
        stdin: bool,
    },
}

/// `havre secret seal add-slot`.
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// A passphrase, asked for twice
    Passphrase {
        /// Read it from standard input instead
        #[arg(long)]
        stdin: bool,
    },
    /// A recipient of age, whose identity is kept elsewhere
    Age {
        /// age1…
        #[arg(value_name = "RECIPIENT")]
        recipient: String,
    },
    /// This machine, in the place of what it has
    Machine {
        /// How it keeps its key
        #[arg(long, value_enum, default_value_t, value_name = "HOW")]
        with: MachineWith,
    },
}

/// How a machine keeps its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MachineWith {
    /// A file that only root can read
    #[default]
    File,
    /// A credential of systemd's, by the host's key
    Host,
    /// The same, and the TPM
    Tpm,
}

impl SecretCommand {
    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Set(args) => args.json.json,
            Self::Ls(args) => args.json.json,
            Self::History(args) | Self::Who(args) => args.json.json,
            Self::Rollback(args) => args.json.json,
            Self::Rotate(args) => args.json.json,
            Self::Seal(SealCommand::Status(json)) => json.json,
            Self::Scan(args) => args.json.json,
            Self::Import(_) | Self::Export(_) => false,
            Self::Get(_) | Self::Rm(_) | Self::Seal(_) => false,
        }
    }

    /// What the command line says of the project.
    pub fn project(&mut self) -> Option<Named<'_>> {
        Some(match self {
            Self::Set(args) => args.project.named(),
            Self::Get(args) => args.project.named(),
            Self::Ls(args) => args.project.named(),
            Self::History(args) | Self::Who(args) => args.project.named(),
            Self::Rollback(args) => args.project.named(),
            Self::Rotate(args) => args.project.named(),
            Self::Rm(args) => args.project.named(),
            Self::Import(args) => args.project.named(),
            Self::Export(args) => args.project.named(),
            Self::Scan(_) | Self::Seal(_) => return None,
        })
    }
}
