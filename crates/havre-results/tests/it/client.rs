//! A plain HTTP client: what it is told is what goes over the wire.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{} is no JSON: {error}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }
}

/// Sends a request and reads its answer.
pub fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = begin(address, method, target, headers, body.len());
    // It may be refused before all of it is read.
    let sent = stream.write_all(body);
    let answer = read(stream);
    assert!(sent.is_ok() || answer.status >= 400, "{sent:?}");
    answer
}

/// Sends `sent` of a body of `length` bytes, and leaves.
pub fn cut(address: SocketAddr, target: &str, length: usize, sent: &[u8]) {
    let mut stream = begin(address, "PUT", target, &[], length);
    stream.write_all(sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    // However it ends, it has ended there too.
    drop(stream.read_to_end(&mut rest));
}

/// Sends `sent` of a body of `length` bytes, and stays.
pub fn stand_still(address: SocketAddr, target: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = begin(address, "PUT", target, &[], length);
    stream.write_all(sent).unwrap();
    stream
}

/// Sends half of a body, and the rest once `between` has been done.
pub fn in_halves(address: SocketAddr, target: &str, body: &[u8], between: impl FnOnce()) -> Answer {
    let mut stream = begin(address, "PUT", target, &[], body.len());
    let (first, second) = body.split_at(body.len() / 2);
    stream.write_all(first).unwrap();
    between();
    // It may be refused before all of it is read.
    drop(stream.write_all(second));
    read(stream)
}

fn begin(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut head =
        format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    if length > 0 || method != "GET" {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn read(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{line:?} is no status"));
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    Answer {
        status,
        headers,
        body,
    }
}
