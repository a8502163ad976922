//! The newest record, in a form that can be noted elsewhere.

use std::fmt;
use std::str::FromStr;

use crate::chain::Hash;

/// A record's number and hash, written `42:<hash>`. Whoever notes that of the newest record elsewhere can tell later
/// whether the trail still goes back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The record's number; 0: none was written yet.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Of a trail without records.
    pub const START: Self = Self {
        sequence: 0,
        hash: Hash::START,
    };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// It is not a number and a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is a record's number, a colon and 64 hex digits")]
pub struct NotAHead;

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (sequence, hash) = text.split_once(':').ok_or(NotAHead)?;
        Ok(Self {
            sequence: sequence.parse().map_err(|_| NotAHead)?,
            hash: hash.parse().map_err(|_| NotAHead)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let head = Head {
            sequence: 42,
            hash: Hash([0xab; 32]),
        };
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "42", "42:", ":ab", "x:00", "42:00"] {
            assert_eq!(wrong.parse::<Head>(), Err(NotAHead));
        }
    }
}
