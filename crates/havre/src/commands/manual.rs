//! `havre completions` and `havre man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

pub fn completions(context: &Context, shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "havre", &mut script);
    context.ui.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub fn man(context: &Context, dir: Option<&Path>) -> Outcome {
    let command = Cli::command();
    match dir {
        Some(dir) => {
            let cannot = |error: std::io::Error| {
                let message = format!("cannot write the manual to {}", dir.display());
                Failure::new(Exit::Failed, message).caused_by(&error)
            };
            std::fs::create_dir_all(dir).map_err(cannot)?;
            clap_mangen::generate_to(command, dir).map_err(cannot)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            context.ui.data(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Ok)
}
