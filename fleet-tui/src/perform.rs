//! Doing what the state asked for: requests, the search for devices, files. What comes of it goes
//! back as an event.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::Chain;
use fleet_core::api::{
    BatchRequest, BatchView, CommandRequest, CommandView, ConfigUpdate, KeyCreated, KeyRotate,
    Route, Verdict,
};
use fleet_core::claim::{ClaimCode, ClaimSecret};
use fleet_core::command::Command;
use fleet_core::id::Uid;
use fleet_core::mdns;
use fleet_core::net::shutdown::Tasks;
use fleet_core::net::url::ServerUrl;
use fleet_core::operator::batches::MemberQuery;
use fleet_core::operator::browse::Browse;
use fleet_core::operator::claim::Target;
use fleet_core::operator::client::{Client, ClientError, EventQuery, SeriesQuery};
use fleet_core::operator::commands::CommandQuery;
use fleet_core::operator::configs::{HistoryQuery, Whose};
use fleet_core::operator::provision::{self, Progress, Wish};
use fleet_core::secret::ApiKey;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::{Untrusted, escaped};
use serde::de::Error as _;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::effect::{BatchChange, Change, LogAsk, Request};
use crate::event::{Answer, Event, Failed, LogNews, Notice, Provisioning};

/// Requests under way at one time; further ones wait.
const REQUESTS_MAX: usize = 8;
/// Between looks at the interfaces on which devices are looked for.
const LINKS_INTERVAL: Duration = Duration::from_secs(5);
/// How long what the network shows is gathered before it is told.
const SETTLE: Duration = Duration::from_millis(100);
/// Events asked for at one time.
const EVENTS_PAGE: usize = 200;
/// The status of a request of which a part does not do.
const UNFIT: u16 = 422;
/// Commands of one device asked for at one time.
const COMMANDS_PAGE: usize = 200;

/// Whoever does what is asked for.
pub struct Performer {
    client: Client,
    events: mpsc::Sender<Event>,
    interfaces: mdns::Options,
    tasks: Tasks,
    requests: Arc<Semaphore>,
    browsing: Option<CancellationToken>,
    logs: Option<CancellationToken>,
}

impl Performer {
    /// For one server.
    pub fn new(
        client: Client,
        events: mpsc::Sender<Event>,
        interfaces: mdns::Options,
        tasks: Tasks,
    ) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { client, events, interfaces, tasks, requests, browsing: None, logs: None }
    }

    /// Asks the server; the answer comes as an event.
    pub fn ask(&self, request: Request) {
        let (client, events, slots) =
            (self.client.clone(), self.events.clone(), self.requests.clone());
        self.tasks.spawn("request", async move {
            let _slot = slots.acquire().await.expect("the semaphore is never closed");
            let answer = answer(&client, &request).await.map_err(|error| failed(&request, &error));
            // Without a receiver the console has ended.
            let _ = events.send(Event::Answer(request, answer)).await;
        });
    }

    /// Begins or ends the search for devices.
    pub fn browse(&mut self, is_wanted: bool) {
        if !is_wanted {
            if let Some(token) = self.browsing.take() {
                token.cancel();
            }
            return;
        }
        if self.browsing.as_ref().is_some_and(|token| !token.is_cancelled()) {
            return;
        }
        let token = CancellationToken::new();
        self.browsing = Some(token.clone());
        let (events, options) = (self.events.clone(), self.interfaces.clone());
        self.tasks.spawn("search", async move {
            tokio::select! {
                () = token.cancelled() => {}
                ended = search(options, &events) => {
                    token.cancel();
                    if let Err(reason) = ended {
                        // Without a receiver the console has ended.
                        let _ = events.send(Event::BrowseFailed(reason)).await;
                    }
                }
            }
        });
    }

    /// Has lines of a log come, or no more; what came before ends.
    pub fn logs(&mut self, ask: Option<LogAsk>) {
        if let Some(token) = self.logs.take() {
            token.cancel();
        }
        let Some(ask) = ask else { return };
        let token = CancellationToken::new();
        self.logs = Some(token.clone());
        let (client, events) = (self.client.clone(), self.events.clone());
        self.tasks.spawn("logs", async move {
            tokio::select! {
                () = token.cancelled() => {}
                reason = follow(&client, &ask, &events) => {
                    // Without a receiver the console has ended.
                    let _ = events.send(Event::Log(ask.number, LogNews::Ended(reason))).await;
                }
            }
        });
    }

    /// Brings devices into the fleet; their steps come as events.
    pub fn provision(
        &self,
        targets: Vec<Target>,
        server_url: Option<ServerUrl>,
        code: Option<ClaimCode>,
    ) {
        let secret = code.map(ClaimSecret::Code);
        let slots = Arc::new(Semaphore::new(provision::AT_ONCE_MAX));
        for target in targets {
            let (client, events, slots) = (self.client.clone(), self.events.clone(), slots.clone());
            let (url, secret) = (server_url.clone(), secret.clone());
            self.tasks.spawn("provisioning", async move {
                let fingerprint = target.fingerprint;
                let told = |step| {
                    let progress = Progress::Step(step);
                    // A step that finds no room is told by the next one.
                    let _ = events
                        .try_send(Event::Provisioning(Provisioning { fingerprint, progress }));
                };
                let wish = Wish { server_url: url.as_ref(), secret: secret.as_ref() };
                let outcome = provision::provision_one(&client, &target, wish, &slots, &told).await;
                let progress = Progress::Done(outcome);
                let _ =
                    events.send(Event::Provisioning(Provisioning { fingerprint, progress })).await;
            });
        }
    }

    /// Writes a new file into the folder one is in, or the temporary one; tells where.
    pub fn export(&self, stem: &str, extension: &str, contents: String, now: Timestamp) {
        let name = format!("{stem}-{}.{extension}", now.to_string().replace(':', ""));
        let (events, folders) = (self.events.clone(), [PathBuf::from("."), std::env::temp_dir()]);
        self.tasks.spawn("export", async move {
            let written =
                tokio::task::spawn_blocking(move || write_new(&folders, &name, &contents));
            let notice = match written.await {
                Ok(Ok(path)) => {
                    Notice { text: format!("written to {}", path.display()), is_error: false }
                }
                Ok(Err(error)) => Notice { text: format!("not written: {error}"), is_error: true },
                Err(error) => Notice { text: format!("not written: {error}"), is_error: true },
            };
            let _ = events.send(Event::Told(notice)).await;
        });
    }
}

/// Looks for devices, and tells of all of them whenever something is different. Returns why that
/// has ended; nothing if nobody listens any more.
async fn search(options: mdns::Options, events: &mpsc::Sender<Event>) -> Result<(), String> {
    let told = |error: std::io::Error| Chain(&error).to_string();
    let mut browse = Browse::start(options.clone()).map_err(told)?;
    let mut links = tokio::time::interval(LINKS_INTERVAL);
    let mut interfaces = None;
    loop {
        let news = tokio::select! {
            _ = links.tick() => {
                let now = mdns::interfaces(&options).map_err(told)?;
                if interfaces.as_ref() == Some(&now) {
                    continue;
                }
                interfaces = Some(now.clone());
                Event::Searching(now)
            }
            is_on = browse.changed() => {
                if !is_on {
                    return Err("the search has ended by itself".to_owned());
                }
                // Many answers come at the same time.
                let end = Instant::now() + SETTLE;
                while let Ok(true) = timeout_at(end, browse.changed()).await {}
                Event::Sightings(browse.sightings())
            }
        };
        if events.send(news).await.is_err() {
            return Ok(());
        }
    }
}

/// Hands on lines of a log; returns why no more come. While nobody takes them the server waits, and
/// leaves out what is too much.
async fn follow(client: &Client, ask: &LogAsk, events: &mpsc::Sender<Event>) -> String {
    let told = |error: ClientError| Chain(&error).to_string();
    let mut stream = match client.logs_follow(&ask.device.to_string(), &ask.query).await {
        Ok(stream) => stream,
        Err(error) => return told(error),
    };
    loop {
        match stream.next().await {
            Ok(Some(message)) => {
                let news = Event::Log(ask.number, LogNews::Message(message));
                if events.send(news).await.is_err() {
                    return String::new();
                }
            }
            Ok(None) => return "the server has ended it".to_owned(),
            Err(error) => return told(error),
        }
    }
}

async fn answer(client: &Client, request: &Request) -> Result<Answer, ClientError> {
    Ok(match request {
        Request::Series { device, metrics, from, to, step } => {
            let query = SeriesQuery {
                device_id: device.to_string(),
                metrics: metrics.iter().map(ToString::to_string).collect(),
                from: Some(*from),
                to: Some(*to),
                step: Some(*step),
            };
            Answer::Series(client.series(&query).await?)
        }
        Request::Me => Answer::Me(Box::new(client.me().await?)),
        Request::Device(device) => {
            Answer::Device(Box::new(client.device_get(&device.to_string()).await?))
        }
        Request::Config(device) => {
            Answer::Config(Box::new(client.config_get(&device.to_string()).await?))
        }
        Request::Versions { device, limit } => {
            let query = HistoryQuery { before: None, limit: Some(*limit) };
            let whose = Whose::Device(device.to_string());
            Answer::Versions(client.config_history(&whose, &query).await?)
        }
        Request::Events { device, before } => {
            let query = EventQuery {
                device_id: device.map(|uid| uid.to_string()),
                before: *before,
                limit: Some(EVENTS_PAGE),
                ..EventQuery::default()
            };
            Answer::Events(client.event_list(&query).await?)
        }
        Request::Command(id) => Answer::Command(Box::new(client.command_get(*id).await?)),
        Request::Commands(device) => {
            let query = CommandQuery {
                device_id: Some(device.to_string()),
                limit: Some(COMMANDS_PAGE),
                ..CommandQuery::default()
            };
            Answer::Commands(client.command_list(&query).await?)
        }
        Request::Change(device, change) => carry_out(client, &device.to_string(), change).await?,
        Request::Batches { before, limit } => {
            Answer::Batches(client.batch_list(*before, Some(*limit)).await?)
        }
        Request::Batch(id) => Answer::Batch(Box::new(client.batch_get(*id).await?)),
        Request::Members { batch, states, after, limit } => {
            let query =
                MemberQuery { states: states.clone(), after: after.clone(), limit: Some(*limit) };
            Answer::Members(client.batch_members(*batch, &query).await?)
        }
        Request::Preview(request) => {
            Answer::Preview(Box::new(client.batch_preview(request).await?))
        }
        Request::BeginBatch(request) => {
            // Under a number of its own it is begun once, however often it is asked for.
            let request = BatchRequest { id: Some(Uid::new()), ..(**request).clone() };
            let view = until_answered(|| client.batch_create(&request)).await?;
            Answer::Batch(Box::new(view))
        }
        Request::ChangeBatch(id, change) => {
            Answer::Batch(Box::new(change_batch(client, *id, *change).await?))
        }
        Request::RetryBatch(id, count) => {
            Answer::Batch(Box::new(client.batch_retry(*id, Some(*count)).await?))
        }
        Request::Keys => Answer::Keys(client.key_list().await?),
        Request::MakeKey(wish) => new_key(client.key_create(wish).await?, Route::KeyCreate)?,
        Request::RotateKey { id, overlap } => {
            let wish = KeyRotate { overlap_secs: Some(overlap.as_secs()) };
            new_key(client.key_rotate(id, &wish).await?, Route::KeyRotate(id.clone()))?
        }
        Request::RevokeKey(id) => {
            client.key_revoke(id).await?;
            Answer::Done
        }
    })
}

/// A key that was just made, in a type that does not show it and is wiped when it goes.
fn new_key(created: KeyCreated, route: Route) -> Result<Answer, ClientError> {
    let text = Zeroizing::new(created.key);
    let key: ApiKey = text.parse().map_err(|error| ClientError::Answer {
        route: Box::new(route),
        source: serde_json::Error::custom(error),
    })?;
    Ok(Answer::NewKey(Box::new(key)))
}

async fn change_batch(
    client: &Client,
    id: Uid,
    change: BatchChange,
) -> Result<BatchView, ClientError> {
    match change {
        BatchChange::Pause => client.batch_pause(id).await,
        BatchChange::Continue => client.batch_continue(id).await,
        BatchChange::Cancel => client.batch_cancel(id).await,
        BatchChange::Retry => client.batch_retry(id, None).await,
    }
}

async fn carry_out(client: &Client, device: &str, change: &Change) -> Result<Answer, ClientError> {
    let verdict = Verdict::default();
    match change {
        Change::Accept => client.device_accept(device, &verdict).await.map(drop)?,
        Change::Reject => client.device_reject(device, &verdict).await.map(drop)?,
        Change::Revoke => client.device_revoke(device, &verdict).await.map(drop)?,
        Change::Delete => client.device_delete(device).await.map(drop)?,
        Change::Restore => client.device_restore(device).await.map(drop)?,
        Change::Update(update) => client.device_update(device, update).await.map(drop)?,
        Change::GoBack { to, from } => {
            let update = ConfigUpdate { rollback_to: Some(*to), ..ConfigUpdate::default() };
            client.config_set(device, &update, Some(*from)).await.map(drop)?;
        }
        Change::Interval(interval) => set_interval(client, device, *interval).await?,
        Change::Command { command, expires_in } => {
            let view = give(client, device, command, *expires_in).await?;
            return Ok(Answer::Command(Box::new(view)));
        }
        Change::TakeBack(id) => {
            return Ok(Answer::Command(Box::new(client.command_cancel(*id).await?)));
        }
    }
    Ok(Answer::Done)
}

/// Gives a device a command, under a number of its own.
async fn give(
    client: &Client,
    device: &str,
    command: &Command,
    expires_in: Duration,
) -> Result<CommandView, ClientError> {
    let request = CommandRequest {
        id: Some(Uid::new()),
        device_id: device.to_owned(),
        command: command.word().to_owned(),
        args: Some(command.args()),
        expires_in: Some(format!("{}ms", expires_in.as_millis())),
        timeout: None,
    };
    until_answered(|| client.command_create(&request)).await
}

/// Asks once more if the server was reached and did not answer. Only for what has a number of its
/// own: under that it is given once, however often it is asked for.
async fn until_answered<T, F>(ask: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    match ask().await {
        Err(ClientError::Exchange { .. }) => ask().await,
        answered => answered,
    }
}

/// Puts the interval into the configuration that the device has. If somebody else changes that
/// meanwhile, the server says so and keeps theirs.
async fn set_interval(
    client: &Client,
    device: &str,
    interval: Duration,
) -> Result<(), ClientError> {
    let current = client.config_get(device).await?;
    // What the device has from its layers stays theirs.
    let own = current.own.as_deref().unwrap_or(&current.config);
    let document = with_interval(own, interval)
        .map_err(|source| ClientError::Answer { route: Box::new(Route::ConfigGet), source })?;
    let update = ConfigUpdate { config: Some(document), ..ConfigUpdate::default() };
    client.config_set(device, &update, Some(current.version)).await.map(drop)
}

/// A document with another interval, and everything else as it was.
fn with_interval(document: &str, interval: Duration) -> Result<Value, serde_json::Error> {
    let mut document: Map<String, Value> = serde_json::from_str(document)?;
    // The short form says the same, and one of the two is enough.
    document.remove("telemetry_interval");
    let telemetry = document.entry("telemetry").or_insert_with(|| Value::Object(Map::new()));
    if let Some(telemetry) = telemetry.as_object_mut() {
        telemetry.insert("interval".to_owned(), interval.as_secs().into());
    }
    Ok(Value::Object(document))
}

fn failed(request: &Request, error: &ClientError) -> Failed {
    let is_unanswered = matches!(error, ClientError::Exchange { .. } | ClientError::Answer { .. });
    let doubt = match request {
        Request::Change(_, Change::Command { .. }) if is_unanswered => {
            "; it may have been given all the same: the device's commands tell"
        }
        Request::BeginBatch(_) | Request::RetryBatch(..) if is_unanswered => {
            "; it may have begun all the same: 4 shows all batches"
        }
        Request::MakeKey(_) | Request::RotateKey { .. } if is_unanswered => {
            "; one may have been made all the same, which nobody can read: revoke it if it is listed"
        }
        _ => "",
    };
    // Of other requests people have not typed the parts by themselves.
    let is_form = matches!(request, Request::MakeKey(_) | Request::RotateKey { .. });
    let (field, text) = match error {
        ClientError::Refused { status, detail, .. } if is_form && status.as_u16() == UNFIT => {
            unfit(detail)
        }
        _ => (None, Chain(error).to_string()),
    };
    Failed {
        text: format!("{text}{doubt}"),
        request_id: error.request_id().map(ToString::to_string),
        field,
    }
}

/// What does not do, and which part of the request that is: the server names it first.
fn unfit(detail: &Untrusted) -> (Option<String>, String) {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match detail.raw().split_once(": ").filter(|(name, _)| is_name(name)) {
        Some((name, problem)) => (Some(name.to_owned()), escaped(problem)),
        None => (None, detail.to_string()),
    }
}

fn write_new(folders: &[PathBuf], name: &str, contents: &str) -> std::io::Result<PathBuf> {
    let mut last = std::io::ErrorKind::NotFound.into();
    for folder in folders {
        let path = folder.join(name);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match file.and_then(|mut file| file.write_all(contents.as_bytes())) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use fleet_core::net::http::HttpError;
    use serde_json::json;

    use super::*;

    fn unanswered() -> ClientError {
        let url = "https://fleet.example.com:8443".parse().unwrap();
        ClientError::Exchange { url, source: HttpError::Timeout { peer: "a".to_owned() } }
    }

    #[tokio::test]
    async fn what_was_not_answered_is_asked_once_more_and_what_was_refused_is_not() {
        let refused = || ClientError::ReadOnly;
        for (first, second, times, is_done) in [
            (None, None, 1, true),
            (Some(unanswered()), None, 2, true),
            (Some(unanswered()), Some(unanswered()), 2, false),
            (Some(refused()), None, 1, false),
        ] {
            let answers = Cell::new(vec![second, first]);
            let asked = Cell::new(0);
            let ask = || {
                asked.set(asked.get() + 1);
                let mut left = answers.take();
                let answer = left.pop().expect("it asks twice at most");
                answers.set(left);
                std::future::ready(answer.map_or(Ok(()), Err))
            };
            assert_eq!(until_answered(ask).await.is_ok(), is_done);
            assert_eq!(asked.get(), times);
        }
    }

    #[test]
    fn what_may_have_been_given_all_the_same_says_so() {
        let uid = Uid::from_bytes([7; 16]);
        let command = Change::Command { command: Command::Reboot, expires_in: Duration::ZERO };
        for (request, error, is_doubted) in [
            (Request::Change(uid, command.clone()), unanswered(), true),
            (Request::Change(uid, command), ClientError::ReadOnly, false),
            (Request::Change(uid, Change::Reject), unanswered(), false),
        ] {
            let text = failed(&request, &error).text;
            assert_eq!(text.contains("given all the same"), is_doubted, "{text}");
        }
    }

    #[test]
    fn the_rest_of_a_configuration_stays() {
        for (before, after) in [
            ("{}", json!({"telemetry": {"interval": 30}})),
            (
                r#"{"telemetry":{"interval":60,"metrics":["cpu_usage"]},"later":1}"#,
                json!({"telemetry": {"interval": 30, "metrics": ["cpu_usage"]}, "later": 1}),
            ),
        ] {
            let found = with_interval(before, Duration::from_secs(30)).unwrap();
            assert_eq!(found, after, "{before}");
        }
        assert!(with_interval("[]", Duration::from_secs(30)).is_err());
    }
}
