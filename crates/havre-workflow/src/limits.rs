//! How large a workflow may be.

/// How large a workflow may be; the defaults are GitHub's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the file.
    pub bytes: usize,
    /// Levels of lists and mappings.
    pub depth: usize,
    /// Jobs of a workflow with all that it calls, and of one matrix.
    pub jobs: usize,
    /// Workflows that call each other in a row.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            depth: 50,
            jobs: 256,
            calls: 10,
        }
    }
}
