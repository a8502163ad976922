//! What an authority would find that looks for a proof, as far as this machine can tell, and what a person
//! can do about it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use havre_acme::{Name, Proof};
use havre_api::{CertificateCheck, CertificateState, CertificateStatus};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::edge::EdgeHub;

const LOOKUP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(4);
/// Of the addresses of a name, how many are looked at.
const ADDRESSES: usize = 4;
const MAX_ANSWER: u64 = 2048;
/// Where authorities look (RFC 8555 §8.3, RFC 8737).
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Looks at a name from here: its addresses, and whether what answers there is this machine.
pub(crate) async fn look(hub: &EdgeHub, name: &Name) -> Vec<CertificateCheck> {
    let (addresses, dns) = addresses(name).await;
    let mut checks = vec![dns];
    if name.is_wildcard() {
        return checks;
    }
    let token = match new_token() {
        Ok(token) => token,
        Err(error) => {
            tracing::error!(%error, "no look at who answers at {name}");
            return checks;
        }
    };
    let proof = Proof::Http {
        answer: format!("{token}.this machine"),
        token: token.clone(),
    };
    let looking = Looking { hub, proof };
    let shown = hub.show(&looking.proof).await;
    for address in addresses.into_iter().take(ADDRESSES) {
        if !may_look_at(address) {
            checks.push(CertificateCheck {
                what: format!("ports of {address}"),
                good: None,
                found: "not looked at: it is no public address and none of this machine".to_owned(),
            });
            continue;
        }
        let found = match &shown {
            Ok(()) => answer_at(SocketAddr::new(address, HTTP), name, &token).await,
            Err(why) => Err(why.clone()),
        };
        checks.push(at(address, HTTP, found));
        let connected = connect(SocketAddr::new(address, HTTPS)).await;
        let found = connected.map(|_| "somebody listens".to_owned());
        checks.push(at(address, HTTPS, found));
    }
    hub.withdraw(&looking.proof).await;
    checks
}

/// Nobody looks any more who has gone away meanwhile.
struct Looking<'a> {
    hub: &'a EdgeHub,
    proof: Proof,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.hub.forget(&self.proof);
    }
}

/// Of one look: there may be several at once.
fn new_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    // So few come at once.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("havre-look-{:032x}", u128::from_ne_bytes(bytes)))
}

/// A name may lead anywhere: whoever may have one looked at does not learn thereby what this machine
/// reaches and others do not.
fn may_look_at(address: IpAddr) -> bool {
    let address = address.to_canonical();
    is_public(address)
        || !address.is_loopback()
            && is_own(address).unwrap_or_else(|error| {
                tracing::debug!(%address, %error, "no way leads there");
                false
            })
}

/// Whether it is this machine's: from there alone the way to it begins. Nothing is sent.
fn is_own(address: IpAddr) -> io::Result<bool> {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((address, HTTP))?;
    Ok(socket.local_addr()?.ip() == address)
}

fn is_public(address: IpAddr) -> bool {
    Name::parse(&address.to_string()).is_some_and(|it| it.is_public())
}

fn at(address: IpAddr, port: u16, found: Result<String, String>) -> CertificateCheck {
    let (good, found) = match found {
        Ok(found) => (Some(true), found),
        Err(found) => (Some(false), found),
    };
    CertificateCheck {
        what: format!("port {port} of {address}"),
        good,
        found,
    }
}

async fn addresses(name: &Name) -> (Vec<IpAddr>, CertificateCheck) {
    let check = |good, found: String| CertificateCheck {
        what: format!("addresses of {}", name.base()),
        good: Some(good),
        found,
    };
    if let Some(address) = name.address() {
        return (vec![address], check(true, "it is one".to_owned()));
    }
    let host = (name.base(), HTTP);
    let found = match timeout(LOOKUP, lookup_host(host)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return (Vec::new(), check(false, error.to_string())),
        Err(_) => return (Vec::new(), check(false, "DNS did not answer".to_owned())),
    };
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let check = match addresses.iter().copied().all(is_public) {
        true => check(true, texts.join(", ")),
        false => check(
            false,
            format!(
                "{}; an authority reaches public ones only",
                texts.join(", ")
            ),
        ),
    };
    (addresses, check)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    match timeout(LOOK, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
    }
}

/// Asks as an authority would.
async fn answer_at(address: SocketAddr, name: &Name, token: &str) -> Result<String, String> {
    let mut stream = connect(address).await?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        name.as_str()
    );
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await
    };
    match timeout(LOOK, exchange).await {
        Ok(Ok(_)) => judge(&String::from_utf8_lossy(&answer), token),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
    }
}

/// What an answer says of who gave it. Pure.
fn judge(answer: &str, token: &str) -> Result<String, String> {
    if answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("{token}.this machine")) {
        return Ok("this machine answers".to_owned());
    }
    let line = answer.lines().next().unwrap_or_default();
    let server = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("server").then_some(value)
    });
    let shown = |text: &str, most| -> String {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.take(most).collect()
    };
    let line = shown(line, 80);
    let server = shown(server.unwrap_or("somebody"), 40);
    Err(match line.is_empty() {
        true => "somebody else listens: the connection was closed without an answer".to_owned(),
        false => format!("somebody else answers: `{line}` by {server}"),
    })
}

/// What a person can do. Pure.
pub(crate) fn advice(
    status: &CertificateStatus,
    checks: &[CertificateCheck],
    public: bool,
) -> Vec<String> {
    let mut advice = Vec::new();
    if !public {
        advice.push(
            "no authority is asked for this host: it is no public name, or havre.yaml says `tls: local` or \
             names files. `tls: acme` in havre.yaml has one ordered for any name"
                .to_owned(),
        );
        return advice;
    }
    if status.last_failure.is_none() && status.state == CertificateState::Serving {
        return advice;
    }
    let host = &status.host;
    if let Some(failure) = &status.last_failure {
        let link = failure.links.first();
        if failure.paused {
            let page = link.map_or("the authority's page", String::as_str);
            advice.push(format!("the authority has paused {host}: end the pause at {page}, then `havre cert renew {host}`"));
        } else if failure.limited {
            let page = link.map(|link| format!(" ({link})")).unwrap_or_default();
            advice.push(format!(
                "a limit of the authority was met{page}: wait; it is tried again by itself"
            ));
        }
        let kind = failure
            .kind
            .as_deref()
            .and_then(|kind| kind.rsplit(':').next());
        let authority = &failure.authority;
        match kind {
            Some("caa") => advice.push(format!(
                "a CAA record of the domain forbids {authority} to sign: add it there, or configure the \
                 authority that it names"
            )),
            Some("externalAccountRequired") => advice.push(format!(
                "{authority} wants an external account: acme.authorities[].external_account in the machine's \
                 configuration"
            )),
            Some("accountDoesNotExist") => advice.push(format!(
                "{authority} does not know our account any more; it is not replaced without being told: \
                 configure the authority under its new address, or ask it"
            )),
            Some("rejectedIdentifier") => advice.push(format!(
                "{authority} does not sign for {host} at all: configure another authority, or `tls: local`"
            )),
            _ => {}
        }
        if failure.stage == "directory" {
            advice.push(format!(
                "{authority} could not be reached from this machine: look at its connection and at \
                 acme.authorities; it is tried again by itself"
            ));
        }
    }
    for check in checks.iter().filter(|check| check.good == Some(false)) {
        if check.what.starts_with("addresses") {
            advice.push(format!(
                "let {host} lead to this machine, by an A or AAAA record"
            ));
        } else if check.what.starts_with("port 80") {
            advice.push(format!(
                "{} does not lead to this machine as seen from here ({}): open port 80 for everybody, or, behind a \
                 router that does not lead back inside, look from elsewhere",
                check.what, check.found
            ));
        }
    }
    if status.state != CertificateState::Serving && advice.is_empty() {
        advice.push(format!(
            "once the reason is gone, `havre cert renew {host}` tries at once"
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use havre_api::{CertificateSource, OrderFailure, Timestamp};

    use super::*;

    fn failing(kind: &str, links: &[&str]) -> CertificateStatus {
        CertificateStatus {
            host: "a.dev".to_owned(),
            state: CertificateState::Failing,
            source: CertificateSource::Local,
            issuer: None,
            serial: None,
            valid_from: None,
            valid_until: None,
            renewal: None,
            next_attempt: None,
            failures: 1,
            last_failure: Some(OrderFailure {
                at: Timestamp::now(),
                authority: "ca".to_owned(),
                stage: "validation".to_owned(),
                method: None,
                kind: Some(format!("urn:ietf:params:acme:error:{kind}")),
                detail: String::new(),
                links: links.iter().map(ToString::to_string).collect(),
                paused: kind == "rateLimited" && !links.is_empty(),
                limited: kind == "rateLimited",
            }),
            waits: Vec::new(),
        }
    }

    #[test]
    fn whoever_answers_is_told_from_this_machine() {
        let own = "HTTP/1.1 200 OK\r\nserver: havre\r\n\r\nt.this machine";
        assert_eq!(judge(own, "t"), Ok("this machine answers".to_owned()));
        let other = "HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\nt.this machine";
        let said = judge(other, "t").unwrap_err();
        assert_eq!(
            said,
            "somebody else answers: `HTTP/1.1 404 Not Found` by nginx"
        );
        let painted = "HTTP/1.1 404 \u{1b}[2J\r\nServer: \u{1b}]0;root\u{7}nginx\r\n\r\n";
        let said = judge(painted, "t").unwrap_err();
        assert!(!said.contains(char::is_control), "{said:?}");
        assert!(judge("", "t").unwrap_err().contains("without an answer"));
    }

    #[test]
    fn nobody_learns_from_a_look_what_else_this_machine_reaches() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("2606:4700::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("224.0.0.1", false),
            ("10.255.254.253", false),
            ("fe80::1", false),
        ] {
            assert_eq!(may_look_at(address.parse().unwrap()), expected, "{address}");
        }
        assert!(is_own(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap());
        assert_ne!(new_token().unwrap(), new_token().unwrap());
    }

    #[test]
    fn advice_names_the_next_step() {
        for (status, checks, expected) in [
            (
                failing("rateLimited", &["https://ca/unpause?x"]),
                vec![],
                "end the pause at https://ca/unpause?x",
            ),
            (
                failing("caa", &[]),
                vec![],
                "a CAA record of the domain forbids ca",
            ),
            (
                failing("dns", &[]),
                vec![at("10.0.0.1".parse().unwrap(), 80, Err("refused".into()))],
                "port 80 of 10.0.0.1 does not lead to this machine",
            ),
            (
                failing("connection", &[]),
                vec![],
                "`havre cert renew a.dev`",
            ),
        ] {
            let told = advice(&status, &checks, true);
            assert!(told.iter().any(|it| it.contains(expected)), "{told:?}");
        }
        let told = advice(&failing("dns", &[]), &[], false);
        assert!(told[0].contains("`tls: acme`"), "{told:?}");
    }
}
