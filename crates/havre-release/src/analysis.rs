//! Whether a release does worse than the one before, from what the edge has counted of both.

use havre_model::RolloutSettings;

use crate::{FailureKind, Traffic};

/// Fewer errors than this are nobody's fault.
const LEAST_ERRORS: u64 = 3;
/// Fewer answers than this say nothing about latency.
const LEAST_ANSWERS: u64 = 50;
/// Slower by less than this is not felt, whatever the factor.
const FELT_MS: u32 = 100;
/// Normal quantile of the 95% interval.
const Z: f64 = 1.96;

/// Whether more requests fail than before, by more than `settings` bear. Few can be enough to tell.
pub(crate) fn errors(
    before: &Traffic,
    now: &Traffic,
    settings: &RolloutSettings,
) -> Option<FailureKind> {
    if now.errors() < LEAST_ERRORS {
        return None;
    }
    let borne = share(before) + f64::from(settings.max_errors_permille) / 1000.0;
    (lower_bound(now.errors(), now.ended()) > borne).then(|| FailureKind::Errors {
        errors: now.errors(),
        requests: now.ended(),
        errors_before: before.errors(),
        requests_before: before.ended(),
    })
}

/// Whether answers take longer than before, by more than `settings` bear. `now` should not hold
/// the first answers of new processes, which are slow everywhere.
pub(crate) fn latency(
    before: &Traffic,
    now: &Traffic,
    settings: &RolloutSettings,
) -> Option<FailureKind> {
    if before.requests < LEAST_ANSWERS || now.requests < LEAST_ANSWERS {
        return None;
    }
    let (before_ms, p95_ms) = (before.p95_ms()?, now.p95_ms()?);
    let borne = u64::from(before_ms) * u64::from(settings.max_slowdown_percent) / 100;
    let slow = u64::from(p95_ms) > borne && p95_ms > before_ms.saturating_add(FELT_MS);
    slow.then_some(FailureKind::Slow { p95_ms, before_ms })
}

fn share(traffic: &Traffic) -> f64 {
    match traffic.ended() {
        0 => 0.0,
        ended => traffic.errors() as f64 / ended as f64,
    }
}

/// The share of errors is at least this, with 97.5% confidence (Wilson's interval): a few errors
/// among the first requests weigh less than many among many.
fn lower_bound(errors: u64, of: u64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    let (n, p) = (of as f64, errors as f64 / of as f64);
    let z2 = Z * Z;
    let spread = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    (p + z2 / (2.0 * n) - spread) / (1.0 + z2 / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(requests: u64, errors: u64, bound_ms: u32) -> Traffic {
        Traffic {
            requests,
            server_errors: errors,
            latency: [(bound_ms, requests)].into(),
            ..Traffic::default()
        }
    }

    fn is_worse(before: &Traffic, now: &Traffic) -> bool {
        let settings = RolloutSettings::default();
        errors(before, now, &settings).is_some() || latency(before, now, &settings).is_some()
    }

    #[test]
    fn more_errors_than_before_are_found_with_few_requests_and_many() {
        let calm = traffic(1000, 0, 8);
        for (requests, errors, worse) in [
            (0, 0, false),
            (1, 1, false),
            (2, 2, false),
            (3, 3, true),
            (10, 3, true),
            (150, 3, false),
            (100, 6, true),
            (10_000, 100, false),
            (10_000, 200, true),
        ] {
            let now = traffic(requests, errors, 8);
            assert_eq!(is_worse(&calm, &now), worse, "{errors} of {requests}");
        }
    }

    #[test]
    fn an_application_that_failed_before_may_go_on_as_it_was() {
        let unhealthy = traffic(1000, 300, 8);
        assert!(!is_worse(&unhealthy, &traffic(1000, 310, 8)));
        assert!(is_worse(&unhealthy, &traffic(1000, 400, 8)));
    }

    #[test]
    fn slower_by_a_factor_that_is_felt_is_worse() {
        for (before_ms, now_ms, worse) in [
            (8, 22, false),
            (8, 90, false),
            (8, 128, true),
            (181, 362, false),
            (181, 724, true),
        ] {
            let (before, now) = (traffic(100, 0, before_ms), traffic(100, 0, now_ms));
            assert_eq!(is_worse(&before, &now), worse, "{before_ms} to {now_ms}");
        }
        assert!(!is_worse(&traffic(10, 0, 8), &traffic(100, 0, 900)));
    }
}
