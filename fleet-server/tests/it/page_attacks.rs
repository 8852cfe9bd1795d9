//! What a browser can be made to do by others, and what devices can put on its pages.

use std::net::Ipv4Addr;

use fleet_core::wire::Facts;
use html5gum::{Token, Tokenizer};
use serde_json::json;

use crate::page_kit::Browser;
use crate::server_kit::{Agent, Answer, Rig, send};

/// Texts that become something else where they are not escaped as they should be.
const PAYLOADS: [&str; 60] = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<ScRiPt>alert(1)</sCrIpT>",
    "<script src=//evil.example/x.js></script>",
    "<script\n>alert(1)</script\n>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg/onload=alert(1)>",
    "<math><mi//xlink:href=\"javascript:alert(1)\">",
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>*{background:url(//evil.example)}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><button>x</button></form>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=\"data:text/html,<script>alert(1)</script>\">x</a>",
    "<marquee onstart=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "\"><script>alert(1)</script>",
    "'><script>alert(1)</script>",
    "\" onmouseover=\"alert(1)",
    "' onmouseover='alert(1)",
    "\" autofocus onfocus=alert(1) x=\"",
    "\"/><b>",
    "`onmouseover=alert(1)`",
    "x onmouseover=alert(1)",
    "\" style=\"position:fixed;inset:0",
    "\" class=\"problem\" id=\"sign-in",
    "</title><u>",
    "</textarea><u>",
    "</pre><u>",
    "</td></tr></table><u>",
    "</select><u>",
    "</option><u>",
    "--><u><!--",
    "<!--",
    "<![CDATA[<u>]]>",
    "<?xml version=\"1.0\"?><u>",
    "<!DOCTYPE html><u>",
    "&lt;u&gt;&#60;u&#62;",
    "&#x3c;u&#x3e;",
    "&quot; onmouseover=&quot;alert(1)",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "\u{ff1c}script\u{ff1e}alert(1)\u{ff1c}/script\u{ff1e}",
    "<\u{0}script>alert(1)</script>",
    "\u{202e}<u>\u{1b}]0;x\u{7}",
];

/// What they are compared with: texts that mean nothing, also such as no field of a form can have.
const PLAIN: [&str; 3] = ["plain", "two\nlines", "plain\u{1b}"];

/// A page's elements, each with the names of its attributes; and what may lead somewhere.
fn structure(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    for Ok(token) in Tokenizer::new(page) {
        match token {
            Token::StartTag(tag) => {
                let mut line = String::from_utf8_lossy(&tag.name).into_owned();
                for (name, value) in &tag.attributes {
                    let name = String::from_utf8_lossy(name);
                    let value = String::from_utf8_lossy(value);
                    assert!(!name.starts_with("on"), "{name} in {page}");
                    let leads = ["href", "src", "action", "formaction"].contains(&name.as_ref());
                    assert!(!leads || value.starts_with(['/', '#', '?']), "{value} in {page}");
                    line.push(' ');
                    line.push_str(&name);
                }
                all.push(line);
            }
            Token::EndTag(tag) => all.push(format!("/{}", String::from_utf8_lossy(&tag.name))),
            Token::Comment(comment) => panic!("a comment: {comment:?}"),
            Token::Doctype(_) | Token::String(_) | Token::Error(_) => {}
        }
    }
    all
}

/// A page, which must have its policy.
#[track_caller]
fn page_of(answer: &Answer) -> String {
    assert_policy(answer);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[track_caller]
fn assert_policy(answer: &Answer) {
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

/// Puts a text wherever a device or its neighbours can, and takes the pages apart that show it.
async fn pages_with(rig: &Rig, browser: &mut Browser, text: &str) -> Vec<Vec<String>> {
    let own = || text.to_owned();
    let facts = Facts {
        hostname: own(),
        device_type: own(),
        model: own(),
        os: own(),
        kernel: own(),
        arch: own(),
        version: own(),
        boot_id: own(),
        name: Some(own()),
        interval_secs: 60,
        ..Facts::default()
    };
    // Whatever id it would like to have, it keeps the one that it was given.
    let agent = Agent::dial_with(rig.whereabouts(), text, 1, None, facts).await;
    assert_eq!(agent.device_id(), "cam");
    let update = json!({"name": text, "metadata": {"note": text, "list": [text]}});
    rig.ask("PUT", "/api/v1/devices/cam", Some(update)).await.expect(200);
    let config = json!({"config": {}, "comment": text});
    rig.ask("POST", "/api/v1/config?device_id=cam", Some(config)).await.expect(200);
    let sample = json!({"device_id": "cam", "value": 1, "metric_name": "disk_used_percent",
        "metadata": {"mount": text}});
    rig.ask("POST", "/api/v1/telemetry", Some(sample)).await.expect(201);
    let mut pages = Vec::new();
    for path in ["/", "/devices/cam", "/devices/cam/config", "/devices/cam/metadata"] {
        pages.push(structure(&page_of(&browser.get(path).await)));
    }
    pages
}

#[tokio::test]
async fn t19_no_text_of_a_device_becomes_an_element_or_an_attribute() {
    let rig = Rig::start().await;
    drop(rig.enrolled("cam", 1).await);
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let mut known = vec![Vec::new(); 4];
    // Twice, so that what is there from the second time on is known as well.
    for text in PLAIN.into_iter().chain(PLAIN) {
        let pages = pages_with(&rig, &mut browser, text).await;
        known.iter_mut().zip(pages).for_each(|(known, page)| known.extend(page));
    }
    for payload in PAYLOADS {
        let pages = pages_with(&rig, &mut browser, payload).await;
        for (page, known) in pages.iter().zip(&known) {
            let new: Vec<_> = page.iter().filter(|element| !known.contains(element)).collect();
            assert!(new.is_empty(), "{payload:?} makes {new:?}");
        }
    }
}

#[tokio::test]
async fn t19_whatever_is_answered_has_a_policy_that_lets_nothing_run() {
    let rig = Rig::start().await;
    drop(rig.enrolled("cam", 1).await);
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    for path in [
        "/",
        "/sign-in",
        "/devices/cam",
        "/devices/nobody",
        "/devices/cam/config",
        "/devices/cam/metadata",
        "/nothing-is-here",
        "/devices/%3Cscript%3E",
        "/?filter=%3Cscript%3E",
        "/api/v1/devices",
        "/api/v1/devices/nobody",
        "/api/v1/nothing",
        "/health",
        "/metrics",
    ] {
        for accept in ["text/html", "application/json", "*/*"] {
            assert_policy(&browser.get_with(path, &[("accept", accept)]).await);
        }
    }
}

#[tokio::test]
async fn t17_nothing_that_another_page_can_send_changes_anything() {
    let rig = Rig::start().await;
    drop(rig.enrolled("cam", 1).await);
    let browser = Browser::signed_in(&rig, &rig.admin()).await;
    let own = format!("http://{}", rig.address());
    let evil = ("origin", "http://evil.example");
    let cross = ("sec-fetch-site", "cross-site");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let text = ("content-type", "text/plain");
    let json_type = ("content-type", "application/json");
    for (what, path, headers) in [
        ("a form of another origin", "/devices/cam/metadata", &[evil, cross, form][..]),
        ("the same of an old browser", "/devices/cam/metadata", &[evil, form]),
        ("a form in a sandbox", "/devices/cam/metadata", &[("origin", "null"), form]),
        ("a neighbour's form", "/sign-out", &[("sec-fetch-site", "same-site"), form]),
        ("a form that hides where it is from", "/sign-out", &[form]),
        ("fetch with no-cors", "/api/v1/keys", &[evil, cross, text]),
        ("JSON as text", "/api/v1/keys", &[evil, text]),
        ("JSON from nowhere", "/api/v1/commands", &[("origin", "null"), json_type]),
        ("JSON of our own page", "/api/v1/keys", &[("origin", own.as_str()), json_type]),
        ("what takes no body", "/api/v1/devices/cam/revoke", &[evil, cross]),
    ] {
        let headers = browser.headers(headers);
        let from = Ipv4Addr::LOCALHOST.into();
        let body = br#"{"kind":"operator"}"#.to_vec();
        let answer = send(rig.address(), from, "POST", path, &headers, body).await;
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
        assert_policy(&answer);
    }
    assert_eq!(rig.ask("GET", "/api/v1/devices/cam", None).await.expect(200)["id"], "cam");
    let keys = rig.ask("GET", "/api/v1/keys", None).await.expect(200);
    assert_eq!(keys.as_array().unwrap().len(), 1, "{keys}");
}

#[tokio::test]
async fn t18_a_foreign_name_gets_nothing_out_of_a_browser() {
    let rig = Rig::start_with(|rig| {
        let mut config = rig.config();
        config.allowed_hosts = vec!["allowed.example".to_owned()];
        config
    })
    .await;
    let mut browser = Browser::signed_in(&rig, &rig.admin()).await;
    let bearer = format!("Bearer {}", rig.admin());
    for (host, path, status) in [
        ("evil.example", "/", 421),
        ("evil.example", "/sign-in", 421),
        ("evil.example", "/api/v1/devices", 421),
        ("evil.example", "/api/v1/stream", 421),
        ("127.0.0.1.evil.example:8080", "/api/v1/devices", 421),
        ("allowed.example", "/api/v1/devices", 200),
        ("ALLOWED.example:8080", "/", 200),
        ("[::1]:8080", "/api/v1/devices", 200),
    ] {
        let answer = browser.get_with(path, &[("host", host)]).await;
        assert_eq!(answer.status, status, "{host} {path}: {answer:?}");
    }
    // A page that points here has no key, so who has one may call the server what they like.
    let mut program = Browser::new(&rig);
    for path in ["/", "/api/v1/devices"] {
        let headers = [("host", "evil.example"), ("authorization", bearer.as_str())];
        assert_eq!(program.get_with(path, &headers).await.status, 200, "{path}");
    }
}
