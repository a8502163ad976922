//! `havre git-receive-pack` and `git-upload-pack`: what git runs on the machine of the repository, over SSH or there
//! itself. It passes bytes on to the daemon, which finds out by the socket who asks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use havre_api::{Client, ClientError, ConnectError};
use havre_git::plain;

use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

/// Longest head of the daemon's answer, and of what it says of a refusal.
const MOST_HEAD: usize = 16 * 1024;
const MOST_SAID: u64 = 64 * 1024;

/// Passes bytes on in both directions until git at the daemon has no more.
pub fn connect(context: &Context, service: &str, repository: &str) -> Outcome {
    let request = request(service, repository, std::env::var("GIT_PROTOCOL").ok())?;
    let socket = context.root.api_socket();
    let mut stream = UnixStream::connect(&socket).map_err(|error| {
        Failure::from(ClientError::Unreachable {
            endpoint: Client::new(&socket).endpoint().clone(),
            source: ConnectError::Io(error),
        })
    })?;
    let lost = |error: io::Error| {
        Failure::new(Exit::Unreachable, "lost the connection to the daemon").caused_by(&error)
    };
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let head = head(&mut stream).map_err(lost)?;
    if !head.starts_with("HTTP/1.1 101 ") {
        let mut said = String::new();
        let mut rest = stream.take(length(&head).min(MOST_SAID));
        rest.read_to_string(&mut said).map_err(lost)?;
        return Err(refused(&said));
    }
    let mut asks = stream.try_clone().map_err(lost)?;
    // Not waited for: once git has said all, it matters no more what the client would send.
    std::thread::spawn(move || {
        let copied = pass(&mut io::stdin().lock(), &mut asks);
        // An error means that the daemon is gone, which the other direction notices.
        copied.and_then(|()| asks.shutdown(Shutdown::Write)).ok();
    });
    // Unlike standard output itself it keeps nothing back.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    pass(&mut stream, &mut out)?;
    Ok(Exit::Ok)
}

/// What is sent to the daemon. Pure.
fn request(service: &str, repository: &str, protocol: Option<String>) -> Result<String, Failure> {
    let name = repository.trim_start_matches('/');
    let name = name.strip_suffix(".git").unwrap_or(name);
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        let message = format!("{repository:?} names no repository");
        return Err(
            Failure::new(Exit::Usage, message).hint("it is called as its project: /shop.git")
        );
    }
    let is_sound = |text: &String| text.chars().all(|c| c.is_ascii_graphic());
    let protocol = protocol.filter(is_sound);
    let protocol = protocol.map_or_else(String::new, |text| format!("git-protocol: {text}\r\n"));
    Ok(format!(
        "POST /{name}.git/connect/{service} HTTP/1.1\r\nhost: havre\r\nconnection: upgrade\r\n\
         upgrade: git\r\ncontent-length: 0\r\n{protocol}\r\n"
    ))
}

/// The head of an answer, and not a byte of what follows.
fn head(from: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > MOST_HEAD {
            return Err(io::Error::other("its answer has no end"));
        }
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// Bytes that follow a head. Pure.
fn length(head: &str) -> u64 {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    field
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// As the daemon's lines say. Pure.
fn refused(said: &str) -> Failure {
    let mut lines = said.lines();
    let first = lines.next().unwrap_or("the daemon refuses");
    let failure = Failure::new(Exit::Failed, plain(first));
    match lines.next().and_then(|line| line.strip_prefix("hint: ")) {
        Some(hint) => failure.hint(plain(hint)),
        None => failure,
    }
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => {
                to.write_all(&piece[..count])?;
                to.flush()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_asked_for_by_its_name() {
        for name in ["shop", "/shop", "/shop.git", "shop.git"] {
            let request = request("git-upload-pack", name, Some("version=2".to_owned()));
            let request = request.expect("sound");
            let line = "POST /shop.git/connect/git-upload-pack HTTP/1.1\r\n";
            assert!(request.starts_with(line), "{request}");
            assert!(request.contains("\r\ngit-protocol: version=2\r\n\r\n"));
        }
        for bad in ["", "/", "../x", "a/b.git", "a\r\nb", "~/shop"] {
            assert!(request("git-upload-pack", bad, None).is_err(), "{bad}");
        }
        let split = request("git-upload-pack", "shop", Some("a\r\nb".to_owned()));
        assert!(!split.expect("sound").contains("git-protocol"));
    }

    #[test]
    fn nothing_of_what_follows_a_head_is_taken() {
        let mut answer: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever";
        let head = head(&mut answer).expect("whole");
        assert_eq!((length(&head), answer), (5, &b"never"[..]));
        assert_eq!(length("HTTP/1.1 200 OK\r\n\r\n"), 0);
        assert!(super::head(&mut &b"HTTP/1.1 200"[..]).is_err());
    }
}
