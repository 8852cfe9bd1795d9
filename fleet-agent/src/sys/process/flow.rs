//! A program that writes for as long as somebody reads.

use std::io;
use std::path::Path;
use std::process::ExitStatus;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::timeout;

use super::{Group, Keep, LEFTOVER, Output, SysRoot, command};

/// Bytes of what it says beside that which are kept: the last.
const SAID_BYTES_MAX: usize = 4 * 1024;
/// Bytes of that which are read at once.
const SAID_READ_BYTES: usize = 512;

/// A program that writes. It is killed with its group when this is dropped.
pub struct Flowing {
    child: Child,
    group: Group,
    written: pipe::Receiver,
    /// What it writes beside that, until it closes it.
    beside: Option<pipe::Receiver>,
    said: Output,
}

/// Starts a program that [`super::find`] found, under the name that it was asked for by.
pub fn flow(root: &SysRoot, program: &Path, argv: &[String]) -> io::Result<Flowing> {
    let (written, writer) = io::pipe()?;
    let (beside, beside_writer) = io::pipe()?;
    let mut command = command(root, program, argv)?;
    command.stdout(writer).stderr(beside_writer);
    let child = command.spawn()?;
    Ok(Flowing {
        group: Group::of(&child),
        child,
        written: pipe::Receiver::from_owned_fd(written.into())?,
        beside: Some(pipe::Receiver::from_owned_fd(beside.into())?),
        said: Output::new(SAID_BYTES_MAX, Keep::Last),
    })
}

impl Flowing {
    /// Reads what it writes next, and gives the number of bytes: none at the end. May be dropped while
    /// it waits.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            tokio::select! {
                biased;
                read = self.written.read(buffer) => return read,
                () = listen(&mut self.beside, &mut self.said) => {}
            }
        }
    }

    /// How it ended, once nothing more is to be read, and what it said beside it. One that stays is
    /// killed.
    pub async fn ended(&mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let rest = async {
            while self.beside.is_some() {
                listen(&mut self.beside, &mut self.said).await;
            }
            self.child.wait().await
        };
        if let Ok(ended) = timeout(LEFTOVER, rest).await {
            return Ok((ended?, std::mem::take(&mut self.said.bytes)));
        }
        self.group.kill();
        Ok((self.child.wait().await?, std::mem::take(&mut self.said.bytes)))
    }
}

/// Takes in what is written beside, or its end.
async fn listen(beside: &mut Option<pipe::Receiver>, said: &mut Output) {
    let Some(pipe) = beside else { return std::future::pending().await };
    let mut buffer = [0; SAID_READ_BYTES];
    match pipe.read(&mut buffer).await {
        Ok(bytes @ 1..) => said.push(&buffer[..bytes]),
        // A pipe that cannot be read is as good as one that is closed.
        Ok(0) | Err(_) => *beside = None,
    }
}
