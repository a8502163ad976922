//! Flags before an instruction's arguments: `--name=value`.

use std::time::Duration;

use super::super::error::Problem;

pub(super) struct Flags {
    pub instruction: String,
    pub items: Vec<(String, Option<String>)>,
}

impl Flags {
    pub fn wrong(&self, flag: &str, reason: &str) -> Problem {
        Problem::Flag {
            instruction: self.instruction.clone(),
            flag: flag.to_owned(),
            reason: reason.to_owned(),
        }
    }

    pub fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.items.extract_if(.., |(n, _)| n == name);
        taken.filter_map(|(_, value)| value).collect()
    }

    fn take(&mut self, name: &str) -> Result<Option<Option<String>>, Problem> {
        let mut taken: Vec<_> = self.items.extract_if(.., |(n, _)| n == name).collect();
        if taken.len() > 1 {
            return Err(self.wrong(name, "given twice"));
        }
        Ok(taken.pop().map(|(_, value)| value))
    }

    pub fn one(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.take(name)? {
            None => Ok(None),
            // An empty value, perhaps of a variable, is none.
            Some(Some(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(None) => Err(self.wrong(name, "needs a value")),
        }
    }

    pub fn switch(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name)? {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => match value.to_ascii_lowercase().as_str() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(self.wrong(name, "must be true or false")),
            },
        }
    }

    pub fn duration(&mut self, name: &str) -> Result<Option<Duration>, Problem> {
        let Some(value) = self.one(name)? else {
            return Ok(None);
        };
        match go_duration(&value) {
            Some(Duration::ZERO) => Ok(None),
            Some(duration) if duration < Duration::from_millis(1) => {
                Err(self.wrong(name, "cannot be below 1ms"))
            }
            Some(duration) => Ok(Some(duration)),
            None => Err(self.wrong(name, "must be a duration like 30s or 1m30s")),
        }
    }

    pub fn count(&mut self, name: &str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.one(name)? else {
            return Ok(None);
        };
        match value.parse() {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(self.wrong(name, "must be a whole number")),
        }
    }
}

/// Reads `1h2m3.5s`, `300ms` and the like; `0` needs no unit.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(total).ok())
        .flatten()
}
