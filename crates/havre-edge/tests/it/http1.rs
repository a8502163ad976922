//! A small blocking HTTP/1 client that shows every byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What a stuck test waits at most for a byte.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, plain or TLS.
pub struct Connection {
    stream: Box<dyn ReadWrite>,
    buffer: Vec<u8>,
    socket: TcpStream,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything up to the empty line.
    pub head: String,
    /// Decoded body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// TLS settings that trust `ca`.
pub fn client_config(ca: &str, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a CA"))
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

impl Connection {
    /// Plain.
    pub fn plain(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        let stream = Box::new(socket.try_clone().expect("a clone"));
        Self {
            stream,
            buffer: Vec::new(),
            socket,
        }
    }

    /// TLS with SNI `host`; fails as the handshake does.
    pub fn tls(address: SocketAddr, host: &str, ca: &str) -> io::Result<Self> {
        Self::tls_with(address, host, ca, b"http/1.1")
    }

    /// The same, for another protocol.
    pub fn tls_with(
        address: SocketAddr,
        host: &str,
        ca: &str,
        protocol: &[u8],
    ) -> io::Result<Self> {
        let config = client_config(ca, &[protocol]);
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket.try_clone()?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            socket,
        })
    }

    /// The socket beneath.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("to send");
    }

    /// Sends bytes as they are.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a GET and reads the answer.
    pub fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.answer()
    }

    /// Reads an answer with its body.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(true).expect("an answer")
    }

    /// Reads an answer; `body` false for HEAD and 101.
    pub fn try_answer(&mut self, body: bool) -> io::Result<Answer> {
        let head = self.head()?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if status == 100 {
            return self.try_answer(body);
        }
        if !body || status == 204 || status == 304 || status == 101 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            answer.body = self.take(length)?;
        } else {
            answer.body = self.rest()?;
        }
        Ok(answer)
    }

    /// Reads up to the empty line.
    pub fn head(&mut self) -> io::Result<String> {
        let end = self.find(b"\r\n\r\n")?;
        let head = self.take(end + 4)?;
        Ok(String::from_utf8_lossy(&head).trim_end().to_owned())
    }

    /// Reads one chunk; None for the last.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let end = self.find(b"\r\n")?;
        let line = self.take(end + 2)?;
        let text = String::from_utf8_lossy(&line);
        let length = usize::from_str_radix(text.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = self.take(length + 2)?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    /// Reads exactly this many bytes.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads to the end of the connection; a reset counts as one if `Ok` bytes came before.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// True when the other side has closed, within its patience.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !matches!(self.fill(), Ok(1..))
    }

    fn find(&mut self, pattern: &[u8]) -> io::Result<usize> {
        loop {
            let found = self
                .buffer
                .windows(pattern.len())
                .position(|window| window == pattern);
            if let Some(at) = found {
                return Ok(at);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut space = [0; 16 * 1024];
        let count = self.stream.read(&mut space)?;
        self.buffer.extend_from_slice(&space[..count]);
        Ok(count)
    }
}
