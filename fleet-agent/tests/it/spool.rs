//! What the agent collected and could not hand over, across restarts, in a real folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fleet_agent::app::App;
use fleet_core::api::{AgentInfo, QueueView};

use crate::agent::{claim, key, settings};
use crate::control::plain;
use crate::server::{AgentEnd, Server};
use crate::within::until;

async fn queue(app: &App) -> QueueView {
    let (_, body) = plain(app, "GET", "/info").await;
    let info: AgentInfo = serde_json::from_str(&body).unwrap();
    info.queue
}

async fn collects(app: &App, count: u64) -> QueueView {
    loop {
        let queue = queue(app).await;
        if queue.waiting >= count {
            return queue;
        }
        tokio::task::yield_now().await;
    }
}

/// Takes all that the agent sends until something is newer than a time, and says which numbers of
/// each stream came, in their order.
async fn take_until(link: &mut AgentEnd, newer_than: i64) -> BTreeMap<[u8; 16], Vec<u64>> {
    let mut taken: BTreeMap<[u8; 16], Vec<u64>> = BTreeMap::new();
    loop {
        let samples = link.samples().await;
        let numbers = samples.reports.iter().map(|report| report.seq);
        taken.entry(samples.stream).or_default().extend(numbers);
        link.acknowledge(&samples).await;
        if samples.reports.iter().any(|report| report.at_millis > newer_than) {
            return taken;
        }
    }
}

#[tokio::test]
async fn what_waits_survives_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(settings(folder.path())).unwrap();
    claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    let server = server.stop();
    collects(&app, 20).await;
    app.stop().await;

    // Nothing was sent yet, so the stream goes on, over two more runs.
    let app = App::start(settings(folder.path())).unwrap();
    let before = collects(&app, 40).await;
    assert!(before.bytes > 0, "{before:?}");
    app.stop().await;
    let app = App::start(settings(folder.path())).unwrap();
    collects(&app, 60).await;
    let modes = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let spool = folder.path().join("spool");
    assert_eq!(modes(spool.clone()), 0o700);
    for file in fs::read_dir(spool).unwrap() {
        assert_eq!(modes(file.unwrap().path()), 0o600);
    }

    let server = server.start_again().await;
    let mut link = server.link().await;
    link.activate().await;
    let mut numbers = Vec::new();
    while numbers.len() < 60 {
        let samples = link.samples().await;
        numbers.extend(samples.reports.iter().map(|report| report.seq));
        link.acknowledge(&samples).await;
    }
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    drop(link);
    app.stop().await;
    let ended_well = App::start(settings(folder.path())).unwrap();
    assert_eq!(queue(&ended_well).await.unclean_ends, 0);
    ended_well.stop().await;
}

#[tokio::test]
async fn what_may_have_been_sent_is_sent_again_under_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(7).await;
    let app = App::start(settings(folder.path())).unwrap();
    claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    let mut link = server.link().await;
    link.activate().await;
    let sent = link.samples().await;
    // The server is gone before it says that it has them.
    drop(link);
    let server = server.stop();
    app.stop().await;

    let app = App::start(settings(folder.path())).unwrap();
    let waited = collects(&app, sent.reports.len() as u64 + 10).await;
    let server = server.start_again().await;
    let mut link = server.link().await;
    link.activate().await;
    let mut streams = BTreeMap::new();
    let mut count = 0;
    // New reports are in a stream of their own.
    while count < waited.waiting || streams.len() < 2 {
        let samples = link.samples().await;
        count += samples.reports.len() as u64;
        link.acknowledge(&samples).await;
        for report in samples.reports {
            let again = sent.reports.iter().find(|old| old.seq == report.seq);
            if let Some(old) = again.filter(|_| samples.stream == sent.stream) {
                assert_eq!((old.at_millis, &old.samples), (report.at_millis, &report.samples));
            }
            streams.entry(samples.stream).or_insert_with(Vec::new).push(report.seq);
        }
    }
    assert!(streams.contains_key(&sent.stream));
    for numbers in streams.values() {
        assert_eq!(*numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    }
    drop(link);
    app.stop().await;
}

#[tokio::test]
async fn without_a_folder_the_agent_goes_on_until_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::write(&spool, "in the way").unwrap();
    let server = Server::start(7).await;
    let app = App::start(settings(folder.path())).unwrap();
    claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
    let mut link = server.link().await;
    link.activate().await;
    let taken = take_until(&mut link, 0).await;
    assert_eq!(taken.len(), 1);
    drop(link);
    let server = server.stop();
    let waiting = collects(&app, 10).await;
    assert!(waiting.disk_error.is_some() && waiting.bytes == 0, "{waiting:?}");

    fs::remove_file(&spool).unwrap();
    until("the folder to be used", || spool.is_dir() && fs::read_dir(&spool).unwrap().count() > 0)
        .await;
    app.stop().await;
    let app = App::start(settings(folder.path())).unwrap();
    assert!(queue(&app).await.waiting >= 10);
    drop(server);
    app.stop().await;
}
