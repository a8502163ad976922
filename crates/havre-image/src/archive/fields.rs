//! The fields of headers and the records of PAX, as bytes. Pure.

use super::BLOCK;

pub(super) fn short_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    // GNU's header (version " \0") keeps other things where ustar has the prefix.
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

pub(super) fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative {
        i64::from(field[0]) - 0x100
    } else {
        i64::from(field[0] & 0x7f)
    };
    field[1..].iter().try_fold(first, |number, byte| {
        number.checked_mul(256)?.checked_add(i64::from(*byte))
    })
}

type Record<'a> = (&'a [u8], &'a [u8]);

pub(super) fn pax_record(records: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((
        (&record[..equals], &record[equals + 1..]),
        &records[length..],
    ))
}

/// `seconds[.fraction]`; the fraction counts upwards, also before the epoch.
pub(super) fn pax_time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if seconds.starts_with('-') && nanos > 0 {
        return Some((whole.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((whole, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_forms() {
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b"  644 \0\0"), Some(0o644));
        assert_eq!(octal(b"\0\0\0"), Some(0));
        assert_eq!(octal(b"0000648\0"), None);
        assert_eq!(base256(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(base256(&[0xff; 12]), Some(-1));
        assert_eq!(
            base256(&[
                0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0
            ]),
            None
        );
    }

    #[test]
    fn times_before_the_epoch_too() {
        assert_eq!(pax_time("1.5"), Some((1, 500_000_000)));
        assert_eq!(pax_time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time("7"), Some((7, 0)));
        assert_eq!(pax_time("1.x"), None);
    }

    #[test]
    fn records_lie_about_their_length_in_vain() {
        assert!(pax_record(b"11 path=ab\n").is_some());
        assert!(pax_record(b"99 path=ab\n").is_none());
        assert!(pax_record(b"3 path=ab\n").is_none());
        assert!(pax_record(b"18446744073709551615 path=ab\n").is_none());
        assert!(pax_record(b"0 path=ab\n").is_none());
    }
}
