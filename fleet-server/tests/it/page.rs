//! The status page over real HTTP: who comes in, what is shown, and what is not.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::page_kit::{Browser, between, encoded, location, post_values, text};
use crate::server_kit::{Rig, key_id, send, wait_for};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const JSON: [(&str, &str); 1] = [("accept", "application/json")];

#[tokio::test]
async fn a_stranger_signs_in_and_goes_on_to_where_they_wanted() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let mut browser = Browser::new(&rig);
    let first = browser.get("/").await;
    assert_eq!(location(&first), "/sign-in");
    assert_eq!(first.headers["x-content-type-options"], "nosniff");
    assert!(
        first.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let wanted = browser.get("/devices/rpi4-001?range=24h").await;
    assert_eq!(wanted.status, 303);
    assert_eq!(location(&wanted), "/sign-in?next=%2Fdevices%2Frpi4-001%3Frange%3D24h");
    let form = text(&browser.get(location(&wanted)).await);
    let next = between(&form, "id=\"next\" value=\"", "\"");
    assert_eq!(next, "/devices/rpi4-001?range=24h");
    let answer = browser.sign_in(&rig.admin(), next).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, next));
    assert!(text(&browser.get(next).await).contains("<h1>rpi4-001"));
    // Signed in, the form is of no use.
    assert_eq!(location(&browser.get("/sign-in?next=//evil.example").await), "/");
    let away = Browser::new(&rig).sign_in(&rig.admin(), "https://evil.example/").await;
    assert_eq!((away.status.as_u16(), location(&away)), (303, "/"));

    let (head, whole) = (browser.head("/").await, browser.get("/").await);
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.headers["content-type"], whole.headers["content-type"]);
    assert_eq!(browser.head("/api/v1/devices").await.status, 200, "a session may look");
    assert_eq!(location(&Browser::new(&rig).head("/").await), "/sign-in");

    // Each time another secret, and the one before is good for nothing.
    let first = browser.cookie("session").unwrap().to_owned();
    let mut again = Browser::signed_in(&rig, &rig.admin()).await;
    assert_ne!(again.cookie("session").unwrap(), first);
    let token = again.token("/").await;
    assert_eq!(again.post("/sign-out", &[("token", "wrong")]).await.status, 403);
    assert_eq!(again.get("/").await.status, 200);
    let old = again.cookie("session").unwrap().to_owned();
    assert_eq!(location(&again.post("/sign-out", &[("token", &token)]).await), "/sign-in");
    assert!(again.cookie("session").is_none());
    browser.put_cookie("session", &old);
    assert_eq!(location(&browser.get("/").await), "/sign-in");
    browser.put_cookie("session", &first);
    assert_eq!(browser.get("/").await.status, 200, "the other browser stays signed in");
}

#[tokio::test]
async fn a_session_lasts_half_a_day_unused_a_week_at_most_and_no_longer_than_its_key() {
    let mut rig = Rig::start().await;
    let key = rig.key(json!({"kind": "operator", "label": "wall"})).await;
    let secret = Browser::signed_in(&rig, &key).await.cookie("session").unwrap().to_owned();
    rig.restart().await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    browser.put_cookie("session", &secret);
    assert_eq!(browser.get("/").await.status, 200, "it survives a restart");
    for _ in 0..15 {
        rig.clock.advance(HOUR * 11);
        assert_eq!(browser.get("/").await.status, 200);
    }
    rig.clock.advance(HOUR * 11);
    assert_eq!(browser.get("/").await.status, 303, "a week is over");

    let mut idle = Browser::signed_in(&rig, &key).await;
    rig.clock.advance(DAY / 2);
    assert_eq!(idle.get("/").await.status, 303, "nobody used it");
    let mut revoked = Browser::signed_in(&rig, &key).await;
    rig.ask("DELETE", &format!("/api/v1/keys/{}", key_id(&key)), None).await.expect(200);
    assert_eq!(revoked.get("/").await.status, 303);
    assert_eq!(revoked.get_with("/api/v1/devices", &JSON).await.status, 401);
}

#[tokio::test]
async fn only_our_own_forms_are_taken() {
    let rig = Rig::start().await;
    let key = rig.admin();
    let mut browser = Browser::new(&rig);
    let token = browser.token("/sign-in").await;
    let fields = [("key", key.as_str()), ("token", token.as_str())];
    let own = format!("http://{}", rig.address());
    for headers in [
        &[][..],
        &[("origin", "null")],
        &[("origin", "http://evil.example")],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let answer = browser.post_from("/sign-in", &fields, headers).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(browser.cookie("session").is_none());
    }
    for host in ["evil.example", "localhost.evil.example:8080"] {
        let headers = [("host", host), ("sec-fetch-site", "same-origin")];
        assert_eq!(browser.post_from("/sign-in", &fields, &headers).await.status, 421);
        assert_eq!(browser.get_with("/", &headers).await.status, 421);
    }
    // The token of another browser, and none.
    let mut other = Browser::new(&rig);
    let foreign = other.token("/sign-in").await;
    for token in [foreign.as_str(), ""] {
        let answer = browser.post("/sign-in", &[("key", &key), ("token", token)]).await;
        assert_eq!(answer.status, 403);
        assert!(text(&answer).contains("This form was too old"));
    }
    let plain = [("origin", own.as_str()), ("content-type", "text/plain")];
    assert_ne!(browser.post_from("/sign-in", &fields, &plain).await.status, 303);
    assert_eq!(browser.post("/sign-in", &fields).await.status, 303);
}

#[tokio::test]
async fn wrong_keys_count_and_other_kinds_of_keys_are_told() {
    let rig = Rig::start().await;
    let enrol = rig.key(json!({"kind": "enrol"})).await;
    let mut browser = Browser::from(&rig, Ipv4Addr::new(127, 3, 0, 1));
    let refused = browser.sign_in(&enrol, "/").await;
    assert_eq!(refused.status, 403);
    assert!(text(&refused).contains("This needs an operator&#39;s key"));
    for _ in 0..10 {
        let refused = browser.sign_in("flt_op_<b>wrong", "/").await;
        assert_eq!(refused.status, 401);
        assert!(text(&refused).contains("the key is not known here"));
        assert!(!text(&refused).contains("wrong"), "what was typed is not shown again");
    }
    let refused = browser.sign_in(&rig.admin(), "/").await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(text(&refused).contains("Too many wrong keys"));
}

#[tokio::test]
async fn a_session_looks_and_changes_nothing() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    browser.get_with("/api/v1/devices", &JSON).await.expect(200);
    let evil = [JSON[0], ("host", "evil.example")];
    assert_eq!(browser.get_with("/api/v1/devices", &evil).await.status, 421);
    for (method, path) in [("POST", "/api/v1/keys"), ("DELETE", "/api/v1/devices/rpi4-001")] {
        let headers = browser.headers(&[("content-type", "application/json")]);
        let from = Ipv4Addr::LOCALHOST.into();
        let answer = send(rig.address(), from, method, path, &headers, b"{}".to_vec()).await;
        assert!(answer.problem(403).contains("only looks"), "{answer:?}");
    }
    rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200);
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let rig = Rig::start().await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let token = browser.token("/").await;
    let headers = browser.headers(&[]);
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = format!("GET /api/v1/stream HTTP/1.1\r\n{}\r\n", headers.collect::<String>());
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begun = Vec::new();
    while !String::from_utf8_lossy(&begun).contains("event: hello") {
        assert_ne!(stream.read_buf(&mut begun).await.unwrap(), 0, "{begun:?}");
    }
    let signed_out = browser.post("/sign-out", &[("token", &token)]).await;
    assert_eq!(signed_out.status, 303);
    let over = Instant::now();
    let end = async {
        while !begun.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut begun).await.unwrap() > 0 {}
    };
    timeout(Duration::from_secs(20), end).await.expect("the stream ends in time");
    assert!(over.elapsed() < Duration::from_secs(7), "{:?}", over.elapsed());
}

#[tokio::test]
async fn outside_text_stays_text() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    for payload in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></pre><u>",
        "\u{202e}txt.exe\u{1b}[2J",
    ] {
        let update = json!({"name": payload, "metadata": {"tags": [payload], "<u>\"": payload}});
        rig.ask("PUT", "/api/v1/devices/rpi4-001", Some(update)).await.expect(200);
        let config = json!({"config": {}, "comment": payload});
        rig.ask("POST", "/api/v1/config?device_id=rpi4-001", Some(config)).await.expect(200);
        let sample = json!({"device_id": "rpi4-001", "value": 1,
            "metric_name": "network_receive_bytes_per_second", "metadata": {"interface": payload}});
        rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
        let filter = encoded(payload);
        let refused = text(&browser.get(&format!("/?filter={filter}")).await);
        for page in [
            text(&browser.get("/").await),
            text(&browser.get("/devices/rpi4-001").await),
            refused,
            text(&browser.get(&format!("/devices/rpi4-001?range={filter}")).await),
            text(&browser.get(&format!("/devices/rpi4-001?unit={filter}&since={filter}")).await),
            text(&browser.get(&format!("/devices/rpi4-001?grep={filter}")).await),
            text(&browser.get("/devices/rpi4-001/config").await),
            text(&browser.get("/devices/rpi4-001/metadata").await),
        ] {
            let dangers =
                ["<script>", "<img", "<u>", "' on", "</title></pre>", "\u{202e}", "\u{1b}"];
            for danger in dangers {
                assert!(!page.contains(danger), "{danger} in {page}");
            }
        }
    }
}

#[tokio::test]
async fn the_overview_says_what_is_wrong_and_finds_what_is_asked_for() {
    let rig = Rig::start().await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let empty = text(&browser.get("/").await);
    assert!(empty.contains("No devices yet") && empty.contains("fleets configure"));
    let agent = rig.enrolled("rpi4-001", 1).await;
    let _other = rig.enrolled("rpi4-002", 2).await;
    rig.ask("PUT", "/api/v1/devices/rpi4-002", Some(json!({"metadata": {"tags": "eu-west"}})))
        .await
        .expect(200);
    post_values(&rig, &["rpi4-001".to_owned(), "rpi4-002".to_owned()]).await;
    let page = browser.get_until("/", "All 2 devices online").await;
    assert_eq!(between(&page, "<title>", "</title>"), "● · FleetD");
    assert!(page.contains("aria-label=\"rpi4-002 CPU\""));
    assert!(page.contains("content=\"15\""), "it reloads where there are no scripts");
    drop(agent);

    let first = |page: &str| between(page, "scope=\"row\"><a href=\"/devices/", "\"").to_owned();
    assert_eq!(first(&text(&browser.get("/?sort=-device").await)), "rpi4-002");
    assert_eq!(first(&text(&browser.get("/?sort=device").await)), "rpi4-001");
    let found = browser.get_until("/?filter=tag%3Aeu-west", "<tbody>").await;
    let rows = between(&found, "<tbody>", "</tbody>");
    assert!(rows.contains("rpi4-002") && !rows.contains("rpi4-001"), "{rows}");
    let meant = text(&browser.get("/?filter=tag%3Aeu-wset").await);
    assert!(meant.contains("Did you mean") && meant.contains("tag:eu-west"), "{meant}");
    let named = text(&browser.get("/?filter=sitte%3Dlyon").await);
    assert!(named.contains("none has <code>sitte</code>"), "{named}");
    let wrong = text(&browser.get("/?filter=cpu%3E%3E5").await);
    assert!(wrong.contains('^') && wrong.contains("All devices are shown"), "{wrong}");
    for bad in ["sort=colour", "page=0", "colour=1"] {
        assert_eq!(browser.get(&format!("/?{bad}")).await.status, 422, "{bad}");
    }
    let page = text(&browser.get("/?page=99").await);
    assert!(page.contains("of 2</span>"), "the last page there is");

    rig.clock.advance(HOUR);
    let page = browser.get_until("/", "2 devices offline").await;
    assert_eq!(between(&page, "<title>", "</title>"), "○2 · FleetD");
    assert!(!page.contains("<meter"), "old values are none");
}

#[tokio::test]
async fn a_devices_page_has_its_curves_facts_and_configuration() {
    let rig = Rig::start().await;
    let mut agent = rig.enrolled("rpi4-001", 1).await;
    agent.report(1, &[1, 2, 3], 42.0).await;
    rig.clock.advance(Duration::from_secs(1));
    let config = json!({"config": {"telemetry": {"interval": 30}}, "comment": "faster"});
    rig.ask("POST", "/api/v1/config?device_id=rpi4-001", Some(config)).await.expect(200);
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let page = text(&browser.get("/devices/rpi4-001?range=5m").await);
    let said = between(&page, "role=\"img\"", ">");
    assert!(said.contains("CPU, last 5m;  42\u{202f}%, between 42"), "{said}");
    assert!(between(&page, "<path class=\"line\" d=\"", "\"").starts_with('M'));
    assert!(page.contains("<th scope=\"col\">CPU</th>") && page.contains("42\u{202f}%</td>"));
    for part in [
        "raspberrypi",
        "faster",
        "waiting for the device",
        "\"interval\"".replace('"', "&quot;").as_str(),
        "version 1",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for range in ["1h", "24h", "7d"] {
        assert_eq!(browser.get(&format!("/devices/rpi4-001?range={range}")).await.status, 200);
    }
    assert_eq!(browser.get("/devices/nobody").await.status, 404);
    assert!(text(&browser.get("/devices/nobody").await).contains("there is no device nobody"));
}

#[tokio::test]
async fn anybody_sees_numbers_and_no_names_if_the_operator_says_so() {
    let mut rig = Rig::start().await;
    let _agent = rig.enrolled("secret-name-1", 1).await;
    let mut config = rig.config();
    config.public_status = true;
    rig.stop().await;
    let server = rig.launch(config).await.unwrap();
    let from = Ipv4Addr::LOCALHOST.into();
    let get = async |path: &str, accept: &str| {
        let host = ("host", server.address().to_string());
        let headers = [("accept", accept.to_owned()), host];
        send(server.address(), from, "GET", path, &headers, Vec::new()).await
    };
    let answer = get("/", "text/html").await;
    let page = text(&answer);
    assert!(page.contains("online") && page.contains("/sign-in"), "{page}");
    assert!(!page.contains("secret-name") && !page.contains("FD1-"), "{page}");
    let counts = get("/", "application/json").await.expect(200);
    assert_eq!((&counts["devices"], &counts["counts"]["online"]), (&json!(1), &json!(1)));
    assert!(!counts.to_string().contains("secret-name"));
    assert_eq!(get("/devices/secret-name-1", "text/html").await.status, 303);
    get("/devices/secret-name-1", "application/json").await.problem(401);
    server.stop().await;
}

#[tokio::test]
async fn the_same_urls_answer_programs() {
    let rig = Rig::start().await;
    let _agent = rig.enrolled("rpi4-001", 1).await;
    let key = format!("Bearer {}", rig.admin());
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        // A key is for any name; only browsers can be led astray.
        headers.push(("host", "your-server".to_owned()));
        send(rig.address(), Ipv4Addr::LOCALHOST.into(), "GET", path, &headers, Vec::new()).await
    };
    let with_key = [JSON[0], ("authorization", key.as_str())];
    wait_for("the device", || async {
        get("/", &with_key).await.expect(200)["sentence"] == "● The one device is online"
    })
    .await;
    let device = get("/devices/rpi4-001", &with_key).await.expect(200);
    assert_eq!(device, rig.ask("GET", "/api/v1/devices/rpi4-001", None).await.expect(200));
    text(&get("/", &with_key[1..]).await);
    get("/", &[JSON[0], ("authorization", "Bearer x"), ("host", "your-server")]).await.problem(401);
    get("/devices/nobody", &with_key).await.problem(404);
    assert_eq!(get("/", &[]).await.status, 421, "without a key the name counts");
}

#[tokio::test]
async fn a_hundred_devices_fit_a_small_page() {
    let rig = Rig::start().await;
    let mut agents = Vec::new();
    let ids: Vec<String> = (1..=101).map(|number| format!("raspberrypi-{number:03}")).collect();
    for (id, seed) in ids.iter().zip(1..) {
        agents.push(rig.enrolled(id, seed).await);
    }
    post_values(&rig, &ids).await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let plain = browser.get_until("/", "All 101 devices online").await;
    assert_eq!(plain.matches("<meter").count(), 300);
    assert_eq!(plain.matches("scope=\"row\"").count(), 100);
    assert!(plain.contains("rel=\"next\" href=\"/?page=2\""));
    let accept = [("accept", "text/html"), ("accept-encoding", "gzip")];
    let zipped = browser.get_with("/", &accept).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut unzipped = String::new();
    GzDecoder::new(&zipped.body[..]).read_to_string(&mut unzipped).unwrap();
    assert_eq!(unzipped.matches("<meter").count(), 300);
    let sizes = (plain.len(), zipped.body.len());
    assert!(sizes.0 <= 60 * 1024 && sizes.1 <= 8 * 1024, "{sizes:?}");
    let second = text(&browser.get("/?page=2").await);
    assert_eq!(second.matches("scope=\"row\"").count(), 1);
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_names_of_their_contents() {
    let rig = Rig::start().await;
    let mut browser = Browser::new(&rig);
    let page = text(&browser.get("/sign-in").await);
    for (before, media) in [
        ("<link rel=\"stylesheet\" href=\"", "text/css; charset=utf-8"),
        ("<script src=\"", "text/javascript; charset=utf-8"),
        ("<link rel=\"icon\" href=\"", "image/svg+xml"),
    ] {
        let path = between(&page, before, "\"");
        for encoding in ["identity", "gzip"] {
            let answer = browser.get_with(path, &[("accept-encoding", encoding)]).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.headers["content-type"]),
                (200, &media.parse().unwrap())
            );
            assert_eq!(answer.headers["cache-control"], "public, max-age=31536000, immutable");
            assert_eq!(answer.headers.contains_key("content-encoding"), encoding == "gzip");
            assert!(!answer.body.is_empty());
        }
    }
    for unknown in ["/assets/page.css", "/assets/..", "/assets/openapi.json", "/assets/"] {
        assert_eq!(browser.get(unknown).await.status, 404, "{unknown}");
    }
}
