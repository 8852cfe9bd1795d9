//! Streams as they come over the wire.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server_kit::{BOUND, Rig};

/// A stream as it comes over the wire.
pub(crate) struct Raw {
    stream: TcpStream,
    /// The beginning of a character whose end has not come.
    rest: Vec<u8>,
    /// All that came.
    pub(crate) text: String,
}

impl Raw {
    pub(crate) async fn open(rig: &Rig, path: &str) -> Self {
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        let key = rig.admin();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, rest: Vec::new(), text: String::new() }
    }

    /// Reads until all that came has a part like this; returns all.
    pub(crate) async fn read_until(&mut self, part: &str) -> &str {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.text.contains(part) {
                let count = self.stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "it ended: {}", self.text);
                self.rest.extend_from_slice(&buffer[..count]);
                let whole = match std::str::from_utf8(&self.rest) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let whole: Vec<u8> = self.rest.drain(..whole).collect();
                self.text.push_str(std::str::from_utf8(&whole).unwrap());
            }
        };
        tokio::time::timeout(BOUND, read).await.unwrap_or_else(|_| panic!("waited for {part}"));
        &self.text
    }
}
