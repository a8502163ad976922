//! `actions/upload-artifact` and `actions/download-artifact`.

mod download;
mod upload;
mod zip;

pub(crate) use download::main as download;
pub(crate) use upload::{Kept, keep, main as upload};

use crate::failure::{Failure, refused};
use crate::results::Results;
use crate::step::Step;

/// The form of what most artifacts are.
const ZIP: &str = "application/zip";
const FORBIDDEN: [char; 9] = ['"', ':', '<', '>', '|', '*', '?', '\r', '\n'];

fn service(step: &Step) -> Result<Results, Failure> {
    match Results::of(step)? {
        Some(results) => Ok(results),
        None => refused("this run keeps no artifacts: ACTIONS_RESULTS_URL is not set"),
    }
}

/// A name that any machine can have as a file.
fn checked_name(name: &str) -> Result<(), Failure> {
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(FORBIDDEN)
        || name.contains(['/', '\\'])
    {
        return refused(format!(
            "`{name}` cannot be the name of an artifact: \" : < > | * ? / \\ may not be in it"
        ));
    }
    Ok(())
}
