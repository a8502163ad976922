//! A WebSocket as a stream of bytes (RFC 6455): what is in between the two ends passes those on, where
//! it would not pass on an upgrade of ours.
//!
//! What is written goes out in binary messages; of what comes in only the bytes count, not where a message
//! ends. Pings are answered, a Close ends the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Said by both ends, so that neither mistakes another's WebSocket for one of ours.
pub(crate) const SUBPROTOCOL: &str = "havre-exec.1";
/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is.
const VERSION: &str = "13";
/// Bytes that are read or written at once.
const CHUNK: usize = 16 * 1024;
/// A control frame has no more.
const MAX_CONTROL: u64 = 125;
/// Answers to pings that may wait to be written.
const MAX_QUEUED: usize = 4 * CHUNK;

/// A head that asks for no WebSocket of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoHandshake(&'static str);

/// What a client asks with, and the answer by which it knows that it was understood.
pub(crate) struct Handshake {
    /// The client's fields.
    pub(crate) fields: [(header::HeaderName, HeaderValue); 5],
    /// `Sec-WebSocket-Accept` of the answer.
    pub(crate) accept: String,
}

/// A new one.
pub(crate) fn handshake() -> io::Result<Handshake> {
    let mut random = [0; 16];
    fill(&mut random)?;
    let key = data_encoding::BASE64.encode(&random);
    let accept = accept_of(&key);
    let key = HeaderValue::from_str(&key).map_err(io::Error::other)?;
    Ok(Handshake {
        fields: [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(VERSION),
            ),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            ),
            (header::SEC_WEBSOCKET_KEY, key),
        ],
        accept,
    })
}

/// `Sec-WebSocket-Accept` for a head that asks for a WebSocket of ours.
pub(crate) fn accept(headers: &HeaderMap) -> Result<String, NoHandshake> {
    let lists = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter();
        let values = values.filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if !lists(header::CONNECTION, "upgrade") || !lists(header::UPGRADE, "websocket") {
        return Err(NoHandshake("exec by GET needs `Upgrade: websocket`"));
    }
    if !lists(header::SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(NoHandshake("the WebSocket is of another version than 13"));
    }
    if !lists(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(NoHandshake("the WebSocket is not for exec"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.and_then(|key| key.to_str().ok());
    let key = key.ok_or(NoHandshake("the WebSocket has no key"))?;
    Ok(accept_of(key))
}

fn accept_of(key: &str) -> String {
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{}{GUID}", key.trim()).as_bytes(),
    );
    data_encoding::BASE64.encode(hash.as_ref())
}

fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let filled = SystemRandom::new().fill(buffer);
    filled.map_err(|_| io::Error::other("the kernel has no random bytes"))
}

/// Which end this is: a client masks what it sends, a server never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// The stream inside.
pub(crate) struct WebSocket<T> {
    io: T,
    end: End,
    /// Read, and not yet taken apart.
    input: BytesMut,
    frame: Option<Frame>,
    /// Written, and not yet sent.
    output: BytesMut,
    /// A writer waits for room, and is to be woken.
    writer_waits: bool,
    has_ended: bool,
    has_said_close: bool,
}

/// The frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload before.
    at: usize,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl<T> WebSocket<T> {
    pub(crate) fn new(io: T, end: End) -> Self {
        Self {
            io,
            end,
            input: BytesMut::new(),
            frame: None,
            output: BytesMut::new(),
            writer_waits: false,
            has_ended: false,
            has_said_close: false,
        }
    }

    /// The next frame's head, once all of it is there.
    fn head(&mut self) -> io::Result<Option<Frame>> {
        let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        let [first, second, rest @ ..] = &self.input[..] else {
            return Ok(None);
        };
        let (opcode, is_last) = (first & 0x0f, first & 0x80 != 0);
        if first & 0x70 != 0 {
            return Err(bad("a WebSocket frame with an extension"));
        }
        let is_masked = second & 0x80 != 0;
        if is_masked != (self.end == End::Server) {
            return Err(bad("a WebSocket frame that is masked as the other end's"));
        }
        let (bytes, left) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (2, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (0, u64::from(length)),
        };
        let mask = match (is_masked, rest.get(bytes..bytes + 4)) {
            (false, _) => None,
            (true, Some(mask)) => Some([mask[0], mask[1], mask[2], mask[3]]),
            (true, None) => return Ok(None),
        };
        match opcode {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if is_last && left <= MAX_CONTROL => {}
            _ => return Err(bad("a WebSocket frame that makes no sense")),
        }
        self.input
            .advance(2 + bytes + if is_masked { 4 } else { 0 });
        Ok(Some(Frame {
            opcode,
            left,
            mask,
            at: 0,
        }))
    }

    /// Queues a frame.
    fn queue(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.output.put_u8(0x80 | opcode);
        let masked = match self.end {
            End::Client => 0x80,
            End::Server => 0,
        };
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..=125), _) => self.output.put_u8(masked | length),
            (_, Ok(length)) => {
                self.output.put_u8(masked | 126);
                self.output.put_u16(length);
            }
            (_, Err(_)) => {
                self.output.put_u8(masked | 127);
                self.output.put_u64(payload.len() as u64);
            }
        }
        match self.end {
            End::Server => self.output.put_slice(payload),
            End::Client => {
                let mut mask = [0; 4];
                fill(&mut mask)?;
                self.output.put_slice(&mask);
                let masked = payload.iter().zip(mask.iter().cycle());
                self.output.extend(masked.map(|(byte, mask)| byte ^ mask));
            }
        }
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocket<T> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let sent = Pin::new(&mut self.io).poll_write(context, &self.output);
            let Poll::Ready(sent) = sent else {
                self.writer_waits = true;
                return Poll::Pending;
            };
            match sent? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.output.advance(sent),
            }
        }
        self.writer_waits = false;
        Poll::Ready(Ok(()))
    }

    /// Sends what a reader has queued, if that can be done at once. Not while a writer waits: it would
    /// be woken no more, and it sends this too.
    fn send_some(&mut self) -> io::Result<()> {
        if self.writer_waits {
            return Ok(());
        }
        let sent = self.poll_send(&mut Context::from_waker(Waker::noop()));
        self.writer_waits = false;
        match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    /// Reads more; `false` at the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut chunk = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }

    /// Answers a control frame whose payload is there.
    fn control(&mut self, frame: Frame) -> io::Result<()> {
        // At most 125 of them.
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let mut payload = self.input.split_to(length);
        unmask(&mut payload, frame.mask, 0);
        match frame.opcode {
            // One that sends pings and reads no answers is answered no more.
            PING if self.output.len() < MAX_QUEUED => {
                self.queue(PONG, &payload)?;
                self.send_some()
            }
            CLOSE => {
                self.has_ended = true;
                if !std::mem::replace(&mut self.has_said_close, true) {
                    self.queue(CLOSE, payload.get(..2).unwrap_or_default())?;
                }
                self.send_some()
            }
            _ => Ok(()),
        }
    }
}

fn unmask(bytes: &mut [u8], mask: Option<[u8; 4]>, at: usize) {
    let Some(mask) = mask else { return };
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[(at + n) % 4];
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.has_ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.frame.is_none() {
                this.frame = this.head()?;
            }
            match &mut this.frame {
                Some(frame) if frame.opcode >= CLOSE => {
                    if this.input.len() as u64 >= frame.left {
                        let frame = *frame;
                        this.frame = None;
                        this.control(frame)?;
                        continue;
                    }
                }
                Some(frame) if frame.left == 0 => {
                    this.frame = None;
                    continue;
                }
                Some(frame) if !this.input.is_empty() => {
                    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let length = left.min(this.input.len()).min(buffer.remaining());
                    let mut piece = this.input.split_to(length);
                    unmask(&mut piece, frame.mask, frame.at);
                    frame.at += length;
                    frame.left -= length as u64;
                    buffer.put_slice(&piece);
                    return Poll::Ready(Ok(()));
                }
                Some(_) | None => {}
            }
            if !ready!(this.poll_more(context))? {
                this.has_ended = true;
                return match this.frame.is_none() && this.input.is_empty() {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                };
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        if this.has_said_close {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(CHUNK);
        this.queue(BINARY, &bytes[..length])?;
        this.send_some()?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.has_said_close, true) {
            // 1000: all is done.
            this.queue(CLOSE, &1000_u16.to_be_bytes())?;
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_standard() {
        assert_eq!(
            accept_of("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let asked = handshake().expect("random");
        let mut headers: HeaderMap = asked.fields.into_iter().collect();
        assert_eq!(accept(&headers), Ok(asked.accept));
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("chat"),
        );
        assert_eq!(
            accept(&headers),
            Err(NoHandshake("the WebSocket is not for exec"))
        );
        headers.remove(header::UPGRADE);
        assert!(accept(&headers).is_err());
    }

    #[tokio::test]
    async fn bytes_travel_both_ways_whatever_their_number() {
        let (one, other) = tokio::io::duplex(1000);
        let mut client = WebSocket::new(one, End::Client);
        let server = WebSocket::new(other, End::Server);
        let (mut reader, mut writer) = tokio::io::split(server);
        let echo = tokio::spawn(async move {
            let copied = tokio::io::copy(&mut reader, &mut writer).await;
            writer.shutdown().await.expect("closed");
            copied.expect("copied")
        });
        let mut total = 0;
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let sent: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            total += length as u64;
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let mut back = vec![0; length];
            let (written, read) = tokio::join!(
                async {
                    writer.write_all(&sent).await?;
                    writer.flush().await
                },
                reader.read_exact(&mut back)
            );
            written.expect("sent");
            read.expect("answered");
            assert!(back == sent, "{length}");
        }
        client.shutdown().await.expect("closed");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("an end");
        assert_eq!((echo.await.expect("no panic"), rest.len()), (total, 0));
    }

    /// What a server reads of these bytes, and what it answers.
    async fn received(bytes: &[u8]) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let (mut raw, io) = tokio::io::duplex(1 << 16);
        raw.write_all(bytes).await.expect("room");
        raw.shutdown().await.expect("closed");
        let mut server = WebSocket::new(io, End::Server);
        let mut got = Vec::new();
        let read = server.read_to_end(&mut got).await;
        drop(server);
        let mut answer = Vec::new();
        raw.read_to_end(&mut answer).await.expect("answered");
        (read.map(|_| got), answer)
    }

    #[tokio::test]
    async fn control_frames_are_answered_between_pieces_of_a_message() {
        let bytes = [
            &[0x02, 0x82, 0, 0, 0, 0, b'a', b'b'][..],
            &[0x89, 0x81, 1, 0, 0, 0, b'x' ^ 1],
            &[0x8a, 0x80, 0, 0, 0, 0],
            &[0x80, 0x81, 2, 2, 2, 2, b'c' ^ 2],
            &[0x88, 0x82, 0, 0, 0, 0, 3, 232],
        ];
        let (read, answer) = received(&bytes.concat()).await;
        assert_eq!(read.expect("an end"), b"abc");
        assert_eq!(answer, [0x8a, 1, b'x', 0x88, 2, 3, 232]);
    }

    #[tokio::test]
    async fn nonsense_ends_the_stream() {
        for nonsense in [
            // Not masked, an extension, an unknown kind, a long ping, a ping in pieces, cut off.
            &[0x82, 0x01, b'a'][..],
            &[0xc2, 0x81, 0, 0, 0, 0, b'a'],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x89, 0xfe, 0, 126, 0, 0, 0, 0],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x82, 0x82, 0, 0, 0, 0, b'a'],
            &[0x82],
        ] {
            let (read, _) = received(nonsense).await;
            assert!(read.is_err(), "{nonsense:?}");
        }
    }
}
