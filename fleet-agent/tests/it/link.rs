//! The link by itself, against a server that does what each test tells it to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_agent::collect::Sampler;
use fleet_agent::commands::effects::Effects;
use fleet_agent::commands::outcome::Performed;
use fleet_agent::commands::{Commands, Job};
use fleet_agent::config::{ClaimPolicy, CommandPolicy, Telemetry as FileTelemetry};
use fleet_agent::identity::Identity;
use fleet_agent::link::status::{Latency, LinkStatus};
use fleet_agent::link::{FactsSource, Link};
use fleet_agent::log_tail::LogTail;
use fleet_agent::logs::LogSources;
use fleet_agent::new_key::NewKeys;
use fleet_agent::queue::Queue;
use fleet_agent::spool::SpoolSettings;
use fleet_agent::state::folder::Folder;
use fleet_agent::state::guard::ClaimGuard;
use fleet_agent::state::membership::{Membership, Provisioned};
use fleet_agent::state::{ClaimWindow, Device};
use fleet_agent::sys::SysRoot;
use fleet_agent::telemetry::Telemetry;
use fleet_core::api::LinkState;
use fleet_core::identity::PrivateKey;
use fleet_core::metric::Sample;
use fleet_core::net::shutdown::Tasks;
use fleet_core::secret::{ApiKey, KeyKind};
use fleet_core::time::{SystemClock, Timestamp};
use fleet_core::wire::{ConfigPush, Standing, ToAgent, ToServer, TrialState};
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use crate::server::{AgentEnd, Server, UID};
use crate::within::{until, within};

/// An agent's link and what it works on, without the rest of an agent.
pub(crate) struct Rig {
    folder: TempDir,
    pub(crate) device: Arc<Device>,
    pub(crate) queue: Arc<Queue>,
    commands: Arc<Commands>,
    pub(crate) telemetry: Arc<Telemetry>,
    status: Arc<LinkStatus>,
    tasks: Tasks,
}

/// No machine: nothing that is told to it is ever over.
struct Idle;

impl Effects for Idle {
    fn perform<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Performed> {
        Box::pin(std::future::pending())
    }
}

impl Rig {
    pub(crate) fn new(folder: TempDir, provisioned: Option<Provisioned>) -> Self {
        Self::with_spool(folder, provisioned, SpoolSettings::default())
    }

    fn with_spool(
        folder: TempDir,
        provisioned: Option<Provisioned>,
        settings: SpoolSettings,
    ) -> Self {
        let state = Folder::new(folder.path());
        let identity =
            Identity { id: "rpi4-001".parse().unwrap(), key: PrivateKey::from_seed(&[1; 32]) };
        let device = Device {
            identity,
            membership: Membership::open(state.clone(), provisioned).unwrap(),
            window: ClaimWindow::open(ClaimPolicy::Open, Duration::from_secs(60)),
            guard: ClaimGuard::open(
                state.clone(),
                ClaimPolicy::Open,
                None,
                Duration::from_secs(60),
                Arc::new(SystemClock),
            )
            .unwrap(),
            ca_file: None,
        };
        let sampler = Sampler::new(&SysRoot::real());
        let telemetry = Telemetry::new(sampler, &FileTelemetry::default()).unwrap();
        let clock = Arc::new(SystemClock);
        let spool = folder.path().join("spool");
        let queue = Queue::open(spool, settings, &SysRoot::real(), clock.clone());
        let journal = folder.path().join("journal");
        let root = SysRoot::real();
        let policy = CommandPolicy::default();
        let commands = Commands::new(journal, &root, policy, Box::new(Idle), clock.clone());
        let rig = Self {
            folder,
            device: Arc::new(device),
            queue: Arc::new(queue.unwrap()),
            commands: Arc::new(commands.unwrap()),
            telemetry: Arc::new(telemetry),
            status: Arc::new(LinkStatus::new(clock.clone())),
            tasks: Tasks::default(),
        };
        let link = Link {
            device: rig.device.clone(),
            queue: rig.queue.clone(),
            commands: rig.commands.clone(),
            logs: Arc::new(LogSources {
                root: SysRoot::real(),
                policy: CommandPolicy::default(),
                own: LogTail::default(),
            }),
            new_keys: Arc::new(NewKeys::new(state.path().to_owned())),
            telemetry: rig.telemetry.clone(),
            folder: state,
            facts: FactsSource { root: SysRoot::real(), device_type: None, name: None },
            status: rig.status.clone(),
            latency: Latency::default(),
            clock,
            tasks: rig.tasks.clone(),
        };
        rig.tasks.spawn("link", link.run());
        rig
    }

    /// A rig that belongs to a server.
    pub(crate) fn claimed(server: &Server) -> Self {
        let rig = Self::new(tempfile::tempdir().unwrap(), None);
        rig.claim(server);
        rig
    }

    pub(crate) fn claim(&self, server: &Server) {
        let grant = server.grant(self.device.identity.key.public());
        self.device.membership.claim(&grant).unwrap();
    }

    pub(crate) fn push(&self, count: u32) {
        for value in 0..count {
            let samples = vec![Sample::new("cpu_usage", f64::from(value))];
            self.queue.push(Timestamp::from_millis(1), Instant::now(), samples).unwrap();
        }
    }

    /// Stops the link. With the server's end closed that takes no time.
    pub(crate) async fn stop(self) -> TempDir {
        self.tasks.finish(Duration::from_secs(10)).await.unwrap();
        self.folder
    }

    async fn reaches(&self, state: LinkState) {
        until(state.word(), || self.status.view().state == state).await;
    }
}

fn seqs(samples: &fleet_core::wire::Samples) -> Vec<u64> {
    samples.reports.iter().map(|report| report.seq).collect()
}

pub(crate) async fn push_config(
    link: &mut AgentEnd,
    version: u64,
    document: &str,
    signer: &PrivateKey,
) {
    let push = ConfigPush::sign(UID, version, document.to_owned(), signer);
    link.send(ToAgent::Config(push)).await;
}

#[tokio::test]
async fn reports_come_again_until_the_server_has_them() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    rig.push(3);
    let mut link = server.link().await;
    link.activate().await;
    let sent = link.samples().await;
    assert_eq!(seqs(&sent), [1, 2, 3]);
    // Two are stored, then the network goes; another report is collected meanwhile.
    link.send(ToAgent::Ack { stream: sent.stream, seq: 2 }).await;
    until("an acknowledgement", || rig.queue.view().waiting == 1).await;
    drop(link);
    rig.push(1);

    let mut link = server.link().await;
    link.activate().await;
    let again = link.samples().await;
    assert_eq!((seqs(&again), again.stream), (vec![3, 4], sent.stream));
    link.acknowledge(&again).await;
    until("an empty queue", || rig.queue.view().waiting == 0).await;
    rig.push(1);
    assert_eq!(seqs(&link.samples().await), [5]);
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn a_server_cannot_take_what_was_not_sent() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    rig.push(2_000);
    let mut link = server.link().await;
    link.activate().await;
    let first = link.samples().await;
    link.send(ToAgent::Ack { stream: first.stream, seq: u64::MAX }).await;
    let second = link.samples().await;
    assert_eq!(second.reports[0].seq, first.reports.last().unwrap().seq + 1);
    link.send(ToAgent::Ack { stream: [0; 16], seq: u64::MAX }).await;
    // Once this is answered, the agent has seen that too: it lets nothing go and sends nothing more.
    push_config(&mut link, 1, "nonsense", &server.key).await;
    loop {
        match link.next().await {
            Some(ToServer::ConfigReported(reported)) if reported.version == 1 => break,
            Some(ToServer::ConfigReported(_) | ToServer::ConfigTrial(_) | ToServer::Facts(_)) => {}
            Some(ToServer::Samples(_)) => panic!("it sends reports that are under way already"),
            Some(ToServer::Command(_) | ToServer::Logs(_) | ToServer::NewKey(_)) => {
                panic!("nobody told it to do anything")
            }
            None => panic!("it left"),
        }
    }
    let waiting = 2_000 - first.reports.len() as u64;
    assert_eq!(rig.queue.view().waiting, waiting);
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn what_had_no_room_is_a_gap_in_the_numbers() {
    let server = Server::start(7).await;
    let small = SpoolSettings { bytes_max: 1024 * 1024, ..SpoolSettings::default() };
    let rig = Rig::with_spool(tempfile::tempdir().unwrap(), None, small);
    rig.claim(&server);
    let pushed = 20_000;
    rig.push(pushed);
    let view = rig.queue.view();
    assert!(view.bytes <= small.bytes_max && view.holes.quota > 0, "{view:?}");
    assert_eq!(view.waiting + view.holes.quota, u64::from(pushed));
    let mut link = server.link().await;
    link.activate().await;
    assert_eq!(link.samples().await.reports[0].seq, view.holes.quota + 1);
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn new_reports_overtake_those_of_before() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    rig.push(2_000);
    let mut link = server.link().await;
    link.activate().await;
    let old = link.samples().await;
    rig.push(1);
    // One frame of each is under way, and no more.
    let new = link.samples().await;
    assert_ne!(new.stream, old.stream);
    assert_eq!((seqs(&old)[0], seqs(&new)), (1, vec![1]));
    rig.push(2);
    link.acknowledge(&new).await;
    let newer = link.samples().await;
    assert_eq!((newer.stream, seqs(&newer)), (new.stream, vec![2, 3]));
    link.acknowledge(&old).await;
    let next = link.samples().await;
    assert_eq!((next.stream, seqs(&next)[0]), (old.stream, seqs(&old).last().unwrap() + 1));
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn what_waits_leaves_before_the_link_does() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    rig.push(600);
    let mut link = server.link().await;
    link.activate().await;
    let mut samples = link.samples().await;
    rig.tasks.stop();
    let stored = async {
        loop {
            link.acknowledge(&samples).await;
            match link.next().await {
                Some(ToServer::Samples(more)) => samples = more,
                Some(other) => panic!("{other:?} instead of reports"),
                None => break,
            }
        }
    };
    let queue = rig.queue.clone();
    tokio::join!(rig.stop(), stored);
    assert_eq!(queue.view().waiting, 0);
}

#[tokio::test]
async fn a_configuration_is_applied_kept_and_reported() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    let mut link = server.link().await;
    link.activate().await;
    assert_eq!(link.config_reported().await, (0, None));

    push_config(&mut link, 3, "{\"telemetry\":{\"interval\":5}}", &server.key).await;
    // It is followed at once, and good once a report under it is with the server.
    let (mut is_tried, mut interval_secs, mut reported) = (false, None, None);
    while interval_secs.is_none() || reported.is_none() {
        match link.next().await.expect("the agent stays") {
            ToServer::ConfigTrial(trial) => is_tried |= trial.state == TrialState::Trying,
            ToServer::Facts(facts) => interval_secs = Some(facts.interval_secs),
            ToServer::Samples(samples) => link.acknowledge(&samples).await,
            ToServer::ConfigReported(word) => reported = Some((word.version, word.error)),
            ToServer::Command(_) | ToServer::Logs(_) | ToServer::NewKey(_) => {
                panic!("nobody told it to do anything")
            }
        }
    }
    assert_eq!((is_tried, interval_secs, reported), (true, Some(5), Some((3, None))));
    assert_eq!(rig.telemetry.interval(), Duration::from_secs(5));

    // Older ones, unsigned ones and those of others do nothing at all.
    push_config(&mut link, 2, "{\"telemetry\":{\"interval\":7}}", &server.key).await;
    push_config(&mut link, 9, "{\"telemetry\":{\"interval\":7}}", &PrivateKey::from_seed(&[8; 32]))
        .await;
    let elsewhere = ConfigPush::sign([1; 16], 9, "{}".to_owned(), &server.key);
    link.send(ToAgent::Config(elsewhere)).await;
    // What cannot be followed is answered, and what held before still holds.
    for (version, document, words) in [
        (4, "{\"telemetry\":{\"interval\":0}}", "whole seconds"),
        (5, "{\"telemetry\":{\"interval\":9,\"metrics\":[\"nonsense\"]}}", "unknown metric"),
        (6, "{\"shell\":\"x\"}", "is not a key"),
        (7, "nonsense", "not a JSON document"),
    ] {
        push_config(&mut link, version, document, &server.key).await;
        let (reported, error) = link.config_reported().await;
        assert_eq!(reported, version);
        assert!(error.as_ref().is_some_and(|error| error.contains(words)), "{error:?}");
    }
    assert_eq!(rig.telemetry.interval(), Duration::from_secs(5));

    // It holds after a restart, before the server is heard.
    drop(link);
    let folder = rig.stop().await;
    let rig = Rig::new(folder, None);
    until("the kept configuration", || rig.telemetry.interval().as_secs() == 5).await;
    let mut link = server.link().await;
    assert_eq!(link.proof.facts.interval_secs, 5);
    link.activate().await;
    assert_eq!(link.config_reported().await, (3, None));
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn a_device_that_is_watched_reports_every_second_until_nobody_looks() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    let (telemetry, queue, device) = (rig.telemetry.clone(), rig.queue.clone(), rig.device.clone());
    let measuring = rig.tasks.spawn("telemetry", async move {
        telemetry.run(queue, &device.membership, &SystemClock).await;
    });
    let mut link = server.link().await;
    link.activate().await;
    assert_eq!(link.proof.facts.interval_secs, 60);
    let first = link.samples().await;
    link.acknowledge(&first).await;
    link.send(ToAgent::Watch { secs: 30 }).await;
    let began = Instant::now();
    for _ in 0..3 {
        let samples = link.samples().await;
        link.acknowledge(&samples).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "an interval is a minute");
    // What it says of itself stays, or its server would miss reports as soon as nobody looks.
    assert_eq!(rig.telemetry.interval(), Duration::from_secs(60));
    assert!(rig.telemetry.is_watched());
    link.send(ToAgent::Watch { secs: 0 }).await;
    until("the end of the watch", || !rig.telemetry.is_watched()).await;

    link.send(ToAgent::Watch { secs: 30 }).await;
    until("the next watch", || rig.telemetry.is_watched()).await;
    drop(link);
    until("its end with the link", || !rig.telemetry.is_watched()).await;
    measuring.abort();
    rig.stop().await;
}

#[tokio::test]
async fn a_pending_device_waits_on_its_link() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    rig.push(1);
    let mut link = server.link().await;
    link.stand(Standing::Pending { reason: "nobody vouched for it".to_owned() }).await;
    rig.reaches(LinkState::Pending).await;
    let view = rig.status.view();
    assert_eq!(view.last_error.unwrap().raw(), "nobody vouched for it");
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    assert_eq!(seqs(&link.samples().await), [1]);
    assert_eq!(rig.status.view().last_error, None);
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn a_new_grant_opens_closed_doors() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    let mut link = server.link().await;
    link.stand(Standing::Pending { reason: "nobody vouched for it".to_owned() }).await;
    rig.reaches(LinkState::Pending).await;
    rig.claim(&server);
    let mut link = server.link().await;
    link.stand(Standing::Revoked { reason: "lost".to_owned() }).await;
    while link.next().await.is_some() {}
    rig.reaches(LinkState::Revoked).await;
    // By itself it asks again soon, so that an operator's second thought is seen.
    until("the next try", || rig.status.view().asks_again.is_some()).await;
    let view = rig.status.view();
    let wait = view.asks_again.unwrap().millis() - view.since.millis();
    assert!((40_000..90_000).contains(&wait), "{wait}");
    rig.claim(&server);
    let mut link = server.link().await;
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn a_claim_ends_the_search_for_another_server() {
    let (server, first) = (Server::start(7).await, Server::start(8).await);
    // Whoever is dialled before the claim must not be heard after it.
    let named = Some(Provisioned { url: first.url(), key: None });
    let rig = Rig::new(tempfile::tempdir().unwrap(), named);
    rig.reaches(LinkState::Connecting).await;
    rig.claim(&server);
    let began = Instant::now();
    let mut link = server.link().await;
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for the other one's time-out");
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    assert!(!rig.device.membership.met(first.key.public()).unwrap());
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn t10_another_server_at_the_same_place_learns_nothing() {
    let (server, other) = (Server::start(7).await, Server::start(8).await);
    let rig = Rig::new(tempfile::tempdir().unwrap(), None);
    let mut grant = server.grant(rig.device.identity.key.public());
    grant.urls = vec![other.url().to_string(), server.url().to_string()];
    rig.device.membership.claim(&grant).unwrap();
    // The handshake with the wrong key fails, and the next URL is the right one.
    assert!(other.link_signed_by(&other.key).await.is_none());
    let mut link = server.link().await;
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn a_server_must_prove_its_key_anew_on_each_link() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    let forger = PrivateKey::from_seed(&[8; 32]);
    assert!(server.link_signed_by(&forger).await.is_none());
    until("the reason", || {
        let error = rig.status.view().last_error;
        error.is_some_and(|error| error.raw().contains("did not prove"))
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_in_plain_words() {
    let server = Server::start(7).await;
    let rig = Rig::claimed(&server);
    let mut link = server.link().await;
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    drop(link);
    rig.reaches(LinkState::Connecting).await;
    until("the reason", || rig.status.view().last_error.is_some()).await;
    let error = rig.status.view().last_error.unwrap();
    assert_eq!(error.raw(), "the server closed the connection without a goodbye");
    rig.stop().await;
}

#[tokio::test]
async fn an_enrolment_key_reaches_only_its_own_server() {
    let (server, other) = (Server::start(7).await, Server::start(8).await);
    let enrol = ApiKey::generate(KeyKind::Enrol, server.key.public().identity()).unwrap();
    let at = |server: &Server| Provisioned { url: server.url(), key: Some(enrol.clone()) };

    let rig = Rig::new(tempfile::tempdir().unwrap(), Some(at(&other)));
    assert!(other.link_signed_by(&other.key).await.is_none());
    rig.stop().await;

    let rig = Rig::new(tempfile::tempdir().unwrap(), Some(at(&server)));
    let mut link = server.link().await;
    assert_eq!(link.proof.enrol_key.as_deref(), Some(enrol.reveal().as_str()));
    link.activate().await;
    rig.reaches(LinkState::Connected).await;
    drop(link);
    rig.stop().await;
}

#[tokio::test]
async fn without_a_key_the_first_server_is_held_on_to() {
    let server = Server::start(7).await;
    let named = || Some(Provisioned { url: server.url(), key: None });
    let rig = Rig::new(tempfile::tempdir().unwrap(), named());
    let mut link = server.link().await;
    link.stand(Standing::Pending { reason: "nobody vouched for it".to_owned() }).await;
    rig.reaches(LinkState::Pending).await;
    assert_eq!(rig.device.membership.server(), Some(server.key.public().identity()));
    drop(link);
    let folder = rig.stop().await;

    // Another server moves in at the same URL.
    let other = Server::start(8).await;
    let moved = Some(Provisioned { url: other.url(), key: None });
    let rig = Rig::new(folder, moved);
    within("the old server's turn", server.link()).await;
    rig.stop().await;
}
