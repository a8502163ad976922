//! `dns`, `dns_search` and `dns_opt`.

use std::net::{IpAddr, Ipv4Addr};

use crate::project::Resolver;
use crate::read::{Field, Fields, refuse};
use crate::report::Report;

/// Where Docker answers for a container's names.
const DOCKERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// As many as the C library asks.
const MOST_SERVERS: usize = 3;

pub(super) fn resolver(service: &Fields<'_>, report: &mut Report) -> Resolver {
    let mut resolver = Resolver::default();
    each(service, "dns", report, |item, text, report| {
        if let Some(server) = server(item, &text, &service.owner, report) {
            if resolver.servers.len() == MOST_SERVERS {
                let message = format!(
                    "{}: more than {MOST_SERVERS} `dns` servers; `{text}` is not asked",
                    service.owner
                );
                report.warn("compose/ignored", item.span(), message);
            } else {
                resolver.servers.push(server);
            }
        }
    });
    each(service, "dns_search", report, |item, text, report| {
        // No domain at all, which is what there is anyway.
        if text == "." {
            return;
        }
        let domain = text.strip_suffix('.').unwrap_or(&text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if domain.len() <= 253 && domain.split('.').all(label) {
            resolver.search.push(domain.to_owned());
        } else {
            let message = format!("{}: `{text}` is not a domain", service.owner);
            report.error("compose/value", item.span(), message);
        }
    });
    each(service, "dns_opt", report, |item, text, report| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':');
        if text.bytes().all(plain) {
            resolver.options.push(text);
        } else {
            let message = format!("{}: `{text}` is not a resolver's option", service.owner);
            report
                .error("compose/value", item.span(), message)
                .hint("e.g. `ndots:2`, `timeout:1`, `rotate`; one per item");
        }
    });
    resolver
}

/// What is written there, each once.
fn each(
    service: &Fields<'_>,
    key: &str,
    report: &mut Report,
    mut take: impl FnMut(Field<'_>, String, &mut Report),
) {
    let Some(field) = service.get(key) else {
        return;
    };
    let mut seen = Vec::new();
    for item in field.items(report) {
        if let Some(text) = item.string(report).filter(|text| !text.is_empty())
            && !seen.contains(&text)
        {
            seen.push(text.clone());
            take(item, text, report);
        }
    }
}

fn server(item: Field<'_>, text: &str, owner: &str, report: &mut Report) -> Option<IpAddr> {
    let Ok(server) = text.parse::<IpAddr>() else {
        let message = format!("{owner}: `{text}` is not an IP address");
        report
            .error("compose/value", item.span(), message)
            .hint("`dns` names servers by their addresses");
        return None;
    };
    // The names of the project are known without Docker's own server.
    if server == DOCKERS {
        return None;
    }
    if server.is_loopback() {
        let message = format!(
            "{owner}: `dns: {text}` has no effect: servers are asked from outside the container, where \
             this is another address"
        );
        report
            .warn("compose/ignored", item.span(), message)
            .hint("what this machine asks is asked instead, or the other servers named here");
        return None;
    }
    if server.is_unspecified() || server.is_multicast() {
        let why = "it is asked from outside the container, where this is another address";
        let hint = "name a server by an address that this machine can reach, or remove it";
        refuse(item, why, hint, report);
        return None;
    }
    Some(server)
}
