//! Names of signals as in compose files and Dockerfiles.

/// By number.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, in either case.
pub fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = plain.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse::<i32>().ok()?
        };
        let number = libc::SIGRTMIN().checked_add(offset)?;
        return (number <= libc::SIGRTMAX()).then_some(number);
    }
    NAMES
        .iter()
        .position(|n| *n == plain)
        .map(|index| index as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn all_forms() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("SIGSYS", Some(31)),
            ("SIGNOPE", None),
            ("0", None),
            ("", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
