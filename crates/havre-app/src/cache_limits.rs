//! How much of the disk the build cache may take.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use havre_image::Budget;

/// A cache shrinks while less than this share of the disk is free.
const FREE_PERCENT: u64 = 10;

/// An amount of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// In bytes.
    Bytes(u64),
    /// In hundredths of the disk.
    Percent(u8),
}

/// Not an amount of disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of disk; write 20GB, 500MB or 15%")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(text.to_owned());
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.trim().parse().map_err(|_| wrong())?;
            return match percent {
                0..=100 => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            };
        }
        let lower = text.trim().to_ascii_lowercase();
        let at = lower.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = lower.split_at(at.unwrap_or(lower.len()));
        let factor: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" | "kb" => 1000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "t" | "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(factor)
            .map(Self::Bytes)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Share {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// What the build cache may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// It need not be smaller, however short the disk is.
    pub floor: Share,
    /// It is not larger.
    pub ceiling: Share,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            floor: Share::Percent(2),
            ceiling: Share::Percent(15),
        }
    }
}

impl CacheLimits {
    /// In bytes, for the disk of the state folder.
    pub(crate) fn budget(self, state: &Path) -> io::Result<Budget> {
        let found = rustix::fs::statvfs(state)?;
        Ok(self.of(found.f_blocks.saturating_mul(found.f_frsize)))
    }

    fn of(self, total: u64) -> Budget {
        let ceiling = self.ceiling.of(total);
        Budget {
            floor: self.floor.of(total).min(ceiling),
            ceiling,
            free: total / 100 * FREE_PERCENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bytes_or_shares_of_the_disk() {
        for (text, bytes) in [
            ("20GB", 20_000_000_000),
            ("500 mb", 500_000_000),
            ("1GiB", 1 << 30),
            ("15%", 150_000),
            ("0", 0),
            ("100%", 1_000_000),
        ] {
            assert_eq!(
                text.parse::<Share>().unwrap().of(1_000_000),
                bytes,
                "{text}"
            );
        }
        for text in [
            "",
            "%",
            "101%",
            "-1",
            "1.5GB",
            "GB",
            "12 apples",
            "99999999999TB",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_floor_is_below_the_ceiling() {
        let limits = CacheLimits {
            floor: Share::Percent(50),
            ceiling: Share::Percent(20),
        };
        let budget = limits.of(1_000_000);
        assert_eq!((budget.floor, budget.ceiling), (200_000, 200_000));
        assert_eq!(budget.free, 100_000);
    }
}
