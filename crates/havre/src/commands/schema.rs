//! `havre schema`: what havre.yaml may hold, for editors.

use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;

pub fn print(context: &Context) -> Outcome {
    context.ui.json(&havre_model::schema::document())?;
    Ok(Exit::Ok)
}
