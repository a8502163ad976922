//! Points in time on the wire.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in time; RFC 3339 in UTC on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The time now.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// The time that long ago; the oldest representable time where that is out of range.
    pub fn ago(age: Duration) -> Self {
        let now = jiff::Timestamp::now();
        Self(now.checked_sub(age).unwrap_or(jiff::Timestamp::MIN))
    }

    /// How long ago that was at `now`; zero for a time to come.
    pub fn age_at(self, now: Timestamp) -> Duration {
        Duration::try_from(now.0.duration_since(self.0)).unwrap_or_default()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        // Out of range means beyond the year 9999: a broken clock, shown as such.
        Self(jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.0.into()
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339; a precision in the format (`{:.3}`) sets the digits of the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
