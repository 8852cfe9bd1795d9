//! Whether this host hears what it says to everybody: a firewall that drops packets for port 5353 as
//! they come in drops its own, too.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::ReadBuf;
use tokio::time::{sleep, timeout};

use super::Options;
use super::interfaces::{choose, scan};
use super::packet::RECEIVE_BYTES_MAX;
use super::socket::{Port, PortKey};

/// How often something is said, and the time between.
const TIMES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// One network: an interface and a family of addresses.
#[derive(Debug)]
pub struct Echo {
    /// The interface.
    pub interface: String,
    /// Whether it is IPv4, not IPv6.
    pub is_ipv4: bool,
    /// Whether it was heard, or why nothing could be said.
    pub heard: io::Result<bool>,
}

/// Asks everybody for a service that nobody has, on each network, and listens for the question.
pub async fn echoes(options: &Options) -> io::Result<Vec<Echo>> {
    let question = question(&super::random_word());
    let links = choose(&scan()?, options);
    let keys = links.iter().flat_map(|link| {
        let keys = PortKey::wanted(link, options.address);
        keys.into_iter().map(|key| (link.name.clone(), key))
    });
    let asked = keys.map(async |(interface, key)| {
        let (_, is_ipv4) = key.place();
        let heard = match Port::open(key) {
            Ok(port) => hears(&port, &question).await,
            Err(error) => Err(error),
        };
        Echo { interface, is_ipv4, heard }
    });
    Ok(join_all(asked).await)
}

async fn hears(port: &Port, question: &[u8]) -> io::Result<bool> {
    let say = async {
        for _ in 0..TIMES {
            port.send_multicast(question)?;
            sleep(PAUSE).await;
        }
        Ok(false)
    };
    let hear = async {
        let mut buffer = vec![0; RECEIVE_BYTES_MAX];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            poll_fn(|context| port.poll_receive(context, &mut read)).await?;
            if read.filled() == question {
                return Ok(true);
            }
        }
    };
    let both = async {
        tokio::select! {
            heard = hear => heard,
            silent = say => silent,
        }
    };
    timeout(PAUSE * (TIMES + 1), both).await.unwrap_or(Ok(false))
}

/// A question for `_WORD._tcp.local`, as RFC 6762 has it.
fn question(word: &str) -> Vec<u8> {
    const PTR_IN: [u8; 4] = [0, 12, 0, 1];
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&format!("_{word}"), "_tcp", "local", ""] {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend(PTR_IN);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one() {
        let bytes = question("abc");
        let packet = super::super::packet::parse(&bytes).unwrap();
        assert_eq!(packet.questions.len(), 1);
        assert_eq!(packet.questions[0].qname.to_string(), "_abc._tcp.local");
    }
}
