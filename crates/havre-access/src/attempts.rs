//! How often somebody may ask, and how often an address may be wrong. Pure: the caller has the clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use havre_base::network;

/// Wrong tokens that an address may show at once, and how soon it may show one more.
const FAILURES: Rate = Rate {
    burst: 10.0,
    every: Duration::from_secs(6),
};
/// Calls that a principal may make at once, and how soon one more.
const CALLS: Rate = Rate {
    burst: 200.0,
    every: Duration::from_millis(20),
};
/// Addresses and principals that are remembered; of more, those who have been quiet for longest are not.
const MOST: usize = 10_000;

/// Asked too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// When one more is answered.
    pub retry_after: Duration,
}

/// What went wrong so far, for whoever looks after the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Calls without a token that holds, since the daemon's start.
    pub refused: u64,
    /// Calls that were not looked at, as their address had failed too often, or that were too many.
    pub limited: u64,
    /// The last of either.
    pub last: Option<(SystemTime, Option<IpAddr>)>,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Attempts {
    addresses: Buckets<IpAddr>,
    principals: Buckets<String>,
    failures: Failures,
}

impl Attempts {
    /// Whether an address may try: not while it has failed too often.
    pub fn may_try(&mut self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        let tried = self.addresses.peek(&network(address), FAILURES, now);
        self.limited(tried, Some(address))
    }

    /// An address has shown a token that does not hold, or none.
    pub fn failed(&mut self, address: Option<IpAddr>, now: Instant) {
        self.failures.refused += 1;
        self.failures.last = Some((SystemTime::now(), address));
        if let Some(address) = address {
            // Whether it was the last that it may is asked before the next.
            self.addresses.take(network(address), FAILURES, now).ok();
        }
    }

    /// Somebody makes a call.
    pub fn calls(&mut self, principal: &str, now: Instant) -> Result<(), TooMany> {
        let called = self.principals.take(principal.to_owned(), CALLS, now);
        self.limited(called, None)
    }

    /// What went wrong so far.
    pub fn failures(&self) -> Failures {
        self.failures.clone()
    }

    fn limited(
        &mut self,
        result: Result<(), TooMany>,
        address: Option<IpAddr>,
    ) -> Result<(), TooMany> {
        if result.is_err() {
            self.failures.limited += 1;
            self.failures.last = Some((SystemTime::now(), address));
        }
        result
    }
}

/// A bucket of tokens: so many at once, and one more each time.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: f64,
    every: Duration,
}

#[derive(Debug)]
struct Buckets<K>(HashMap<K, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Whether there is one left.
    fn peek(&self, key: &K, rate: Rate, now: Instant) -> Result<(), TooMany> {
        match self.0.get(key) {
            Some(bucket) => bucket.filled(rate, now).answer(rate),
            None => Ok(()),
        }
    }

    /// Takes one.
    fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), TooMany> {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.forget(rate, now);
        }
        let full = Bucket {
            left: rate.burst,
            at: now,
        };
        let bucket = self.0.entry(key).or_insert(full);
        *bucket = bucket.filled(rate, now);
        bucket.answer(rate)?;
        bucket.left -= 1.0;
        Ok(())
    }

    /// Makes room: for those who are full again anyway, else an eighth goes, who have been quiet longest.
    fn forget(&mut self, rate: Rate, now: Instant) {
        self.0
            .retain(|_, bucket| bucket.filled(rate, now).left < rate.burst);
        if self.0.len() < MOST {
            return;
        }
        let mut times: Vec<Instant> = self.0.values().map(|bucket| bucket.at).collect();
        let mut going = MOST / 8;
        let (_, quiet, _) = times.select_nth_unstable(going);
        let quiet = *quiet;
        // Many may be of one moment.
        self.0.retain(|_, bucket| {
            let goes = bucket.at <= quiet && going > 0;
            going -= usize::from(goes);
            !goes
        });
    }
}

impl Bucket {
    fn filled(self, rate: Rate, now: Instant) -> Self {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (self.left + elapsed / rate.every.as_secs_f64()).min(rate.burst);
        Self { left, at: now }
    }

    fn answer(self, rate: Rate) -> Result<(), TooMany> {
        match self.left >= 1.0 {
            true => Ok(()),
            false => Err(TooMany {
                retry_after: rate.every.mul_f64(1.0 - self.left),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_that_fails_too_often_has_to_wait() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let address = ip("203.0.113.7");
        for _ in 0..10 {
            attempts.may_try(address, start).expect("few");
            attempts.failed(Some(address), start);
        }
        let refused = attempts.may_try(address, start).expect_err("too many");
        assert_eq!(refused.retry_after, 6 * SECOND);
        attempts.may_try(ip("203.0.113.8"), start).expect("another");
        let later = start + 6 * SECOND;
        attempts.may_try(address, later).expect("one more");
        attempts.failed(Some(address), later);
        attempts.may_try(address, later).expect_err("and no other");
        let failures = attempts.failures();
        assert_eq!((failures.refused, failures.limited), (11, 2));
        assert_eq!(failures.last.expect("the last").1, Some(address));
    }

    #[test]
    fn a_network_of_version_6_is_one() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for n in 0..10 {
            attempts.failed(Some(ip(&format!("2001:db8:1:2::{n}"))), start);
        }
        attempts
            .may_try(ip("2001:db8:1:2:ffff::1"), start)
            .expect_err("the same");
        attempts
            .may_try(ip("2001:db8:1:3::1"), start)
            .expect("another");
        for _ in 0..10 {
            attempts.failed(Some(ip("::ffff:192.0.2.1")), start);
        }
        attempts
            .may_try(ip("192.0.2.1"), start)
            .expect_err("the same");
    }

    #[test]
    fn a_principal_may_ask_often_and_not_without_end() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let asked = (0..1000).filter(|_| attempts.calls("a", start).is_ok());
        assert_eq!(asked.count(), 200);
        attempts.calls("b", start).expect("another");
        let asked = (0..1000).filter(|_| attempts.calls("a", start + SECOND).is_ok());
        assert_eq!(asked.count(), 50);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_no_flood_lets_the_worst_go() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let worst = ip("203.0.113.7");
        for n in 0..30_000_u32 {
            let now = start + Duration::from_millis(u64::from(n) / 100);
            attempts.failed(Some(IpAddr::from(n.to_be_bytes())), now);
            attempts.failed(Some(worst), now);
        }
        assert!(attempts.addresses.0.len() <= MOST);
        let now = start + Duration::from_millis(300);
        attempts.may_try(worst, now).expect_err("remembered");
    }
}
