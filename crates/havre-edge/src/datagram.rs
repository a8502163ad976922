//! Datagrams with both their addresses: an answer has to leave from the one that was spoken to,
//! which on a socket for all addresses only the kernel knows (ip(7) IP_PKTINFO, RFC 3542 §6.2).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// The longest that IPv4 carries is 65,507 bytes.
pub const LONGEST: usize = 65_535;

/// The machine's side of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// Address it was sent to.
    pub address: IpAddr,
    /// Number of the interface; 0 where the address says enough.
    pub interface: u32,
}

/// A datagram in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its length.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it was sent to; `None` where the socket does not say.
    pub to: Option<Local>,
}

/// Room for one `in6_pktinfo` or `in_pktinfo`, aligned as control messages are.
#[repr(C)]
union Control {
    _align: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Lets [`receive`] say whom a datagram was sent to.
pub fn report_local_address(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, name) = match ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            length_of::<libc::c_int>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the next datagram; one that is longer than the buffer is cut.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut storage = SockAddrStorage::zeroed();
    let mut control = Control { bytes: [0; 64] };
    let mut piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = empty_message();
    message.msg_name = (&raw mut storage).cast();
    message.msg_namelen = storage.size_of();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: every pointer of the message leads to memory of the length beside it, which outlives
    // the call.
    let length = check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) })?;
    // SAFETY: the kernel has filled in an address of this length.
    let from = unsafe { SockAddr::new(storage, message.msg_namelen) };
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received {
        length,
        from,
        to: local_of(&message),
    })
}

/// What the control messages of a received message say.
fn local_of(message: &libc::msghdr) -> Option<Local> {
    // SAFETY: the message and its control buffer are those of a successful recvmsg; the CMSG macros
    // stay within the length that the kernel has set. The data is read without an alignment.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let address = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    return Some(Local {
                        address: address.into(),
                        interface: 0,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    return Some(Local {
                        address: address.into(),
                        interface: match address.is_unicast_link_local() {
                            true => info.ipi6_ifindex,
                            false => 0,
                        },
                    });
                }
                _ => header = libc::CMSG_NXTHDR(message, header),
            }
        }
    }
    None
}

/// Sends a datagram, from `local` where that is known.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
    local: Option<Local>,
) -> io::Result<()> {
    let to = SockAddr::from(to);
    let mut control = Control { bytes: [0; 64] };
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = empty_message();
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    match local {
        None => {}
        Some(Local {
            address: IpAddr::V4(address),
            interface,
        }) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: interface.try_into().unwrap_or(0),
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(address).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(
                &mut message,
                &mut control,
                (libc::IPPROTO_IP, libc::IP_PKTINFO),
                info,
            );
        }
        Some(Local {
            address: IpAddr::V6(address),
            interface,
        }) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: interface,
            };
            put(
                &mut message,
                &mut control,
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO),
                info,
            );
        }
    }
    // SAFETY: every pointer of the message leads to memory of the length beside it, which outlives
    // the call; sendmsg writes to none of it.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
        .map(drop)
}

/// Makes `info` the only control message.
fn put<T>(
    message: &mut libc::msghdr,
    control: &mut Control,
    (level, kind): (libc::c_int, libc::c_int),
    info: T,
) {
    let length = length_of::<T>();
    // SAFETY: CMSG_SPACE and CMSG_LEN compute only; the buffer is aligned for a header and longer
    // than either kind of information with its header, which is written without an alignment.
    unsafe {
        message.msg_control = (&raw mut *control).cast();
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(info);
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: all zeroes is a message without address, data and control.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// The result of a system call that counts bytes.
fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_macros, reason = "its output is for a person")]

    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    /// Sends to `spoken_to`, an address of loopback that `bound` covers; gives where the answer
    /// comes from.
    fn answered_from(bound: &str, spoken_to: &str) -> IpAddr {
        let server = UdpSocket::bind((bound, 0)).expect("a port");
        let port = server.local_addr().expect("an address").port();
        report_local_address(server.as_fd(), bound.contains(':')).expect("the option");
        let client = UdpSocket::bind((bound, 0)).expect("a port");
        client.send_to(b"ping", (spoken_to, port)).expect("to send");
        let mut buffer = [0; 16];
        let received = receive(server.as_fd(), &mut buffer).expect("a datagram");
        assert_eq!(&buffer[..received.length], b"ping");
        let to = received.to.expect("an address of our own");
        assert_eq!(to.address.to_string(), spoken_to);
        send(server.as_fd(), b"pong", received.from, Some(to)).expect("to answer");
        let (length, from) = client.recv_from(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..length], b"pong");
        from.ip()
    }

    #[test]
    fn answers_leave_from_the_address_that_was_spoken_to() {
        // Without the control message it would be 127.0.0.1.
        for (bound, spoken_to) in [("0.0.0.0", "127.0.0.9"), ("127.0.0.3", "127.0.0.3")] {
            assert_eq!(answered_from(bound, spoken_to).to_string(), spoken_to);
        }
        if UdpSocket::bind("[::1]:0").is_err() {
            println!("skipped: needs IPv6 on loopback");
            return;
        }
        assert_eq!(answered_from("::", "::1").to_string(), "::1");
    }
}
