//! What is said of a key in the tables by which files are read and documented.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As its specification says.
    Honoured,
    /// In another way, or for some values only; the rest is refused or warned about where it stands.
    Partly(&'static str),
    /// Accepted without a word, because nothing depends on it here.
    Quiet(&'static str),
    /// Accepted with a warning.
    Ignored(&'static str),
    /// An error.
    Refused {
        /// Why it cannot be honoured.
        why: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
}
