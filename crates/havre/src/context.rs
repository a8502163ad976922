//! What every command gets.

use havre_app::Root;

use crate::ui::Ui;

/// What every command gets.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where this installation keeps its files.
    pub root: Root,
    /// Whom it talks to.
    pub ui: Ui,
}
