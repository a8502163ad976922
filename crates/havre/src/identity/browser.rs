//! A browser that comes back to this machine with a code (RFC 8252, PKCE by RFC 7636).

use std::io;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::fields;
use crate::error::Failure;
use crate::exit::Exit;

/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How many requests are looked at: browsers ask for icons too.
const MOST_REQUESTS: usize = 50;
/// How long one may take.
const REQUEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// What a browser is to come back with.
pub(super) struct Visit {
    listener: TcpListener,
    /// Where to.
    pub(super) address: String,
    /// Shows that it is this login, and no other page's.
    pub(super) state: String,
    /// Ties what the issuer says to this login.
    pub(super) nonce: String,
    /// Shows that the code is used by who asked for it.
    pub(super) verifier: String,
}

impl Visit {
    pub(super) fn new() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            address: format!("http://127.0.0.1:{port}/callback"),
            state: random()?,
            nonce: random()?,
            verifier: random()?,
        })
    }

    pub(super) fn challenge(&self) -> String {
        BASE64URL_NOPAD.encode(&Sha256::digest(&self.verifier))
    }

    /// Waits for the browser. What comes without this login's state is answered and counts for nothing.
    pub(super) async fn code(&self) -> Result<String, Failure> {
        for _ in 0..MOST_REQUESTS {
            let accepted = self.listener.accept().await;
            let (mut stream, _) = accepted.map_err(|error| {
                Failure::new(Exit::Failed, "no browser can come back").caused_by(&error)
            })?;
            let head = tokio::time::timeout(REQUEST_DEADLINE, head(&mut stream)).await;
            // Somebody who says nothing is no browser.
            let Ok(Ok(head)) = head else { continue };
            let found = self.found(&head);
            let (status, said) = match &found {
                None => ("404 Not Found", "Nothing is here."),
                Some(Ok(_)) => ("200 OK", "You are logged in. This page can be closed."),
                Some(Err(_)) => (
                    "403 Forbidden",
                    "You are not logged in. The terminal says why.",
                ),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{said}",
                said.len()
            );
            // Whether the browser shows it changes nothing.
            stream.write_all(answer.as_bytes()).await.ok();
            if let Some(found) = found {
                return found;
            }
        }
        Err(Failure::new(
            Exit::Failed,
            "no browser came back from the login",
        ))
    }

    fn found(&self, head: &str) -> Option<Result<String, Failure>> {
        let target = head.strip_prefix("GET ")?.split(' ').next()?;
        let fields = fields(target.strip_prefix("/callback?")?);
        if fields.get("state") != Some(&self.state) {
            return None;
        }
        match (fields.get("code"), fields.get("error")) {
            (Some(code), _) => Some(Ok(code.clone())),
            (None, error) => {
                let error = error.map_or("nobody says why", String::as_str);
                let message = format!("nobody was logged in: {error}");
                Some(Err(Failure::new(Exit::Failed, message)))
            }
        }
    }
}

async fn head(stream: &mut tokio::net::TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => break,
            count => head.extend_from_slice(&piece[..count]),
        }
        if head.len() > MAX_HEAD_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// 256 random bits, as text.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(BASE64URL_NOPAD.encode(&bytes))
}
