//! Names of signals as in compose files and Dockerfiles, and who hears them.

use std::{fs, io};

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

/// Whether the signal is known to reach this process. The kernel drops what the first process of
/// a namespace has no handler for, for instance while its interpreter still starts. Who waits for
/// it in `sigwait` hears it too, but that cannot be seen.
pub fn is_heard(pid: u32, signal: i32) -> io::Result<bool> {
    Ok(is_heard_by(
        &fs::read_to_string(format!("/proc/{pid}/status"))?,
        signal,
    ))
}

/// Whether a thread of this process waits for signals, of whichever kind (`rt_sigtimedwait`).
pub fn is_waited_for(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().any(|thread| {
        let call = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let number = call
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        number == Some(libc::SYS_rt_sigtimedwait)
    })
}

/// The same by the text of `/proc/<pid>/status`. What it does not say counts as heard.
fn is_heard_by(status: &str, signal: i32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let holds = |name: &str| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask & 1 << (signal - 1) != 0)
    };
    let is_first = field("NSpid:").and_then(|ids| ids.split_whitespace().next_back()) == Some("1");
    // Blocked ones wait for who asks for them.
    !is_first || signal == libc::SIGKILL || holds("SigCgt:") || holds("SigBlk:")
}

#[cfg(test)]
mod tests {
    use super::{is_heard_by, number};

    #[test]
    fn the_first_process_hears_what_it_has_a_handler_for() {
        let status = |ids: &str, blocked: &str, caught: &str| {
            format!(
                "Name:\tx\nNSpid:\t{ids}\nSigBlk:\t{blocked}\nSigIgn:\t0000000000004000\n\
                 SigCgt:\t{caught}\n"
            )
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        let heard = |text: String| is_heard_by(&text, libc::SIGTERM);
        assert!(!heard(status("4711\t1", none, none)));
        assert!(heard(status("4711\t1", none, term)), "has a handler");
        assert!(heard(status("4711\t1", term, none)), "waits for it");
        assert!(heard(status("4711\t7", none, none)), "not the first");
        assert!(heard(status("4711", none, none)), "the host's namespace");
        assert!(heard(String::new()));
        assert!(is_heard_by(&status("4711\t1", none, none), libc::SIGKILL));
        assert!(!is_heard_by(&status("4711\t1", none, term), libc::SIGINT));
    }

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
