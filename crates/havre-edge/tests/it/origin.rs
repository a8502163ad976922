//! Origins: small strict HTTP/1 servers, a thread per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that ends with the test.
pub struct Origin {
    /// Where it listens; of no meaning where it is a socket.
    pub address: SocketAddr,
    socket: Option<PathBuf>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Box<dyn Stream>>>>,
}

/// A connection, by TCP or a Unix socket.
pub trait Stream: Read + Write + Send {
    /// The same once more.
    fn again(&self) -> io::Result<Box<dyn Stream>>;
    /// Ends it both ways.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn again(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

impl Stream for UnixStream {
    fn again(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

/// A request as it arrived.
pub struct Request {
    /// First line and headers.
    pub head: String,
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The server's side of a connection.
pub struct Peer {
    reader: BufReader<Box<dyn Stream>>,
    /// For raw answers.
    pub writer: Box<dyn Stream>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Reads a head; None at the end of the connection.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(line.trim_end());
            head.push('\n');
        }
        self.heads.lock().expect("heads").push(head.clone());
        let mut words = head.split([' ', '\n']);
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        Ok(Some(Request {
            head,
            method,
            target,
        }))
    }

    /// Reads the request's body, giving each piece to `piece`.
    pub fn body(&mut self, request: &Request, mut piece: impl FnMut(&[u8])) -> io::Result<()> {
        if let Some(length) = request.header("content-length") {
            let mut left: usize = length.parse().map_err(io::Error::other)?;
            let mut space = vec![0; 64 * 1024];
            while left > 0 {
                let most = left.min(space.len());
                let count = self.reader.read(&mut space[..most])?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                piece(&space[..count]);
                left -= count;
            }
        } else if request.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                self.reader.read_line(&mut line)?;
                let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; length + 2];
                self.reader.read_exact(&mut chunk)?;
                if length == 0 {
                    break;
                }
                piece(&chunk[..length]);
            }
        }
        Ok(())
    }

    /// Sends an answer with a length.
    pub fn reply(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.writer.write_all(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.writer.write_all(bytes.as_ref())
    }

    /// Reads what there is, up to the buffer's size.
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.reader.read(space)
    }
}

impl Origin {
    /// A server whose connections are handled by `handler`, one request at a time while it says true.
    pub fn start<H>(handler: H) -> Self
    where
        H: Fn(&mut Peer, Request) -> io::Result<bool> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::on(listener, handler)
    }

    /// The same on a given port.
    pub fn on<H>(listener: TcpListener, handler: H) -> Self
    where
        H: Fn(&mut Peer, Request) -> io::Result<bool> + Send + Sync + 'static,
    {
        let address = listener.local_addr().expect("an address");
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        Self::accepting(address, None, accept, handler)
    }

    /// The usual one on a Unix socket, which is reached by `path`.
    pub fn on_socket(listener: UnixListener, path: PathBuf, name: &'static str) -> Self {
        let accept = move || {
            let (stream, _) = listener.accept()?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        let nowhere = ([127, 0, 0, 1], 0).into();
        Self::accepting(nowhere, Some(path), accept, move |peer, request| {
            usual(name, peer, &request)
        })
    }

    fn accepting<A, H>(address: SocketAddr, socket: Option<PathBuf>, accept: A, handler: H) -> Self
    where
        A: Fn() -> io::Result<Box<dyn Stream>> + Send + 'static,
        H: Fn(&mut Peer, Request) -> io::Result<bool> + Send + Sync + 'static,
    {
        let origin = Self {
            address,
            socket,
            connections: Arc::default(),
            ended: Arc::default(),
            heads: Arc::default(),
            stop: Arc::default(),
            open: Arc::default(),
        };
        let (connections, heads) = (Arc::clone(&origin.connections), Arc::clone(&origin.heads));
        let ended = Arc::clone(&origin.ended);
        let (stop, open) = (Arc::clone(&origin.stop), Arc::clone(&origin.open));
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            loop {
                let accepted = accept();
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = accepted else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                open.lock()
                    .expect("open")
                    .push(stream.again().expect("a clone"));
                let (handler, heads) = (Arc::clone(&handler), Arc::clone(&heads));
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || {
                    serve(stream, heads, handler.as_ref());
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        origin
    }

    /// The usual one, which says `name` and does what the path asks for.
    pub fn usual(name: &'static str) -> Self {
        Self::start(move |peer, request| usual(name, peer, &request))
    }

    /// Heads received so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections over so far.
    pub fn closed(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// Ends the connections that are open; new ones are accepted still.
    pub fn end_connections(&self) {
        for stream in self.open.lock().expect("open").drain(..) {
            drop(stream.end());
        }
    }

    /// As SIGKILL does: nothing listens, open connections break.
    pub fn kill(&self) {
        if self.stop.swap(true, Ordering::SeqCst) {
            return;
        }
        // Wakes the accepting thread, which then drops the listener.
        self.is_reached();
        self.end_connections();
        crate::edge::wait_for("the port to be free", Duration::from_secs(5), || {
            (!self.is_reached()).then_some(())
        });
    }

    fn is_reached(&self) -> bool {
        match &self.socket {
            Some(path) => UnixStream::connect(path).is_ok(),
            None => TcpStream::connect(self.address).is_ok(),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve<H>(stream: Box<dyn Stream>, heads: Arc<Mutex<Vec<String>>>, handler: &H)
where
    H: Fn(&mut Peer, Request) -> io::Result<bool>,
{
    let reader = BufReader::new(stream.again().expect("a clone"));
    let mut peer = Peer {
        reader,
        writer: stream,
        heads,
    };
    while let Ok(Some(request)) = peer.request() {
        if !matches!(handler(&mut peer, request), Ok(true)) {
            break;
        }
    }
    drop(peer.writer.end());
}

fn usual(name: &str, peer: &mut Peer, request: &Request) -> io::Result<bool> {
    let mut received = 0;
    peer.body(request, |piece| received += piece.len())?;
    let path = request.target.split('?').next().unwrap_or_default();
    match path {
        "/events" => {
            peer.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")?;
            peer.raw("Transfer-Encoding: chunked\r\n\r\n")?;
            let mut number = 0;
            while number < 1000 {
                let event = format!("data: {number}\n\n");
                peer.raw(format!("{:x}\r\n{event}\r\n", event.len()))?;
                std::thread::sleep(Duration::from_millis(50));
                number += 1;
            }
            peer.raw("0\r\n\r\n")?;
        }
        "/slow" => {
            std::thread::sleep(Duration::from_millis(500));
            peer.reply("200 OK", "", format!("{name} slow").as_bytes())?;
        }
        "/fail" => peer.reply("500 Internal Server Error", "", b"failed")?,
        "/upload" => peer.reply("200 OK", "", format!("{received}").as_bytes())?,
        "/head" => peer.reply("200 OK", "", request.head.as_bytes())?,
        "/ws" => {
            peer.raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")?;
            peer.raw("Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
            while echo_frame(peer)? {}
            return Ok(false);
        }
        _ => peer.reply("200 OK", "", name.as_bytes())?,
    }
    Ok(true)
}

/// Sends a client's frame back, unmasked; a ping as a pong. False after a Close.
fn echo_frame(peer: &mut Peer) -> io::Result<bool> {
    let mut head = [0; 6];
    peer.reader.read_exact(&mut head)?;
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    assert!(payload.len() < 126, "short frames only");
    peer.reader.read_exact(&mut payload)?;
    for (byte, mask) in payload.iter_mut().zip(head[2..].iter().cycle()) {
        *byte ^= mask;
    }
    let opcode = if head[0] == 0x89 { 0x8a } else { head[0] };
    let length = u8::try_from(payload.len()).expect("a short frame");
    peer.raw([&[opcode, length], payload.as_slice()].concat())?;
    Ok(opcode & 0xf != 8)
}
