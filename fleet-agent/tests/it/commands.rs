//! Commands from the server's word to the effect and back: the whole agent in this process, and the
//! program itself where it begins anew.

use std::fs;
use std::path::Path;

use fleet_agent::app::App;
use fleet_agent::config::Policy;
use fleet_agent::log_tail::LogTail;
use fleet_agent::settings::Settings;
use fleet_agent::sys::SysRoot;
use fleet_core::wire::{CommandResult, Outcome, Progress, Standing, ToAgent, ToServer};

use crate::agent::{claim, key, settings};
use crate::process::add;
use crate::server::{AgentEnd, Server};
use crate::within::until;

/// A machine with programs of its own, on which an agent of this process runs.
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) app: App,
    /// What its agent logged.
    pub(crate) log: LogTail,
}

impl Device {
    pub(crate) async fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        fs::create_dir(folder.path().join("proc")).unwrap();
        fs::copy("/proc/meminfo", folder.path().join("proc/meminfo")).unwrap();
        let server = Server::start(7).await;
        let (app, log) = start(folder.path());
        claim(&app, &server.grant(key(&app)).sign(&server.key).unwrap()).await;
        Self { folder, server, app, log }
    }

    pub(crate) async fn link(&self) -> AgentEnd {
        let mut link = self.server.link().await;
        link.activate().await;
        link
    }

    /// A program that leaves a line whenever it runs.
    pub(crate) fn add(&self, name: &str, script: &str) {
        add(self.folder.path(), name, &format!("echo {name} \"$@\" >> ran; {script}"));
    }

    pub(crate) fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The agent ends and starts again.
    pub(crate) async fn restart(self) -> Self {
        let Self { folder, server, app, .. } = self;
        app.stop().await;
        let (app, log) = start(folder.path());
        Self { folder, server, app, log }
    }
}

fn start(root: &Path) -> (App, LogTail) {
    let settings = on(root);
    let log = settings.log.clone();
    (App::start(settings).unwrap(), log)
}

fn on(root: &Path) -> Settings {
    let policy = Policy::load(&root.join("policy.yaml"), true).unwrap();
    Settings { root: SysRoot::at(root), policy, ..settings(&root.join("data")) }
}

/// How it ended, and why.
fn said(result: &CommandResult) -> (Outcome, &str) {
    (result.outcome, &result.detail)
}

#[tokio::test]
async fn an_order_is_done_once_and_told_until_it_is_noted() {
    let device = Device::new("exec: {allow: [hello]}\n").await;
    device.add("hello", "echo out; echo err >&2; exit 4");
    let mut link = device.link().await;
    link.order(&device.server, 1, &["exec", "hello", "a b", "$HOME"]).await;
    assert_eq!(link.news().await, (1, Progress::Accepted));
    assert_eq!(link.news().await, (1, Progress::Running));
    let (1, Progress::Done(done)) = link.news().await else { panic!() };
    assert_eq!(said(&done), (Outcome::Failed, "ended with code 4"));
    assert_eq!((done.exit_code, &done.output[..]), (Some(4), &b"out\nerr\n"[..]));

    // The same order again, a new link, and a new run of the agent change nothing.
    link.order(&device.server, 1, &["exec", "hello", "a b", "$HOME"]).await;
    assert_eq!(link.news().await, (1, Progress::Done(done.clone())));
    drop(link);
    let mut link = device.link().await;
    assert_eq!(link.news().await, (1, Progress::Done(done.clone())));
    drop(link);
    let device = device.restart().await;
    let mut link = device.link().await;
    assert_eq!(link.news().await, (1, Progress::Done(done)));
    link.note(1).await;
    link.order(&device.server, 2, &["collect"]).await;
    assert_eq!(link.result(2).await.outcome, Outcome::Succeeded);
    drop(link);
    let mut link = device.link().await;
    assert_eq!(link.news().await.0, 2, "the other one is noted");
    assert_eq!(device.ran(), ["hello a b $HOME"]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn only_the_servers_own_word_for_this_device_counts() {
    let device = Device::new("").await;
    device.add("systemctl", "");
    let other = Server::start(8).await;
    let mut link = device.link().await;
    link.order(&other, 1, &["reboot"]).await;
    link.order(&device.server, 2, &["restart", "nginx"]).await;
    let done = link.result(2).await;
    assert_eq!(said(&done), (Outcome::Succeeded, "ended with code 0"));
    link.order(&device.server, 3, &["exec", "ls"]).await;
    let done = link.result(3).await;
    assert_eq!(done.outcome, Outcome::Failed);
    assert!(done.detail.contains("does not let its server run ls"), "{}", done.detail);
    link.order(&device.server, 4, &["frobnicate"]).await;
    assert!(link.result(4).await.detail.starts_with("this agent: there is no command frobnicate"));
    assert_eq!(device.ran(), ["systemctl restart nginx.service"]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn an_order_is_taken_back_before_it_comes() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    link.send(ToAgent::CancelCommand { id: [1; 16] }).await;
    assert_eq!(link.result(1).await.outcome, Outcome::Cancelled);
    link.order(&device.server, 1, &["collect"]).await;
    assert_eq!(link.result(1).await.outcome, Outcome::Cancelled);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn a_device_without_systemd_says_so() {
    let device = Device::new("").await;
    let mut link = device.link().await;
    for (number, words, problem) in [
        (1, &["restart", "nginx"][..], "there is no systemctl on this device"),
        (2, &["logs", "-u", "nginx"], "there is no journalctl on this device"),
        (3, &["reboot"], "there is neither systemctl nor reboot on this device"),
    ] {
        link.order(&device.server, number, words).await;
        assert_eq!(said(&link.result(number).await), (Outcome::Failed, problem));
    }
    device.add("systemctl", "echo no such unit >&2; exit 5");
    link.order(&device.server, 4, &["restart", "nginx"]).await;
    let done = link.result(4).await;
    assert_eq!(
        (said(&done), &done.output[..]),
        ((Outcome::Failed, "ended with code 5"), &b"no such unit\n"[..])
    );

    device.add("journalctl", "echo line");
    link.order(&device.server, 5, &["logs", "-u", "nginx", "-n", "7"]).await;
    let done = link.result(5).await;
    assert_eq!((done.outcome, &done.output[..]), (Outcome::Succeeded, &b"line\n"[..]));
    assert_eq!(
        device.ran(),
        [
            "systemctl restart nginx.service",
            "journalctl --no-pager -o short-iso -n 7 -u nginx.service"
        ]
    );
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn the_agent_does_not_restart_its_own_service_from_under_itself() {
    let device = Device::new("").await;
    device.add("systemctl", "[ $1 != show ] || [ $4 != agent.service ] || echo fleetd.service");
    let group = device.folder.path().join("proc/self");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup"), "0::/system.slice/fleetd.service\n").unwrap();
    let mut link = device.link().await;
    for (number, name) in [(1, "fleetd"), (2, "agent")] {
        link.order(&device.server, number, &["restart", name]).await;
        let done = link.result(number).await;
        assert_eq!(done.outcome, Outcome::Failed);
        assert!(done.detail.contains("this agent's own service"), "{}", done.detail);
    }
    link.order(&device.server, 3, &["restart", "nginx"]).await;
    assert_eq!(link.result(3).await.outcome, Outcome::Succeeded);
    let asked = |unit| format!("systemctl show --property=Id --value {unit}.service");
    let ran = [asked("agent"), asked("nginx"), "systemctl restart nginx.service".to_owned()];
    assert_eq!(device.ran(), ran);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn a_reboot_is_told_by_the_next_boot() {
    let device = Device::new("").await;
    // The first program does not do it, the second does.
    device.add("systemctl", "exit 1");
    device.add("reboot", "");
    let boot_id = device.folder.path().join("proc/sys/kernel/random/boot_id");
    fs::create_dir_all(boot_id.parent().unwrap()).unwrap();
    fs::write(&boot_id, "11111111-1111-1111-1111-111111111111\n").unwrap();
    let device = device.restart().await;
    let mut link = device.link().await;
    link.order(&device.server, 1, &["reboot"]).await;
    assert_eq!(link.news().await, (1, Progress::Accepted));
    assert_eq!(link.news().await, (1, Progress::Running));
    until("the reboot", || device.ran().len() == 2).await;
    drop(link);

    let device = device.restart().await;
    let mut link = device.link().await;
    assert_eq!(link.news().await, (1, Progress::Running), "it is the same boot still");
    drop(link);
    fs::write(&boot_id, "22222222-2222-2222-2222-222222222222\n").unwrap();
    let device = device.restart().await;
    let mut link = device.link().await;
    assert_eq!(said(&link.result(1).await), (Outcome::Succeeded, "the device rebooted"));
    assert_eq!(device.ran(), ["systemctl reboot", "reboot"]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn what_runs_when_the_agent_stops_is_ended_and_unknown() {
    let device = Device::new("exec: {allow: any}\n").await;
    device.add("long", "echo begun; while :; do /bin/sleep 0.05; done");
    let mut link = device.link().await;
    link.order(&device.server, 1, &["exec", "long"]).await;
    link.order(&device.server, 2, &["collect"]).await;
    until("its begin", || device.ran().len() == 1).await;
    drop(link);
    let device = device.restart().await;
    let mut link = device.link().await;
    let done = link.result(1).await;
    assert_eq!(said(&done), (Outcome::Unknown, "interrupted: the agent ended while it ran"));
    assert_eq!(done.output, b"begun\n");
    assert_eq!(link.result(2).await.outcome, Outcome::Succeeded, "nothing of it was done before");
    assert_eq!(device.ran(), ["long"]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn a_report_comes_at_once_and_says_how_much_it_is() {
    let mut device = Device::new("").await;
    device.app.stop().await;
    let mut slow = on(device.folder.path());
    slow.config.telemetry.interval = std::time::Duration::from_secs(3600);
    device.app = App::start(slow).unwrap();
    let mut link = device.link().await;
    let first = link.samples().await;
    link.acknowledge(&first).await;
    link.order(&device.server, 1, &["collect"]).await;
    // The report and what is said of it come in any order.
    let (mut done, mut again) = (None, None);
    while done.is_none() || again.is_none() {
        match link.next().await.expect("the agent stays") {
            ToServer::Command(news) => match news.progress {
                Progress::Done(result) => done = Some(result),
                Progress::Accepted | Progress::Running => {}
            },
            ToServer::Samples(samples) => again = Some(samples),
            ToServer::Facts(_)
            | ToServer::ConfigReported(_)
            | ToServer::ConfigTrial(_)
            | ToServer::Logs(_)
            | ToServer::NewKey(_) => {}
        }
    }
    let (done, again) = (done.unwrap(), again.unwrap());
    let values = match again.reports.last().unwrap().samples.len() {
        1 => "1 value".to_owned(),
        count => format!("{count} values"),
    };
    assert_eq!(said(&done), (Outcome::Succeeded, format!("a report with {values}").as_str()));
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn what_another_server_gave_is_not_done() {
    let device = Device::new("exec: {allow: any}\n").await;
    device.add("long", "while :; do /bin/sleep 0.05; done");
    device.add("next", "");
    let mut link = device.link().await;
    link.order(&device.server, 1, &["exec", "long"]).await;
    link.order(&device.server, 2, &["exec", "next"]).await;
    until("its begin", || device.ran().len() == 1).await;
    device.app.forget().unwrap();
    while link.next().await.is_some() {}

    let other = Server::start(8).await;
    claim(&device.app, &other.grant(key(&device.app)).sign(&other.key).unwrap()).await;
    let mut link = other.link().await;
    link.activate().await;
    link.order(&other, 2, &["collect"]).await;
    // The first news is of its own: nothing was left of what was done or waited.
    assert_eq!(link.news().await, (2, Progress::Accepted));
    assert_eq!(link.result(2).await.outcome, Outcome::Succeeded);
    assert_eq!(device.ran(), ["long"]);
    drop(link);
    device.app.stop().await;
}

#[tokio::test]
async fn a_device_that_is_not_in_the_fleet_takes_no_orders() {
    let device = Device::new("").await;
    let mut link = device.server.link().await;
    let reason = "nobody vouched for it".to_owned();
    link.stand(Standing::Pending { reason }).await;
    link.order(&device.server, 1, &["collect"]).await;
    link.activate().await;
    link.order(&device.server, 2, &["collect"]).await;
    assert_eq!(link.news().await, (2, Progress::Accepted));
    drop(link);
    device.app.stop().await;
}
