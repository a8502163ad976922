//! A client's connection, plain or TLS, with what hyper does not know: a whole head must be sound and
//! arrive in time, interim answers go between the final ones, and an early answer must be readable
//! before the connection is reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use crate::gate::{Gate, Step};
use crate::http2::{Inbound, Outbound};
use crate::limits;
use crate::phase::ConnectionActivity;
use crate::witness::Witness;

/// The transport under a client's connection.
#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// See the module.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    phase: Arc<ConnectionActivity>,
    protocol: Protocol,
    /// Bytes that were read and wait for the gate.
    held: Vec<u8>,
    /// Bytes that the gate has passed and the parser has not taken yet.
    passed: Bytes,
    /// Interim answers that are being written.
    interim: Bytes,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of the silence, and of the whole.
    linger: Option<(Pin<Box<Sleep>>, Instant)>,
    shut: bool,
}

/// How bytes are looked at.
#[derive(Debug)]
enum Protocol {
    Http1(Gate),
    Http2(Box<Http2>),
}

#[derive(Debug)]
struct Http2 {
    inbound: Inbound,
    outbound: Outbound,
    witness: Witness,
}

impl ClientIo {
    /// HTTP/1 over TCP.
    pub fn plain(stream: TcpStream, phase: Arc<ConnectionActivity>) -> Self {
        let protocol = Protocol::Http1(Gate::default());
        Self::new(Transport::Plain(stream), protocol, phase)
    }

    /// HTTP/1 over TLS.
    pub fn tls(stream: TlsStream<TcpStream>, phase: Arc<ConnectionActivity>) -> Self {
        let protocol = Protocol::Http1(Gate::default());
        Self::new(Transport::Tls(Box::new(stream)), protocol, phase)
    }

    /// HTTP/2 over TLS.
    pub fn http2(
        stream: TlsStream<TcpStream>,
        phase: Arc<ConnectionActivity>,
        witness: Witness,
    ) -> Self {
        let protocol = Protocol::Http2(Box::new(Http2 {
            inbound: Inbound::new(Arc::clone(&phase.asides)),
            outbound: Outbound::default(),
            witness,
        }));
        Self::new(Transport::Tls(Box::new(stream)), protocol, phase)
    }

    fn new(transport: Transport, protocol: Protocol, phase: Arc<ConnectionActivity>) -> Self {
        Self {
            transport,
            phase,
            protocol,
            held: Vec::new(),
            passed: Bytes::new(),
            interim: Bytes::new(),
            deadline: None,
            linger: None,
            shut: false,
        }
    }

    fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    /// Ready when a head or preface that has begun should be complete by now.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, runs: bool) -> Poll<()> {
        if !runs {
            self.deadline = None;
            return Poll::Pending;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limits::HEAD_DEADLINE)));
        deadline.as_mut().poll(cx)
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.protocol {
            Protocol::Http1(gate) => gate.step(bytes),
            Protocol::Http2(http2) => http2.inbound.step(bytes),
        }
    }

    fn poll_gated(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.passed.is_empty() {
                let count = self.passed.len().min(buf.remaining());
                buf.put_slice(&self.passed.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if self.gate_is_closed(cx) {
                return Poll::Pending;
            }
            if !self.held.is_empty() {
                let held = std::mem::take(&mut self.held);
                match self.step(&held) {
                    Step::Wait => self.held = held,
                    Step::Pass(count) => {
                        let mut held = Bytes::from(held);
                        self.passed = held.split_to(count);
                        self.held = held.into();
                        continue;
                    }
                    step => {
                        self.replace(step, &held)?;
                        continue;
                    }
                }
            }
            let before = buf.filled().len();
            if self.poll_transport(cx, buf)?.is_pending() {
                ready!(self.poll_head_deadline(cx))?;
                continue;
            }
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() {
                self.held.extend_from_slice(fresh);
                buf.set_filled(before);
                continue;
            }
            match self.step(fresh) {
                Step::Pass(count) => {
                    self.held = fresh[count..].to_vec();
                    buf.set_filled(before + count);
                    return Poll::Ready(Ok(()));
                }
                Step::Wait => self.held = fresh.to_vec(),
                step => self.replace(step, fresh)?,
            }
            buf.set_filled(before);
        }
    }

    /// Whether nothing more is read for now: after a refusal, or while much of what follows a request
    /// to switch protocols waits for its answer.
    fn gate_is_closed(&mut self, cx: &Context<'_>) -> bool {
        let Protocol::Http1(gate) = &mut self.protocol else {
            return false;
        };
        if let Some(number) = gate.undecided() {
            let is_full = self.held.len() >= limits::HEAD_BYTES;
            match self.phase.asides.poll_switch(number, cx) {
                Poll::Ready(agreed) => gate.decide(agreed),
                Poll::Pending => return is_full,
            }
        }
        gate.is_shut()
    }

    /// Gives the parser something else than what came.
    fn replace(&mut self, step: Step, bytes: &[u8]) -> io::Result<()> {
        match step {
            Step::Replace(count, head) => {
                self.held = bytes[count..].to_vec();
                self.passed = head.into();
            }
            Step::Refuse(refusal, instead) => {
                self.held = Vec::new();
                self.phase.asides.put_refusal(refusal);
                self.passed = instead.into();
            }
            Step::Broken => {
                self.held = Vec::new();
                if let Protocol::Http2(http2) = &self.protocol {
                    http2.witness.cut();
                }
                return Err(io::ErrorKind::InvalidData.into());
            }
            Step::Wait | Step::Pass(_) => {}
        }
        Ok(())
    }

    /// Called when no bytes are there. Ready when what is there is to be looked at again.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let runs = match &self.protocol {
            Protocol::Http1(gate) => self.phase.is_idle() && gate.is_in_head(),
            Protocol::Http2(http2) => !http2.inbound.is_greeted(),
        };
        ready!(self.poll_deadline(cx, runs));
        self.deadline = None;
        let held = std::mem::take(&mut self.held);
        match &mut self.protocol {
            Protocol::Http1(gate) => {
                let step = gate.time_out(&held);
                Poll::Ready(self.replace(step, &held))
            }
            Protocol::Http2(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Called with what was written.
    fn note_written(&mut self, bytes: &[u8]) {
        if let Protocol::Http2(http2) = &mut self.protocol {
            let Http2 {
                outbound, witness, ..
            } = http2.as_mut();
            outbound.note(bytes, |frame| witness.saw(frame));
        }
    }

    /// Writes what is left of interim answers.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = ready!(match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_write(cx, &self.interim),
                Transport::Tls(stream) => Pin::new(stream).poll_write(cx, &self.interim),
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written);
            if self.interim.is_empty() {
                self.phase.asides.interim_written();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the client has closed its side, or was silent, or time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.phase.has_unread_body() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let (mut silence, end) = self.linger.take().unwrap_or_else(|| {
            (
                Box::pin(sleep_until(now + limits::LINGER_SILENCE)),
                now + limits::LINGER,
            )
        });
        let mut space = [0_u8; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match self.poll_transport(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && Instant::now() < end => {
                    silence
                        .as_mut()
                        .reset((Instant::now() + limits::LINGER_SILENCE).min(end));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let over = silence.as_mut().poll(cx);
        self.linger = Some((silence, end));
        over
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_gated(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        })?;
        self.note_written(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    /// hyper flushes between whole messages: the place for interim answers.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        self.interim = self.phase.asides.take_interim().into();
        ready!(self.poll_interim(cx))?;
        self.phase.asides.transport_waits(cx);
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            })?;
            self.shut = true;
        }
        ready!(self.poll_linger(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        })?;
        let mut left = written;
        for buf in bufs {
            let count = buf.len().min(left);
            self.note_written(&buf[..count]);
            left -= count;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
