//! Times in which nothing new comes into an environment.

use std::time::SystemTime;

use havre_model::{Freeze, FreezeTime, WEEK_MINUTES};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Nothing new comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Why; without a time.
    pub why: String,
    /// Until when; `None`: until somebody ends it.
    pub until: Option<SystemTime>,
}

/// What of `freezes` holds `now`; of several the one that ends last. `zone`: a time zone by its name. One that is
/// not known holds: nobody can say that it does not.
pub fn frozen(
    freezes: &[Freeze],
    now: SystemTime,
    zone: &dyn Fn(&str) -> Option<TimeZone>,
) -> Option<Frozen> {
    let mut longest: Option<Frozen> = None;
    for freeze in freezes {
        let found = match zone(&freeze.timezone) {
            Some(zone) => held_until(freeze.when, now, &zone).map(|until| Frozen {
                why: freeze
                    .reason
                    .clone()
                    .unwrap_or_else(|| "a freeze".to_owned()),
                until,
            }),
            None => Some(Frozen {
                why: format!(
                    "a freeze by the clock of `{}`, a time zone that this machine does not know",
                    freeze.timezone
                ),
                until: None,
            }),
        };
        let Some(found) = found else { continue };
        let is_longer = match (&longest, found.until) {
            (None, _) => true,
            (Some(Frozen { until: None, .. }), _) => false,
            (Some(_), None) => true,
            (
                Some(Frozen {
                    until: Some(known), ..
                }),
                Some(until),
            ) => until > *known,
        };
        if is_longer {
            longest = Some(found);
        }
    }
    longest
}

/// `Some` while it holds, with its end; a time that no clock of the zone shows has none.
fn held_until(when: FreezeTime, now: SystemTime, zone: &TimeZone) -> Option<Option<SystemTime>> {
    let instant = |civil: DateTime| zone.to_timestamp(civil).ok().map(SystemTime::from);
    match when {
        FreezeTime::Once { from, to } => {
            let (from, to) = (instant(from), instant(to));
            let begun = from.is_none_or(|from| from <= now);
            let over = to.is_some_and(|to| to <= now);
            (begun && !over).then_some(to)
        }
        FreezeTime::Weekly { from, to } => {
            let local = Timestamp::try_from(now)
                .ok()
                .map(|now| zone.to_datetime(now));
            let Some(local) = local else {
                return Some(None);
            };
            let minute = minute_of_week(local);
            let holds = match from < to {
                true => (from..to).contains(&minute),
                false => minute >= from || minute < to,
            };
            holds.then(|| {
                let left = (i64::from(to) - i64::from(minute)).rem_euclid(WEEK_MINUTES.into());
                let start = local.date().to_datetime(at_minute(minute));
                let end = start.checked_add(Span::new().minutes(left)).ok();
                end.and_then(instant)
            })
        }
    }
}

fn minute_of_week(local: DateTime) -> u16 {
    let day = u16::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
    let of = |number: i8| u16::try_from(number).unwrap_or(0);
    day * 24 * 60 + of(local.hour()) * 60 + of(local.minute())
}

fn at_minute(minute: u16) -> Time {
    let of_day = minute % (24 * 60);
    let of = |number: u16| i8::try_from(number).unwrap_or(0);
    Time::new(of(of_day / 60), of(of_day % 60), 0, 0).unwrap_or_else(|_| Time::midnight())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Berlin's rules, without a database.
    fn zone(name: &str) -> Option<TimeZone> {
        match name {
            "UTC" => Some(TimeZone::UTC),
            "Europe/Berlin" => TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").ok(),
            _ => None,
        }
    }

    fn once(from: &str, to: &str, timezone: &str) -> Freeze {
        Freeze {
            when: FreezeTime::Once {
                from: from.parse().expect("a time"),
                to: to.parse().expect("a time"),
            },
            timezone: timezone.to_owned(),
            reason: Some("holidays".to_owned()),
        }
    }

    fn weekly(from: u16, to: u16, timezone: &str) -> Freeze {
        Freeze {
            when: FreezeTime::Weekly { from, to },
            timezone: timezone.to_owned(),
            reason: None,
        }
    }

    #[test]
    fn a_freeze_holds_from_its_beginning_to_its_end() {
        const DAY: u16 = 24 * 60;
        let christmas = || once("2026-12-20T00:00", "2027-01-03T00:00", "Europe/Berlin");
        let weekend = || weekly(4 * DAY + 16 * 60, 8 * 60, "Europe/Berlin");
        let lunch = || weekly(DAY + 720, DAY + 780, "UTC");
        let end = "2027-01-02T23:00:00Z";
        for (freezes, now, until) in [
            (vec![christmas()], "2026-12-19T22:59:59Z", None),
            (vec![christmas()], "2026-12-19T23:00:00Z", Some(end)),
            (vec![christmas()], "2027-01-02T22:59:59Z", Some(end)),
            (vec![christmas()], end, None),
            // A Friday in summer, and in winter.
            (vec![weekend()], "2026-07-03T13:59:59Z", None),
            (
                vec![weekend()],
                "2026-07-03T14:00:30Z",
                Some("2026-07-06T06:00:00Z"),
            ),
            (
                vec![weekend()],
                "2026-07-06T05:59:59Z",
                Some("2026-07-06T06:00:00Z"),
            ),
            (vec![weekend()], "2026-07-06T06:00:00Z", None),
            (vec![weekend()], "2026-12-04T14:59:59Z", None),
            (
                vec![weekend()],
                "2026-12-06T12:00:00Z",
                Some("2026-12-07T07:00:00Z"),
            ),
            // The clock changes in between.
            (
                vec![weekend()],
                "2026-10-24T12:00:00Z",
                Some("2026-10-26T07:00:00Z"),
            ),
            (
                vec![lunch()],
                "2026-07-07T12:30:00Z",
                Some("2026-07-07T13:00:00Z"),
            ),
            (vec![lunch()], "2026-07-08T12:30:00Z", None),
            // The one that ends last counts.
            (
                vec![weekend(), christmas()],
                "2026-12-26T12:00:00Z",
                Some(end),
            ),
            (
                vec![christmas(), weekend()],
                "2026-12-26T12:00:00Z",
                Some(end),
            ),
            (Vec::new(), "2026-12-26T12:00:00Z", None),
        ] {
            let at = |text: &str| SystemTime::from(text.parse::<Timestamp>().expect("a time"));
            let found = frozen(&freezes, at(now), &zone);
            let expected = until.map(|until| Some(at(until)));
            assert_eq!(found.map(|one| one.until), expected, "{freezes:?} at {now}");
        }
    }

    #[test]
    fn what_cannot_be_judged_holds() {
        let freezes = [weekly(0, 1, "Mars/Olympus"), weekly(0, 1, "UTC")];
        let found = frozen(&freezes, SystemTime::UNIX_EPOCH, &zone).expect("frozen");
        assert_eq!(found.until, None);
        assert!(found.why.contains("Mars/Olympus"), "{}", found.why);
    }
}
