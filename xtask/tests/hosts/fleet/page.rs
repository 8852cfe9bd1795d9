//! The status page in a real browser: with scripts and without, by day and by night, and while the
//! server is away.

use std::fs;

use serde_json::{Value, json};

use super::browser::Browser;
use super::{Agent, Server};
use crate::lab::{Lab, wait_for};

/// The table has its devices, with all that they measured.
const IS_THERE: &str = "document.querySelectorAll('tbody th[scope=row]').length === 2
    && document.querySelectorAll('tbody meter').length === 6";

/// Texts that stand out too little from what is behind them, by WCAG's formula.
const FAINT: &str = r"(() => {
    const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
    const light = (colour) => {
        const [r, g, b] = colour.map((part) => part / 255)
            .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, alpha = 1] = parse(getComputedStyle(at).backgroundColor);
            if (alpha === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const pair = [parse(getComputedStyle(element).color).slice(0, 3), behind(element)].map(light);
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        if (ratio < 4.5) faint.push(`${element.textContent}: ${ratio.toFixed(2)}`);
    }
    return faint;
})()";

/// What sticks out on the right, other than tables in a region of their own that scrolls.
const WIDE: &str = "[...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > 321)
    .filter((element) => !element.parentElement.closest('.wide'))
    .map((element) => `${element.tagName} ${element.className}: ${element.textContent}`)";

/// Signs in with the form, as an operator would.
#[track_caller]
fn sign_in(browser: &Browser<'_>, server: &Server<'_>) {
    let key = fs::read_to_string(server.key_file()).expect("the admin key");
    browser.go(&format!("{}/sign-in", server.url()));
    let typed = json!(key.trim());
    browser.value(&format!(
        "document.getElementById('key').value = {typed};
         document.getElementById('sign-in').requestSubmit(); true"
    ));
    browser.sees("the overview", "location.pathname === '/' && document.readyState === 'complete'");
}

#[track_caller]
fn looks_right(browser: &Browser<'_>) {
    for scheme in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
        let back = browser.value("getComputedStyle(document.body).backgroundColor");
        assert_eq!(back == "rgb(255, 255, 255)", scheme == "light", "{back}");
        assert_eq!(browser.value(FAINT), json!([]), "in {scheme}");
    }
    let narrow = json!({"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", narrow);
    assert_eq!(browser.value(WIDE), json!([]));
    browser.call("Emulation.clearDeviceMetricsOverride", json!({}));
}

/// Fills in a field of the page's form and sends the form with one of its buttons.
#[track_caller]
fn send(browser: &Browser<'_>, fields: &[(&str, &str)], button: &str) {
    for (field, text) in fields {
        browser.value(&format!(
            "document.querySelector({}).value = {}; true",
            json!(format!("form.edit [name={field}]")),
            json!(text)
        ));
    }
    let wanted = json!(button);
    browser.value(&format!(
        "[...document.querySelectorAll('main button')]
            .find((button) => button.textContent.includes({wanted})).click(); true"
    ));
}

/// The names of all that has a role in the accessibility tree.
fn named<'a>(tree: &'a Value, role: &str) -> Vec<&'a str> {
    let nodes = tree["nodes"].as_array().expect("nodes");
    let of_role = nodes.iter().filter(|node| node["role"]["value"] == role);
    of_role.map(|node| node["name"]["value"].as_str().unwrap_or_default()).collect()
}

/// What programs that read a page aloud are given. Chromium makes that tree anew a while after the
/// layout has changed, so it is waited for.
#[track_caller]
fn is_accessible(browser: &Browser<'_>) {
    let wanted = ["CPU", "DISK", "MEM"]
        .map(|title| ["cam-001", "cam-002"].map(|id| format!("{id} {title}")));
    let mut wanted = wanted.concat();
    wanted.sort_unstable();
    let tree = wait_for("all meters to have names", super::SOON, || {
        let tree = browser.call("Accessibility.getFullAXTree", json!({}));
        let mut meters = named(&tree, "meter");
        meters.sort_unstable();
        (meters == wanted).then_some(tree)
    });
    let names = |role: &str| named(&tree, role);
    let mut rows = names("rowheader");
    rows.sort_unstable();
    assert_eq!(rows, ["cam-001", "cam-002"]);
    assert!(names("columnheader").iter().any(|name| name.starts_with("STATUS")));
    assert_eq!((names("table").len(), names("heading").len()), (1, 2));
    assert_eq!(names("status").len(), 2, "the sentence and the banner");
    assert!(names("textbox").iter().chain(&names("searchbox")).any(|name| *name == "Filter"));
}

/// Nothing that a browser complains about, and nothing asked of anybody else.
#[track_caller]
fn has_no_complaints(browser: &Browser<'_>, server: &Server<'_>) {
    for kind in ["Runtime.consoleAPICalled", "Runtime.exceptionThrown"] {
        assert_eq!(browser.heard(kind), Vec::<Value>::new());
    }
    // A form that was filled in wrongly is answered so, which a browser notes.
    let is_answer = |entry: &Value| {
        let text = entry["entry"]["text"].as_str().unwrap_or_default();
        text.contains("status of 422") && entry["entry"]["source"] == "network"
    };
    let complaints = browser
        .heard("Log.entryAdded")
        .into_iter()
        .filter(|entry| entry["entry"]["level"] != "verbose" && !is_answer(entry));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<Value>::new());
    let requests = browser.heard("Network.requestWillBeSent");
    assert!(requests.len() > 5, "{requests:?}");
    for request in requests {
        let url = request["request"]["url"].as_str().expect("a URL");
        assert!(url.starts_with(&format!("{}/", server.url())), "{url}");
    }
}

#[test]
fn the_page_keeps_itself_up_to_date() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let [one, two] = ["cam-001", "cam-002"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let agents = [Agent::start(&one), Agent::start(&two)];
    server.configure(&["cam-001", "cam-002"]);
    let browser = Browser::start(&desk);
    sign_in(&browser, &server);

    browser.sees("both devices", IS_THERE);
    browser.sees("that all is well", "document.title === '● · FleetD'");
    browser.sees("what both have measured", "document.querySelectorAll('meter').length === 6");
    looks_right(&browser);
    is_accessible(&browser);
    let values = "[...document.querySelectorAll('tbody td')].map((td) => td.textContent).join('|')";
    let before = browser.value(values);
    browser.sees("a value that changes", &format!("{values} !== {before}"));

    agents[1].kill();
    browser.sees(
        "that one is late",
        "[...document.querySelectorAll('tbody tr')].some((row) => row.innerText.includes('cam-002')
            && row.innerText.includes('late'))",
    );
    browser.sees(
        "the sentence to say so",
        "document.querySelector('h1').innerText.includes('1 device late')
            && document.title === '◐1 · FleetD' && !document.getElementById('again').hidden",
    );
    has_no_complaints(&browser, &server);

    browser.go(&format!("{}/devices/cam-001?range=5m", server.url()));
    browser.sees("a curve", "document.querySelectorAll('svg path.line[d^=M]').length >= 3");
    let marks = browser.value("document.querySelector('svg path.line').getAttribute('d')");
    browser.sees(
        "the curve to grow",
        &format!("document.querySelector('svg path.line').getAttribute('d') !== {marks}"),
    );
    browser.sees("lines of the log", "document.querySelectorAll('#log li').length >= 20");
    browser.sees(
        "a line that comes",
        "document.querySelector('#log li:last-child').textContent.includes('acknowledged')
            && document.querySelectorAll('#log li').length > 52",
    );
    looks_right(&browser);
    has_no_complaints(&browser, &server);

    let banner = "document.getElementById('banner').textContent";
    assert_eq!(browser.value(banner), "");
    server.kill();
    browser.sees("the banner", &format!("{banner}.includes('No connection to the server')"));
    server.start_again();
    browser.sees("the banner to go", &format!("{banner} === ''"));

    browser.value("document.querySelector('header form').requestSubmit(); true");
    browser
        .sees("the form", "location.pathname === '/sign-in' && !!document.getElementById('key')");
}

#[test]
fn a_device_is_edited_in_a_browser() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let cam = lab.host("cam-001", &[&lan]);
    let server = Server::start(&desk);
    let _agent = Agent::start(&cam);
    server.configure(&["cam-001"]);
    let layer = ["config", "set", "--layer", "fleet", "telemetry.interval=2s", "--yes"];
    server.fleets(&[&layer[..], &["--expect", "1"]].concat()).exits(0);
    let browser = Browser::start(&desk);
    sign_in(&browser, &server);
    let device = format!("{}/devices/cam-001", server.url());
    // What changes something works without scripts; what looks at it here is not the page's.
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));

    browser.go(&format!("{device}/config"));
    looks_right(&browser);
    send(&browser, &[("document", "{\"telemetry\": {\n\"interval\" 1}}")], "Preview");
    browser.sees("the mistake in its place", "document.body?.innerText.includes('line 2: ')");
    looks_right(&browser);
    let document = "{\"telemetry\": {\"interval\": 1}}";
    send(&browser, &[("document", document), ("comment", "faster <b>")], "Preview");
    browser.sees("what it would be", "document.body?.innerText.includes('telemetry.interval')");
    looks_right(&browser);
    send(&browser, &[], "Save as version");
    browser.sees(
        "the device to have it",
        "location.pathname === '/devices/cam-001'
            && document.getElementById('configuration')?.innerText.includes('✓ applied')
            && document.body?.innerText.includes('faster <b>')",
    );

    browser.go(&format!("{device}/metadata"));
    looks_right(&browser);
    let typed =
        [("tags", "canary"), ("name", "Door"), ("name-0", "site"), ("value-0", "lyon \"é\"")];
    send(&browser, &typed, "Save");
    browser.sees(
        "the notes",
        "location.pathname === '/devices/cam-001' && document.querySelector('h1')?.innerText
            .includes('Door') && document.body?.innerText.includes('lyon \"é\"')",
    );
    let noted = server.device("cam-001").expect("it is there").metadata;
    assert_eq!(noted["tags"], "canary");

    // With scripts lines go on as they were chosen.
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": false}));
    browser.go(&format!("{device}?grep=acknowledged&level=debug"));
    let lines = "document.querySelectorAll('#log li')";
    browser.sees("a few lines", &format!("{lines}.length > 2"));
    let before = browser.value(&format!("{lines}.length"));
    browser.sees("a line that comes", &format!("{lines}.length > {before}"));
    let others =
        format!("[...{lines}].filter((line) => !line.innerText.includes('acknowledged')).length");
    assert_eq!(browser.value(&others), 0);
    assert!(browser.value("window.scrollY").as_f64() > Some(100.0), "the lines are in sight");
    looks_right(&browser);
    browser.go(&format!("{device}?unit=nothing-there"));
    browser.sees(
        "the unit's heading",
        "document.querySelector('#log h2')?.innerText === 'Log of nothing-there.service'",
    );
    has_no_complaints(&browser, &server);
}

#[test]
fn the_page_is_whole_without_scripts() {
    let mut lab = Lab::new();
    let lan = lab.lan();
    let desk = lab.host("desk", &[&lan]);
    let [one, two] = ["cam-001", "cam-002"].map(|name| lab.host(name, &[&lan]));
    let server = Server::start(&desk);
    let _agents = [Agent::start(&one), Agent::start(&two)];
    server.configure(&["cam-001", "cam-002"]);
    let browser = Browser::start(&desk);
    sign_in(&browser, &server);
    let page = format!("{}/", server.url());
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    let loads = || {
        let requests = browser.heard("Network.requestWillBeSent");
        requests.iter().filter(|request| request["request"]["url"] == page.as_str()).count()
    };
    browser.go(&page);
    let before = loads();

    browser.sees("both devices", IS_THERE);
    is_accessible(&browser);
    wait_for("the page to load itself again", super::SOON, || (loads() > before).then_some(()));
    browser.sees("both devices again", IS_THERE);
    has_no_complaints(&browser, &server);
}
