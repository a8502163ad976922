//! What a replica listens on, for a person who waits in vain for it to be ready.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use havre_model::ServiceName;

/// Bytes read of each table: the kernel lists those that listen first.
const TABLE_BYTES: u64 = 256 * 1024;
/// So many ports are told.
const TOLD: usize = 8;

/// TCP ports on which somebody listens, each with whether others reach it: not on the loopback
/// interface alone.
pub(crate) type Listening = BTreeMap<u16, bool>;

/// What a process, and those who share its network, listen on; nothing where that cannot be read.
pub(crate) fn of(pid: u32) -> Listening {
    let mut found = Listening::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        let read = File::open(&path).and_then(|file| {
            let mut text = String::new();
            file.take(TABLE_BYTES).read_to_string(&mut text)?;
            Ok(text)
        });
        match read {
            Ok(text) => listeners(&text, &mut found),
            Err(error) => tracing::debug!(path, %error, "cannot read what a replica listens on"),
        }
    }
    found
}

/// Adds the sockets in state LISTEN (0A) of the text of /proc/net/tcp or tcp6.
fn listeners(table: &str, found: &mut Listening) {
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some("0A")) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let Some((address, port)) = local.split_once(':') else {
            continue;
        };
        if let Ok(port) = u16::from_str_radix(port, 16) {
            *found.entry(port).or_default() |= !is_loopback(address);
        }
    }
}

/// Whether an address as the kernel writes it, in words of the machine's byte order, is 127.0.0.0/8,
/// ::1, or the former written as the latter.
fn is_loopback(address: &str) -> bool {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let words: Option<Vec<[u8; 4]>> = (0..address.len())
        .step_by(8)
        .map(|at| word(address.get(at..at + 8)?))
        .collect();
    match words.as_deref() {
        Some([v4]) => v4[0] == 127,
        Some([[0, 0, 0, 0], [0, 0, 0, 0], third, last]) => match third {
            [0, 0, 0, 0] => *last == [0, 0, 0, 1],
            [0, 0, 0xff, 0xff] => last[0] == 127,
            _ => false,
        },
        _ => false,
    }
}

/// What to do where nobody can reach a port that is wanted; `None` where all of them are open.
pub(crate) fn hint(
    service: &ServiceName,
    wanted: impl IntoIterator<Item = u16>,
    listening: &Listening,
) -> Option<String> {
    let missing = |port: &u16| listening.get(port) != Some(&true);
    let port = wanted.into_iter().find(missing)?;
    let open: Vec<String> = listening
        .iter()
        .filter(|(_, reached)| **reached)
        .take(TOLD)
        .map(|(port, _)| port.to_string())
        .collect();
    Some(match (listening.get(&port), open.as_slice()) {
        (Some(_), _) => format!(
            "`{service}` listens on port {port} of its loopback interface alone, where nobody \
             reaches it: let it listen on 0.0.0.0"
        ),
        (None, []) => format!(
            "nothing in `{service}` listens on port {port} yet; what it printed: havre logs {service}"
        ),
        (None, open) => format!(
            "nothing in `{service}` listens on port {port}, but on {}: correct the port in `ports`, \
             `expose` or `routes`, or where the program listens",
            open.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_nobody_opens_is_told_with_those_that_are_open() {
        let told = |listening: &[(u16, bool)]| {
            let listening = listening.iter().copied().collect();
            hint(&ServiceName::new("web"), [8000], &listening).unwrap_or_default()
        };
        assert_eq!(told(&[(8000, true)]), "");
        assert!(told(&[(3000, true), (22, false)]).contains("port 8000, but on 3000: correct"));
        assert!(told(&[(8000, false), (3000, true)]).contains("let it listen on 0.0.0.0"));
        assert!(told(&[]).contains("nothing in `web` listens on port 8000 yet"));
    }

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let loopback = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = of(std::process::id());
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        assert_eq!(found.get(&port(&open)), Some(&true));
        assert_eq!(found.get(&port(&loopback)), Some(&false));
        if let Ok(loopback) = std::net::TcpListener::bind("[::1]:0") {
            assert_eq!(of(std::process::id()).get(&port(&loopback)), Some(&false));
        }
        assert!(
            is_loopback("0000000000000000FFFF00000100007F"),
            "127.0.0.1 as IPv6"
        );
    }
}
