//! Addresses on loopback that nobody else uses.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::bail;

/// The port that people expect of a server.
const SERVER_PORT: u16 = 8080;
/// How long one question to the server may take.
const ASK_BOUND: Duration = Duration::from_secs(1);

/// A 127.x.y.0/24 of our own. The server has .1, this machine's agent .2, simulated ones go on.
pub(crate) struct Network(Ipv4Addr);

impl Network {
    /// A network whose first addresses are free; fleets side by side get different ones.
    pub(crate) fn choose() -> anyhow::Result<Self> {
        let first = std::process::id();
        for offset in 0..16_u32 {
            // 127.64.0.0 to 127.127.255.0: away from 127.0.0.x and Debian's 127.0.1.1.
            let number = first.wrapping_add(offset.wrapping_mul(0x9e5)) % 0x4000;
            let network = Self(Ipv4Addr::from(0x7f40_0000 + (number << 8)));
            if network.server().is_ok() {
                return Ok(network);
            }
        }
        bail!("no free address on loopback")
    }

    /// What marks the names of this network's devices, so that fleets side by side, which see each
    /// other's announcements, never share an id.
    pub(crate) fn mark(&self) -> String {
        let [_, high, low, _] = self.0.octets();
        format!("{high:02x}{low:02x}")
    }

    /// Where the server listens: on its usual port, or any free one if that is taken.
    pub(crate) fn server(&self) -> io::Result<SocketAddr> {
        let address = Ipv4Addr::from(u32::from(self.0) + 1);
        let bind = |port| TcpListener::bind((address, port));
        bind(SERVER_PORT).or_else(|_| bind(0))?.local_addr()
    }

    /// The address of an agent; 0 is this machine's own.
    pub(crate) fn device(&self, number: usize) -> Ipv4Addr {
        let offset = u32::try_from(number).expect("a fleet is small");
        Ipv4Addr::from(u32::from(self.0) + 2 + offset)
    }
}

/// Whether a server answers `/health` there with 200.
pub(crate) fn answers(address: SocketAddr) -> bool {
    ask(address).is_ok_and(|status| status.starts_with("HTTP/1.1 200"))
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_BOUND)?;
    stream.set_read_timeout(Some(ASK_BOUND))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
