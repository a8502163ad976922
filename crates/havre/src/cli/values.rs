//! Values of arguments, read from text.

use std::str::FromStr;
use std::time::Duration;

use havre_api::{Role, Timestamp};

use crate::human;

/// `--tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(Option<u64>);

impl Tail {
    /// How many; `None`: all.
    pub fn lines(self) -> Option<u64> {
        self.0
    }
}

/// Reads `all` or a number.
pub fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|lines| Tail(Some(lines)))
            .map_err(|_| "a number or all".to_owned()),
    }
}

/// Reads a time or an age.
pub fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Some(age) = human::parse_duration(text) {
        return Ok(Timestamp::ago(age));
    }
    Timestamp::from_str(text)
        .map_err(|_| "a time as 2024-05-01T10:00:00Z or an age as 90s, 15m, 2h, 3d".to_owned())
}

/// A release by its number; `None`: the one that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhichRelease(pub Option<u64>);

/// Reads `latest` or a number.
pub fn parse_release(text: &str) -> Result<WhichRelease, String> {
    match text {
        "latest" => Ok(WhichRelease(None)),
        _ => text
            .parse()
            .map(|number| WhichRelease(Some(number)))
            .map_err(|_| "a number or latest".to_owned()),
    }
}

/// Reads a time, or how long from now on.
pub fn parse_until(text: &str) -> Result<Timestamp, String> {
    if let Some(wait) = human::parse_duration(text) {
        let until = std::time::SystemTime::now().checked_add(wait);
        return until
            .map(Timestamp::from)
            .ok_or_else(|| "too long".to_owned());
    }
    Timestamp::from_str(text).map_err(|_| {
        "a time as 2027-01-02T08:00:00Z, or from now on as 90s, 15m, 2h, 3d".to_owned()
    })
}

/// Reads `SERVICE=N`.
pub fn parse_scale(text: &str) -> Result<(String, u32), String> {
    let (service, number) = text.split_once('=').ok_or("SERVICE=N, as in web=3")?;
    let number = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number of replicas"))?;
    if service.is_empty() {
        return Err("the service's name is missing".to_owned());
    }
    Ok((service.to_owned(), number))
}

/// Reads `NAME=VALUE` or `NAME`.
pub fn parse_optional(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name.is_empty() {
        true => Err("the name is missing".to_owned()),
        false => Ok((name.to_owned(), value)),
    }
}

/// Reads a JSON object.
pub fn parse_object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) => Ok(object),
        Ok(_) => Err("a JSON object, as {\"level\": 3}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads `NAME=VALUE`.
pub fn parse_input(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    if name.is_empty() {
        return Err("the input's name is missing".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads `42:` and 64 hex digits; the daemon compares them.
pub fn parse_head(text: &str) -> Result<String, String> {
    let is_head = text.split_once(':').is_some_and(|(number, hash)| {
        number.parse::<u64>().is_ok()
            && hash.len() == 64
            && hash
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    match is_head {
        true => Ok(text.to_owned()),
        false => Err(
            "a record's number, a colon and 64 hex digits, as `havre audit verify` prints them"
                .to_owned(),
        ),
    }
}

/// Reads `90d` or `never`.
pub fn parse_lifetime(text: &str) -> Result<Lifetime, String> {
    match (text, human::parse_duration(text)) {
        ("never", _) => Ok(Lifetime(None)),
        (_, Some(lifetime)) if !lifetime.is_zero() => Ok(Lifetime(Some(lifetime))),
        _ => Err("an age as 12h or 90d, or never".to_owned()),
    }
}

/// Reads how often something is done.
pub fn parse_every(text: &str) -> Result<Duration, String> {
    human::parse_duration(text).ok_or_else(|| "an age as 30s, 5m or 1h".to_owned())
}

/// How long a token holds; `None`: until it is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

/// Reads a role, for the command line.
pub fn parse_role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|error: havre_model::grant::NoRole| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        let time = parse_since("2024-05-01T10:00:00+02:00").unwrap();
        assert_eq!(time.to_string(), "2024-05-01T08:00:00Z");
        let age = parse_since("15m").unwrap().age_at(Timestamp::now());
        assert!(
            (Duration::from_secs(899)..Duration::from_secs(960)).contains(&age),
            "{age:?}"
        );
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn a_release_is_a_number_or_the_latest() {
        assert_eq!(parse_release("latest"), Ok(WhichRelease(None)));
        assert_eq!(parse_release("7"), Ok(WhichRelease(Some(7))));
        assert!(parse_release("newest").is_err());
    }

    #[test]
    fn until_is_a_time_or_from_now_on() {
        let time = parse_until("2027-01-02T10:00:00+02:00").unwrap();
        assert_eq!(time.to_string(), "2027-01-02T08:00:00Z");
        assert!(parse_until("2h").unwrap() > Timestamp::now());
        assert!(parse_until("tomorrow").is_err());
    }

    #[test]
    fn tail_is_a_number_or_all() {
        assert_eq!(parse_tail("all"), Ok(Tail(None)));
        assert_eq!(parse_tail("20"), Ok(Tail(Some(20))));
        assert!(parse_tail("-1").is_err());
    }

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "0a".repeat(32);
        assert!(parse_head(&format!("42:{hash}")).is_ok());
        for wrong in ["", "42", "42:", "x:00", "42:00", &format!("x:{hash}")] {
            assert!(parse_head(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lifetime_is_a_time_or_never() {
        assert_eq!(parse_lifetime("never"), Ok(Lifetime(None)));
        let day = Duration::from_secs(86_400);
        assert_eq!(parse_lifetime("90d"), Ok(Lifetime(Some(90 * day))));
        for wrong in ["", "0s", "soon", "-1d"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
