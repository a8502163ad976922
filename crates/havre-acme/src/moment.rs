//! Points in time as the wall clock has them, to the second: certificates know no finer ones.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Seconds since 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Moment {
    /// What the clock says.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Reads RFC 3339, of any time zone.
    pub fn parse(text: &str) -> Option<Self> {
        let at: jiff::Timestamp = text.parse().ok()?;
        Some(Self(at.as_second()))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(seconds(time)))
    }

    /// So much earlier.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(seconds(time)))
    }

    /// Time up to a later moment; zero up to an earlier one.
    pub fn until(self, later: Self) -> Duration {
        let seconds = later.0.saturating_sub(self.0);
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Moment {
    fn from(at: SystemTime) -> Self {
        match at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(seconds(since)),
            Err(before) => Self(-seconds(before.duration())),
        }
    }
}

impl From<Moment> for SystemTime {
    fn from(at: Moment) -> Self {
        let distance = Duration::from_secs(at.0.unsigned_abs());
        let there = match at.0 < 0 {
            true => Self::UNIX_EPOCH.checked_sub(distance),
            false => Self::UNIX_EPOCH.checked_add(distance),
        };
        there.unwrap_or(Self::UNIX_EPOCH)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&havre_base::time::rfc3339((*self).into(), 0))
    }
}
