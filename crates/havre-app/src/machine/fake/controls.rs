//! What a test makes happen on the fake machine, and what it looks at.

use std::fmt::Write as _;
use std::time::Duration;

use havre_model::ServiceName;
use havre_release::ReplicaId;

use super::container::Process;
use super::{Behaviour, Cut, FakeMachine};

impl FakeMachine {
    /// What those of a service do that a release starts.
    pub(crate) fn set(&self, service: &str, release: u64, behaviour: Behaviour) {
        let key = (ServiceName::new(service), release);
        self.lock().behaviours.insert(key, behaviour);
    }

    /// From now on somebody has to answer for this service.
    pub(crate) fn must_answer(&self, service: &str) {
        self.now()
            .edge
            .must_answer
            .insert(ServiceName::new(service));
    }

    /// Whether the edge can be reached; where not, it goes on with what it has.
    pub(crate) fn set_edge(&self, is_reachable: bool) {
        self.now().edge.is_reachable = is_reachable;
        self.changed.notify_waiters();
    }

    /// Whether an edge is there that the one at work has taken over from.
    pub(crate) fn set_predecessor(&self, is_there: bool) {
        self.now().edge.predecessor = is_there.then_some(7);
    }

    /// Whether anybody asks for anything.
    pub(crate) fn set_requests_come(&self, come: bool) {
        self.now().edge.rate = if come { 100 } else { 0 };
    }

    /// How long requests take that are under way.
    pub(crate) fn set_requests_take(&self, time: Duration) {
        self.now().edge.takes = time;
    }

    /// Opens streams (WebSockets) to every replica of a service that serves.
    pub(crate) fn open_streams(&self, service: &str, count: u64) {
        let mut machine = self.now();
        for id in machine.edge.serving() {
            let of = machine.containers.get(&id).map(|one| &one.labels.service);
            if of.is_some_and(|of| of.as_str() == service) {
                machine.edge.counters.entry(id).or_default().streams = count;
            }
        }
    }

    /// Why the network is not as it should be.
    pub(crate) fn set_network_problem(&self, problem: Option<&str>) {
        self.lock().network_problem = problem.map(str::to_owned);
    }

    /// The process of a replica ends by itself.
    pub(crate) fn crash(&self, id: &ReplicaId, code: i32) {
        let mut machine = self.now();
        let now = machine.clock.now();
        machine.must_exist(id).crash(code, now);
        self.changed.notify_waiters();
    }

    /// From now on it does something else.
    pub(crate) fn change(&self, id: &ReplicaId, behaviour: Behaviour) {
        let mut machine = self.now();
        let now = machine.clock.now();
        let container = machine.must_exist(id);
        container.behaviour = behaviour;
        container.behaves_since = now;
        self.changed.notify_waiters();
    }

    /// The shim of a replica is killed, and its container with it.
    pub(crate) fn lose(&self, id: &ReplicaId) {
        self.now().must_exist(id).process = Process::Lost;
        self.changed.notify_waiters();
    }

    /// A container is gone without a trace.
    pub(crate) fn vanish(&self, id: &ReplicaId) {
        self.now().containers.remove(id);
        self.changed.notify_waiters();
    }

    /// The daemon is killed at this call from now on; nothing it does comes through any more.
    pub(crate) fn die_after(&self, calls: u64, cut: Cut) {
        let mut machine = self.lock();
        machine.dies_at = Some(machine.calls + calls);
        machine.cut = cut;
    }

    /// The database cannot be written from this call from now on, for so many calls; returns the first
    /// by which it can again.
    pub(crate) fn fill_disk_after(&self, calls: u64, lasting: u64) -> u64 {
        let mut machine = self.lock();
        let from = machine.calls + calls;
        machine.full_at = Some((from, from + lasting));
        from + lasting
    }

    /// There is room whatever was asked for.
    pub(crate) fn empty_disk(&self) {
        let mut machine = self.lock();
        machine.full_at = None;
        if let Some(fault) = machine.fault.take() {
            fault.heal();
        }
    }

    /// Another daemon begins.
    pub(crate) fn revive(&self) {
        let mut machine = self.lock();
        machine.is_dead = false;
        machine.dies_at = None;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Ids of all containers of a service, in order.
    pub(crate) fn of(&self, service: &str) -> Vec<ReplicaId> {
        let machine = self.now();
        let of = machine.containers.iter();
        of.filter(|(_, one)| one.labels.service.as_str() == service)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The same of those that a release has started.
    pub(crate) fn of_release(&self, service: &str, release: u64) -> Vec<ReplicaId> {
        let all = self.of(service);
        let machine = self.now();
        let of_it = |id: &ReplicaId| machine.containers[id].labels.release == release;
        all.into_iter().filter(of_it).collect()
    }

    /// What the first replica of a service was given of secrets, and whether its program knows it.
    pub(crate) fn known(&self, service: &str) -> Option<(String, bool)> {
        let id = self.of(service).into_iter().next()?;
        let given = self.lock().containers.get(&id)?.given.clone()?;
        Some((given.contents, given.loaded))
    }

    /// `service/release` of all containers, in order; those that do not run say so.
    pub(crate) fn containers(&self) -> Vec<String> {
        let machine = self.now();
        let mut all: Vec<String> = machine
            .containers
            .values()
            .map(|one| match one.is_running() {
                true => format!("{}/{}", one.labels.service, one.labels.release),
                false => format!(
                    "{}/{} {:?}",
                    one.labels.service, one.labels.release, one.process
                ),
            })
            .collect();
        all.sort();
        all
    }

    /// `service/release` of all replicas that get requests, in order.
    pub(crate) fn serving(&self) -> Vec<String> {
        let machine = self.now();
        let serving = machine.edge.serving();
        let labels = serving
            .iter()
            .filter_map(|id| Some(&machine.containers.get(id)?.labels));
        let mut all: Vec<String> = labels
            .map(|one| format!("{}/{}", one.service, one.release))
            .collect();
        all.sort();
        all
    }

    /// The permille of a service's visitors that its new replicas get.
    pub(crate) fn canary_permille(&self) -> Option<u32> {
        let machine = self.lock();
        let mut pools = machine.edge.part.pools.values();
        pools
            .find_map(|pool| pool.canary.as_ref())
            .map(|one| one.permille)
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        self.lock().volumes.iter().cloned().collect()
    }

    /// All that was done, in order, as `start web/2`.
    pub(crate) fn history(&self) -> Vec<String> {
        let machine = self.lock();
        machine
            .history
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// What must never happen and has.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.now().violations.clone()
    }

    /// For a person who looks for a fault.
    pub(crate) fn report(&self) -> String {
        let machine = self.lock();
        let mut text = String::new();
        let first = machine.history.first().map(|(at, _)| *at);
        for (at, line) in &machine.history {
            let since = at.duration_since(first.unwrap_or(*at)).unwrap_or_default();
            writeln!(text, "{:>9.3} {line}", since.as_secs_f64()).unwrap();
        }
        for (id, one) in &machine.containers {
            writeln!(text, "there: {id} {:?}", one.process).unwrap();
        }
        for violation in &machine.violations {
            writeln!(text, "VIOLATION: {violation}").unwrap();
        }
        text
    }
}
