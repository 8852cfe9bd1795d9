//! ICMP echo requests, by the socket that the kernel gives to whoever is in `ping_group_range`, or
//! else by a raw one, for which the agent must be root or have `CAP_NET_RAW`.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

use super::Target;

/// Bytes that a request carries, by which its answer is known.
const TOKEN_BYTES: usize = 16;
/// Type, code, checksum, identifier, sequence number.
const HEADER_BYTES: usize = 8;
/// An IP header with all options, an answer, and some room.
const ANSWER_BYTES_MAX: usize = 256;

/// Whether a probe failed because the agent may not send echo requests at all.
pub(super) fn is_forbidden(target: &Target, error: &io::Error) -> bool {
    matches!(target, Target::Icmp(_)) && error.kind() == io::ErrorKind::PermissionDenied
}

/// Asks an address once; returns when it has answered.
pub(super) async fn ask(address: IpAddr) -> io::Result<()> {
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(io::Error::other)?;
    let kind = Kind::of(address);
    // The kernel's sockets for this have the operations of UDP's.
    let socket = UdpSocket::from_std(open(kind)?.into())?;
    socket.connect((address, 0)).await?;
    socket.send(&request(kind, &token)).await?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    loop {
        let received = socket.recv(&mut answer).await?;
        if is_answer(kind, answer.get(..received).unwrap_or_default(), &token) {
            return Ok(());
        }
    }
}

/// How echo is asked for and answered.
#[derive(Clone, Copy)]
struct Kind {
    family: AddressFamily,
    protocol: SockProtocol,
    request: u8,
    reply: u8,
}

impl Kind {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self {
                family: AddressFamily::Inet,
                protocol: SockProtocol::Icmp,
                request: 8,
                reply: 0,
            },
            IpAddr::V6(_) => Self {
                family: AddressFamily::Inet6,
                protocol: SockProtocol::IcmpV6,
                request: 128,
                reply: 129,
            },
        }
    }
}

fn open(kind: Kind) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let ping = socket(kind.family, SockType::Datagram, flags, kind.protocol);
    Ok(ping.or_else(|_| socket(kind.family, SockType::Raw, flags, kind.protocol))?)
}

fn request(kind: Kind, token: &[u8; TOKEN_BYTES]) -> Vec<u8> {
    let [one, other, ..] = *token;
    let mut request = vec![kind.request, 0, 0, 0, one, other, 0, 1];
    request.extend(token);
    // The kernel adds up what goes out over IPv6, which has the addresses in it.
    let sum = checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    request
}

/// The one's complement of the sum of all pairs of bytes (RFC 1071); their count is even.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = pairs.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(folded as u16 + (folded >> 16) as u16)
}

/// Whether bytes are the answer to the request with this token. A raw socket of IPv4 shows the IP
/// header too.
fn is_answer(kind: Kind, bytes: &[u8], token: &[u8; TOKEN_BYTES]) -> bool {
    let is_reply = |message: &[u8]| {
        message.first() == Some(&kind.reply)
            && message.get(1) == Some(&0)
            && message.get(HEADER_BYTES..HEADER_BYTES + TOKEN_BYTES) == Some(token.as_slice())
    };
    let behind_header = || {
        let first = bytes.first().filter(|first| **first >> 4 == 4)?;
        bytes.get(usize::from(first & 15) * 4..)
    };
    is_reply(bytes) || behind_header().is_some_and(is_reply)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn an_answer_has_the_token_of_its_request() {
        let token = [7; TOKEN_BYTES];
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let kind = Kind::of(address);
            let mut answer = request(kind, &token);
            assert!(!is_answer(kind, &answer, &token), "that is the request");
            answer[0] = kind.reply;
            assert!(is_answer(kind, &answer, &token));
            assert!(!is_answer(kind, &answer, &[8; TOKEN_BYTES]));
            assert!(!is_answer(kind, &answer[..20], &token));
        }
        let kind = Kind::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut raw = vec![0x45; 20];
        raw.extend(request(kind, &token));
        raw[20] = kind.reply;
        assert!(is_answer(kind, &raw, &token));
        assert!(!is_answer(kind, &raw[..30], &token) && !is_answer(kind, &[0x4f], &token));
    }

    #[test]
    fn a_message_with_its_checksum_adds_up_to_nothing() {
        let kind = Kind::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for first in [0, 1, 0x7f, 0xff] {
            let request = request(kind, &[first; TOKEN_BYTES]);
            assert_eq!(checksum(&request), 0, "{request:?}");
        }
    }
}
