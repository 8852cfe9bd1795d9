//! The forms of the status page over real HTTP: what they change, what they refuse, and whom.

use serde_json::{Value, json};

use crate::page_kit::{Browser, between, location, text};
use crate::server_kit::{Agent, Answer, Rig};

const CONFIG: &str = "/devices/pump-1/config";
const NOTES: &str = "/devices/pump-1/metadata";

/// A server with a device, and a browser that is signed in.
async fn desk() -> (Rig, Agent, Browser) {
    let rig = Rig::start().await;
    let agent = rig.enrolled("pump-1", 1).await;
    let browser = Browser::signed_in(&rig, &rig.admin()).await;
    (rig, agent, browser)
}

async fn set_config(rig: &Rig, config: Value) {
    let body = json!({"config": config, "comment": "by another way"});
    rig.ask("POST", "/api/v1/config?device_id=pump-1", Some(body)).await.expect(200);
}

async fn note(rig: &Rig, metadata: Value) {
    let body = json!({"metadata": metadata});
    rig.ask("PUT", "/api/v1/devices/pump-1", Some(body)).await.expect(200);
}

async fn config(rig: &Rig) -> Value {
    rig.ask("GET", "/api/v1/config?device_id=pump-1", None).await.expect(200)
}

async fn noted(rig: &Rig) -> Value {
    rig.ask("GET", "/api/v1/devices/pump-1", None).await.expect(200)["metadata"].clone()
}

/// The fields that a page's last form would send as it is, without those that are typed or ticked.
fn hidden(page: &str) -> Vec<(String, String)> {
    let form = page.rsplit("<form class=\"edit\"").next().unwrap();
    let fields = form.split("<input type=\"hidden\" name=\"").skip(1);
    fields
        .map(|field| {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            (name.to_owned(), rest.split('"').next().unwrap().to_owned())
        })
        .collect()
}

/// Sends the form of a page, filled in like this.
async fn fill(browser: &mut Browser, path: &str, page: &str, typed: &[(&str, &str)]) -> Answer {
    let hidden = hidden(page);
    let mut fields: Vec<(&str, &str)> = hidden
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| typed.iter().all(|(typed, _)| typed != name))
        .collect();
    fields.extend(typed);
    browser.post(path, &fields).await
}

#[tokio::test]
async fn a_configuration_is_looked_at_before_it_is_stored() {
    let (rig, _agent, mut browser) = desk().await;
    let device = text(&browser.get("/devices/pump-1").await);
    assert!(device.contains("href=\"/devices/pump-1/config\""), "{device}");
    let layer = json!({"config": {"telemetry": {"interval": 60}}});
    rig.ask("POST", "/api/v1/config?layer=fleet", Some(layer)).await.expect(200);
    set_config(&rig, json!({"telemetry": {"interval": 20}})).await;
    let version = config(&rig).await["version"].as_u64().unwrap();

    let page = text(&browser.get(CONFIG).await);
    assert!(!page.contains("http-equiv=\"refresh\""), "what is typed is not lost");
    assert!(between(&page, "<textarea", "</textarea>").contains("&quot;interval&quot;: 20"));
    let document = "{\r\n  \"telemetry\": {\"metrics\": [\"cpu_usage\"]}\r\n}";
    let typed = [("document", document), ("comment", "fewer <b>"), ("action", "save")];
    // Not even who says so has it stored unseen.
    let preview = text(&fill(&mut browser, CONFIG, &page, &typed).await);
    assert!(preview.contains("Nothing is stored yet"), "{preview}");
    assert!(preview.contains("telemetry.interval 20 → 60"), "{preview}");
    assert!(preview.contains("telemetry.metrics unset → [&quot;cpu_usage&quot;]"), "{preview}");
    let kept = "<code>telemetry.interval</code> is <code>60</code> then, as its layer fleet says";
    assert!(preview.contains(kept) && preview.contains("value=\"fewer &lt;b&gt;\""), "{preview}");
    assert!(preview.contains(&format!("Save as version {}", version + 1)));
    assert_eq!(config(&rig).await["version"], version);
    // Another text than the one that was shown is shown first.
    let other = [("document", "{}"), ("action", "save")];
    assert!(
        text(&fill(&mut browser, CONFIG, &preview, &other).await).contains("Nothing is stored")
    );
    assert_eq!(config(&rig).await["version"], version);

    let stored = fill(&mut browser, CONFIG, &preview, &typed).await;
    assert_eq!((stored.status.as_u16(), location(&stored)), (303, "/devices/pump-1"));
    let now = config(&rig).await;
    assert_eq!((&now["version"], &now["comment"]), (&json!(version + 1), &json!("fewer <b>")));
    assert_eq!(now["own"], "{\"telemetry\":{\"metrics\":[\"cpu_usage\"]}}");
    let key = rig.admin();
    let author = format!("operator:{}", crate::server_kit::key_id(&key));
    assert_eq!(now["author"], author.as_str());
    let page = text(&browser.get(CONFIG).await);
    assert!(page.contains("<dt>telemetry.interval</dt><dd><code>60</code>"), "{page}");
    let same = [("document", "{\"telemetry\":{\"metrics\":[\"cpu_usage\"]}}"), ("action", "look")];
    assert!(text(&fill(&mut browser, CONFIG, &page, &same).await).contains("says already"));
}

#[tokio::test]
async fn a_mistake_is_shown_in_its_place_and_nothing_is_lost() {
    let (rig, _agent, mut browser) = desk().await;
    let page = text(&browser.get(CONFIG).await);
    for (document, words) in [
        ("{\n  \"telemetry\": {\n    \"interval\" 30}}", &["no JSON: expected", "line 3: "][..]),
        ("{\"telemetry\": {\n\"intervall\": 30}}", &["config.telemetry.intervall", "line 2: "]),
        ("{\"telemetry\": {\"interval\": 0}}", &["whole seconds from 1s to 24h", "line 1: "]),
        ("<script>", &["&lt;script&gt;", "no JSON"]),
        ("", &["no JSON"]),
    ] {
        let typed = [("document", document), ("comment", "why"), ("action", "look")];
        let answer = fill(&mut browser, CONFIG, &page, &typed).await;
        assert_eq!(answer.status, 422, "{document}");
        let shown = text(&answer);
        for word in words {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        assert!(shown.contains("value=\"why\"") && !shown.contains("<script>"), "{shown}");
    }
    let long = "x".repeat(300 * 1024);
    let answer = fill(&mut browser, CONFIG, &page, &[("document", &long)]).await;
    assert_eq!(answer.status, 413);
    let wordy = "é".repeat(600);
    let typed = [("document", "{\"telemetry\": {\"interval\": 5}}"), ("comment", &wordy)];
    let preview = text(&fill(&mut browser, CONFIG, &page, &typed).await);
    let typed = [&typed[..], &[("action", "save")]].concat();
    let answer = fill(&mut browser, CONFIG, &preview, &typed).await;
    assert_eq!(answer.status, 422);
    assert!(text(&answer).contains("comment: must not be longer"));
    assert_eq!(config(&rig).await["version"], 0);
}

#[tokio::test]
async fn who_was_slower_sees_both_versions() {
    let (rig, _agent, mut browser) = desk().await;
    set_config(&rig, json!({"telemetry": {"interval": 20}})).await;
    let page = text(&browser.get(CONFIG).await);
    let typed = [("document", "{\"telemetry\": {\"interval\": 45}}"), ("action", "look")];
    let preview = text(&fill(&mut browser, CONFIG, &page, &typed).await);
    set_config(&rig, json!({"telemetry": {"interval": 90}})).await;
    let typed = [typed[0], ("action", "save")];
    let answer = fill(&mut browser, CONFIG, &preview, &typed).await;
    assert_eq!(answer.status, 409);
    let shown = text(&answer);
    for part in [
        "made from version 1; now there is version 2",
        "by another way",
        "telemetry.interval 20 → 90",
        "&quot;interval&quot;: 45",
        "&quot;interval&quot;: 90",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(config(&rig).await["version"], 2);
    // Whoever has seen that may have theirs.
    let preview = text(&fill(&mut browser, CONFIG, &shown, &[typed[0], ("action", "look")]).await);
    assert!(preview.contains("telemetry.interval 90 → 45"), "{preview}");
    assert_eq!(fill(&mut browser, CONFIG, &preview, &typed).await.status, 303);
    assert_eq!(config(&rig).await["config"], "{\"telemetry\":{\"interval\":45}}");
}

#[tokio::test]
async fn a_mistake_does_not_hide_that_somebody_was_quicker() {
    let (rig, _agent, mut browser) = desk().await;
    set_config(&rig, json!({"telemetry": {"interval": 20}})).await;
    let page = text(&browser.get(CONFIG).await);
    set_config(&rig, json!({"telemetry": {"interval": 90}})).await;
    let wrong = fill(&mut browser, CONFIG, &page, &[("document", "{"), ("action", "look")]).await;
    assert_eq!(wrong.status, 422);
    let typed = [("document", "{\"telemetry\": {\"interval\": 45}}"), ("action", "look")];
    let answer = fill(&mut browser, CONFIG, &text(&wrong), &typed).await;
    assert_eq!(answer.status, 409);
    assert!(text(&answer).contains("telemetry.interval 20 → 90"), "{answer:?}");
}

#[tokio::test]
async fn what_a_layer_adds_meanwhile_is_shown_before_it_is_stored() {
    let (rig, _agent, mut browser) = desk().await;
    let layer = async |interval| {
        let layer = json!({"config": {"telemetry": {"interval": interval}}});
        rig.ask("POST", "/api/v1/config?layer=fleet", Some(layer)).await.expect(200);
    };
    layer(60).await;
    set_config(&rig, json!({"telemetry": {"interval": 20}})).await;
    let page = text(&browser.get(CONFIG).await);
    let look = [("document", "{}"), ("action", "look")];
    let preview = text(&fill(&mut browser, CONFIG, &page, &look).await);
    assert!(preview.contains("telemetry.interval 20 → 60"), "{preview}");
    // The device's own has the last word until now, so this is no new version of it.
    let version = config(&rig).await["version"].clone();
    layer(90).await;
    let save = [("document", "{}"), ("action", "save")];
    let preview = text(&fill(&mut browser, CONFIG, &preview, &save).await);
    assert!(preview.contains("telemetry.interval 20 → 90"), "{preview}");
    assert!(preview.contains("the text has changed, or a layer. Nothing is stored yet"));
    assert_eq!(config(&rig).await["version"], version);
    assert_eq!(fill(&mut browser, CONFIG, &preview, &save).await.status, 303);
}

#[tokio::test]
async fn a_text_with_tabs_is_stored_as_it_was_shown() {
    let (rig, _agent, mut browser) = desk().await;
    let page = text(&browser.get(CONFIG).await);
    let document = "{\r\n\t\"telemetry\": {\r\n\t\t\"interval\": 45\r\n\t}\r\n}";
    let look = [("document", document), ("action", "look")];
    let preview = text(&fill(&mut browser, CONFIG, &page, &look).await);
    // As a browser sends what it was given.
    let area = between(&preview, "<textarea", "</textarea>").split_once(">\n").unwrap().1;
    let given = area.replace("&quot;", "\"").replace('\n', "\r\n");
    assert!(given.contains("\n        \"interval\": 45"), "{given}");
    let save = [("document", given.as_str()), ("action", "save")];
    assert_eq!(fill(&mut browser, CONFIG, &preview, &save).await.status, 303);
    assert_eq!(config(&rig).await["config"], "{\"telemetry\":{\"interval\":45}}");
}

#[tokio::test]
async fn notes_are_changed_and_only_those_that_were() {
    let (rig, _agent, mut browser) = desk().await;
    note(&rig, json!({"site": "lyon", "rack": 7, "odd": "a\nb", "tags": "canary old"})).await;
    let page = text(&browser.get(NOTES).await);
    assert!(page.contains("value=\"canary old\"") && page.contains("disabled"), "{page}");
    let rows = ["odd", "rack", "site"].map(|name| {
        let before = page.split(&format!("value=\"{name}\"")).next().unwrap();
        before.rsplit("name=\"name-").next().unwrap().split('"').next().unwrap().to_owned()
    });
    let field = |field: &str, row: &str| format!("{field}-{row}");
    let (rack, site) = (field("value", &rows[1]), field("value", &rows[2]));
    let typed = [
        ("name", "Pump <1>"),
        ("tags", "canary, eu-west"),
        (rack.as_str(), "8"),
        (site.as_str(), "lyon"),
        ("name-3", "owner"),
        ("value-3", "é & co"),
        ("value-4", ""),
        ("name-4", ""),
    ];
    // Meanwhile somebody notes something else.
    note(&rig, json!({"floor": 2})).await;
    let answer = fill(&mut browser, NOTES, &page, &typed).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/devices/pump-1"));
    let now = noted(&rig).await;
    let wanted = json!({
        "site": "lyon", "rack": 8, "odd": "a\nb", "owner": "é & co", "floor": 2,
        "tags": "canary eu-west",
    });
    assert_eq!(now, wanted);
    let page = text(&browser.get("/devices/pump-1").await);
    assert!(page.contains("<small>Pump &lt;1&gt;</small>"), "{page}");

    let page = text(&browser.get(NOTES).await);
    let gone = between(&page, "value=\"odd\"", "checkbox").to_owned();
    assert!(gone.contains("shown-"), "{gone}");
    let row = page.split("value=\"odd\"").next().unwrap().rsplit("name=\"name-").next().unwrap();
    let gone = field("gone", row.split('"').next().unwrap());
    let keep = [("name", "Pump <1>"), ("tags", "canary eu-west")];
    let filled = filled(&page);
    let mut typed: Vec<_> = filled.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    typed.extend(keep);
    typed.push((&gone, "1"));
    assert_eq!(fill(&mut browser, NOTES, &page, &typed).await.status, 303);
    assert_eq!(noted(&rig).await["odd"], Value::Null);
    assert_eq!(noted(&rig).await["site"], "lyon");
}

/// The values of entries as a page has them.
fn filled(page: &str) -> Vec<(String, String)> {
    let inputs = page.split("<input id=\"value-").skip(1).filter_map(|input| {
        let input = input.split('>').next()?;
        let name = input.split("name=\"").nth(1)?.split('"').next()?;
        let value = input.split(" value=\"").nth(1)?.split('"').next()?;
        let value = value.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
        Some((name.to_owned(), value.replace("&quot;", "\"").replace("&#39;", "'")))
    });
    inputs.collect()
}

#[tokio::test]
async fn what_two_have_noted_at_once_is_asked_about() {
    let (rig, _agent, mut browser) = desk().await;
    note(&rig, json!({"site": "lyon"})).await;
    let page = text(&browser.get(NOTES).await);
    note(&rig, json!({"site": "<paris>"})).await;
    let typed = [("value-0", "nice"), ("name", ""), ("tags", "")];
    let answer = fill(&mut browser, NOTES, &page, &typed).await;
    assert_eq!(answer.status, 409);
    let shown = text(&answer);
    assert!(
        shown.contains("site: somebody else has set it to &quot;&lt;paris&gt;&quot;"),
        "{shown}"
    );
    assert!(shown.contains("value=\"nice\""), "{shown}");
    assert_eq!(noted(&rig).await["site"], "<paris>");
    assert_eq!(fill(&mut browser, NOTES, &shown, &typed).await.status, 303);
    assert_eq!(noted(&rig).await["site"], "nice");

    let page = text(&browser.get(NOTES).await);
    for (typed, problem) in [
        ([("name-1", "tags"), ("value-1", "x")], "tags have a field of their own"),
        ([("name-1", "site"), ("value-1", "x")], "two entries of this name"),
        ([("name-1", ""), ("value-1", "x")], "has no name"),
        ([("tags", "\u{7}"), ("name-1", "")], "is no tag"),
    ] {
        let typed = [&[("value-0", "nice"), ("name", "")], &typed[..]].concat();
        let answer = fill(&mut browser, NOTES, &page, &typed).await;
        assert_eq!(answer.status, 422, "{typed:?}");
        assert!(text(&answer).contains(problem), "{problem}");
    }
    assert_eq!(noted(&rig).await, json!({"site": "nice"}));
}

#[tokio::test]
async fn what_somebody_else_has_removed_is_not_brought_back() {
    let (rig, _agent, mut browser) = desk().await;
    note(&rig, json!({"a": "1", "b": "2", "c": "3"})).await;
    let page = text(&browser.get(NOTES).await);
    note(&rig, json!({"a": null, "b": null, "c": "4"})).await;
    let typed = [("value-0", "1"), ("value-1", "2"), ("gone-1", "1"), ("value-2", "5")];
    let answer = fill(&mut browser, NOTES, &page, &typed).await;
    assert_eq!(answer.status, 409);
    let shown = text(&answer);
    assert!(shown.contains("c: somebody else has set it to &quot;4&quot;"), "{shown}");
    let filled = filled(&shown);
    let typed: Vec<_> = filled.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(typed, [("value-0", "5")]);
    assert_eq!(fill(&mut browser, NOTES, &shown, &typed).await.status, 303);
    assert_eq!(noted(&rig).await, json!({"c": "5"}));
}

#[tokio::test]
async fn a_name_that_somebody_else_has_given_is_asked_about() {
    let (rig, _agent, mut browser) = desk().await;
    let name = async |name: &str| {
        let body = json!({"name": name});
        rig.ask("PUT", "/api/v1/devices/pump-1", Some(body)).await.expect(200);
    };
    let is_called = async || {
        let device = rig.ask("GET", "/api/v1/devices/pump-1", None).await.expect(200);
        device["name"].as_str().unwrap().to_owned()
    };
    name("Pump\u{202e} ").await;
    let page = text(&browser.get(NOTES).await);
    assert_eq!(fill(&mut browser, NOTES, &page, &[("name", "North")]).await.status, 303);
    let page = text(&browser.get(NOTES).await);
    name("South").await;
    let answer = fill(&mut browser, NOTES, &page, &[("name", "East")]).await;
    assert_eq!((answer.status.as_u16(), is_called().await.as_str()), (409, "South"));
    let shown = text(&answer);
    assert!(shown.contains("name: somebody else has set it to &quot;South&quot;"), "{shown}");
    assert!(shown.contains("value=\"East\""), "{shown}");
    assert_eq!(fill(&mut browser, NOTES, &shown, &[("name", "East")]).await.status, 303);
    assert_eq!(is_called().await, "East");
    // Who leaves it alone, or wants what there is, is in nobody's way.
    let page = text(&browser.get(NOTES).await);
    name("West").await;
    for typed in [("name", "East"), ("name", "West")] {
        assert_eq!(fill(&mut browser, NOTES, &page, &[typed]).await.status, 303);
        assert_eq!(is_called().await, "West");
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_typed_goes_only_as_it_was_shown() {
    let (rig, _agent, mut browser) = desk().await;
    note(&rig, json!({"odd": "a\nb"})).await;
    let page = text(&browser.get(NOTES).await);
    note(&rig, json!({"odd": "c\nd"})).await;
    let gone = [("gone-0", "1")];
    let answer = fill(&mut browser, NOTES, &page, &gone).await;
    assert_eq!((answer.status.as_u16(), &noted(&rig).await["odd"]), (409, &json!("c\nd")));
    let shown = text(&answer);
    assert!(shown.contains("odd: somebody else has set it to"), "{shown}");
    // Left alone it stays, whatever it is by now.
    assert_eq!(fill(&mut browser, NOTES, &page, &[]).await.status, 303);
    assert_eq!(noted(&rig).await["odd"], "c\nd");
    assert_eq!(fill(&mut browser, NOTES, &shown, &gone).await.status, 303);
    assert_eq!(noted(&rig).await, json!({}));
}

#[tokio::test]
async fn forms_are_taken_from_our_own_pages_and_signed_in_browsers_alone() {
    let (rig, _agent, mut browser) = desk().await;
    let origin = format!("http://{}", rig.address());
    let key = format!("Bearer {}", rig.admin());
    for path in [CONFIG, NOTES] {
        let page = text(&browser.get(path).await);
        let typed = [("document", "{}"), ("name", "x"), ("action", "save"), ("seen", "0")];
        let token = hidden(&page).into_iter().find(|(name, _)| name == "token").unwrap().1;
        let known: &[&str] =
            if path == CONFIG { &["document", "action", "seen"] } else { &["name"] };
        let mut fields: Vec<_> =
            typed.iter().copied().filter(|(name, _)| known.contains(name)).collect();
        for token in ["", "wrong"] {
            let fields = [&fields[..], &[("token", token)]].concat();
            assert_eq!(browser.post(path, &fields).await.status, 403);
        }
        fields.push(("token", &token));
        for headers in [
            &[][..],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", origin.as_str()), ("sec-fetch-site", "cross-site")],
        ] {
            let answer = browser.post_from(path, &fields, headers).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
        let host = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(browser.post_from(path, &fields, &host).await.status, 421);
        // A key opens the page for programs, and sends no form.
        let mut program = Browser::new(&rig);
        let auth = [("authorization", key.as_str()), ("accept", "text/html")];
        assert_eq!(program.get_with(path, &auth).await.status, 403);
        let auth = [("authorization", key.as_str()), ("origin", origin.as_str())];
        assert_eq!(program.post_from(path, &fields, &auth).await.status, 401);
        assert!(location(&program.get(path).await).starts_with("/sign-in?next=%2Fdevices"));
        let json = [("authorization", key.as_str()), ("accept", "application/json")];
        program.get_with(path, &json).await.expect(200);
        let auth = [("authorization", key.as_str()), ("accept", "text/html")];
        let page = text(&program.get_with("/devices/pump-1", &auth).await);
        assert!(!page.contains("/devices/pump-1/config") && !page.contains("method=\"post\""));
    }
    let event = "/api/v1/events?kind=device.updated,config.set";
    assert_eq!(rig.ask("GET", event, None).await.expect(200), json!([]));
}

#[tokio::test]
async fn lines_of_a_log_are_chosen_in_the_url() {
    let (_rig, _agent, mut browser) = desk().await;
    let chosen = "/devices/pump-1?unit=nginx&level=warn&grep=%3Cb%3E&since=10m&range=5m";
    let page = text(&browser.get(chosen).await);
    assert!(page.contains("Log of nginx.service</h2>"), "{page}");
    let query = between(&page, "data-query=\"", "\"");
    let wanted =
        "&amp;unit=nginx.service&amp;level=warn&amp;grep=%3Cb%3E&amp;since=2024-01-15T10%3A20";
    assert!(query.starts_with(wanted), "{query}");
    let form = between(&page, "<form class=\"filter lines\"", "</form>");
    for part in
        ["value=\"nginx\"", "value=\"warn\" selected", "value=\"&lt;b&gt;\"", "value=\"5m\""]
    {
        assert!(form.contains(part), "{part} in {form}");
    }
    let other = "?range=1h&amp;unit=nginx&amp;level=warn&amp;grep=%3Cb%3E&amp;since=10m\"";
    assert!(page.contains(other), "another range keeps the choice");
    for (bad, problem) in [
        ("unit=%2Fetc", "is not the name of a systemd unit"),
        ("level=loud", "level: "),
        ("since=yesterday", "neither a time nor how long ago"),
    ] {
        let page = text(&browser.get(&format!("/devices/pump-1?{bad}")).await);
        assert!(page.contains(problem) && !page.contains("data-device"), "{problem} in {page}");
    }
    let page = text(&browser.get("/devices/pump-1?unit=&level=&grep=&since=").await);
    assert!(page.contains("Agent's log</h2>") && page.contains("data-query=\"\""), "{page}");
}
