//! A browser as the server sees it: it keeps cookies, says where it comes from, and sends forms.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server_kit::{Answer, BOUND, Rig, send};

/// A browser.
pub(crate) struct Browser {
    address: SocketAddr,
    from: IpAddr,
    cookies: Vec<(String, String)>,
}

impl Browser {
    pub(crate) fn new(rig: &Rig) -> Self {
        Self::from(rig, Ipv4Addr::LOCALHOST)
    }

    /// A browser at another address.
    pub(crate) fn from(rig: &Rig, from: Ipv4Addr) -> Self {
        Self { address: rig.address(), from: from.into(), cookies: Vec::new() }
    }

    /// One that has signed in with a key.
    pub(crate) async fn signed_in(rig: &Rig, key: &str) -> Self {
        let mut browser = Self::new(rig);
        let answer = browser.sign_in(key, "/").await;
        assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/"), "{answer:?}");
        browser
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.get_with(path, &[("accept", "text/html,*/*;q=0.8")]).await
    }

    pub(crate) async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, String::new()).await
    }

    /// Loads a page until it has a text: what changes is on it a moment later.
    pub(crate) async fn get_until(&mut self, path: &str, part: &str) -> String {
        let start = Instant::now();
        loop {
            let page = text(&self.get(path).await);
            if page.contains(part) {
                return page;
            }
            assert!(start.elapsed() < BOUND, "no {part} in {page}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn head(&mut self, path: &str) -> Answer {
        self.send("HEAD", path, &[("accept", "text/html,*/*;q=0.8")], String::new()).await
    }

    /// Sends fields as a form of our own page does.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("http://{}", self.address);
        self.post_from(path, fields, &[("origin", &origin)]).await
    }

    /// The same from wherever the headers say.
    pub(crate) async fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let media = ("content-type", "application/x-www-form-urlencoded");
        self.send("POST", path, &[headers, &[media]].concat(), body).await
    }

    /// Loads the form and sends it.
    pub(crate) async fn sign_in(&mut self, key: &str, next: &str) -> Answer {
        let token = self.token("/sign-in").await;
        self.post("/sign-in", &[("key", key), ("token", &token), ("next", next)]).await
    }

    /// The token in the first form of a page.
    pub(crate) async fn token(&mut self, path: &str) -> String {
        let page = text(&self.get(path).await);
        between(&page, "name=\"token\" value=\"", "\"").to_owned()
    }

    pub(crate) fn cookie(&self, part: &str) -> Option<&str> {
        let found = self.cookies.iter().find(|(name, _)| name.contains(part));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn put_cookie(&mut self, part: &str, value: &str) {
        let cookie = self.cookies.iter_mut().find(|(name, _)| name.contains(part)).unwrap();
        value.clone_into(&mut cookie.1);
    }

    /// These headers, and those that a browser adds by itself.
    pub(crate) fn headers<'a>(&self, headers: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
        let mut all: Vec<(&str, String)> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host", self.address.to_string()));
        }
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            all.push(("cookie", cookies.join("; ")));
        }
        all
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let all = self.headers(headers);
        let answer = send(self.address, self.from, method, path, &all, body.into_bytes()).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }
}

/// Where an answer leads.
#[track_caller]
pub(crate) fn location(answer: &Answer) -> &str {
    answer.headers["location"].to_str().unwrap()
}

/// A page's text, which came with what keeps it harmless.
#[track_caller]
pub(crate) fn text(answer: &Answer) -> String {
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8", "{answer:?}");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    for word in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(word), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// What stands between two texts.
#[track_caller]
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split(after).next().unwrap()
}

/// Gives devices a value of each metric that the overview shows.
pub(crate) async fn post_values(rig: &Rig, ids: &[String]) {
    let metrics = ["cpu_usage", "memory_usage", "disk_usage"];
    let mut samples = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        for (number, metric) in metrics.iter().enumerate() {
            let value = (position * 7 + number * 31) % 100;
            samples.push(json!({"device_id": id, "metric_name": metric, "value": value}));
        }
    }
    rig.ask("POST", "/api/v1/telemetry", Some(Value::Array(samples))).await.expect(201);
}

/// Text with every byte as a URL may carry it.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |out, byte| out + &format!("%{byte:02X}"))
}
