//! `havre schema`: what havre.yaml, or machine.yaml, may hold, for editors.

use havre_model::schema;

use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;

pub fn print(context: &Context, machine: bool) -> Outcome {
    let document = match machine {
        true => schema::machine::document(),
        false => schema::document(),
    };
    context.ui.json(&document)?;
    Ok(Exit::Ok)
}
