//! Renewal information (RFC 9773): the window in which an authority wants a certificate replaced. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// How often it is asked for where the authority does not say.
const USUAL: Duration = Duration::from_secs(6 * 3600);
/// Bounds of what an authority may say.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(24 * 3600);

/// What was learned for one certificate. It belongs to that certificate and to no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ari {
    /// Begin of the window.
    pub start: Moment,
    /// Its end.
    pub end: Moment,
    /// The one moment in it that was drawn.
    pub moment: Moment,
    /// A page that says why the window is as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// A window as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Begin.
    pub start: Moment,
    /// End, not before the begin.
    pub end: Moment,
    /// Why.
    pub explanation: Option<String>,
}

/// Reads an answer; `None` where it is none.
pub fn parse(body: &[u8]) -> Option<Window> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        suggested_window: Suggested,
        #[serde(rename = "explanationURL")]
        explanation: Option<String>,
    }
    #[derive(Deserialize)]
    struct Suggested {
        start: String,
        end: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let start = Moment::parse(&answer.suggested_window.start)?;
    let end = Moment::parse(&answer.suggested_window.end)?;
    // It is shown on terminals.
    let is_line = |link: &String| link.len() <= 500 && !link.chars().any(char::is_control);
    let explanation = answer.explanation.filter(is_line);
    (start <= end).then_some(Window {
        start,
        end,
        explanation,
    })
}

/// What is known after an answer. A window that is as before keeps its moment; of another one a moment
/// is drawn, `chance` in 0..1, from what of it is yet to come, and now where it has passed.
pub fn learn(before: Option<&Ari>, window: Window, now: Moment, chance: f64) -> Ari {
    if let Some(before) = before
        && (before.start, before.end) == (window.start, window.end)
    {
        return Ari {
            explanation: window.explanation,
            ..before.clone()
        };
    }
    let from = window.start.max(now);
    // At most the seconds of a window, which a double holds.
    let offset = from.until(window.end).as_secs_f64() * chance.clamp(0.0, 1.0);
    Ari {
        start: window.start,
        end: window.end,
        moment: from.after(Duration::from_secs_f64(offset)),
        explanation: window.explanation,
    }
}

/// When to ask again.
pub fn next_look(now: Moment, retry_after: Option<Duration>, chance: f64) -> Moment {
    let pause = retry_after.unwrap_or(USUAL).clamp(SOONEST, LATEST);
    // Not all names of a machine at once.
    now.after(pause + pause.mul_f64(chance.clamp(0.0, 1.0) / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window {
            start: Moment(start),
            end: Moment(end),
            explanation: None,
        }
    }

    #[test]
    fn one_moment_is_drawn_for_a_window_and_kept_with_it() {
        let now = Moment(100);
        let first = learn(None, window(200, 300), now, 0.25);
        assert_eq!(first.moment, Moment(225));
        let again = learn(Some(&first), window(200, 300), Moment(210), 0.99);
        assert_eq!(again.moment, Moment(225));
        // Moved, as after a revocation.
        let moved = learn(Some(&first), window(10, 50), now, 0.5);
        assert_eq!(moved.moment, now);
        let begun = learn(None, window(50, 150), now, 1.0);
        assert_eq!(begun.moment, Moment(150));
    }

    #[test]
    fn answers_are_read_and_bounded() {
        let body = br#"{"suggestedWindow": {"start": "2026-01-02T04:00:00+01:00",
            "end": "2026-01-03T04:00:00Z"}, "explanationURL": "https://ca.example/why"}"#;
        let window = parse(body).unwrap();
        assert_eq!(window.start.to_string(), "2026-01-02T03:00:00Z");
        assert_eq!(
            window.explanation.as_deref(),
            Some("https://ca.example/why")
        );
        let painted = br#"{"suggestedWindow": {"start": "2026-01-02T04:00:00Z",
            "end": "2026-01-03T04:00:00Z"}, "explanationURL": "https://ca.example/\u001b[2J"}"#;
        assert_eq!(parse(painted).unwrap().explanation, None);
        let backwards = br#"{"suggestedWindow": {"start": "2026-01-03T04:00:00Z",
            "end": "2026-01-02T04:00:00Z"}}"#;
        for broken in [&backwards[..], b"{}", b"[]", b"503"] {
            assert_eq!(parse(broken), None);
        }
        let now = Moment(0);
        for (told, expected) in [(Some(0), 60), (None, 21_600), (Some(u64::MAX), 86_400)] {
            let at = next_look(now, told.map(Duration::from_secs), 0.0);
            assert_eq!(at, Moment(expected));
        }
    }
}
