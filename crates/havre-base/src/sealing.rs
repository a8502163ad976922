//! Keys are sealed before they come to disk; who does that is told from outside.

/// Seals and opens. `context` says what it is about: what was sealed for another cannot be opened.
pub trait Sealing: Send + Sync {
    /// Makes it unreadable to all who lack the root key.
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, String>;
    /// The reverse.
    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, String>;
    /// The same under the newest key; none: it is so already, or cannot be opened.
    fn renewed(&self, context: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, String>;
}
