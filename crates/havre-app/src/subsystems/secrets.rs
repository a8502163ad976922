//! Secrets: their tables.

use crate::subsystem::{Part, Subsystem};

pub(crate) const PART: Part = Part {
    schema: Some(havre_secrets::SCHEMA),
    build: |_, _| Box::new(Secrets),
};

struct Secrets;

impl Subsystem for Secrets {}
