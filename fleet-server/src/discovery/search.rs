//! One search for devices: it starts with a question and ends half a minute after the last.
//!
//! It has a thread of its own, because anybody on the network decides how much there is to hear: a
//! flood keeps that thread busy and no other, and what strangers made it hold goes when it ends.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fleet_core::api::Discovered;
use fleet_core::mdns::Options;
use fleet_core::net::shutdown::Tasks;
use fleet_core::operator::browse::{Browse, Sighting};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// How long a search goes on without questions.
const INTEREST: Duration = Duration::from_secs(30);
/// How old what is shown may be.
const SHOWN: Duration = Duration::from_millis(100);

/// A search, running or ended.
pub(super) struct Search {
    started: Instant,
    questions: mpsc::Sender<Question>,
}

/// Where what is seen is to be told.
type Question = oneshot::Sender<Seen>;

/// What was seen at one moment, for all who asked about then.
#[derive(Clone)]
pub(crate) struct Seen(Arc<[Sighting]>);

impl Seen {
    /// The devices, as JSON shows them.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Discovered> {
        self.0.iter().map(|sighting| &sighting.device)
    }

    /// The devices, with how to claim them.
    pub(super) fn sightings(&self) -> &[Sighting] {
        &self.0
    }
}

impl Search {
    /// Begins to look.
    pub(super) async fn begin(options: Options, tasks: &Tasks) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel(1);
        let (begun, has_begun) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let within = tasks.clone();
        let look = move || {
            // Whoever asked may have gone meanwhile; then there are no questions either.
            let _gone: Result<(), io::Result<()>> = match start(options) {
                Ok((runtime, browse)) => {
                    let told = begun.send(Ok(()));
                    runtime.block_on(run(browse, asked, within));
                    told
                }
                Err(error) => begun.send(Err(error)),
            };
            // At a server's end nobody waits for it.
            let _gone: Result<(), ()> = over.send(());
        };
        thread::Builder::new().name("discovery".to_owned()).spawn(look)?;
        tasks.spawn("discovery", async move {
            if ended.await.is_err() {
                tracing::error!(
                    "the search for devices has failed; the next question begins another"
                );
            }
        });
        has_begun.await.map_err(|_| io::Error::other("the search has failed"))??;
        Ok(Self { started: Instant::now(), questions })
    }

    /// When it has begun.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// What it sees now; nothing if it has ended.
    pub(super) async fn ask(&self) -> Option<Seen> {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.ok()?;
        answer.await.ok()
    }
}

fn start(options: Options) -> io::Result<(Runtime, Browse)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let browse = {
        let _inside = runtime.enter();
        Browse::start(options)?
    };
    Ok((runtime, browse))
}

async fn run(mut browse: Browse, mut asked: mpsc::Receiver<Question>, tasks: Tasks) {
    // Made when somebody asks, and not kept: in a flood it is large, and new all the time.
    let mut shown: Option<(Instant, Seen)> = None;
    let mut last_asked = Instant::now();
    loop {
        let wake_at = shown.as_ref().map_or(last_asked + INTEREST, |(at, _)| *at + SHOWN);
        tokio::select! {
            more = browse.changed() => if !more { return },
            question = asked.recv() => {
                // Nobody can ask any more.
                let Some(question) = question else { return };
                last_asked = Instant::now();
                let (_, seen) = shown.get_or_insert_with(|| {
                    (last_asked, Seen(browse.sightings().into()))
                });
                // Whoever has gone meanwhile needs no answer.
                let _gone: Result<(), Seen> = question.send(seen.clone());
            }
            () = sleep_until(wake_at) => {
                if shown.take().is_none() {
                    return;
                }
            }
            () = tasks.stopping() => return,
        }
    }
}
