//! `"127.0.0.1:8000-8001:80-81/tcp"` → one mapping per port.

use super::object;
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Node, Value};

/// Most ports of one range: each is forwarded by itself.
const MAX_RANGE: u32 = 1024;

/// A short form taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Short {
    host_ip: Option<String>,
    /// First and last; as many as of `target`, or several for one target.
    published: Option<(u16, u16)>,
    target: (u16, u16),
    protocol: String,
}

pub(super) fn expand(node: &mut Node, report: &mut Report) {
    let Value::List(list) = &mut node.value else {
        return;
    };
    let mut ports = Vec::with_capacity(list.len());
    for item in list.drain(..) {
        let Some(text) = item.text() else {
            ports.push(item);
            continue;
        };
        match parse(text) {
            Ok(short) => ports.extend(long(&short, item.span)),
            Err(why) => {
                report
                    .error(
                        "compose/port",
                        item.span,
                        format!("`{text}` is not a port: {why}"),
                    )
                    .hint("write \"PUBLISHED:CONTAINER\", e.g. \"8080:80\"");
            }
        }
    }
    *list = ports;
}

fn long(short: &Short, span: Span) -> Vec<Node> {
    let (first, last) = short.target;
    (first..=last)
        .enumerate()
        .map(|(offset, target)| {
            let mut node = object(
                span,
                [
                    ("target", Node::scalar(span, target.to_string())),
                    ("protocol", Node::scalar(span, short.protocol.as_str())),
                ],
            );
            if let Value::Map(map) = &mut node.value {
                if let Some((start, end)) = short.published {
                    let published = if end - start == last - first {
                        (usize::from(start) + offset).to_string()
                    } else {
                        format!("{start}-{end}")
                    };
                    map.insert("published", span, Node::scalar(span, published));
                }
                if let Some(ip) = &short.host_ip {
                    map.insert("host_ip", span, Node::scalar(span, ip.as_str()));
                }
            }
            node
        })
        .collect()
}

fn parse(text: &str) -> Result<Short, &'static str> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    let (rest, target) = match rest.rsplit_once(':') {
        Some((rest, target)) => (Some(rest), target),
        None => (None, rest),
    };
    let target = range(target)?;
    let (host_ip, published) = match rest {
        None => (None, None),
        Some(rest) => {
            let (ip, published) = match rest.rsplit_once(':') {
                Some((ip, published)) => (Some(ip), published),
                None => (None, rest),
            };
            // `0` is how sockets say "any".
            let published = match published {
                "" => None,
                "0" => Some((0, 0)),
                published => Some(range(published)?),
            };
            (ip, published)
        }
    };
    // Empty, as `${BIND:-}` gives: every address.
    let host_ip = host_ip.map(|ip| ip.trim_matches(['[', ']']).to_owned());
    let host_ip = host_ip.filter(|ip| !ip.is_empty());
    if let Some((first, last)) = published
        && last - first != target.1 - target.0
        && target.0 != target.1
    {
        return Err("the two ranges differ in length");
    }
    if u32::from(target.1 - target.0) >= MAX_RANGE {
        return Err("the range is longer than 1024 ports");
    }
    Ok(Short {
        host_ip,
        published,
        target,
        protocol,
    })
}

/// `80` or `80-90`.
fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        Err("the range ends before it starts")
    } else {
        Ok((first, last))
    }
}

fn number(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(0) => Err("0 is not a port"),
        Ok(port) if digits => Ok(port),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ip: Option<&str>, published: Option<(u16, u16)>, target: (u16, u16)) {
        let short = parse(text).unwrap();
        let expected = (ip, published, target);
        assert_eq!(
            (short.host_ip.as_deref(), short.published, short.target),
            expected,
            "{text}"
        );
    }

    #[test]
    fn short_forms() {
        check("80", None, None, (80, 80));
        check("8080:80", None, Some((8080, 8080)), (80, 80));
        check("22:22", None, Some((22, 22)), (22, 22));
        check(
            "127.0.0.1:8080:80",
            Some("127.0.0.1"),
            Some((8080, 8080)),
            (80, 80),
        );
        check("127.0.0.1::80", Some("127.0.0.1"), None, (80, 80));
        check(":443:443", None, Some((443, 443)), (443, 443));
        check("[]:443:443", None, Some((443, 443)), (443, 443));
        check("::80", None, None, (80, 80));
        check("0:80", None, Some((0, 0)), (80, 80));
        check("8080-8090:80", None, Some((8080, 8090)), (80, 80));
        check("[::1]:8080:80", Some("::1"), Some((8080, 8080)), (80, 80));
        check("3000-3005", None, None, (3000, 3005));
        check(
            "9090-9091:8080-8081",
            None,
            Some((9090, 9091)),
            (8080, 8081),
        );
        assert_eq!(parse("53:53/UDP").unwrap().protocol, "udp");
        for bad in [
            "", "x", "0", "70000:80", "80:", "9-8", "1-3:1-2", "-1", "+80", ":", ":80:",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
