//! A part of a blob that is asked for.

/// What is sent of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of them.
    All,
    /// `length` bytes from `start`.
    Some { start: u64, length: u64 },
    /// The part that is asked for does not exist.
    Never,
}

/// What a `Range` header asks for. One that is not understood, or asks for more than one part, is as if it was not there.
pub(super) fn parse(header: Option<&str>, size: u64) -> Part {
    let Some((from, to)) = header
        .and_then(|header| header.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Part::All;
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (number(from), number(to)) {
        (Some(start), Some(end)) if start <= end => (start, end.saturating_add(1).min(size)),
        (Some(start), None) if to.is_empty() => (start, size),
        (None, Some(last)) if from.is_empty() => (size.saturating_sub(last), size),
        _ => return Part::All,
    };
    match start < end {
        true => Part::Some {
            start,
            length: end - start,
        },
        false => Part::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let some = |start, length| Part::Some { start, length };
        for (header, expected) in [
            ("bytes=0-0", some(0, 1)),
            ("bytes=2-5", some(2, 4)),
            ("bytes=2-", some(2, 8)),
            ("bytes=-3", some(7, 3)),
            ("bytes=-30", some(0, 10)),
            ("bytes=9-99999999999999999999999", some(9, 1)),
            ("bytes=10-", Part::Never),
            ("bytes=-0", Part::Never),
            ("bytes=5-2", Part::All),
            ("bytes=0-1,3-4", Part::All),
            ("bytes=+1-2", Part::All),
            ("bytes=-", Part::All),
            ("lines=1-2", Part::All),
        ] {
            assert_eq!(parse(Some(header), 10), expected, "{header}");
        }
        assert_eq!(parse(None, 10), Part::All);
        assert_eq!(parse(Some("bytes=0-"), 0), Part::Never);
    }
}
