//! Streams as they come over the wire.

use std::collections::BTreeMap;
use std::time::Instant;

use fleet_core::api::{Hello, IndexRow, LiveReport, StreamMessage, Values};
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::client::Client;
use fleet_core::operator::stream::{Arrived, EventStream};
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
        Self::open_with(rig, &rig.admin(), path).await
    }

    pub(crate) async fn open_with(rig: &Rig, key: &str, path: &str) -> Self {
        Self::send(rig, path, &format!("Host: x\r\nAuthorization: Bearer {key}\r\n")).await
    }

    pub(crate) async fn send(rig: &Rig, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
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

    /// Reads to the end, as the server makes it: where chunks come, the last one is empty.
    pub(crate) async fn read_to_end(mut self) -> String {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.text.ends_with("\r\n0\r\n\r\n") {
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                }
            }
        };
        tokio::time::timeout(BOUND, read).await.unwrap_or_else(|_| panic!("an end in time"));
        self.text
    }
}

pub(crate) fn client(rig: &Rig, key: &str) -> Client {
    let address = rig.address();
    let url = ServerUrl::from_address(address.ip(), address.port());
    Client::new(url, key.parse().unwrap()).unwrap()
}

/// A stream, and what it has shown so far.
pub(crate) struct Screen {
    pub(crate) stream: EventStream,
    pub(crate) hello: Hello,
    pub(crate) rows: BTreeMap<u32, IndexRow>,
    /// Rows that came, however often.
    pub(crate) received: usize,
    pub(crate) id: Option<String>,
}

impl Screen {
    pub(crate) async fn open(client: &Client, since: Option<&str>) -> Self {
        let mut stream = client.stream(since).await.unwrap();
        let Some(Arrived { message: StreamMessage::Hello(hello), .. }) = next(&mut stream).await
        else {
            panic!("a stream begins with hello");
        };
        let mut screen = Self {
            stream,
            hello,
            rows: BTreeMap::new(),
            received: 0,
            id: since.map(str::to_owned),
        };
        screen
            .until("the whole index", |_, message| match message {
                StreamMessage::Index(page) => page.complete.then_some(()),
                _ => None,
            })
            .await;
        screen
    }

    /// Reads until a message gives what is looked for.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&Self, &StreamMessage) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < BOUND, "waited too long for: {what}");
            let arrived = next(&mut self.stream).await;
            let Arrived { id, message } =
                arrived.unwrap_or_else(|| panic!("it ended before {what}"));
            self.id = id;
            if let StreamMessage::Index(page) = &message {
                self.received += page.rows.len();
                for slot in &page.gone {
                    self.rows.remove(slot);
                }
                self.rows.extend(page.rows.iter().map(|row| (row.slot, row.clone())));
            }
            if let Some(found) = found(self, &message) {
                return found;
            }
        }
    }

    /// Reads until the rows are as they should be.
    pub(crate) async fn until_rows(
        &mut self,
        what: &str,
        is_so: impl Fn(&BTreeMap<u32, IndexRow>) -> bool,
    ) {
        if !is_so(&self.rows) {
            self.until(what, |screen, _| is_so(&screen.rows).then_some(())).await;
        }
    }

    pub(crate) async fn until_row(
        &mut self,
        what: &str,
        is_so: impl Fn(&IndexRow) -> bool,
    ) -> IndexRow {
        self.until_rows(what, |rows| rows.values().any(&is_so)).await;
        self.rows.values().find(|row| is_so(row)).unwrap().clone()
    }

    pub(crate) async fn values(&mut self) -> Values {
        self.until("values", |_, message| match message {
            StreamMessage::Values(values) => Some(values.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn report(&mut self) -> LiveReport {
        self.until("a report", |_, message| match message {
            StreamMessage::Report(report) => Some(report.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) fn slot(&self, id: &str) -> u32 {
        self.rows.values().find(|row| row.id.as_str() == id).unwrap().slot
    }

    /// Waits for the end, as the server makes it.
    pub(crate) async fn ended(mut self) {
        let end = async { while let Ok(Some(_)) = self.stream.next().await {} };
        tokio::time::timeout(BOUND, end).await.expect("the stream ends in time");
    }
}

async fn next(stream: &mut EventStream) -> Option<Arrived> {
    tokio::time::timeout(BOUND, stream.next()).await.expect("a message in time").unwrap()
}
