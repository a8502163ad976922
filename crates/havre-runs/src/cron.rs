//! Times that come again: five fields, in a time zone.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// Days that are looked through: a 29th of February may be eight years away.
const DAYS: usize = 366 * 9;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// Bit by bit what each field means.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether any of both is enough.
    either_day: bool,
    every_hour: bool,
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error("`{0}` must have five fields: minute, hour, day, month, day of the week")]
    Fields(String),
    /// A field that means nothing.
    #[error(
        "`{field}` is no {what}: write {least} to {most}, `*`, `a-b`, `*/n`, or several with commas"
    )]
    Field {
        /// As written.
        field: String,
        /// Which it is.
        what: &'static str,
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// No such time zone.
    #[error("there is no time zone `{0}`: write a name like `Europe/Berlin`")]
    Zone(String),
}

impl Cron {
    /// Reads five fields.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(text.to_owned()));
        };
        let is_open = |field: &str| field.starts_with('*');
        Ok(Self {
            minutes: field(minute, "minute", 0, 59, &[])?,
            hours: field(hour, "hour", 0, 23, &[])?,
            days: field(day, "day", 1, 31, &[])?,
            months: field(month, "month", 1, 12, &MONTHS)?,
            weekdays: field(weekday, "day of the week", 0, 6, &WEEKDAYS)?,
            either_day: !is_open(day) && !is_open(weekday),
            every_hour: is_open(hour),
        })
    }

    /// The next time behind a moment; `None` where there is none. An hour that does not exist is made up for an hour
    /// later, one that comes twice counts once; where every hour is meant, each counts as it comes.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        // What an hour that did not exist moved may be of the day before.
        date = date.yesterday().unwrap_or(date);
        for _ in 0..DAYS {
            if self.means(date) {
                let times = self.times(date, zone);
                if let Some(next) = times.into_iter().filter(|time| *time > after).min() {
                    return Some(next);
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn means(&self, date: Date) -> bool {
        let has = |set: u64, value: i8| set & (1 << value) != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && match self.either_day {
                true => day || weekday,
                false => day && weekday,
            }
    }

    fn times(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let mut times = Vec::new();
        for hour in (0..24).filter(|hour| self.hours & (1 << hour) != 0) {
            for minute in (0..60).filter(|minute| self.minutes & (1 << minute) != 0) {
                let Ok(time) = Time::new(hour, minute, 0, 0) else {
                    continue;
                };
                let moment = zone.to_ambiguous_timestamp(date.to_datetime(time));
                match (moment.offset(), self.every_hour) {
                    (AmbiguousOffset::Gap { .. }, true) => {}
                    (AmbiguousOffset::Fold { .. }, true) => {
                        times.extend(moment.earlier());
                        times.extend(moment.later());
                    }
                    _ => times.extend(moment.compatible()),
                }
            }
        }
        times
    }
}

/// The zone of a name; UTC without one.
pub fn zone(name: &str) -> Result<TimeZone, CronError> {
    match name {
        "" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| CronError::Zone(name.to_owned())),
    }
}

fn field(
    text: &str,
    what: &'static str,
    least: u32,
    most: u32,
    names: &[&str],
) -> Result<u64, CronError> {
    let wrong = || CronError::Field {
        field: text.to_owned(),
        what,
        least,
        most,
    };
    let number = |word: &str| {
        let named = names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(word));
        let number = match named {
            Some(at) => u32::try_from(at).ok().map(|at| at + least),
            None => word.parse().ok(),
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(wrong)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: u32 = step.parse().map_err(|_| wrong())?;
                (
                    range,
                    Some(step).filter(|step| *step > 0).ok_or_else(wrong)?,
                )
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(wrong());
        }
        let values = (from..=to).step_by(step as usize);
        set |= values.fold(0_u64, |set, value| set | 1 << value);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron).unwrap();
        let zone = zone(zone_name).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = cron.next(at, &zone).unwrap();
            found.push(at.strftime("%m-%dT%H:%M").to_string());
        }
        found
    }

    #[test]
    fn fields_mean_what_cron_means() {
        let check = |cron: &str, expected: &[&str]| {
            let found = next(cron, "", "2026-01-30T10:00:00Z", expected.len());
            assert_eq!(found, expected, "{cron}");
        };
        check(
            "*/20 * * * *",
            &["01-30T10:20", "01-30T10:40", "01-30T11:00"],
        );
        check("5 4 * * *", &["01-31T04:05", "02-01T04:05"]);
        check(
            "0 0 * * MON-FRI/2",
            &["02-02T00:00", "02-04T00:00", "02-06T00:00"],
        );
        // Either day is enough.
        check("0 0 13 * FRI", &["02-06T00:00", "02-13T00:00"]);
        check("0 0 31 * *", &["01-31T00:00", "03-31T00:00"]);
        check("30 5/12 1 jan,jul *", &["07-01T05:30", "07-01T17:30"]);
        check("0 0 29 2 *", &["02-29T00:00"]);
    }

    #[test]
    fn an_hour_that_is_not_there_is_made_up_for_and_one_that_comes_twice_counts_once() {
        let berlin = |cron: &str, after: &str, count| next(cron, "Europe/Berlin", after, count);
        assert_eq!(
            berlin("30 2 * * *", "2026-03-28T00:00:00Z", 3),
            ["03-28T01:30", "03-29T01:30", "03-30T00:30"]
        );
        assert_eq!(
            berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2),
            ["10-25T00:30", "10-26T01:30"]
        );
        assert_eq!(
            berlin("30 * * * *", "2026-10-25T00:00:00Z", 3),
            ["10-25T00:30", "10-25T01:30", "10-25T02:30"]
        );
        assert_eq!(
            berlin("30 * * * *", "2026-03-29T00:00:00Z", 3),
            ["03-29T00:30", "03-29T01:30", "03-29T02:30"]
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "* * * * 7",
            "a * * * *",
        ] {
            Cron::parse(text).expect_err(text);
        }
        assert_eq!(
            Cron::parse("0 0 30 2 *")
                .unwrap()
                .next(Timestamp::UNIX_EPOCH, &TimeZone::UTC),
            None
        );
        zone("Nowhere/Else").expect_err("no such zone");
    }
}
