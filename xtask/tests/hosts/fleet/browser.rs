//! A real Chromium on a host, driven over its DevTools protocol: as much of it as the suite needs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::SOON;
use crate::lab::{Host, wait_for};

/// How long Chromium may take for one call.
const CALL: Duration = Duration::from_secs(30);
/// What keeps it from talking to anybody but us.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--window-size=1280,900",
];
/// What is switched on, so that events of it are heard.
const DOMAINS: [&str; 5] = ["Page", "Runtime", "Log", "Network", "Accessibility"];

/// A browser with one page.
pub(super) struct Browser<'a> {
    host: &'a Host,
    wire: Arc<Mutex<Wire>>,
}

/// The connection to it.
struct Wire {
    socket: WebSocketStream<TcpStream>,
    calls: u64,
    session: Option<String>,
    heard: Vec<Value>,
}

impl<'a> Browser<'a> {
    /// Starts a browser that ends with its host.
    #[track_caller]
    pub(super) fn start(host: &'a Host) -> Self {
        let folder = host.path("chromium");
        let mut command = host.command("chromium");
        command.args(FLAGS).arg(format!("--user-data-dir={}", folder.display()));
        command.arg("about:blank").env("HOME", host.path("home"));
        host.start("chromium", &mut command);
        let (port, path) = wait_for("Chromium to listen", SOON, || {
            let text = fs::read_to_string(folder.join("DevToolsActivePort")).ok()?;
            let (port, path) = text.trim().split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.to_owned()))
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let wire = host.run(async move { Wire::connect(address, &path).await });
        let browser = Self { host, wire: Arc::new(Mutex::new(wire)) };
        for domain in DOMAINS {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub(super) fn call(&self, method: &str, params: Value) -> Value {
        let (wire, method) = (self.wire.clone(), method.to_owned());
        let called = async move { wire.lock().await.call(&method, params).await };
        self.host.run(called).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes to a page and waits until it is whole.
    #[track_caller]
    pub(super) fn go(&self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        let whole = format!("document.readyState === 'complete' && location.href === '{url}'");
        self.sees(&format!("{url} to be loaded"), &whole);
    }

    /// What a piece of script comes to.
    #[track_caller]
    pub(super) fn value(&self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer:#}");
        answer["result"]["value"].take()
    }

    /// Waits until a piece of script comes to true.
    #[track_caller]
    pub(super) fn sees(&self, what: &str, script: &str) {
        let looked = wait_for_or(SOON, || (self.value(script) == true).then_some(()));
        if looked.is_none() {
            let text = self.value("location.href + '\\n' + document.body.innerText");
            panic!("waited in vain for: {what}\n{}", text.as_str().unwrap_or_default());
        }
    }

    /// The events of a kind so far, without what is around them.
    pub(super) fn heard(&self, kind: &str) -> Vec<Value> {
        // A call takes in what has come before its answer.
        self.value("0");
        let (wire, kind) = (self.wire.clone(), kind.to_owned());
        self.host.run(async move {
            let wire = wire.lock().await;
            let of_kind = wire.heard.iter().filter(|event| event["method"] == kind.as_str());
            of_kind.map(|event| event["params"].clone()).collect()
        })
    }
}

impl Wire {
    async fn connect(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a Chromium that listens");
        let opened = client_async(format!("ws://{address}{path}"), stream).await;
        let (socket, _) = opened.expect("a WebSocket to Chromium");
        let mut wire = Self { socket, calls: 0, session: None, heard: Vec::new() };
        let targets = wire.call("Target.getTargets", json!({})).await.expect("its targets");
        let targets = targets["targetInfos"].as_array().cloned().unwrap_or_default();
        let page = targets.into_iter().find(|target| target["type"] == "page").expect("a page");
        let params = json!({"targetId": page["targetId"], "flatten": true});
        let attached = wire.call("Target.attachToTarget", params).await.expect("the page");
        wire.session = attached["sessionId"].as_str().map(str::to_owned);
        wire
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let sent = self.socket.send(Message::text(message.to_string())).await;
        sent.map_err(|error| format!("{method}: {error}"))?;
        let answer = timeout(CALL, self.answer(id)).await;
        let mut answer = answer.map_err(|_| format!("{method}: no answer in time"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}")),
            None => Ok(answer["result"].take()),
        }
    }

    /// The answer to a call; events that come before it are kept.
    async fn answer(&mut self, id: u64) -> Value {
        while let Some(Ok(message)) = self.socket.next().await {
            let Message::Text(text) = message else { continue };
            let value: Value = serde_json::from_str(&text).expect("JSON from Chromium");
            if value["id"] == id {
                return value;
            }
            self.heard.push(value);
        }
        json!({"error": "Chromium is gone"})
    }
}

/// Looks every so often; nothing if it was in vain.
fn wait_for_or<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = std::time::Instant::now();
    loop {
        let seen = look();
        if seen.is_some() || started.elapsed() > bound {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
