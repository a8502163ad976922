//! Names of requests through all logs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

/// Request ids: 32 hexadecimal digits, unique without coordination.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Begins at random.
    pub fn seeded() -> io::Result<Self> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let (seed, next) = bytes.split_at(8);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Ok(Self {
            seed: number(seed),
            next: AtomicU64::new(number(next)),
        })
    }

    /// The next one.
    pub fn next(&self) -> HeaderValue {
        let count = self
            .next
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let id = format!(
            "{:016x}{:016x}",
            self.seed ^ count.rotate_left(17),
            mix(count)
        );
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
    }
}

/// The finaliser of SplitMix64: every bit depends on every bit.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
