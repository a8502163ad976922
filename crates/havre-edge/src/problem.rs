//! What does not work, said to people.

/// Something that does not work, in a sentence for people.
pub type Problem = String;
