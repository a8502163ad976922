//! Why something is so, and what of a file says it.

use havre_workflow::Span;

/// Why.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// In words.
    pub why: String,
    /// What of the file says so, if something does.
    pub at: Option<Span>,
}
