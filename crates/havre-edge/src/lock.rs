//! Locks whose data stays valid between any two statements: a panic elsewhere does not spoil them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a poisoned lock is taken all the same.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
