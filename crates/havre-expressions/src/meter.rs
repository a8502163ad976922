//! What one evaluation may use up.

/// Most bytes that one evaluation makes, what it throws away included. GitHub's runner allows as many.
pub const MAX_MEMORY: usize = 10 << 20;

/// Most bytes of text that one evaluation looks through, an item of a list being eight: well below a second.
pub const MAX_WORK: usize = 64 << 20;

/// What several evaluations may use up together; each stays within its own bounds too.
#[derive(Debug)]
pub struct Budget {
    left: Meter,
}

impl Budget {
    /// For so many evaluations that use up all they may; many more that are as small as usual.
    pub fn of(evaluations: usize) -> Self {
        let left = Meter {
            memory: MAX_MEMORY.saturating_mul(evaluations),
            work: MAX_WORK.saturating_mul(evaluations),
        };
        Self { left }
    }

    pub(crate) fn spend<T>(&mut self, evaluate: impl FnOnce(&mut Meter) -> T) -> T {
        let given = Meter {
            memory: self.left.memory.min(MAX_MEMORY),
            work: self.left.work.min(MAX_WORK),
        };
        let mut meter = Meter { ..given };
        let value = evaluate(&mut meter);
        self.left.memory -= given.memory - meter.memory;
        self.left.work -= given.work - meter.work;
        value
    }
}

/// Counts down.
#[derive(Debug)]
pub(crate) struct Meter {
    memory: usize,
    work: usize,
}

/// Nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Memory,
    Work,
}

impl Meter {
    pub(crate) fn of_an_evaluation() -> Self {
        Self {
            memory: MAX_MEMORY,
            work: MAX_WORK,
        }
    }

    pub(crate) fn boundless() -> Self {
        Self {
            memory: usize::MAX,
            work: usize::MAX,
        }
    }

    /// Before so many bytes are made.
    pub(crate) fn make(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.memory = self.memory.checked_sub(bytes).ok_or(Exhausted::Memory)?;
        Ok(())
    }

    /// Before so much is looked through.
    pub(crate) fn look(&mut self, length: usize) -> Result<(), Exhausted> {
        self.work = self.work.checked_sub(length).ok_or(Exhausted::Work)?;
        Ok(())
    }
}
