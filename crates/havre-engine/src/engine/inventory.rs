//! What is known of every container, in memory, and who is told of a change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use crate::spec::{ContainerId, Observed, State};

/// The containers of one `cgroup_parent`, by id.
pub type Siblings = Arc<Vec<Observed>>;

/// All containers.
#[derive(Debug, Default)]
pub struct Inventory {
    entries: BTreeMap<ContainerId, Entry>,
    /// By `cgroup_parent`: those that somebody watches.
    watched: HashMap<String, watch::Sender<Siblings>>,
    /// How many attendants there were.
    attendants: u64,
}

/// Who makes a container, or listens to its shim, and no other after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attendant(u64);

#[derive(Debug)]
struct Entry {
    state: watch::Sender<Observed>,
    /// `None` where its spec cannot be read: it is nobody's sibling.
    cgroup_parent: Option<String>,
    /// `None`: it has ended, and will not change by itself.
    attendant: Option<Attendant>,
}

impl Inventory {
    /// Takes a container in that somebody makes, or is about to listen to. `None`: its id is taken.
    pub fn reserve(
        &mut self,
        observed: Observed,
        cgroup_parent: Option<String>,
    ) -> Option<watch::Receiver<Observed>> {
        if self.entries.contains_key(&observed.id) {
            return None;
        }
        let id = observed.id.clone();
        let (state, receiver) = watch::channel(observed.clone());
        let entry = Entry {
            state,
            cgroup_parent,
            attendant: Some(self.next_attendant()),
        };
        self.entries.insert(id.clone(), entry);
        self.tell(&id, Some(observed));
        Some(receiver)
    }

    /// Takes a new state in and tells everyone. A container that was removed stays removed.
    pub fn observe(&self, observed: Observed) {
        let Some(entry) = self.entries.get(&observed.id) else {
            return;
        };
        // First: who waits for the container alone finds the others told.
        self.tell(&observed.id, Some(observed.clone()));
        entry.state.send_replace(observed);
    }

    /// Somebody else sees to it from now on. `None`: it was removed.
    pub fn attend(&mut self, id: &ContainerId) -> Option<Attendant> {
        let attendant = self.next_attendant();
        self.entries.get_mut(id)?.attendant = Some(attendant);
        Some(attendant)
    }

    /// What an attendant has heard: nothing new once another has taken its place, also at another
    /// container with the same id.
    pub fn report(&self, attendant: Attendant, observed: Observed) {
        if self.attendant(&observed.id) == Some(attendant) {
            self.observe(observed);
        }
    }

    /// The same, and the last that it has to say.
    pub fn leave(&mut self, attendant: Attendant, last: Observed) {
        if let Some(entry) = self.entries.get_mut(&last.id)
            && entry.attendant == Some(attendant)
        {
            // At once: who learns that it has ended may start it again.
            entry.attendant = None;
            self.observe(last);
        }
    }

    /// Drops a container that is there no more.
    pub fn forget(&mut self, id: &ContainerId) {
        self.tell(id, None);
        self.entries.remove(id);
    }

    /// The same, unless somebody sees to it; whether it was known until now.
    pub fn forget_unattended(&mut self, id: &ContainerId) -> bool {
        let was_known = self.has(id) && !self.is_attended(id);
        if was_known {
            self.forget(id);
        }
        was_known
    }

    /// Whether somebody sees to it.
    pub fn is_attended(&self, id: &ContainerId) -> bool {
        self.attendant(id).is_some()
    }

    /// Whether it is known.
    pub fn has(&self, id: &ContainerId) -> bool {
        self.entries.contains_key(id)
    }

    /// Its state, and the changes of it.
    pub fn state(&self, id: &ContainerId) -> Option<watch::Receiver<Observed>> {
        self.entries.get(id).map(|entry| entry.state.subscribe())
    }

    /// Its state.
    pub fn get(&self, id: &ContainerId) -> Option<Observed> {
        self.entries
            .get(id)
            .map(|entry| entry.state.borrow().clone())
    }

    /// Where its control group is, if that is known.
    pub fn cgroup_parent(&self, id: &ContainerId) -> Option<String> {
        self.entries.get(id)?.cgroup_parent.clone()
    }

    /// All that are known, by id.
    pub fn ids(&self) -> BTreeSet<ContainerId> {
        self.entries.keys().cloned().collect()
    }

    /// All states, by id.
    pub fn all(&self) -> Vec<Observed> {
        let entries = self.entries.values();
        entries.map(|entry| entry.state.borrow().clone()).collect()
    }

    /// The containers of one `cgroup_parent`, and the changes of these.
    pub fn watch(&mut self, cgroup_parent: &str) -> watch::Receiver<Siblings> {
        self.watched.retain(|_, sender| sender.receiver_count() > 0);
        if let Some(sender) = self.watched.get(cgroup_parent) {
            return sender.subscribe();
        }
        let is_one = |entry: &&Entry| entry.cgroup_parent.as_deref() == Some(cgroup_parent);
        let all = self.entries.values().filter(is_one);
        let all: Vec<Observed> = all.map(|entry| entry.state.borrow().clone()).collect();
        let (sender, receiver) = watch::channel(Arc::new(all));
        self.watched.insert(cgroup_parent.to_owned(), sender);
        receiver
    }

    fn attendant(&self, id: &ContainerId) -> Option<Attendant> {
        self.entries.get(id)?.attendant
    }

    fn next_attendant(&mut self) -> Attendant {
        self.attendants += 1;
        Attendant(self.attendants)
    }

    /// Tells those who watch it and its siblings, if anything is new to them. `None`: it is gone.
    fn tell(&self, id: &ContainerId, now: Option<Observed>) {
        let entry = self.entries.get(id);
        let parent = entry.and_then(|entry| entry.cgroup_parent.as_ref());
        let Some(sender) = parent.and_then(|parent| self.watched.get(parent)) else {
            return;
        };
        sender.send_if_modified(|all| {
            let place = all.binary_search_by(|one| one.id.cmp(id));
            match (place, now) {
                (Ok(at), Some(now)) if all.get(at) == Some(&now) => return false,
                (Ok(at), Some(now)) => Arc::make_mut(all)[at] = now,
                (Err(at), Some(now)) => Arc::make_mut(all).insert(at, now),
                (Ok(at), None) => drop(Arc::make_mut(all).remove(at)),
                (Err(_), None) => return false,
            }
            true
        });
    }
}

/// A container of which nothing but this is known yet.
pub fn blank(id: &ContainerId, labels: BTreeMap<String, String>, state: State) -> Observed {
    Observed {
        id: id.clone(),
        labels,
        state,
        restarts: 0,
        health: None,
        liveness: None,
        last_exit: None,
        given: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, state: State) -> Observed {
        blank(&ContainerId(name.to_owned()), BTreeMap::new(), state)
    }

    fn add(inventory: &mut Inventory, parent: &str, name: &str) {
        let observed = container(name, State::Creating);
        let taken = inventory.reserve(observed, Some(parent.to_owned()));
        assert!(taken.is_some(), "{name}");
    }

    fn ids(siblings: &watch::Receiver<Siblings>) -> String {
        let ids: Vec<String> = siblings
            .borrow()
            .iter()
            .map(|one| one.id.0.clone())
            .collect();
        ids.join(" ")
    }

    /// Whether there was news since the last time.
    fn news(siblings: &mut watch::Receiver<Siblings>) -> bool {
        let news = siblings.has_changed().expect("the inventory is there");
        siblings.mark_unchanged();
        news
    }

    #[test]
    fn who_watches_is_told_of_these_and_of_no_others() {
        let mut inventory = Inventory::default();
        add(&mut inventory, "shop", "b");
        let mut shop = inventory.watch("shop");
        let mut blog = inventory.watch("blog");
        assert_eq!((ids(&shop).as_str(), ids(&blog).as_str()), ("b", ""));
        add(&mut inventory, "shop", "a");
        assert_eq!((news(&mut shop), news(&mut blog)), (true, false));
        assert_eq!(ids(&shop), "a b");
        add(&mut inventory, "blog", "c");
        inventory.observe(container("c", State::Exited));
        assert_eq!((news(&mut shop), news(&mut blog)), (false, true));
        assert_eq!(blog.borrow()[0].state, State::Exited);
        inventory.forget(&ContainerId("b".to_owned()));
        assert_eq!((news(&mut shop), news(&mut blog)), (true, false));
        assert_eq!(ids(&shop), "a");
        assert_eq!(ids(&inventory.watch("shop")), "a", "as who comes later");
    }

    #[test]
    fn what_is_no_news_wakes_nobody() {
        let mut inventory = Inventory::default();
        add(&mut inventory, "shop", "a");
        let mut shop = inventory.watch("shop");
        // As from a shim that is asked again.
        inventory.observe(container("a", State::Creating));
        assert!(!news(&mut shop));
        // And of one that never was.
        inventory.observe(container("b", State::Exited));
        inventory.forget(&ContainerId("b".to_owned()));
        assert!(!news(&mut shop));
        // Of one whose spec cannot be read nobody knows whose it is.
        let half = inventory.reserve(container("half", State::Creating), None);
        assert!(half.is_some());
        assert!(!news(&mut shop));
        assert_eq!(inventory.all().len(), 2);
    }

    #[test]
    fn an_id_is_taken_until_it_is_forgotten_and_one_attended_to_is_not() {
        let mut inventory = Inventory::default();
        let id = ContainerId("a".to_owned());
        add(&mut inventory, "shop", "a");
        let again = container("a", State::Creating);
        assert!(inventory.reserve(again.clone(), None).is_none());
        assert!(!inventory.forget_unattended(&id));
        let listener = inventory.attend(&id).expect("known");
        inventory.leave(listener, container("a", State::Exited));
        assert!(inventory.forget_unattended(&id));
        assert!(!inventory.forget_unattended(&id));
        assert!(inventory.reserve(again, None).is_some());
    }

    #[test]
    fn who_listened_to_an_earlier_container_of_an_id_is_not_heard() {
        let mut inventory = Inventory::default();
        let id = ContainerId("a".to_owned());
        add(&mut inventory, "shop", "a");
        let late = inventory.attend(&id).expect("known");
        inventory.forget(&id);
        assert!(inventory.attend(&id).is_none());
        add(&mut inventory, "shop", "a");
        inventory.report(late, container("a", State::Exited));
        inventory.leave(late, container("a", State::Lost));
        assert!(inventory.is_attended(&id));
        assert_eq!(
            inventory.get(&id).map(|one| one.state),
            Some(State::Creating)
        );
        let listener = inventory.attend(&id).expect("known");
        inventory.leave(listener, container("a", State::Lost));
        assert!(!inventory.is_attended(&id));
        assert_eq!(inventory.get(&id).map(|one| one.state), Some(State::Lost));
    }

    #[test]
    fn nothing_is_kept_for_those_who_watch_no_more() {
        let mut inventory = Inventory::default();
        for number in 0..100 {
            drop(inventory.watch(&format!("environment-{number}")));
        }
        assert_eq!(inventory.watched.len(), 1);
    }
}
