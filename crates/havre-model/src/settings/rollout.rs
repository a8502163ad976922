//! `rollout` of `havre.yaml`: how an environment moves from one release to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bounds::MAX_WATCH;
use crate::project::{OnFailure, RolloutSettings, RolloutStrategy, Service, ServiceName};
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::schema;

/// Shares in a thousand of a canary whose steps nobody named.
pub(crate) const USUAL_STEPS: [u32; 3] = [50, 250, 500];
/// How long each of them is watched.
pub(crate) const USUAL_STEP: Duration = Duration::from_secs(30);

/// What a person wrote; what they did not write is decided later.
#[derive(Clone, Debug, Default)]
pub(crate) struct WrittenRollout {
    strategy: Option<RolloutStrategy>,
    bake: Option<Duration>,
    max_errors_permille: Option<u32>,
    max_slowdown_percent: Option<u32>,
    ready_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    hold: Option<Duration>,
    on_failure: Option<OnFailure>,
}

impl WrittenRollout {
    pub(super) fn read(field: Field<'_>, report: &mut Report) -> Option<Self> {
        let fields = &field.fields(&schema::ROLLOUT.section, report)?;
        let watch = |key, report: &mut Report| {
            let field = fields.get(key)?;
            let duration = field.duration(report)?;
            if duration > MAX_WATCH {
                let message = format!("{}: `{key}` is longer than a day", fields.owner);
                report.error("havre/value", field.span(), message);
                return None;
            }
            Some(duration)
        };
        Some(Self {
            strategy: strategy(fields, report),
            bake: watch("bake", report),
            max_errors_permille: fields
                .get("max_errors")
                .and_then(|field| permille(field, report)),
            max_slowdown_percent: fields
                .get("max_slowdown")
                .and_then(|field| slowdown(field, report)),
            ready_timeout: watch("ready_timeout", report),
            drain_timeout: watch("drain_timeout", report),
            hold: fields.get("hold").and_then(|field| hold(field, report)),
            on_failure: fields
                .get("on_failure")
                .and_then(|field| on_failure(field, report)),
        })
    }

    /// What an environment says of its own comes before what the whole file says.
    pub(super) fn or(self, wider: Option<Self>) -> Self {
        let wider = wider.unwrap_or_default();
        Self {
            strategy: self.strategy.or(wider.strategy),
            bake: self.bake.or(wider.bake),
            max_errors_permille: self.max_errors_permille.or(wider.max_errors_permille),
            max_slowdown_percent: self.max_slowdown_percent.or(wider.max_slowdown_percent),
            ready_timeout: self.ready_timeout.or(wider.ready_timeout),
            drain_timeout: self.drain_timeout.or(wider.drain_timeout),
            hold: self.hold.or(wider.hold),
            on_failure: self.on_failure.or(wider.on_failure),
        }
    }

    /// With what `update_config` of services says, and the defaults.
    pub(crate) fn settle(&self, services: &BTreeMap<ServiceName, Service>) -> RolloutSettings {
        let usual = RolloutSettings::default();
        let updates = || services.values().map(|service| &service.update);
        let monitored = updates().filter_map(|update| update.monitor).max();
        let pauses = updates().any(|update| update.on_failure == Some(OnFailure::Pause));
        let asked = if pauses {
            OnFailure::Pause
        } else {
            usual.on_failure
        };
        RolloutSettings {
            strategy: self.strategy.clone().unwrap_or_default(),
            bake: self.bake.or(monitored).unwrap_or(usual.bake),
            max_errors_permille: self
                .max_errors_permille
                .unwrap_or(usual.max_errors_permille),
            max_slowdown_percent: self
                .max_slowdown_percent
                .unwrap_or(usual.max_slowdown_percent),
            ready_timeout: self.ready_timeout.unwrap_or(usual.ready_timeout),
            drain_timeout: self.drain_timeout.unwrap_or(usual.drain_timeout),
            hold: self.hold,
            on_failure: self.on_failure.unwrap_or(asked),
        }
    }
}

/// Requests that wait longer are given up by whoever asked.
fn hold(field: Field<'_>, report: &mut Report) -> Option<Duration> {
    let hold = field.duration(report)?;
    if hold > RolloutSettings::LONGEST_HOLD {
        let message = format!("{}: `hold` is longer than ten minutes", field.owner);
        report.error("havre/value", field.span(), message);
        return None;
    }
    Some(hold)
}

fn strategy(fields: &Fields<'_>, report: &mut Report) -> Option<RolloutStrategy> {
    let steps = fields.get("steps").map(|field| steps(field, report));
    let step = fields.get("step").and_then(|field| field.duration(report));
    let written = fields.get("strategy");
    let canary = match written {
        Some(field) => match field.string(report)?.as_str() {
            "canary" => true,
            "blue-green" => false,
            other => {
                let message = format!("{}: `{other}` is not a strategy", fields.owner);
                report.error("havre/value", field.span(), message).hint(
                    "`blue-green` or `canary`; group by group is \
                         `deploy.update_config.parallelism` of a service",
                );
                return None;
            }
        },
        None => false,
    };
    if !canary {
        for key in ["steps", "step"] {
            if let Some(field) = fields.get(key) {
                let message = format!("{}: `{key}` is for `strategy: canary`", fields.owner);
                report
                    .error("havre/conflict", field.span(), message)
                    .hint("write `strategy: canary` beside it");
            }
        }
        return written.map(|_| RolloutStrategy::BlueGreen);
    }
    Some(RolloutStrategy::Canary {
        steps: steps.flatten().unwrap_or_else(|| USUAL_STEPS.to_vec()),
        step: step.unwrap_or(USUAL_STEP),
    })
}

/// Shares that grow, each below the whole.
fn steps(field: Field<'_>, report: &mut Report) -> Option<Vec<u32>> {
    let mut shares: Vec<u32> = Vec::new();
    for item in field.items(report) {
        let share = permille(item, report)?;
        let grows = shares.last().is_none_or(|last| share > *last);
        if share == 0 || share >= 1000 || !grows {
            let message = format!(
                "{}: `steps` are shares that grow, above 0% and below 100%",
                field.owner
            );
            report
                .error("havre/value", item.span(), message)
                .hint("steps: [5%, 25%, 50%]");
            return None;
        }
        shares.push(share);
    }
    if shares.is_empty() {
        let message = format!("{}: `steps` names no share", field.owner);
        report.error("havre/value", field.span(), message);
        return None;
    }
    Some(shares)
}

/// `2.5%` as parts of a thousand.
fn permille(field: Field<'_>, report: &mut Report) -> Option<u32> {
    let text = field.string(report)?;
    let tenths = text
        .strip_suffix('%')
        .and_then(|number| decimal(number.trim(), 10));
    match tenths {
        Some(share) if share <= 1000 => Some(share),
        Some(_) | None => {
            let (owner, key) = (&field.owner, field.key);
            let message = format!("{owner}: `{key}` is a share like `5%`, not `{text}`");
            report.error("havre/type", field.span(), message);
            None
        }
    }
}

/// `1.5` times, in hundredths.
fn slowdown(field: Field<'_>, report: &mut Report) -> Option<u32> {
    let text = field.string(report)?;
    match decimal(text.trim_end_matches('x'), 100) {
        Some(factor) if factor > 100 => Some(factor),
        Some(_) | None => {
            let (owner, key) = (&field.owner, field.key);
            let message = format!("{owner}: `{key}` is a factor above 1 like `2.5`, not `{text}`");
            report.error("havre/type", field.span(), message);
            None
        }
    }
}

/// A decimal number in parts of one `unit`th; finer digits are not taken.
fn decimal(text: &str, unit: u32) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let places = unit.ilog10();
    if !digits(whole) || !digits(part) || part.len() > places as usize {
        return None;
    }
    let scale = 10_u32.pow(places - u32::try_from(part.len()).ok()?);
    let whole = whole.parse::<u32>().ok()?.checked_mul(unit)?;
    whole.checked_add(part.parse::<u32>().ok()?.checked_mul(scale)?)
}

fn on_failure(field: Field<'_>, report: &mut Report) -> Option<OnFailure> {
    match field.string(report)?.as_str() {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        other => {
            let message = format!("{}: `{other}` is not known", field.owner);
            report
                .error("havre/value", field.span(), message)
                .hint("`rollback` or `pause`");
            None
        }
    }
}
