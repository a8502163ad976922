//! What operations must never ask of a target.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use havre_api::EnvironmentId;
use havre_model::{FoundDatabases, MAX_REPLICAS, Mount};
use havre_release::{
    Analysis, Cause, Change, Jobs, Move, Outcome, Release, Scale, StrategyReason, TargetStatus,
};

use crate::edge::listen_addresses;
use crate::volumes::volume_name;

/// What was done that must not be; with any of it the test fails.
#[derive(Clone, Debug, Default)]
pub(super) struct Violations(Arc<Mutex<Vec<String>>>);

impl Violations {
    pub(super) fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// All that a change is judged by.
pub(super) struct Judged<'a> {
    pub(super) id: &'a EnvironmentId,
    pub(super) change: &'a Change,
    /// The environment as it is.
    pub(super) before: &'a TargetStatus,
    /// The operation that holds the environment, and who asked for it.
    pub(super) holder: Option<(&'static str, String)>,
    /// All other environments.
    pub(super) others: &'a [(EnvironmentId, Arc<TargetStatus>)],
    /// Whether the environment has a lease on the image with this digest.
    pub(super) is_leased: &'a dyn Fn(&str) -> bool,
}

impl Judged<'_> {
    /// The rules that the change breaks.
    pub(super) fn broken(&self) -> Vec<String> {
        match self.change {
            Change::RollOut(moved) => {
                let mut broken = self.wrong_record(moved);
                broken.extend(self.nothing_new(moved));
                broken.extend(self.not_leased(&moved.release));
                broken.extend(self.collisions(moved));
                broken
            }
            Change::Scale(numbers) => {
                let mut broken = self.not_held_by(&["scale"]);
                let serving = self.before.serving().map(|(_, release)| release);
                let lasting = serving.map(Release::lasting);
                let lasting: BTreeSet<_> = lasting.into_iter().flatten().map(|(n, _)| n).collect();
                if numbers.is_empty() {
                    broken.push("no service is scaled".to_owned());
                }
                for (name, count) in numbers {
                    if !lasting.contains(name) {
                        broken.push(format!("{name} is scaled, which does not serve"));
                    }
                    if *count > MAX_REPLICAS {
                        broken.push(format!("{name} is scaled to {count}"));
                    }
                }
                broken
            }
            // Not after the operation under way: it is that operation's rollout, or its end.
            Change::Abort | Change::Pause | Change::Resume | Change::TakeDown { .. } => Vec::new(),
        }
    }

    fn not_held_by(&self, operations: &[&str]) -> Vec<String> {
        match &self.holder {
            Some((what, _)) if operations.contains(what) => Vec::new(),
            holder => vec![format!(
                "{:?} changes {} while it is held by {holder:?}",
                operations, self.id
            )],
        }
    }

    /// What is recorded is what was asked, and by whom.
    fn wrong_record(&self, moved: &Move) -> Vec<String> {
        let (operation, expected) = match &moved.record.cause {
            Cause::Up => ("up", (Scale::FromFile, Jobs::Run, Analysis::Enabled)),
            Cause::Promotion { .. } => ("promote", (Scale::FromFile, Jobs::Run, Analysis::Enabled)),
            Cause::Restart { .. } => ("restart", (Scale::Kept, Jobs::Skip, Analysis::Skipped)),
            Cause::Rotation { .. } => ("rotate", (Scale::Kept, Jobs::Skip, Analysis::Enabled)),
            Cause::Rollback { .. } => ("rollback", (Scale::Kept, Jobs::Skip, Analysis::Skipped)),
        };
        let mut broken = self.not_held_by(&[operation]);
        let asked = self.holder.as_ref().map(|(_, by)| by);
        if moved.record.by.as_ref() != asked {
            broken.push(format!(
                "{asked:?} asked, and {:?} is recorded",
                moved.record.by
            ));
        }
        if moved.record.started_at.is_none() || moved.record.outcome != Outcome::UnderWay {
            broken.push("the record does not begin".to_owned());
        }
        let way = (moved.scale, moved.jobs, moved.analysis);
        if way != expected {
            broken.push(format!("{operation} moves by {way:?}"));
        }
        broken
    }

    /// An `up` that changes nothing makes no release.
    fn nothing_new(&self, moved: &Move) -> Option<String> {
        let serving = self.before.serving().map(|(_, release)| release);
        let is_idle = serving == Some(&moved.release) && self.before.is_as_wanted();
        is_idle.then(|| format!("{} moves to what serves already", self.id))
    }

    fn not_leased(&self, release: &Release) -> impl Iterator<Item = String> {
        let services = release.services.values();
        let images = services.flat_map(|service| service.images());
        images
            .filter(|digest| !(self.is_leased)(digest))
            .map(|digest| format!("nobody holds the image {digest} of {}", self.id))
    }

    /// What another environment has, by what its releases say.
    fn collisions(&self, moved: &Move) -> Vec<String> {
        let wanted = claims(self.id, &moved.release, &moved.databases);
        let mut broken = Vec::new();
        for (other, status) in self.others {
            for release in status.releases.values() {
                let theirs = claims(other, release, &status.desired.databases);
                let both = wanted.intersection(&theirs);
                broken.extend(both.map(|what| format!("{} and {other} have {what}", self.id)));
            }
        }
        broken
    }
}

/// What only one environment can have: volumes, addresses, ports and folders with a database.
fn claims(id: &EnvironmentId, release: &Release, databases: &FoundDatabases) -> BTreeSet<String> {
    let mut claims = BTreeSet::new();
    for (name, service) in release.lasting() {
        for mount in &service.service.mounts {
            let Mount::Volume {
                name,
                backing: None,
                ..
            } = mount
            else {
                continue;
            };
            let volume = release.volumes.get(name).cloned().unwrap_or_default();
            if !volume.external {
                claims.insert(format!("volume {}", volume_name(id, name, &volume)));
            }
        }
        if let Some(StrategyReason::ExclusiveFolder { folder, .. }) =
            release.sole_database(name, databases)
        {
            claims.insert(format!("a database in {}", folder.display()));
        }
    }
    for route in &release.routes {
        let hosts = route.host.as_ref().map(std::slice::from_ref);
        for host in hosts.unwrap_or(&release.hosts) {
            claims.insert(format!("{host}{}", route.path));
        }
    }
    for (_, port) in release.forwards() {
        let listens = listen_addresses(port).into_iter();
        claims.extend(listens.map(|address| format!("port {address} ({})", port.protocol)));
    }
    claims
}
