//! Room for requests while they are read: so much for all, and so much for each who asks.
//!
//! Who asks takes a place for as much as a request may have, and waits for it behind their own requests alone. What
//! a place takes of the room of all is what has come, no more; where that is full, only the eldest request grows, by
//! one request above the limit at most. So each ends, and none waits for one that waits.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::shares::{Asker, Shares};
use crate::*;

const MIB: usize = 1024 * 1024;
/// What a request takes up beside its bytes: its head, a read buffer, a task.
const OVERHEAD_BYTES: usize = 16 * 1024;
/// In what steps each one's share is counted.
const STEP_BYTES: usize = 4 * 1024;
/// After how much that was read the memory is worth giving back.
const MUCH_BYTES: usize = 4 * MIB;

/// All the room there is.
pub(super) struct Room {
    own: Halls,
    others: Halls,
    strangers: Hall,
    read: Arc<Read>,
}

/// Small requests wait for no large ones.
struct Halls {
    small: Hall,
    large: Hall,
}

impl Room {
    pub(super) fn new() -> Self {
        let read = Arc::new(Read::default());
        let hall = |most, share| Hall::new(most * MIB, share * MIB, &read);
        Self {
            // Whoever the machine belongs to waits for nobody.
            own: Halls {
                small: hall(8, 8),
                large: hall(32, 33),
            },
            // The eldest may have 32 MiB more: 128 MiB, of which each has a quarter.
            others: Halls {
                small: hall(32, 8),
                large: hall(96, 33),
            },
            // Of 64 KiB each: eight large ones from one address.
            strangers: Hall::new(4 * MIB, 8 * (64 * 1024 + OVERHEAD_BYTES), &read),
            read,
        }
    }

    /// A place for a request of that many bytes at most, once who asks has one left.
    pub(super) async fn enter(&self, asked: &Asked, bytes: usize) -> Place<'_> {
        let who = Asker::of(asked);
        let halls = match who {
            Asker::Owner => &self.own,
            Asker::User(_) | Asker::Token(_) | Asker::Person { .. } => &self.others,
            Asker::Network(_) => return self.strangers.enter(who, bytes).await,
        };
        match bytes <= MAX_SMALL_BYTES {
            true => halls.small.enter(who, bytes).await,
            false => halls.large.enter(who, bytes).await,
        }
    }

    /// Once much was read, and nothing is any more.
    pub(super) async fn emptied(&self) {
        self.read.emptied.notified().await;
    }
}

/// What is read, and was since memory was given back for the last time.
#[derive(Default)]
struct Read {
    places: AtomicUsize,
    bytes: AtomicUsize,
    emptied: Notify,
}

impl Read {
    fn leave(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let was_last = self.places.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && self.bytes.load(Ordering::Relaxed) >= MUCH_BYTES {
            self.bytes.store(0, Ordering::Relaxed);
            self.emptied.notify_one();
        }
    }
}

struct Hall {
    most: usize,
    /// The most that each may claim, and that in steps.
    share: usize,
    shares: Shares,
    taken: Mutex<Taken>,
    freed: Notify,
    read: Arc<Read>,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    last: u64,
    /// Numbers of the places, of which the first is the eldest.
    places: BTreeSet<u64>,
}

impl Hall {
    fn new(most: usize, share: usize, read: &Arc<Read>) -> Self {
        Self {
            most,
            share,
            shares: Shares::new(share / STEP_BYTES),
            taken: Mutex::default(),
            freed: Notify::new(),
            read: Arc::clone(read),
        }
    }

    async fn enter(&self, who: Asker, bytes: usize) -> Place<'_> {
        let claim = bytes.saturating_add(OVERHEAD_BYTES).min(self.share);
        let steps = u32::try_from(claim.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX);
        let claim = self.shares.of(who).acquire_many_owned(steps).await;
        let number = {
            let mut taken = self.taken();
            taken.last += 1;
            let number = taken.last;
            taken.places.insert(number);
            number
        };
        self.read.places.fetch_add(1, Ordering::AcqRel);
        let mut place = Place {
            hall: self,
            number,
            held: 0,
            // It is never closed.
            _claim: claim.ok(),
        };
        place.grow(0).await;
        place
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // It is whole after every statement.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that one request has until it is dropped.
pub(super) struct Place<'r> {
    hall: &'r Hall,
    number: u64,
    held: usize,
    _claim: Option<OwnedSemaphorePermit>,
}

impl Place<'_> {
    /// Waits until there is room for `bytes` of it. Cancel-safe.
    pub(super) async fn grow(&mut self, bytes: usize) {
        let wanted = bytes.saturating_add(OVERHEAD_BYTES);
        let more = wanted.saturating_sub(self.held);
        if more == 0 {
            return;
        }
        loop {
            let freed = self.hall.freed.notified();
            {
                let mut taken = self.hall.taken();
                let is_eldest = taken.places.first() == Some(&self.number);
                if is_eldest || taken.bytes.saturating_add(more) <= self.hall.most {
                    taken.bytes = taken.bytes.saturating_add(more);
                    self.held = wanted;
                    return;
                }
            }
            freed.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.hall.taken();
        taken.bytes = taken.bytes.saturating_sub(self.held);
        taken.places.remove(&self.number);
        drop(taken);
        self.hall.freed.notify_waiters();
        self.hall.read.leave(self.held);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    /// One who holds the token of that name.
    pub(in super::super) fn asked_by(name: &str) -> Asked {
        let id = name.to_owned();
        asked(
            Who::Token {
                name: id.clone(),
                id,
            },
            None,
        )
    }

    pub(in super::super) fn root() -> Asked {
        let peer = LocalPeer {
            uid: 0,
            gid: 0,
            name: None,
        };
        asked(Who::Local(peer), None)
    }

    fn stranger(address: &str) -> Asked {
        asked(Who::Nobody, Some(address.parse().expect("an address")))
    }

    pub(in super::super) fn asked(who: Who, address: Option<IpAddr>) -> Asked {
        let grant = Grant::everywhere(Role::Deployer);
        Asked {
            principal: Principal { who, grant },
            address,
            path: "/v1/plan",
            role: Some(Role::Deployer),
            scope: Scope::Visible,
            subject: String::new(),
            operation: None,
        }
    }

    /// The place, where there is one at once.
    fn enter<'r>(room: &'r Room, asked: &Asked, bytes: usize) -> Option<Place<'r>> {
        room.enter(asked, bytes).now_or_never()
    }

    fn grow(place: &mut Place<'_>, bytes: usize) -> bool {
        place.grow(bytes).now_or_never().is_some()
    }

    #[test]
    fn nobody_takes_more_than_a_quarter_and_root_has_its_own() {
        let room = Room::new();
        let (anna, bert) = (asked_by("anna"), asked_by("bert"));
        let mut first = enter(&room, &anna, MAX_DOCUMENT_BYTES).expect("room");
        assert!(grow(&mut first, MAX_DOCUMENT_BYTES));
        // Her own wait, of whatever is large, and no small one.
        assert!(enter(&room, &anna, 2 * MAX_SMALL_BYTES).is_none());
        assert!(enter(&room, &anna, MAX_SMALL_BYTES).is_some());
        // Nobody else's do.
        for asked in [&bert, &root()] {
            let mut place = enter(&room, asked, MAX_DOCUMENT_BYTES).expect("room");
            assert!(grow(&mut place, MAX_DOCUMENT_BYTES));
        }
        drop(first);
        assert!(enter(&room, &anna, MAX_DOCUMENT_BYTES).is_some());
    }

    #[test]
    fn what_has_not_come_takes_no_room_of_others() {
        let room = Room::new();
        let names: Vec<String> = (0..100).map(|n| format!("token {n}")).collect();
        let enter_large = |name: &String| enter(&room, &asked_by(name), MAX_DOCUMENT_BYTES);
        let silent: Vec<_> = names.iter().map(enter_large).collect();
        assert!(silent.iter().all(Option::is_some));
        let mut last = enter_large(&"last".to_owned()).expect("room");
        assert!(grow(&mut last, MAX_DOCUMENT_BYTES));
    }

    #[tokio::test]
    async fn a_full_room_lets_the_eldest_end_and_then_the_next() {
        let room = Room::new();
        let most = AtomicUsize::new(0);
        let one = async |n: usize| {
            let asked = asked_by(&format!("token {n}"));
            let mut place = room.enter(&asked, MAX_DOCUMENT_BYTES).await;
            for mib in 1..=32 {
                place.grow(mib * MIB).await;
                let taken = room.others.large.taken().bytes;
                most.fetch_max(taken, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        join_all((0..20).map(one)).await;
        let most = most.into_inner();
        assert!(most > 90 * MIB && most <= 129 * MIB, "{most}");
        assert_eq!(room.others.large.taken().bytes, 0);
    }

    #[test]
    fn small_ones_are_counted_too() {
        let room = Room::new();
        let place = |asked: &Asked| enter(&room, asked, MAX_SMALL_BYTES);
        let (anna, bert) = (asked_by("anna"), asked_by("bert"));
        let held: Vec<_> = std::iter::from_fn(|| place(&anna)).take(1000).collect();
        assert_eq!(held.len(), 7);
        assert!(place(&bert).is_some() && place(&root()).is_some());
    }

    #[test]
    fn strangers_have_little_and_each_address_less() {
        const LOGIN: usize = 64 * 1024;
        let room = Room::new();
        let place = |address: &str| enter(&room, &stranger(address), LOGIN);
        let address = "2001:db8::1";
        let held: Vec<_> = std::iter::from_fn(|| place(address)).take(1000).collect();
        assert_eq!(held.len(), 8);
        assert!(place("2001:db8::2").is_none());
        assert!(place("2001:db8:0:1::1").is_some());
        let many = (0..1000).filter_map(|n| place(&format!("192.0.2.{}", n % 250)));
        let many: Vec<_> = many.collect();
        let taken = room.strangers.taken().bytes;
        assert!(taken <= 4 * MIB && many.len() < 256, "{taken}");
        // They are in nobody's way.
        assert!(enter(&room, &asked_by("anna"), LOGIN).is_some());
    }

    /// As where a connection ends.
    #[test]
    fn who_leaves_while_they_wait_leaves_nothing_behind() {
        let room = Room::new();
        let anna = asked_by("anna");
        let mut first = enter(&room, &anna, MAX_DOCUMENT_BYTES).expect("room");
        assert!(grow(&mut first, MAX_DOCUMENT_BYTES));
        // One waits for who they are, and one for room, of whom the eldest is another.
        let mut for_her_own = Box::pin(room.enter(&anna, MAX_DOCUMENT_BYTES));
        assert!(for_her_own.as_mut().now_or_never().is_none());
        let mut all = vec![first];
        for name in ["bert", "carl", "dora"] {
            let mut place = enter(&room, &asked_by(name), MAX_DOCUMENT_BYTES).expect("room");
            grow(&mut place, MAX_DOCUMENT_BYTES);
            all.push(place);
        }
        let mut for_room = Box::pin(all[3].grow(MAX_DOCUMENT_BYTES));
        assert!(for_room.as_mut().now_or_never().is_none());
        drop((for_her_own, for_room));
        drop(all);
        let taken = room.others.large.taken();
        assert!(taken.bytes == 0 && taken.places.is_empty());
        drop(taken);
        assert_eq!(room.read.places.load(Ordering::Relaxed), 0);
        assert!(enter(&room, &anna, MAX_DOCUMENT_BYTES).is_some());
    }

    #[test]
    fn memory_is_given_back_once_much_was_read() {
        let room = Room::new();
        let (anna, bert) = (asked_by("anna"), asked_by("bert"));
        let emptied = || room.emptied().now_or_never().is_some();
        drop(enter(&room, &anna, 100));
        assert!(!emptied());
        let mut large = enter(&room, &anna, 5 * MIB).expect("room");
        assert!(grow(&mut large, 5 * MIB));
        let small = enter(&room, &bert, 100);
        drop(large);
        assert!(!emptied());
        drop(small);
        assert!(emptied() && !emptied());
    }
}
