//! Which side of a canary a request belongs to.
//!
//! A browser is given a number below 1000 with its first page and keeps it in a cookie, so that page,
//! scripts and calls of one visitor all go to the same release. Other clients draw one for each
//! request.

use http::header::{self, HeaderMap, HeaderValue};

use crate::snapshot::LiveCanary;

/// The cookie's name; its value is the number.
const COOKIE: &str = "havre-visitor";
/// How long a browser keeps it, in seconds.
const KEPT: u32 = 24 * 3600;
/// Numbers of visitors.
const VISITORS: usize = 1000;
/// Without a divisor in common with the number of visitors: in a row every number comes once.
const STRIDE: usize = 619;

/// A request's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    number: u32,
    /// The browser does not know it yet, and should.
    is_new: bool,
}

impl Visitor {
    /// The number that the request brings, else the one of `turn`.
    pub fn of(headers: &HeaderMap, turn: usize) -> Self {
        if let Some(number) = known(headers) {
            return Self {
                number,
                is_new: false,
            };
        }
        let number = (turn % VISITORS) * STRIDE % VISITORS;
        Self {
            number: u32::try_from(number).unwrap_or(0),
            is_new: wants_page(headers),
        }
    }

    /// Whether it belongs to the share. Whoever does still does when the share grows; another
    /// release has others.
    pub fn is_among(self, canary: &LiveCanary) -> bool {
        let moved = u64::from(self.number).wrapping_add(canary.release.wrapping_mul(337));
        (moved % VISITORS as u64) < u64::from(canary.permille)
    }

    /// What tells a new browser its number.
    pub fn cookie(self, https: bool) -> Option<HeaderValue> {
        let secure = if https { "; Secure" } else { "" };
        let number = self.number;
        let text =
            format!("{COOKIE}={number}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Lax{secure}");
        self.is_new.then(|| HeaderValue::from_str(&text).ok())?
    }
}

fn known(headers: &HeaderMap) -> Option<u32> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .find_map(|number| number.parse().ok())
        .filter(|number| *number < VISITORS as u32)
}

/// Whether a page is asked for: what is in it may lie in a cache that many share, where a cookie
/// has no place.
fn wants_page(headers: &HeaderMap) -> bool {
    let says = |name: &str, part: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains(part))
    };
    says("sec-fetch-mode", "navigate") || says("accept", "text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn canary(permille: u32, release: u64) -> LiveCanary {
        LiveCanary {
            serving: Vec::new(),
            permille,
            release,
        }
    }

    #[test]
    fn the_share_is_exact_and_grows_by_those_who_were_out() {
        let none = HeaderMap::new();
        for release in [0, 7, u64::MAX] {
            let among = |permille| -> Vec<bool> {
                let canary = canary(permille, release);
                (0..1000)
                    .map(|turn| Visitor::of(&none, turn).is_among(&canary))
                    .collect()
            };
            let (few, more) = (among(50), among(250));
            assert_eq!(few.iter().filter(|is| **is).count(), 50);
            assert_eq!(more.iter().filter(|is| **is).count(), 250);
            assert!(few.iter().zip(&more).all(|(few, more)| !few || *more));
            // Not one after the other: the first hundred requests show the share as well.
            let early = few[..100].iter().filter(|is| **is).count();
            assert!((2..=8).contains(&early), "{early}");
        }
    }

    #[test]
    fn a_browser_keeps_its_number() {
        let page = headers(&[("accept", "text/html,*/*")]);
        let new = Visitor::of(&page, 3);
        let cookie = new.cookie(true).expect("a page");
        let text = cookie.to_str().unwrap();
        assert!(text.starts_with("havre-visitor=857; "), "{text}");
        assert!(text.ends_with("; Secure"), "{text}");
        let back = headers(&[("cookie", "a=b; havre-visitor=857; c=d"), ("accept", "*/*")]);
        let known = Visitor::of(&back, 99);
        assert_eq!(known.number, 857);
        assert_eq!(known.cookie(true), None);
        assert_eq!(
            Visitor::of(&headers(&[("accept", "*/*")]), 3).cookie(true),
            None
        );
        for wrong in ["havre-visitor=1000", "havre-visitor=x", "havre-visitors=5"] {
            let mut headers = page.clone();
            headers.insert("cookie", HeaderValue::from_static(wrong));
            assert_eq!(Visitor::of(&headers, 3), new, "{wrong}");
        }
    }
}
