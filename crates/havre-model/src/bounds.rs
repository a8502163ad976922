//! Bounds of a project's numbers, and of names that become folders. The reader keeps them with a place in the file; whoever gets a
//! project from elsewhere asks [`Project::in_bounds`].

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::decode::is_capability;
use crate::settings::{PRODUCTION, valid_domain, valid_environment};
use crate::{
    Approver, EnvironmentGates, EnvironmentName, Freeze, FreezeTime, Healthcheck, ProbeTiming,
    Project, RolloutSettings, RolloutStrategy, Service, UpdateConfig, WEEK_MINUTES,
};

/// More replicas than one machine could hold; a slip of the hand.
pub const MAX_REPLICAS: u32 = 1000;
/// What a release or a replica is waited for; longer is a slip of the unit.
pub(crate) const MAX_WATCH: Duration = Duration::from_secs(24 * 3600);
/// Files that a container's output is kept in: each is renamed when a new one begins.
pub(crate) const MAX_LOG_FILES: u32 = 100;
/// Bytes of one of them; smaller ones would be renamed at every line.
pub(crate) const MIN_LOG_FILE: u64 = 4096;
/// Hosts of one environment: each is a certificate, which an authority gives out by the hundred.
pub const MAX_HOSTS: usize = 100;
/// Routes of one environment.
pub(crate) const MAX_ROUTES: usize = 1000;
/// Bytes of a route's path.
const MAX_ROUTE_PATH: usize = 2048;
/// Users, and groups, that processes of Havre's own run as, and containers never: they would share
/// what the kernel grants each user.
pub const OWN_USERS: [u32; 3] = [60_943, 60_953, 60_963];
/// The longest that a file can say: times are added to it.
const MAX_DURATION: Duration = Duration::from_nanos(u64::MAX);

/// Longest time that a release may be made to wait.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most people who have to agree.
pub(crate) const MAX_APPROVALS: u32 = 20;
/// Environments of branches at once, how long each stays at least, and the longest name before the branch's.
pub(crate) const MAX_PREVIEWS: u32 = 50;
pub(crate) const LEAST_PREVIEW: Duration = Duration::from_secs(60);
pub(crate) const MAX_PREVIEW_NAME: usize = 20;
/// Environments of one project, and items of each list of what has to hold there.
pub(crate) const MAX_GATE_ITEMS: usize = 100;
/// Longest of its texts, in bytes.
pub(crate) const MAX_GATE_TEXT: usize = 200;

/// Whether it is one line that is not too long.
pub(crate) fn is_gate_text(text: &str) -> bool {
    (1..=MAX_GATE_TEXT).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether it could name a time zone, by its letters.
pub(crate) fn is_zone(name: &str) -> bool {
    let sound = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
    };
    name.len() <= MAX_GATE_TEXT && name.split('/').all(sound)
}

/// Whether a volume may have this name: it becomes a folder's, which `down --volumes` removes. As
/// Docker has it.
pub fn is_volume_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether a volume may have this name in the files: the project's comes before it.
pub(crate) fn is_volume_key(key: &str) -> bool {
    is_volume_name(&format!("x_{key}"))
}

/// Whether a network of the machine may have this name. As Docker has it, and short enough to be part
/// of others.
pub fn is_network_name(name: &str) -> bool {
    name.len() <= 63 && is_volume_name(name)
}

/// What no file could hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfBounds {
    /// Where, in the words of the files.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl Error for OutOfBounds {}

impl Project {
    /// Whether every number, every host, every capability and every volume's and shared network's name is one
    /// that the files could hold.
    pub fn in_bounds(&self) -> Result<(), OutOfBounds> {
        for (name, service) in &self.services {
            service_in_bounds(service).map_err(|inner| OutOfBounds {
                place: format!("services.{name}.{}", inner.place),
                ..inner
            })?;
        }
        for (key, volume) in &self.volumes {
            let own = volume.name.as_deref();
            if !is_volume_key(key.as_str()) || own.is_some_and(|name| !is_volume_name(name)) {
                let name = own.unwrap_or(key.as_str());
                let reason = format!("{name:?} is not a name for a volume");
                return out(&format!("volumes.{key}"), reason);
            }
        }
        for (key, network) in &self.networks {
            if let Some(name) = &network.shared
                && !is_network_name(name)
            {
                let reason = format!("{name:?} is not a name for a network of the machine");
                return out(&format!("networks.{key}"), reason);
            }
        }
        self.reached_in_bounds()?;
        gates_in_bounds(&self.gates)?;
        rollout_in_bounds(&self.rollout)
    }

    fn reached_in_bounds(&self) -> Result<(), OutOfBounds> {
        if self.hosts.len() > MAX_HOSTS {
            return out("domains", format!("more than {MAX_HOSTS}"));
        }
        if self.routes.len() > MAX_ROUTES {
            return out("routes", format!("more than {MAX_ROUTES}"));
        }
        let hosts = self.hosts.iter();
        let of_routes = self.routes.iter().filter_map(|route| route.host.as_ref());
        if let Some(host) = hosts.chain(of_routes).find(|host| !valid_domain(host)) {
            return out("domains", format!("{host:?} is not a domain"));
        }
        let is_path = |path: &str| {
            path.starts_with('/')
                && path.len() <= MAX_ROUTE_PATH
                && !path.contains(char::is_control)
        };
        if let Some(route) = self.routes.iter().find(|route| !is_path(&route.path)) {
            return out("routes", format!("{:?} is not a path", route.path));
        }
        Ok(())
    }
}

/// Whether all of it is as the reader would have made it.
pub fn gates_in_bounds(gates: &[EnvironmentGates]) -> Result<(), OutOfBounds> {
    if gates.len() > MAX_GATE_ITEMS {
        return out("environments", format!("more than {MAX_GATE_ITEMS}"));
    }
    for (index, one) in gates.iter().enumerate() {
        let place = format!("environments.{}", one.name);
        let before = &gates[..index];
        let stands_before = |name: &EnvironmentName| before.iter().any(|other| other.name == *name);
        if !valid_environment(one.name.as_str()) || stands_before(&one.name) {
            return out(&place, "not a name of its own".to_owned());
        }
        if !one.needs.iter().all(stands_before) {
            return out(&place, "needs what does not stand above it".to_owned());
        }
        let approval = one.approval.as_ref();
        let by = approval.map(|rule| &rule.by[..]).unwrap_or_default();
        let named = by.iter().filter_map(|one| match one {
            Approver::Name(name) => Some(name),
            Approver::Role(_) => None,
        });
        let reasons = one
            .freeze
            .iter()
            .filter_map(|freeze| freeze.reason.as_ref());
        let mut texts = one
            .branches
            .iter()
            .chain(&one.e2e)
            .chain(named)
            .chain(reasons);
        if !texts.all(|text| is_gate_text(text)) {
            return out(
                &place,
                format!("a text is not one line of at most {MAX_GATE_TEXT} bytes"),
            );
        }
        let lists = [
            one.branches.len(),
            one.needs.len(),
            one.freeze.len(),
            by.len(),
        ];
        if lists.iter().any(|items| *items > MAX_GATE_ITEMS) {
            return out(&place, format!("a list of more than {MAX_GATE_ITEMS}"));
        }
        if approval.is_some_and(|rule| !(1..=MAX_APPROVALS).contains(&rule.count)) {
            return out(&place, format!("approvals are from 1 to {MAX_APPROVALS}"));
        }
        if let Some(previews) = &one.previews {
            let is_sound = (1..=MAX_PREVIEWS).contains(&previews.most)
                && previews.after >= LEAST_PREVIEW
                && one.name.as_str().len() <= MAX_PREVIEW_NAME
                && one.name.as_str() != PRODUCTION;
            if !is_sound {
                return out(&place, "previews that no file can ask for".to_owned());
            }
            no_longer(&place, previews.after, MAX_WAIT)?;
        }
        no_longer(&place, one.wait.unwrap_or_default(), MAX_WAIT)?;
        let is_sound = |freeze: &Freeze| {
            is_zone(&freeze.timezone)
                && match freeze.when {
                    FreezeTime::Once { from, to } => from < to,
                    FreezeTime::Weekly { from, to } => {
                        from != to && from < WEEK_MINUTES && to < WEEK_MINUTES
                    }
                }
        };
        if !one.freeze.iter().all(is_sound) {
            return out(&place, "a freeze that is none".to_owned());
        }
    }
    Ok(())
}

fn service_in_bounds(service: &Service) -> Result<(), OutOfBounds> {
    if service.replicas > MAX_REPLICAS {
        let reason = format!("more than {MAX_REPLICAS} replicas");
        return out("deploy.replicas", reason);
    }
    for (key, names) in [
        ("cap_add", &service.cap_add),
        ("cap_drop", &service.cap_drop),
    ] {
        if let Some(name) = names.iter().find(|name| !is_capability(name)) {
            return out(key, format!("{name:?} is not a capability"));
        }
    }
    let logging = &service.logging;
    if logging.max_files.is_some_and(|files| files > MAX_LOG_FILES) {
        let reason = format!("more than {MAX_LOG_FILES} files");
        return out("logging.options.max-file", reason);
    }
    if logging
        .max_size_bytes
        .is_some_and(|size| size < MIN_LOG_FILE)
    {
        let reason = format!("less than {MIN_LOG_FILE} bytes");
        return out("logging.options.max-size", reason);
    }
    no_longer("stop_grace_period", service.stop_grace_period, MAX_DURATION)?;
    match &service.healthcheck {
        Some(Healthcheck::Probe { timing, .. }) => timing_in_bounds("healthcheck", timing)?,
        Some(Healthcheck::Disabled) | None => {}
    }
    if let Some(liveness) = &service.liveness {
        timing_in_bounds("liveness", &liveness.timing)?;
    }
    let UpdateConfig { delay, monitor, .. } = &service.update;
    for (key, duration) in [("delay", delay), ("monitor", monitor)] {
        let place = format!("deploy.update_config.{key}");
        no_longer(&place, duration.unwrap_or_default(), MAX_DURATION)?;
    }
    Ok(())
}

fn timing_in_bounds(section: &str, timing: &ProbeTiming) -> Result<(), OutOfBounds> {
    for (key, duration) in [
        ("interval", timing.interval),
        ("timeout", timing.timeout),
        ("start_period", timing.start_period),
        ("start_interval", timing.start_interval),
    ] {
        let place = format!("{section}.{key}");
        no_longer(&place, duration.unwrap_or_default(), MAX_DURATION)?;
    }
    Ok(())
}

fn rollout_in_bounds(rollout: &RolloutSettings) -> Result<(), OutOfBounds> {
    for (key, duration) in [
        ("ready_timeout", rollout.ready_timeout),
        ("drain_timeout", rollout.drain_timeout),
    ] {
        no_longer(&format!("rollout.{key}"), duration, MAX_WATCH)?;
    }
    let hold = rollout.hold.unwrap_or_default();
    no_longer("rollout.hold", hold, RolloutSettings::LONGEST_HOLD)?;
    // A service's `monitor` may set it.
    no_longer("rollout.bake", rollout.bake, MAX_DURATION)?;
    if rollout.max_errors_permille > 1000 {
        return out("rollout.max_errors", "more than all requests".to_owned());
    }
    if let RolloutStrategy::Canary { steps, step } = &rollout.strategy {
        no_longer("rollout.step", *step, MAX_DURATION)?;
        let grow = steps.windows(2).all(|pair| pair[0] < pair[1]);
        if !grow || steps.iter().any(|share| !(1..1000).contains(share)) {
            let reason = "shares in a thousand that grow, each below the whole".to_owned();
            return out("rollout.steps", reason);
        }
    }
    Ok(())
}

fn no_longer(place: &str, duration: Duration, most: Duration) -> Result<(), OutOfBounds> {
    if duration <= most {
        return Ok(());
    }
    out(place, format!("longer than {} s", most.as_secs()))
}

fn out(place: &str, reason: String) -> Result<(), OutOfBounds> {
    Err(OutOfBounds {
        place: place.to_owned(),
        reason,
    })
}
