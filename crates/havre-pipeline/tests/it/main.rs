//! Triggers and plans of whole workflow files.

mod calls;
mod plans;
mod runs;
mod triggers;
mod whys;

use std::path::Path;

use havre_workflow::{Limits, Workflow, read};

/// The workflow of a file that is fine.
fn workflow(text: &str) -> Workflow {
    let path = Path::new("ci.yml");
    match read(Path::new(""), path, text, &Limits::default()) {
        Ok(read) => read.workflow,
        Err(failure) => panic!("{:?}", failure.errors),
    }
}
