//! T15: what the outbound client can be made to do by whoever chooses URLs, names' addresses and
//! answers, with real connections, to listeners that count them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::net::authorities::Authorities;
use fleet_core::net::shutdown::Tasks;
use fleet_server::outbound::{CONNECT, Outbound, OutboundError, Resolver, Rules, TOTAL, Target};
use hyper::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::server_kit::Rig;

/// On top of a bound, on a busy machine.
const SLACK: Duration = Duration::from_secs(4);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a listener does with each connection, after the head of a request.
#[derive(Clone)]
enum Answers {
    /// This and the end.
    Once(String),
    /// The first and then the second without an end, with a pause before each.
    Endlessly(String, String, Duration),
    /// Nothing.
    Never,
}

/// A listener that counts who came, and what they said first.
struct Canary {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

impl Canary {
    async fn listen(at: impl Into<SocketAddr>, answers: Answers) -> Self {
        Self::listen_with(at.into(), answers, None).await
    }

    async fn listen_with(at: SocketAddr, answers: Answers, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let canary = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            heard: Arc::default(),
            tasks: Tasks::default(),
        };
        let (count, heard, tasks) =
            (canary.connections.clone(), canary.heard.clone(), canary.tasks.clone());
        canary.tasks.spawn("canary", async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = tasks.stopping() => return,
                };
                count.fetch_add(1, Ordering::SeqCst);
                let (answers, heard, tls) = (answers.clone(), heard.clone(), tls.clone());
                let within = tasks.clone();
                tasks.spawn("connection", async move {
                    let served = async {
                        match tls {
                            None => serve(stream, answers, &heard).await,
                            Some(config) => {
                                let stream = TlsAcceptor::from(config).accept(stream).await?;
                                serve(stream, answers, &heard).await
                            }
                        }
                    };
                    // Whoever hangs up early has seen enough.
                    tokio::select! {
                        served = served => drop(served),
                        () = within.stopping() => {}
                    }
                });
            }
        });
        canary
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answers: Answers,
    heard: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    let text = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                break text;
            }
        }
    };
    heard.lock().unwrap().push(text);
    match answers {
        Answers::Never => std::future::pending().await,
        Answers::Once(answer) => {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
        Answers::Endlessly(first, then, pause) => {
            stream.write_all(first.as_bytes()).await?;
            loop {
                stream.write_all(then.as_bytes()).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Names with the answers to each question for them, the last of which stays.
struct Names {
    answers: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn of(answers: &[(&'static str, &[&[&str]])]) -> Arc<Self> {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let answers = answers
            .iter()
            .map(|(name, answers)| (*name, answers.iter().map(|texts| addresses(texts)).collect()));
        Arc::new(Self { answers: answers.collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolver for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answers = self.answers.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(answers.get(asked).or(answers.last()).cloned().unwrap_or_default())
    }
}

fn rules(allowed: &[&str]) -> Rules {
    let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
    Rules { own: Vec::new(), allowed }
}

fn client(rules: Rules, names: Arc<Names>) -> Outbound {
    Outbound::with_resolver(rules, Authorities::default(), names)
}

async fn post(client: &Outbound, url: &str) -> Result<StatusCode, OutboundError> {
    let target: Target = url.parse().unwrap();
    client.post(&target, &[("Content-Type", "application/json")], Bytes::from_static(b"{}")).await
}

/// What a person is told; nothing if it worked.
async fn said(client: &Outbound, url: &str) -> String {
    match url.parse::<Target>() {
        Err(error) => error.to_string(),
        Ok(_) => match post(client, url).await {
            Ok(_) => String::new(),
            Err(error) => Chain(&error).to_string(),
        },
    }
}

/// Where the URL has `PORT`, the canary's stands; each leads to it, or wants to.
const INSIDE: [(&str, &str); 60] = [
    ("http://127.0.0.1:PORT/", "loopback"),
    ("http://127.1.2.3:PORT/", "loopback"),
    ("http://127.255.255.254:PORT/", "loopback"),
    ("http://[::1]:PORT/", "loopback"),
    ("http://[0:0:0:0:0:0:0:1]:PORT/", "loopback"),
    ("http://[::ffff:127.0.0.1]:PORT/", "loopback"),
    ("http://[::ffff:7f00:1]:PORT/", "loopback"),
    ("http://[64:ff9b::127.0.0.1]:PORT/", "loopback"),
    ("http://[64:ff9b::7f00:1]:PORT/", "loopback"),
    ("http://[2002:7f00:1::]:PORT/", "loopback"),
    ("http://[2001:0:101:101::80ff:fffe]:PORT/", "loopback"),
    ("http://[::127.0.0.1]:PORT/", "reserved"),
    ("http://[64:ff9b:1::127.0.0.1]:PORT/", "reserved"),
    ("http://0.0.0.0:PORT/", "unspecified"),
    ("http://0.1.2.3:PORT/", "unspecified"),
    ("http://[::]:PORT/", "unspecified"),
    ("http://[::ffff:0.0.0.0]:PORT/", "unspecified"),
    ("http://2130706433:PORT/", "neither a plain name"),
    ("http://0x7f.1:PORT/", "neither a plain name"),
    ("http://0x7f000001:PORT/", "neither a plain name"),
    ("http://0177.0.0.1:PORT/", "neither a plain name"),
    ("http://017700000001:PORT/", "neither a plain name"),
    ("http://127.1:PORT/", "neither a plain name"),
    ("http://127.0.1:PORT/", "neither a plain name"),
    ("http://0:PORT/", "neither a plain name"),
    ("http://127.0.0.1.:PORT/", "neither a plain name"),
    ("http://127.0.0.01:PORT/", "neither a plain name"),
    ("http://0x7f.0x0.0x0.0x1:PORT/", "neither a plain name"),
    ("http://1%32%37.0.0.1:PORT/", "neither a plain name"),
    ("http://[::1%25lo]:PORT/", "neither a plain name"),
    ("http://①②⑦.0.0.1:PORT/", "visible ASCII"),
    ("http://127。0。0。1:PORT/", "visible ASCII"),
    ("http://127.0.0.1 :PORT/", "visible ASCII"),
    ("http://public.example@127.0.0.1:PORT/", "user"),
    ("http://public.example:80@127.0.0.1:PORT/", "user"),
    ("http://127.0.0.1:PORT@public.example/", "user"),
    ("http://public.example\\@127.0.0.1:PORT/", "user"),
    ("http://127.0.0.1:PORT#@public.example/", "#"),
    ("//127.0.0.1:PORT/", "http://"),
    ("gopher://127.0.0.1:PORT/_GET", "http://"),
    ("file://127.0.0.1:PORT/etc/passwd", "http://"),
    ("http://localhost:PORT/", "loopback"),
    ("http://LOCALHOST.:PORT/", "loopback"),
    ("https://localhost:PORT/", "loopback"),
    ("http://inside.example:PORT/", "loopback"),
    ("http://six.example:PORT/", "loopback"),
    ("http://mapped.example:PORT/", "loopback"),
    ("http://translated.example:PORT/", "loopback"),
    ("http://mixed.example:PORT/", "loopback"),
    ("http://mixed-again.example:PORT/", "loopback"),
    ("http://zero.example:PORT/", "unspecified"),
    ("http://metadata.example:PORT/", "metadata"),
    ("http://169.254.169.254/latest/meta-data/", "metadata"),
    ("http://[::ffff:169.254.169.254]/", "metadata"),
    ("http://[fd00:ec2::254]/latest/", "metadata"),
    ("http://[fe80::1]/", "link-local"),
    ("http://224.0.0.251:5353/", "multicast"),
    ("http://255.255.255.255/", "broadcast"),
    ("http://192.168.0.1/", "no network that is allowed"),
    ("http://nowhere.example/", "cannot find the host"),
];

#[tokio::test]
async fn t15_no_url_leads_inside() {
    // On all addresses of this host, in both families.
    let everywhere: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    let canary = Canary::listen(everywhere, Answers::Once(OK.to_owned())).await;
    let port = canary.port();
    let names = Names::of(&[
        ("localhost", &[&["127.0.0.1"]]),
        ("localhost.", &[&["::1"]]),
        ("inside.example", &[&["127.0.0.1"]]),
        ("six.example", &[&["::1"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("translated.example", &[&["64:ff9b::7f00:1"]]),
        ("mixed.example", &[&["1.1.1.1", "127.0.0.1"]]),
        ("mixed-again.example", &[&["127.0.0.1", "1.1.1.1"]]),
        ("zero.example", &[&["0.0.0.0"]]),
        ("metadata.example", &[&["169.254.169.254"]]),
    ]);
    let strict = client(rules(&[]), names.clone());
    for (url, reason) in INSIDE {
        let said = said(&strict, &url.replace("PORT", &port.to_string())).await;
        assert!(said.contains(reason), "{url}: {said:?}");
    }
    assert_eq!(canary.connections(), 0);

    // All of these do lead there, if they are let: the URLs that networks allow, and the others by hand.
    let open = client(rules(&["127.0.0.0/8", "::1"]), names);
    for (number, host) in
        ["127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "inside.example", "six.example"]
            .iter()
            .enumerate()
    {
        let answer = post(&open, &format!("http://{host}:{port}/")).await;
        assert_eq!(answer.unwrap_or_else(|error| panic!("{host}: {error}")), 200);
        assert_eq!(canary.connections(), number + 1);
    }
    for host in ["0.0.0.0", "[::]"] {
        TcpStream::connect(format!("{host}:{port}")).await.unwrap();
    }
    canary.tasks.stop();
}

#[tokio::test]
async fn t15_a_name_that_changes_its_mind_is_asked_once_and_called_where_it_was_judged() {
    let ok = || Answers::Once(OK.to_owned());
    // The one that stands for the internet, and a service of this host at the same port.
    // The crowded address chooses the port.
    let canary = Canary::listen((Ipv4Addr::LOCALHOST, 0), ok()).await;
    let receiver = Canary::listen((Ipv4Addr::new(127, 0, 0, 2), canary.port()), ok()).await;
    let url = format!("http://rebinding.example:{}/", receiver.port());
    let names = || Names::of(&[("rebinding.example", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let asked = names();
    let strict = client(rules(&["127.0.0.2"]), asked.clone());
    assert_eq!(post(&strict, &url).await.unwrap(), 200);
    assert_eq!(asked.asked.load(Ordering::SeqCst), 1);
    let error = post(&strict, &url).await.expect_err("its second address");
    assert!(Chain(&error).to_string().contains("127.0.0.1 is a loopback address"), "{error:?}");
    assert_eq!((receiver.connections(), canary.connections()), (1, 0));

    let open = client(rules(&["127.0.0.2", "127.0.0.1"]), names());
    for _ in 0..2 {
        assert_eq!(post(&open, &url).await.unwrap(), 200);
    }
    assert_eq!((receiver.connections(), canary.connections()), (2, 1));
}

#[tokio::test]
async fn t15_the_server_itself_is_not_called_by_any_name() {
    let rig = Rig::start().await;
    let own = rig.address();
    let names = Names::of(&[("me.example", &[&["127.0.0.1"]])]);
    let allowed = rules(&["127.0.0.0/8", "::1"]);
    let strict = client(Rules { own: vec![own], ..allowed.clone() }, names.clone());
    let urls = ["127.0.0.1", "[::ffff:127.0.0.1]", "me.example"];
    let urls = urls.map(|host| format!("http://{host}:{}/health", own.port()));
    for url in &urls {
        let said = said(&strict, url).await;
        assert!(said.ends_with("is this server itself"), "{url}: {said}");
    }
    // By rules that do not know of it, it answers.
    let open = client(allowed, names);
    for url in &urls {
        let status = post(&open, url).await.unwrap();
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{url}");
    }
}

#[tokio::test]
async fn t15_a_redirection_is_reported_and_not_followed() {
    let canary =
        Canary::listen((Ipv4Addr::new(127, 0, 0, 2), 0), Answers::Once(OK.to_owned())).await;
    let open = client(rules(&["127.0.0.0/8"]), Names::of(&[]));
    for status in [301, 302, 303, 307, 308] {
        for to in [
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            format!("http://127.0.0.2:{}/", canary.port()),
        ] {
            let answer =
                format!("HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            let receiver = Canary::listen((Ipv4Addr::LOCALHOST, 0), Answers::Once(answer)).await;
            let url = format!("http://127.0.0.1:{}/", receiver.port());
            assert_eq!(post(&open, &url).await.unwrap(), status);
            assert_eq!((receiver.connections(), canary.connections()), (1, 0));
        }
    }
    assert_eq!(post(&open, &format!("http://{}/", canary.address)).await.unwrap(), 200);
    assert_eq!(canary.connections(), 1);
}

#[tokio::test]
async fn t15_endless_answers_and_what_is_no_answer_end_without_a_word_of_them() {
    const TOLD: &str = "INNER-SECRET";
    let head = "HTTP/1.1 200 OK\r\n";
    let chunk = format!("1000\r\n{}{}\r\n", TOLD, "x".repeat(0x1000 - TOLD.len()));
    let endlessly = |first: String, then: String| Answers::Endlessly(first, then, Duration::ZERO);
    let open = client(rules(&["127.0.0.1"]), Names::of(&[]));
    for (answers, reason) in [
        (endlessly(format!("{head}\r\n"), TOLD.repeat(100)), "longer than 65536 bytes"),
        (
            endlessly(format!("{head}Transfer-Encoding: chunked\r\n\r\n"), chunk),
            "longer than 65536 bytes",
        ),
        (endlessly(head.to_owned(), format!("X-{TOLD}: {TOLD}\r\n")), "cannot be read"),
        (endlessly(format!("{head}X-{TOLD}: "), TOLD.to_owned()), "cannot be read"),
        (
            endlessly(String::new(), "HTTP/1.1 103 Hints\r\n\r\n".to_owned()),
            "longer than 65536 bytes",
        ),
        (
            endlessly(format!("{head}Transfer-Encoding: chunked\r\n\r\n1"), " ".repeat(100)),
            "longer than 65536 bytes",
        ),
        (Answers::Once(format!("{TOLD} 200 OK\r\n\r\n")), "cannot be read"),
        (Answers::Once(format!("HTTP/1.1 {TOLD}\r\n\r\n{TOLD}")), "cannot be read"),
        (Answers::Once(format!("{head}Content-Length: 99\r\n\r\n{TOLD}")), "cannot be read"),
        (Answers::Once(String::new()), "cannot be read"),
    ] {
        let receiver = Canary::listen((Ipv4Addr::LOCALHOST, 0), answers).await;
        let began = Instant::now();
        let said = said(&open, &format!("http://127.0.0.1:{}/{TOLD}", receiver.port())).await;
        assert!(said.contains(reason), "{reason}: {said:?}");
        assert!(!said.contains(TOLD), "{said:?}");
        assert!(began.elapsed() < TOTAL + SLACK, "{reason}: {:?}", began.elapsed());
        assert_eq!(receiver.connections(), 1);
    }
    // What is just short enough is an answer.
    let longest = format!("{head}Content-Length: 49152\r\n\r\n{}", "x".repeat(49152));
    let receiver = Canary::listen((Ipv4Addr::LOCALHOST, 0), Answers::Once(longest)).await;
    assert_eq!(post(&open, &format!("http://{}/", receiver.address)).await.unwrap(), 200);
}

#[tokio::test]
async fn t15_slow_answers_end_at_their_bounds() {
    let slow = |first: &str| {
        let pause = Duration::from_millis(100);
        Answers::Endlessly(first.to_owned(), "x".to_owned(), pause)
    };
    let folder = tempfile::tempdir().unwrap();
    let (authorities, _) = certified(&folder, "hooks.example");
    let open = Outbound::with_resolver(rules(&["127.0.0.1"]), authorities, Names::of(&[]));
    let begin = async |scheme: &str, answers: Answers| {
        let receiver = Canary::listen((Ipv4Addr::LOCALHOST, 0), answers).await;
        let began = Instant::now();
        let said = said(&open, &format!("{scheme}://127.0.0.1:{}/", receiver.port())).await;
        assert_eq!(receiver.connections(), 1);
        (said, began.elapsed())
    };
    let endings = tokio::join!(
        begin("http", Answers::Never),
        begin("http", slow("HTTP/1.1 200 OK\r\nX-Slow: ")),
        begin("http", slow("HTTP/1.1 200 OK\r\n\r\n")),
        // It takes the connection, and never speaks TLS.
        begin("https", Answers::Never),
    );
    let (never, head, body, mute) = endings;
    for (said, elapsed) in [never, head, body] {
        assert!(said.ends_with("has not answered within 10s"), "{said}");
        assert!((TOTAL..TOTAL + SLACK).contains(&elapsed), "{elapsed:?}");
    }
    assert!(mute.0.ends_with("no connection within 5s"), "{}", mute.0);
    assert!((CONNECT..CONNECT + SLACK).contains(&mute.1), "{:?}", mute.1);
}

#[tokio::test]
async fn t15_the_systems_names_are_looked_up_and_judged() {
    let receiver = Canary::listen((Ipv4Addr::LOCALHOST, 0), Answers::Once(OK.to_owned())).await;
    let url = format!("http://localhost:{}/", receiver.port());
    let strict = Outbound::new(rules(&[]), Authorities::default());
    let told = said(&strict, &url).await;
    assert!(told.contains("is a loopback address"), "{told}");
    assert_eq!(receiver.connections(), 0);
    let open = Outbound::new(rules(&["127.0.0.0/8", "::1"]), Authorities::default());
    assert_eq!(post(&open, &url).await.unwrap(), 200);
    assert_eq!(receiver.connections(), 1);
}

/// An authority of the test's own, in a file, and a certificate of it for a name.
fn certified(folder: &TempDir, name: &str) -> (Authorities, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("authority for {name}"));
    let authority = params.clone().self_signed(&key).unwrap();
    let path = folder.path().join(format!("{name}.pem"));
    fs::write(&path, pem("CERTIFICATE", authority.der())).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key)).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap(),
            )
            .unwrap();
    (Authorities::of(Some(path)), Arc::new(config))
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(bytes);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn t15_a_receiver_is_called_over_tls_by_its_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, tls) = certified(&folder, "hooks.example");
    let (strangers, _) = certified(&folder, "other.example");
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let receiver = Canary::listen_with(at, Answers::Once(OK.to_owned()), Some(tls)).await;
    let names = Names::of(&[
        ("hooks.example", &[&["127.0.0.1"]]),
        ("hooks.example.", &[&["127.0.0.1"]]),
        ("other.example", &[&["127.0.0.1"]]),
    ]);
    let client =
        |authorities| Outbound::with_resolver(rules(&["127.0.0.1"]), authorities, names.clone());
    let (believing, doubting) = (client(authorities), client(strangers));
    let system = client(Authorities::default());
    let port = receiver.port();

    let target: Target = format!("https://hooks.example:{port}/in?k=1").parse().unwrap();
    let body = Bytes::from_static(br#"{"event":"device.offline"}"#);
    let status = believing.post(&target, &[("X-Signature", "abc")], body).await.unwrap();
    assert_eq!(status, 200);
    let heard = receiver.heard();
    let [request] = heard.as_slice() else { panic!("one request: {heard:?}") };
    let request = request.to_ascii_lowercase();
    assert!(request.starts_with("post /in?k=1 http/1.1\r\n"), "{request}");
    for part in [format!("host: hooks.example:{port}\r\n"), "x-signature: abc\r\n".to_owned()] {
        assert!(request.contains(&part), "{request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"event\":\"device.offline\"}"), "{request}");
    let dotted = format!("https://hooks.example.:{port}/");
    assert_eq!(post(&believing, &dotted).await.unwrap(), 200);

    for (client, host, reason) in [
        (&believing, "other.example", "it is for another name"),
        (&believing, "127.0.0.1", "it is for another name"),
        (&doubting, "hooks.example", "no authority that is trusted here has issued it"),
        (&system, "hooks.example", "no "),
    ] {
        let said = said(client, &format!("https://{host}:{port}/")).await;
        assert!(said.contains(reason), "{host}: {said}");
    }
    assert_eq!(receiver.heard().len(), 2, "nothing is sent to whoever is not believed");
}
