//! Runs the steps of one leg, inside its box, as GitHub's runner does.
//!
//! ```text
//! Document (standard input) ─► run ─► prepare (fetch actions) ─► list ─► steps ─► execute ─► Processes
//! Told (standard output)    ◄── Teller (masks, bounds) ◄─── Output (commands, matchers) ◄── Reading ◄─┘
//! ```
//!
//! A plain process with threads: one reaps, one hears signals, one for each process's output, one for each step in the
//! background. It is the first process of its box, or takes orphans in as if it were; it needs no rights of its own.
//! SIGTERM cancels the job as GitHub does: what runs is asked once more whether it goes on, and ends by SIGINT, then
//! SIGTERM (7.5 s), then SIGKILL (2.5 s) to all that it started; a second SIGTERM ends all at once. What steps leave
//! behind lives until the job's end.
//!
//! Everything that a step prints or writes is bounded: lines, output, outputs, files of commands, masks, matchers.
//!
//! Sources: GitHub's documentation of workflows, workflow commands and actions.

mod action;
mod artifacts;
mod capture;
mod command;
mod container;
mod contexts;
mod descendants;
mod environment;
mod execute;
mod fetch;
mod files;
mod hash;
mod job;
mod list;
mod masks;
mod matcher;
mod names;
mod output;
mod pairs;
mod passage;
mod pattern;
mod phases;
mod prepare;
mod processes;
mod program;
mod reading;
mod run;
mod shell;
mod signals;
mod steps;
mod tell;

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use havre_base::one_line;
use havre_job::{Document, JobResult, MAX_DOCUMENT, VERSION};

use processes::Processes;
use tell::Teller;

/// Why a runner did not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("a runner takes no arguments: what it is to do comes on its standard input")]
    Arguments,
    #[error("the document cannot be read")]
    Read(#[source] io::Error),
    #[error("the document is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("the document is none")]
    Parse(#[source] serde_json::Error),
    #[error(
        "the document is of version {0}, this runner reads {VERSION}: box and driver must be of one Havre"
    )]
    Version(u32),
    #[error("the runner cannot take care of processes")]
    Processes(#[source] io::Error),
}

/// Runs one leg: takes a [`Document`] from standard input, tells [`havre_job::Told`] on standard output.
///
/// 0: the job succeeded, 1: it failed, 3: it was cancelled; 2: it did not begin, standard error says why.
pub fn main(args: &[String]) -> ExitCode {
    match start(args) {
        Ok(JobResult::Success) => ExitCode::SUCCESS,
        Ok(JobResult::Failure) => ExitCode::from(1),
        Ok(JobResult::Cancelled) => ExitCode::from(3),
        Err(error) => {
            let line = format!("havre job-runner: {}\n", one_line(&error));
            // There is nobody else to tell.
            io::stderr().write_all(line.as_bytes()).unwrap_or_default();
            ExitCode::from(2)
        }
    }
}

fn start(args: &[String]) -> Result<JobResult, StartError> {
    if !args.is_empty() {
        return Err(StartError::Arguments);
    }
    let processes = Processes::start().map_err(StartError::Processes)?;
    let cancelled = Arc::clone(&processes);
    signals::each(move || cancelled.cancel()).map_err(StartError::Processes)?;
    let document = read()?;
    let teller = Teller::new(Box::new(io::stdout()), document.debug);
    Ok(run::run(&document, &Arc::new(teller), &processes))
}

fn read() -> Result<Document, StartError> {
    let mut bytes = Vec::new();
    let most = MAX_DOCUMENT as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
    read.map_err(StartError::Read)?;
    if bytes.len() > MAX_DOCUMENT {
        return Err(StartError::TooLarge);
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(StartError::Parse)?;
    // Steps would find it there once more, with what is secret in it.
    let nothing = std::fs::File::open("/dev/null").map_err(StartError::Read)?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| StartError::Read(error.into()))?;
    match document.version {
        VERSION => Ok(document),
        other => Err(StartError::Version(other)),
    }
}
