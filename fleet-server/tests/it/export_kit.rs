//! What the tests of exports share: looking into databases, much telemetry, and a network that
//! breaks off.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleet_core::metric::Sample;
use fleet_core::net::shutdown::Tasks;
use fleet_server::store::{DeviceStore as _, Incoming, RedbStore, TelemetryStore as _};
use rusqlite::Connection;
use rusqlite::types::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::store_kit::{device, id, time};

/// The rows of a table, in the order of all their columns.
pub(crate) fn rows(path: &Path, table: &str) -> Vec<Vec<Value>> {
    let database = Connection::open(path).unwrap();
    let mut select = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = select.column_count();
    let found = select.query_map([], |row| (0..columns).map(|place| row.get(place)).collect());
    let mut rows: Vec<Vec<Value>> = found.unwrap().map(Result::unwrap).collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

/// The one value that a query gives.
pub(crate) fn value<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Puts a device with so many reports of ten samples each into a database that is closed.
pub(crate) async fn fill(database: &Path, reports: i64) {
    let store = RedbStore::open(database).unwrap();
    let device = match store.device_find(&id("much")).await.unwrap() {
        Some(device) => device,
        None => {
            let new = device("much", 99);
            store.device_insert(new.clone()).await.unwrap();
            new
        }
    };
    let report = |number: i64| Incoming {
        device: device.uid,
        stream: None,
        at: time(1_705_000_000_000 + number * 1_000),
        samples: (0..10).map(|n| Sample::new(&format!("metric_{n}"), number as f64)).collect(),
    };
    for some in (0..reports).collect::<Vec<_>>().chunks(1_000) {
        store.append(some.iter().map(|number| report(*number)).collect()).await.unwrap();
    }
}

/// A way to a server that ends, or holds up, what comes back after so many bytes.
pub(crate) struct Bridge {
    pub(crate) address: SocketAddr,
    passed: Arc<AtomicU64>,
    tasks: Tasks,
}

/// What a bridge does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It closes the connection.
    Closes,
    /// It passes nothing on any more.
    Stalls,
}

impl Bridge {
    pub(crate) async fn to(server: SocketAddr, bytes: u64, fate: Fate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let tasks = Tasks::default();
        let (within, count) = (tasks.clone(), passed.clone());
        tasks.spawn("bridge", async move {
            loop {
                let (near, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = within.stopping() => return,
                };
                let far = TcpStream::connect(server).await.unwrap();
                let (count, stop) = (count.clone(), within.clone());
                within.spawn("bridged connection", async move {
                    tokio::select! {
                        () = carry(near, far, bytes, fate, &count) => {}
                        () = stop.stopping() => {}
                    }
                });
            }
        });
        Self { address, passed, tasks }
    }

    /// Bytes that came back so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn carry(near: TcpStream, far: TcpStream, bytes: u64, fate: Fate, count: &AtomicU64) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let there = async {
        // The test looks at what comes of it, not at how.
        let _end = tokio::io::copy(&mut from_near, &mut to_far).await;
        std::future::pending::<()>().await;
    };
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut left = bytes;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match from_far.read(&mut buffer[..most]).await {
                Ok(read) if read > 0 => {
                    left -= read as u64;
                    count.fetch_add(read as u64, Ordering::Relaxed);
                    if to_near.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
        if fate == Fate::Stalls {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
