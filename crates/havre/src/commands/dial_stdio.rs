//! `havre dial-stdio`: the daemon's socket on standard input and output, for `ssh://` contexts.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use havre_api::{Client, ClientError, ConnectError, GREETING};

use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

/// Passes bytes on in both directions until the daemon has no more.
pub fn run(context: &Context) -> Outcome {
    let socket = context.root.api_socket();
    let stream = UnixStream::connect(&socket).map_err(|error| {
        Failure::from(ClientError::Unreachable {
            endpoint: Client::new(&socket).endpoint().clone(),
            source: ConnectError::Io(error),
        })
    })?;
    let lost = |error: io::Error| {
        Failure::new(Exit::Unreachable, "lost the connection to the daemon").caused_by(&error)
    };
    let asks = stream.try_clone().map_err(lost)?;
    let mut out = io::stdout().lock();
    out.write_all(GREETING.as_bytes())?;
    out.flush()?;
    // Not waited for: once the daemon has said all, it matters no more what the client would send.
    std::thread::spawn(move || {
        let mut to_daemon = &asks;
        let copied = io::copy(&mut io::stdin().lock(), &mut to_daemon);
        // What the client has not sent it never will, and the daemon may still answer. An error means
        // that it is gone, which the other direction notices.
        copied.and_then(|_| asks.shutdown(Shutdown::Write)).ok();
    });
    let mut from_daemon = &stream;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from_daemon.read(&mut piece).map_err(lost)? {
            0 => return Ok(Exit::Ok),
            count => {
                out.write_all(&piece[..count])?;
                // It may be what a person waits for.
                out.flush()?;
            }
        }
    }
}
