//! How many git processes there are, and how many of them for each principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for git processes.
#[derive(Debug)]
pub(crate) struct Rooms {
    each: usize,
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<String, usize>,
}

/// Room for one, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    key: String,
    rooms: Arc<Rooms>,
}

impl Rooms {
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self {
            each,
            all,
            taken: Mutex::default(),
        }
    }

    /// `None`: there is none now.
    pub(crate) fn enter(self: &Arc<Self>, key: String) -> Option<Room> {
        let mut taken = self.taken();
        let theirs = taken.of.get(&key).copied().unwrap_or_default();
        if taken.all >= self.all || theirs >= self.each {
            return None;
        }
        taken.all += 1;
        taken.of.insert(key.clone(), theirs + 1);
        Some(Room {
            key,
            rooms: Arc::clone(self),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing between its statements panics.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.rooms.taken();
        taken.all -= 1;
        if let Some(theirs) = taken.of.get_mut(&self.key) {
            *theirs -= 1;
            if *theirs == 0 {
                taken.of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_the_room() {
        let rooms = Arc::new(Rooms::new(2, 3));
        let enter = |key: &str| rooms.enter(key.to_owned());
        let first = enter("a");
        let second = enter("a");
        assert!(first.is_some() && second.is_some() && enter("a").is_none());
        let other = enter("b");
        assert!(other.is_some() && enter("c").is_none());
        drop(first);
        assert!(enter("c").is_some());
        drop((second, other));
        assert!(rooms.taken().of.is_empty());
    }
}
