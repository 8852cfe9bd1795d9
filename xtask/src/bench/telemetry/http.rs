//! HTTP/1.1 over one kept connection on loopback, with as little work as can be: the sender shares
//! the processor with the server that is measured.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet_core::untrusted::escaped;

/// How long a server may keep a request waiting.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(1);
/// Bytes of an answer's head, and of its body.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room for what comes, to begin with.
const ROOM_BYTES: usize = 4 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";

/// A connection that is kept for one request after the other.
pub(super) struct Connection {
    stream: TcpStream,
    /// What every request says of itself.
    headers: String,
    /// A request on its way out.
    request: Vec<u8>,
    /// Room for what comes. Up to `filled` it has come, up to `taken` it is dealt with.
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
    body: Vec<u8>,
}

/// How long an answer's body is.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// Connects; `key` is shown with every request.
    pub(super) fn open(address: SocketAddr, key: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n"));
        let headers = format!("Host: {address}\r\n{}", key.unwrap_or_default());
        Ok(Self {
            stream,
            headers,
            request: Vec::new(),
            buffer: vec![0; ROOM_BYTES],
            filled: 0,
            taken: 0,
            body: Vec::new(),
        })
    }

    /// Asks for a path, waits for the answer and takes nothing but 200.
    pub(super) fn get(&mut self, path: &str) -> anyhow::Result<&[u8]> {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\n{}\r\n", self.headers)?;
        self.stream.write_all(&self.request)?;
        self.expect(200).with_context(|| format!("GET {path}"))
    }

    /// Sends lines; the answer is to be [awaited](Self::expect).
    pub(super) fn post(&mut self, path: &str, lines: &[u8]) -> io::Result<()> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\n{}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n",
            self.headers,
            lines.len()
        )?;
        self.request.extend_from_slice(lines);
        self.stream.write_all(&self.request)
    }

    /// Waits for an answer, which must have this status.
    pub(super) fn expect(&mut self, expected: u16) -> anyhow::Result<&[u8]> {
        let status = self.receive()?;
        if status != expected {
            bail!("answered {status}: {}", escaped(&String::from_utf8_lossy(&self.body)));
        }
        Ok(&self.body)
    }

    fn receive(&mut self) -> anyhow::Result<u16> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        self.body.clear();
        let head_end = self.find(END_OF_HEAD, HEAD_BYTES_MAX)?;
        let (status, length) = head(&self.buffer[..head_end])?;
        self.taken = head_end + END_OF_HEAD.len();
        match length {
            Length::Known(length) => self.take(length)?,
            Length::Chunked => self.take_chunks()?,
        }
        Ok(status)
    }

    /// Moves bytes into the body.
    fn take(&mut self, count: usize) -> anyhow::Result<()> {
        if self.body.len() + count > BODY_BYTES_MAX {
            bail!("an answer of more than {BODY_BYTES_MAX} bytes");
        }
        while self.filled < self.taken + count {
            self.fill()?;
        }
        self.body.extend_from_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        Ok(())
    }

    fn take_chunks(&mut self) -> anyhow::Result<()> {
        loop {
            let line_end = self.find(LINE_END, HEAD_BYTES_MAX)?;
            let line = str::from_utf8(&self.buffer[self.taken..line_end])?;
            let size = usize::from_str_radix(line, 16).context("the size of a chunk")?;
            self.taken = line_end + LINE_END.len();
            self.take(size)?;
            if self.find(LINE_END, HEAD_BYTES_MAX)? != self.taken {
                bail!("a chunk that does not end where it should");
            }
            self.taken += LINE_END.len();
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Where these bytes come next.
    fn find(&mut self, wanted: &[u8], bytes_max: usize) -> anyhow::Result<usize> {
        let mut from = self.taken;
        loop {
            let mut windows = self.buffer[from..self.filled].windows(wanted.len());
            if let Some(at) = windows.position(|window| window == wanted) {
                return Ok(from + at);
            }
            if self.filled - self.taken > bytes_max {
                bail!("an answer that cannot be read");
            }
            // The last bytes may be the beginning of what is wanted.
            from = self.taken.max((self.filled + 1).saturating_sub(wanted.len()));
            self.fill()?;
        }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        if read == 0 {
            bail!("the server closed the connection");
        }
        self.filled += read;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The status, and how long the body is.
fn head(head: &[u8]) -> anyhow::Result<(u16, Length)> {
    let head = str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
    let status =
        status.and_then(|status| status.parse().ok()).context("an answer without status")?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').context("a header without value")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(Length::Known(value.trim().parse()?));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            length = Some(Length::Chunked);
        }
    }
    let length = match length {
        None if status == 204 => Length::Known(0),
        length => length.context("an answer that does not say how long it is")?,
    };
    Ok((status, length))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The bodies that a connection sees when a server answers with these pieces.
    fn answers(pieces: Vec<&'static str>, count: usize) -> Vec<anyhow::Result<String>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        });
        let mut connection = Connection::open(address, None).unwrap();
        let mut next = || {
            let body = connection.expect(200)?;
            Ok(String::from_utf8(body.to_vec())?)
        };
        let seen = (0..count).map(|_| next()).collect();
        server.join().unwrap();
        seen
    }

    #[test]
    fn answers_are_told_apart_however_they_are_cut() {
        let pieces = vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r",
            "\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "c\r\nA\r\n0123456789\r\n0\r",
            "\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ];
        let seen: Vec<String> = answers(pieces, 3).into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, ["abc", "abc0123456789", ""]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(answers(vec![text], 1)[0].is_err(), "{text}");
        }
    }
}
