//! Announces one service until it is stopped or dropped. A handle and its private loop.
//!
//! The loop survives bad packets, failing sockets and changing networks. Stopping says goodbye;
//! dropping does not, and others forget the service when its records' time is up.

use std::io;
use std::time::Duration;

use simple_dns::rdata::TXT;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::authority::Authority;
use super::links::{Incoming, Links, Outgoing};
use super::{Options, RESCAN_INTERVAL, Service, packet, records, spawn};

/// How often a stranger can make us look at the machine's addresses.
const CONTESTED_RESCAN_INTERVAL: Duration = Duration::from_millis(100);

/// A service that is being announced. Dropping it ends its task.
#[derive(Debug)]
pub struct Responder {
    txt: watch::Sender<TXT<'static>>,
    instance: watch::Receiver<String>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    _task: AbortOnDropHandle<()>,
}

impl Responder {
    /// Starts to announce a service, on links that are there now and on those that come later.
    ///
    /// Fails if the service's names or attributes do not fit into DNS records, or if there are
    /// links but port 5353 can be opened on none.
    pub fn start(options: Options, service: Service) -> io::Result<Self> {
        let (txt, txt_changes) = watch::channel(records::txt_data(&service.txt)?);
        let authority = Authority::new(service)?;
        let links = Links::open(options)?;
        let (instance_name, instance) = watch::channel(authority.instance().to_owned());
        let (stop, stopped) = mpsc::channel(1);
        let scanned_at = Instant::now();
        let actor = Actor { authority, links, scanned_at, txt_changes, instance_name, stopped };
        Ok(Self { txt, instance, stop, _task: spawn("mdns responder", actor.run()) })
    }

    /// Says something else in the TXT record from now on. Fails if it is too long or no TXT.
    pub fn set_txt(&self, txt: &[(String, String)]) -> io::Result<()> {
        self.txt.send_replace(records::txt_data(txt)?);
        Ok(())
    }

    /// The instance's name as it is now: another than the wanted one if that was taken.
    pub fn current_instance(&self) -> String {
        self.instance.borrow().clone()
    }

    /// Says goodbye on all links and ends.
    pub async fn stop(self) {
        let (done, finished) = oneshot::channel();
        if self.stop.send(done).await.is_ok() {
            // An error would mean that the task has ended already, which is what is wanted.
            let _ended: Result<(), _> = finished.await;
        }
    }
}

struct Actor {
    authority: Authority,
    links: Links,
    scanned_at: Instant,
    txt_changes: watch::Receiver<TXT<'static>>,
    instance_name: watch::Sender<String>,
    stopped: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Actor {
    async fn run(mut self) {
        let all: Vec<u32> = self.links.links().iter().map(|link| link.index).collect();
        self.follow(&all);
        loop {
            let rescan_at = self.scanned_at + RESCAN_INTERVAL;
            let wake_at = self.authority.next_at().map_or(rescan_at, |at| at.min(rescan_at));
            let mut out = Vec::new();
            tokio::select! {
                incoming = self.links.receive() => self.take(&incoming, &mut out),
                Ok(()) = self.txt_changes.changed() => {
                    let txt = self.txt_changes.borrow_and_update().clone();
                    self.authority.set_txt(txt, Instant::now());
                }
                Some(done) = self.stopped.recv() => {
                    self.authority.goodbye(&mut out);
                    self.send(&out);
                    // Nobody waits any more if the handle's future was dropped.
                    let _gone: Result<(), ()> = done.send(());
                    return;
                }
                () = sleep_until(wake_at) => {}
            }
            let now = Instant::now();
            if now >= self.scanned_at + RESCAN_INTERVAL {
                self.rescan(now);
            }
            self.authority.on_time(now, &mut out);
            self.send(&out);
            self.report_name();
        }
    }

    fn take(&mut self, incoming: &Incoming, out: &mut Vec<Outgoing>) {
        let Some(packet) = packet::parse(&incoming.bytes) else { return };
        let now = Instant::now();
        // Another program on this machine may have noticed a new address before we did.
        let stale = now >= self.scanned_at + CONTESTED_RESCAN_INTERVAL;
        if stale && self.authority.is_contested_by(&packet) {
            self.rescan(now);
        }
        self.authority.on_packet(incoming.link, incoming.source, &packet, now, out);
    }

    fn rescan(&mut self, now: Instant) {
        self.scanned_at = now;
        let changed = self.links.rescan();
        self.follow(&changed);
    }

    fn follow(&mut self, changed: &[u32]) {
        let own = self.links.own_addresses();
        self.authority.follow(self.links.links(), changed, own, Instant::now());
    }

    fn send(&mut self, out: &[Outgoing]) {
        for outgoing in out {
            self.links.send(outgoing);
        }
    }

    fn report_name(&self) {
        self.instance_name.send_if_modified(|name| {
            let renamed = name != self.authority.instance();
            if renamed {
                self.authority.instance().clone_into(name);
            }
            renamed
        });
    }
}
