//! The little of netlink this crate speaks: messages built by hand, one request at a time.
//!
//! A message is a 16-byte header, a fixed header of its family and attributes (length, kind,
//! payload, padded to 4 bytes). Numbers are in the machine's byte order except in nf_tables
//! attributes, which are big-endian. Source: the kernel's `include/uapi/linux/netlink.h`.
//!
//! A socket belongs for good to the network namespace of the thread that opened it.

pub mod link;
pub mod nft;
pub mod route;

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt,
};

/// Size of a message's header.
const HEADER: usize = 16;

/// `NLMSG_ERROR`: an error, or with code 0 an acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const NLMSG_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`: the kernel's explanation.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Bits of an attribute's kind that are not flags.
const KIND_MASK: u16 = 0x3fff;

/// Longest wait for the kernel's answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request the kernel refused or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel answered with an error.
    #[error("{errno}{}", explained(.explanation))]
    Refused {
        /// Its code.
        errno: Errno,
        /// Its words, where it gave any.
        explanation: Option<String>,
    },
    /// The socket failed (no answer in time included).
    #[error("netlink socket: {0}")]
    Socket(Errno),
    /// An answer this code cannot read.
    #[error("netlink answer is malformed")]
    Malformed,
}

fn explained(explanation: &Option<String>) -> String {
    explanation
        .as_ref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}

impl NetlinkError {
    /// The kernel's code, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(_) | Self::Malformed => None,
        }
    }
}

/// A message under construction.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of `kind` with `flags`; the request flag is always set.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Appends the family's fixed header.
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
        self
    }

    /// Appends a number in the machine's byte order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order.
    pub fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a text with its closing NUL.
    pub fn attr_str(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Appends an attribute that holds what `fill` appends.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
        self
    }

    /// Appends bytes as they are, padded (a fixed header inside a nested attribute).
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // Our attributes are far below 64 KiB; a longer one would be cut by the kernel's own check.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn set_flags(&mut self, flags: u16) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The finished bytes under the sequence number `sequence`.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// Attributes of an answer; ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Payload of the first attribute of `kind`.
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, payload)| (found == kind).then_some(payload))
    }

    /// A number in the machine's byte order.
    pub fn find_u32(self, kind: u16) -> Option<u32> {
        self.find(kind)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_ne_bytes)
    }

    /// A text without its closing NUL.
    pub fn find_str(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// One message of an answer.
struct Reply<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// Splits a datagram into messages; `None` when a length is wrong.
fn split(mut datagram: &[u8]) -> Option<Vec<Reply<'_>>> {
    let mut replies = Vec::new();
    while !datagram.is_empty() {
        let header = datagram.get(..HEADER)?;
        let length = usize::try_from(u32::from_ne_bytes(header[0..4].try_into().ok()?)).ok()?;
        replies.push(Reply {
            kind: u16::from_ne_bytes(header[4..6].try_into().ok()?),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            body: datagram.get(HEADER..length)?,
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Some(replies)
}

/// Reads an error message: `Ok` for an acknowledgement.
fn read_error(body: &[u8]) -> Result<(), NetlinkError> {
    let code = body.first_chunk::<4>().ok_or(NetlinkError::Malformed)?;
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => {
            // With NETLINK_CAP_ACK the request comes back as its bare header.
            let explanation = body
                .get(4 + HEADER..)
                .and_then(|rest| Attributes(rest).find_str(NLMSGERR_ATTR_MSG))
                .map(str::to_owned);
            Err(NetlinkError::Refused {
                errno: Errno::from_raw_os_error(code.saturating_neg()),
                explanation,
            })
        }
    }
}

/// A netlink socket.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket for links, addresses and routes of the calling thread's namespace.
    pub fn route() -> Result<Self, NetlinkError> {
        // NETLINK_ROUTE is protocol 0, the default.
        Self::open(None)
    }

    /// A socket for netfilter of the calling thread's namespace.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(NetlinkError::Socket)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(NetlinkError::Socket)?;
        for timeout in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&fd, timeout, Some(TIMEOUT))
                .map_err(NetlinkError::Socket)?;
        }
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            set_netlink_option(&fd, option)?;
        }
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends one message and waits for its acknowledgement.
    pub fn request(&mut self, mut message: Message) -> Result<(), NetlinkError> {
        message.set_flags(ACK);
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&message.finish(sequence))?;
        self.collect(sequence, |_, _| Ok(()))
    }

    /// Sends one question and gives `each` the kind and body of every message of the answer.
    ///
    /// A question without [`DUMP`] is acknowledged after its answer.
    pub fn ask(
        &mut self,
        mut message: Message,
        each: impl FnMut(u16, &[u8]) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        message.set_flags(ACK);
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&message.finish(sequence))?;
        self.collect(sequence, each)
    }

    /// Sends several messages in one datagram, of which the one at `acknowledged` asks for the
    /// acknowledgement; any refusal is the result.
    pub fn batch(
        &mut self,
        messages: Vec<Message>,
        acknowledged: usize,
    ) -> Result<(), NetlinkError> {
        let mut datagram = Vec::new();
        let first = self.sequence + 1;
        let mut awaited = first;
        for (index, mut message) in messages.into_iter().enumerate() {
            self.sequence += 1;
            if index == acknowledged {
                message.set_flags(ACK);
                awaited = self.sequence;
            }
            datagram.extend_from_slice(&message.finish(self.sequence));
        }
        self.send(&datagram)?;
        self.collect(awaited, |_, _| Ok(()))
    }

    fn send(&self, datagram: &[u8]) -> Result<(), NetlinkError> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, datagram, SendFlags::empty(), &kernel)
            .map(|_| ())
            .map_err(NetlinkError::Socket)
    }

    /// Reads until the message `sequence` is acknowledged, refused, or its dump is done. A
    /// refusal of any other message ends it too (the members of a batch).
    fn collect(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())
            })
            .map_err(NetlinkError::Socket)?;
            let datagram = self
                .buffer
                .get(..received.0)
                .ok_or(NetlinkError::Malformed)?;
            for reply in split(datagram).ok_or(NetlinkError::Malformed)? {
                match reply.kind {
                    NLMSG_ERROR => {
                        read_error(reply.body)?;
                        if reply.sequence == sequence {
                            return Ok(());
                        }
                    }
                    NLMSG_DONE if reply.sequence == sequence => return Ok(()),
                    kind if reply.sequence == sequence => each(kind, reply.body)?,
                    _ => {}
                }
            }
        }
    }
}

fn set_netlink_option(fd: &OwnedFd, option: i32) -> Result<(), NetlinkError> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the call, and the pointer and length describe `on`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(NetlinkError::Socket(last_errno()))
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written() {
        let mut message = Message::new(7, ACK).fixed(&[1, 2, 3, 4]);
        message.attr_str(1, "ab").attr_u32(2, 9).nest(3, |inner| {
            inner.attr(4, &[5]);
        });
        let bytes = message.finish(42);
        assert_eq!(bytes.len() % 4, 0);
        let replies = split(&bytes).expect("well formed");
        assert_eq!(
            (replies.len(), replies[0].kind, replies[0].sequence),
            (1, 7, 42)
        );
        let attributes = Attributes(&replies[0].body[4..]);
        assert_eq!(attributes.find_str(1), Some("ab"));
        assert_eq!(attributes.find_u32(2), Some(9));
        let inner = Attributes(attributes.find(3).expect("nested"));
        assert_eq!(inner.find(4), Some(&[5][..]));
    }

    #[test]
    fn cut_answers_are_refused_not_read() {
        let mut message = Message::new(7, 0);
        message.attr_str(1, "abcdef");
        let bytes = message.finish(1);
        for cut in 1..bytes.len() {
            assert!(split(&bytes[..cut]).is_none(), "{cut}");
            let whole = usize::from(cut >= HEADER + 11);
            assert_eq!(
                Attributes(&bytes[HEADER..cut.max(HEADER)]).count(),
                whole,
                "{cut}"
            );
        }
        assert_eq!(
            Attributes(&[2, 0, 1, 0]).count(),
            0,
            "a length below its own header"
        );
    }

    #[test]
    fn refusals_carry_the_kernels_words() {
        let mut message = Message::new(0, 0).fixed(&[0; HEADER]);
        message.attr_str(NLMSGERR_ATTR_MSG, "no such thing");
        let bytes = message.finish(0);
        let mut body = (-2i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&bytes[HEADER..]);
        let error = read_error(&body).expect_err("a refusal");
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(error.to_string().ends_with("(no such thing)"), "{error}");
        assert!(read_error(&[0, 0, 0, 0]).is_ok());
        assert!(matches!(read_error(&[0]), Err(NetlinkError::Malformed)));
    }
}
