//! A network, marks, questions and runs, by keys and events.

use std::time::Duration;

use fleet_core::api::{ClaimMode, DeviceUpdate, DiscoverOutcome, IndexPage, StreamMessage};
use fleet_core::operator::provision::Step;
use ratatui::layout::Size;
use serde_json::json;

use super::run::RUN_MAX;
use super::testing::{claimed, end, fingerprint, found, give, looking, network, sighting, step};
use super::*;
use crate::event::Event;
use crate::sample;
use crate::state::App;
use crate::state::popup::Popup;
use crate::testing::{disconnect, press, wait};

const SIZE: Size = Size { width: 120, height: 35 };

fn ids(app: &App) -> Vec<String> {
    app.discover.shown().map(|seen| seen.label(None)).collect()
}

fn states(app: &App) -> Vec<&'static str> {
    let ours = app.desk.settings.identity;
    let state = |seen: &Seen| seen.state(ours, app.discover.known(seen, &app.desk)).0;
    app.discover.shown().map(state).collect()
}

fn provisioned(effects: &[Effect]) -> Option<Vec<String>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Provision { targets, .. } => {
            Some(targets.iter().map(|target| target.device_id.to_string()).collect())
        }
        _ => None,
    })
}

fn browses(effects: &[Effect]) -> Vec<bool> {
    let browse = |effect: &Effect| match effect {
        Effect::Browse(is_wanted) => Some(*is_wanted),
        _ => None,
    };
    effects.iter().filter_map(browse).collect()
}

fn told(app: &App) -> &str {
    app.desk.notice.as_ref().map_or("", |(notice, _)| notice.text.as_str())
}

#[test]
fn the_search_runs_while_the_screen_is_shown() {
    let mut app = sample::app(3, SIZE);
    assert_eq!(browses(&press(&mut app, "5")), [true]);
    give(&mut app, Event::Sightings(network()));
    assert_eq!(browses(&press(&mut app, "1")), [false]);
    assert_eq!(app.discover.shown().len(), network().len(), "what was seen stays");
    assert_eq!(browses(&press(&mut app, "^o")), [true], "whichever way one comes back");
    assert_eq!(browses(&press(&mut app, "^r")), [false, true]);
}

#[test]
fn a_search_that_does_not_work_says_so_until_it_is_tried_again() {
    let mut app = looking(SIZE);
    give(&mut app, Event::BrowseFailed("Operation not permitted".to_owned()));
    assert_eq!(app.discover.search, Search::Failed("Operation not permitted".to_owned()));
    assert_eq!(browses(&wait(&mut app, Duration::from_secs(60))), [] as [bool; 0]);
    assert_eq!(browses(&press(&mut app, "^r")), [false, true]);
    assert!(matches!(app.discover.search, Search::On(_)));
}

#[test]
fn each_device_is_judged_as_the_command_line_judges_it() {
    let app = found(SIZE);
    assert_eq!(
        states(&app),
        [
            "new",
            "new",
            "new",
            "new",
            "closed",
            "ours",
            "ours?",
            "other server",
            "conflict",
            "no key"
        ]
    );
    assert_eq!(app.discover.new_devices(), 4);
}

#[test]
fn rows_stay_where_they_are_until_they_are_sorted() {
    let mut app = looking(SIZE);
    give(&mut app, Event::Sightings(vec![sighting(1, "m"), sighting(2, "z")]));
    press(&mut app, "j");
    let all = vec![sighting(3, "a"), sighting(1, "m"), sighting(2, "z")];
    give(&mut app, Event::Sightings(all.clone()));
    assert_eq!(ids(&app), ["m", "z", "a"]);
    assert_eq!(app.discover.at_cursor().unwrap().label(None), "z");
    press(&mut app, "s a");
    assert_eq!(ids(&app), ["a", "m", "z"]);
    assert_eq!(app.discover.at_cursor().unwrap().label(None), "z", "the cursor goes along");
    let later = [all, vec![sighting(4, "b")]].concat();
    give(&mut app, Event::Sightings(later));
    assert_eq!(ids(&app), ["a", "m", "z", "b"]);
}

#[test]
fn what_can_be_configured_stands_above_the_rest() {
    let mut app = looking(SIZE);
    let mut all = vec![claimed(sighting(1, "ours"), 3), claimed(sighting(2, "theirs"), 4)];
    give(&mut app, Event::Sightings(all.clone()));
    all.push(sighting(3, "new-1"));
    give(&mut app, Event::Sightings(all.clone()));
    assert_eq!(ids(&app), ["new-1", "ours", "theirs"]);
    assert_eq!(app.discover.at_cursor().unwrap().label(None), "new-1", "nobody had chosen a row");
    press(&mut app, "j");
    all.push(sighting(4, "new-2"));
    give(&mut app, Event::Sightings(all.clone()));
    assert_eq!(ids(&app), ["new-1", "new-2", "ours", "theirs"]);
    assert_eq!(app.discover.at_cursor().unwrap().label(None), "ours", "the cursor is a device");
    // One that is configured does not go from under somebody's eyes.
    all[2] = claimed(all[2].clone(), 3);
    give(&mut app, Event::Sightings(all.clone()));
    assert_eq!(ids(&app)[0], "new-1");
    press(&mut app, "1 5");
    assert_eq!(ids(&app), ["new-2", "new-1", "ours", "theirs"]);
    // Whoever wants another order gets it, with what comes later at the end.
    press(&mut app, "s a");
    all.push(sighting(5, "a"));
    give(&mut app, Event::Sightings(all));
    assert_eq!(ids(&app), ["new-1", "new-2", "ours", "theirs", "a"]);
    press(&mut app, "s e");
    assert_eq!(ids(&app)[..2], ["a", "new-2"]);
}

#[test]
fn only_what_can_be_configured_is_marked_and_the_rest_says_why_not() {
    let mut app = found(SIZE);
    press(&mut app, "a");
    assert_eq!(app.discover.marked(), (4, 0));
    for (down, why) in [
        (4, "its time to be claimed is over"),
        (5, "in the fleet already"),
        (6, "has not heard from it"),
        (7, "already managed by"),
        (8, "conflict"),
        (9, "announces no id or no key"),
    ] {
        press(&mut app, "g");
        (0..down).for_each(|_| drop(press(&mut app, "j")));
        press(&mut app, "Space");
        assert!(told(&app).contains(why), "{}", told(&app));
    }
    assert_eq!(app.discover.marked().0, 4);
    press(&mut app, "g Space");
    assert_eq!(app.discover.marked().0, 3);
    press(&mut app, "Esc");
    assert_eq!(app.discover.marked().0, 0);
}

#[test]
fn a_mark_does_not_go_over_to_whoever_shows_up_with_the_same_id_or_key() {
    let mut app = looking(SIZE);
    give(&mut app, Event::Sightings(vec![sighting(1, "pump")]));
    press(&mut app, "a");
    let mut echo = sighting(1, "other");
    echo.device.host = "echo.local".into();
    give(&mut app, Event::Sightings(vec![echo, sighting(1, "pump")]));
    assert_eq!(app.discover.chosen(&app.desk), [sighting(1, "pump").target.unwrap()]);

    let conflict = |number| {
        let mut twice = sighting(number, "pump");
        (twice.device.conflict, twice.target) = (true, None);
        twice
    };
    give(&mut app, Event::Sightings(vec![conflict(1), conflict(2)]));
    assert_eq!(app.discover.marked().0, 0);
}

#[test]
fn a_filter_finds_words_anywhere_and_hidden_marks_are_counted() {
    let mut app = found(SIZE);
    press(&mut app, "a / R P I 4 Space n e w Enter");
    assert_eq!(ids(&app), ["rpi4-001", "rpi4-003"]);
    assert_eq!(app.discover.marked(), (4, 2));
    press(&mut app, "x c");
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("a question") };
    assert!(confirm.lines.iter().any(|(label, text)| *label == "hidden" && text.contains('2')));
    press(&mut app, "Esc Esc");
    assert_eq!(app.discover.shown().len(), network().len());
    press(&mut app, "/ 1 0 4 Enter");
    assert_eq!(app.discover.shown().len(), 1, "by address");
}

#[test]
fn a_device_that_is_gone_stays_for_a_while_and_as_long_as_it_is_marked() {
    let mut app = looking(SIZE);
    wait(&mut app, Duration::from_secs(5));
    give(&mut app, Event::Sightings(vec![sighting(1, "a"), sighting(2, "b")]));
    press(&mut app, "Space");
    give(&mut app, Event::Sightings(Vec::new()));
    assert_eq!(states(&app), ["gone", "gone"]);
    assert!(app.discover.chosen(&app.desk).is_empty(), "who is gone is not configured");
    wait(&mut app, Duration::from_secs(60));
    assert_eq!(ids(&app), ["a"]);
    give(&mut app, Event::Sightings(vec![sighting(1, "a")]));
    assert_eq!(states(&app), ["new"]);
}

#[test]
fn a_new_search_does_not_take_everybody_for_gone() {
    let mut app = found(SIZE);
    wait(&mut app, Duration::from_secs(60));
    press(&mut app, "^r");
    give(&mut app, Event::Sightings(network()[..1].to_vec()));
    assert!(!states(&app).contains(&"gone"));
    wait(&mut app, Duration::from_secs(5));
    assert_eq!(states(&app).iter().filter(|state| **state == "gone").count(), 9);
}

#[test]
fn no_key_configures_by_itself_and_what_was_agreed_to_is_what_is_done() {
    let mut app = found(SIZE);
    for keys in ["a", "Enter", "x Esc", "x c Esc", "x c Enter", "R"] {
        assert_eq!(provisioned(&press(&mut app, keys)), None, "{keys}");
    }
    press(&mut app, "x c");
    // Meanwhile one more is seen, and one is claimed by another server.
    let mut now = network();
    now[0] = claimed(now[0].clone(), 4);
    now.push(sighting(11, "late-1"));
    give(&mut app, Event::Sightings(now));
    let effects = press(&mut app, "y");
    let expected = ["rpi4-001", "jetson-002", "rpi4-003", "x86-kiosk-7"];
    assert_eq!(provisioned(&effects).unwrap(), expected);
}

#[test]
fn a_run_goes_from_steps_to_outcomes_and_what_failed_is_tried_again() {
    let mut app = found(SIZE);
    press(&mut app, "a x c y");
    assert_eq!(app.discover.marked().0, 0, "they are being configured");
    assert!(app.discover.run.is_under_way());
    assert_eq!(provisioned(&press(&mut app, "R")), None, "nothing has failed yet");

    step(&mut app, 1, Step::Met);
    assert_eq!(app.discover.run.rows()[0].step, Some(Step::Met));
    wait(&mut app, Duration::from_secs(2));
    end(&mut app, 1, DiscoverOutcome::Configured, "", "");
    end(&mut app, 2, DiscoverOutcome::Configured, "", "");
    end(&mut app, 3, DiscoverOutcome::Pending, "waits", "accept it");
    end(&mut app, 4, DiscoverOutcome::Refused, "wrong key", "compare");
    assert_eq!(told(&app), "2 of 4 configured, 1 pending, 1 failed");
    assert_eq!(app.discover.run.took(Duration::from_secs(99)), Duration::from_secs(2));

    press(&mut app, "Tab Tab Tab Tab G");
    assert_eq!(app.discover.pane, DiscoverPane::Run);
    let effects = press(&mut app, "y e");
    let copied = effects.iter().any(
        |effect| matches!(effect, Effect::Copy(text) if text == "x86-kiosk-7: wrong key; compare"),
    );
    assert!(copied, "{effects:?}");
    assert_eq!(provisioned(&press(&mut app, "R y")).unwrap(), ["x86-kiosk-7"]);
    assert_eq!(app.discover.run.rows().len(), 4, "the run goes on");
    end(&mut app, 4, DiscoverOutcome::Configured, "", "");
    assert_eq!(app.discover.run.tally().configured, 3);
}

#[test]
fn a_success_is_opened_and_gets_its_tags_when_the_fleet_knows_it() {
    let mut app = found(SIZE);
    press(&mut app, "Tab Tab l a b Esc");
    press(&mut app, "x c y");
    let changes = |effects: Vec<Effect>| {
        let change = |effect| match effect {
            Effect::Ask(Request::Change(uid, change)) => Some((uid, change)),
            _ => None,
        };
        effects.into_iter().filter_map(change).collect::<Vec<_>>()
    };
    end(&mut app, 1, DiscoverOutcome::Configured, "", "");
    assert_eq!(changes(wait(&mut app, Duration::from_secs(1))), []);

    let row = fleet_core::api::IndexRow { fingerprint: Some(fingerprint(1)), ..sample::row(3) };
    let page = IndexPage { rows: vec![row], gone: Vec::new(), complete: true };
    let message = Box::new(StreamMessage::Index(page));
    let effects = give(&mut app, Event::Link(crate::event::LinkEvent::Message(message)));
    let update =
        DeviceUpdate { metadata: Some(json!({ "tags": ["lab"] })), ..DeviceUpdate::default() };
    assert_eq!(changes(effects), [(sample::uid(3), Change::Update(update))]);
    assert_eq!(changes(wait(&mut app, Duration::from_secs(9))), [], "once");

    press(&mut app, "S-Tab Enter");
    assert_eq!(app.device.as_ref().unwrap().uid, sample::uid(3));
}

#[test]
fn another_url_is_told_to_the_devices_and_none_that_is_none() {
    let mut app = found(SIZE);
    press(&mut app, "Tab ^u n o n e Esc");
    press(&mut app, "x c y");
    assert!(app.discover.run.is_empty());
    press(&mut app, "Esc Tab ^u");
    give(&mut app, Event::Paste("https://fleet.lan\n".to_owned()));
    press(&mut app, "Tab Tab Enter");
    let effects = press(&mut app, "y");
    let url = effects.iter().find_map(|effect| match effect {
        Effect::Provision { server_url, .. } => server_url.clone(),
        _ => None,
    });
    assert_eq!(url, "https://fleet.lan".parse().ok());
}

#[test]
fn a_loopback_url_is_not_what_devices_elsewhere_are_told() {
    let mut app = found(SIZE);
    app.discover.form.url.set("http://localhost:8080");
    press(&mut app, "x c");
    let Some(Popup::Confirm(confirm)) = &app.desk.popup else { panic!("a question") };
    let told = confirm.lines.iter().find(|(label, _)| *label == "told").unwrap();
    assert!(told.1.starts_with("the server's own addresses"), "{}", told.1);
}

#[test]
fn nothing_is_configured_while_the_server_is_away() {
    let mut app = found(SIZE);
    press(&mut app, "a x c");
    disconnect(&mut app);
    assert_eq!(provisioned(&press(&mut app, "y")), None);
    assert!(told(&app).contains("the server is away"));
    press(&mut app, "Esc Esc x c");
    assert!(!matches!(app.desk.popup, Some(Popup::Confirm(_))));
    assert_eq!(app.discover.marked().0, 4, "marks are kept");
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let mut app = looking(SIZE);
    let flood = |from: u32| (from..from + 10_000).map(|n| sighting(n, &format!("d{n}")));
    give(&mut app, Event::Sightings(flood(0).collect()));
    assert_eq!(app.discover.seen.rows().len(), seen::SEEN_MAX);
    assert_eq!(app.discover.seen.left_out, 10_000 - seen::SEEN_MAX);
    press(&mut app, "a");
    assert_eq!(app.discover.marked().0, RUN_MAX);
    let effects = press(&mut app, "x c y");
    assert_eq!(provisioned(&effects), None, "so many take more than a key");
    let effects = press(&mut app, "Backspace 1 0 0 0 Enter");
    assert_eq!(provisioned(&effects).unwrap().len(), RUN_MAX);
}

#[test]
fn link_local_addresses_name_their_link() {
    let app = found(SIZE);
    let address = |seen: &Seen| seen.address(app.discover.interfaces.as_deref().unwrap());
    let addresses: Vec<_> = app.discover.shown().filter_map(address).collect();
    assert_eq!(addresses[0], "192.168.1.101:6789");
    assert_eq!(addresses[3], "[fe80::1c2a%eth0]:6789");
}

fn asking(number: u32, id: &str, mode: ClaimMode) -> fleet_core::operator::browse::Sighting {
    let mut seen = sighting(number, id);
    seen.device.claim = Some(mode);
    seen.target.as_mut().unwrap().claim = Some(mode);
    seen
}

#[test]
fn a_device_that_asks_for_its_code_has_a_field_for_it() {
    let mut app = looking(SIZE);
    let network = vec![asking(1, "a", ClaimMode::Code), asking(2, "b", ClaimMode::Code)];
    give(&mut app, Event::Sightings(network));
    press(&mut app, "x c");
    assert!(!matches!(app.desk.popup, Some(Popup::Confirm(_))), "not without its code");
    press(&mut app, "Esc Tab Tab Tab");
    give(&mut app, Event::Paste("01010-1AAAA-AAAAA".to_owned()));
    press(&mut app, "Tab Enter");
    assert!(told(&app).contains("20 characters"), "{}", told(&app));
    press(&mut app, "S-Tab");
    give(&mut app, Event::Paste("-aaaaa".to_owned()));
    press(&mut app, "Enter Enter");
    let effects = press(&mut app, "y");
    let code = effects.iter().find_map(|effect| match effect {
        Effect::Provision { code, .. } => code.clone(),
        _ => None,
    });
    assert_eq!(code, "01010-1AAAA-AAAAA-AAAAA".parse().ok());
    assert!(app.discover.form.code.is_empty(), "it is good for one claim");

    press(&mut app, "a x c");
    let shown = format!("{:?}", app.desk.popup);
    assert!(shown.contains("--codes FILE"), "{shown}");
}

#[test]
fn a_code_that_was_typed_is_for_that_device_alone() {
    let mut app = looking(SIZE);
    let others = [asking(2, "b", ClaimMode::Code), asking(3, "c", ClaimMode::Key)];
    let network = [vec![asking(1, "a", ClaimMode::Code)], others.to_vec()].concat();
    give(&mut app, Event::Sightings(network));
    press(&mut app, "Tab Tab Tab 0 1 Esc");
    assert_eq!(app.discover.form.code.text(), "01");
    press(&mut app, "j");
    assert!(app.discover.form.code.is_empty() && app.discover.form.has_code());
    press(&mut app, "j");
    assert!(!app.discover.form.has_code());
    press(&mut app, "x c");
    let shown = format!("{:?}", app.desk.popup);
    assert!(shown.contains("--claim-key-file FILE"), "{shown}");
}
