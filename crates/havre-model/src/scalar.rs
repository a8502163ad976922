//! The notations of compose for numbers with units.

use std::time::Duration;

/// `1h30m`, `1.5s`, `300ms`, `0`; `None` for anything else, a number without a unit too.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, unit)?)?;
        rest = tail;
    }
    if text.is_empty() {
        None
    } else {
        Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }
}

/// `512m`, `1.5gb`, `1GiB`, `1024`: powers of 1024, as docker reads them.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u128 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        "t" | "tb" | "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    u64::try_from(scaled(number, unit)?).ok()
}

/// `0.5` CPUs → thousand-millionths.
pub(crate) fn nano_cpus(text: &str) -> Option<u64> {
    u64::try_from(scaled(text.trim(), 1_000_000_000)?).ok()
}

/// Permission bits: octal in quotes or with a leading zero, as docker reads them; a plain number
/// without one is decimal, which `decimal` says.
pub(crate) fn mode(text: &str, quoted: bool) -> Option<Mode> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix("0O"));
    let octal = quoted || digits.is_some() || text.starts_with('0');
    let digits = digits.unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bits = u32::from_str_radix(digits, if octal { 8 } else { 10 }).ok()?;
    (bits <= 0o7777).then_some(Mode {
        bits,
        decimal: !octal,
    })
}

/// What [`mode`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub bits: u32,
    pub decimal: bool,
}

/// The truth values that docker compose takes.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" => Some(true),
        "false" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A decimal number times `unit`, exact, rounded down.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(15)];
    let part = match fraction {
        "" => 0,
        _ => fraction.parse::<u128>().ok()?.checked_mul(unit)? / 10u128.pow(fraction.len() as u32),
    };
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(
                duration(text),
                expected.map(Duration::from_millis),
                "{text}"
            );
        };
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("1h5m30s20ms", Some(3_930_020));
        check("1.5s", Some(1_500));
        check("0", Some(0));
        check("0s", Some(0));
        check("2d", Some(172_800_000));
        for bad in [
            "",
            "30",
            "s",
            "1x",
            "1m30",
            "-1s",
            "1..5s",
            "1 s",
            "99999999999w",
            "1.s.s",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(bytes(text), expected, "{text}");
        check("1024", Some(1024));
        check("1b", Some(1));
        check("64k", Some(65_536));
        check("512m", Some(512 << 20));
        check("512MB", Some(512 << 20));
        check("1.5g", Some(3 << 29));
        check("2 GiB", Some(2 << 30));
        for bad in ["", "m", "1x", "-1", "1e3", "999999999999t"] {
            check(bad, None);
        }
    }

    #[test]
    fn cpus_and_modes() {
        assert_eq!(nano_cpus("0.5"), Some(500_000_000));
        assert_eq!(nano_cpus("2"), Some(2_000_000_000));
        assert_eq!(nano_cpus(".25"), Some(250_000_000));
        assert_eq!(nano_cpus("half"), None);
        let check = |text, quoted, bits, decimal| {
            assert_eq!(mode(text, quoted), Some(Mode { bits, decimal }), "{text}");
        };
        check("0440", false, 0o440, false);
        check("440", true, 0o440, false);
        check("0o440", false, 0o440, false);
        check("288", false, 0o440, true);
        for bad in ["", "rw", "0999", "77777"] {
            assert_eq!(mode(bad, true), None, "{bad}");
        }
    }

    #[test]
    fn truths() {
        assert_eq!(truth("true"), Some(true));
        assert_eq!(truth("No"), Some(false));
        assert_eq!(truth("1"), None);
    }
}
