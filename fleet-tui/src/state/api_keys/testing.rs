//! Keys that are made up, for tests and pictures.

use std::time::Duration;

use fleet_core::api::{ADMIN_LABEL, KeyView, Me, Right, Rights, Role};
use fleet_core::secret::{ApiKey, KeyKind};
use fleet_core::time::Timestamp;

use crate::effect::{Effect, Request};
use crate::event::{Answer, Event, Failed};
use crate::sample;
use crate::state::App;
use crate::testing::{live_app, press};

/// When the samples take place.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(sample::NOW)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// A good key of an operator that never ends.
pub(crate) fn key(id: &str, label: &str) -> KeyView {
    KeyView {
        id: id.to_owned(),
        kind: KeyKind::Operator,
        label: label.into(),
        device_id: None,
        uses_left: None,
        created_at: now().minus(days(20)),
        created_by: Some("operator:adminadmin".into()),
        succeeds: None,
        succeeded_by: None,
        expires_at: None,
        revoked_at: None,
        last_used: Some(now().minus(Duration::from_secs(130))),
        last_used_from: Some("10.8.0.17".parse().expect("an address")),
        role: Some(Role::Operator),
        rights: Rights::new(),
        scope: None,
    }
}

/// Some of all kinds and states.
pub(crate) fn keys() -> Vec<KeyView> {
    let mut admin = key("adminadmin", ADMIN_LABEL);
    admin.role = Some(Role::Admin);
    admin.rights = Right::ALL.into();
    admin.created_by = Some("server".into());
    let mut near = key("nearnearne", "night shift");
    near.expires_at = Some(now().plus(days(3)));
    near.scope = Some("site=lyon and not tag:spare".into());
    near.rights = [Right::Exec, Right::Delete].into();
    let mut far = key("farfarfarf", "");
    far.expires_at = Some(now().plus(days(70)));
    far.role = Some(Role::Viewer);
    far.created_by = None;
    let mut old = key("oldoldoldo", "ci");
    old.expires_at = Some(now().plus(Duration::from_secs(23 * 3_600)));
    old.succeeded_by = Some("newnewnewn".to_owned());
    let mut new = key("newnewnewn", "ci");
    new.succeeds = Some("oldoldoldo".to_owned());
    new.expires_at = Some(now().plus(days(90)));
    (new.last_used, new.last_used_from) = (None, None);
    let mut past = key("pastpastpa", "wall \u{1b}[31m\u{202e} \u{4e16}\u{754c}");
    past.expires_at = Some(now().minus(days(2)));
    let mut gone = key("gonegonego", "a visitor who was here long ago and had a long label");
    gone.revoked_at = Some(now().minus(days(100)));
    let enrol = KeyView {
        kind: KeyKind::Enrol,
        role: None,
        uses_left: Some(4),
        ..key("enrolenrol", "line 3")
    };
    let spent = KeyView { uses_left: Some(0), ..enrol.clone() };
    let spent = KeyView { id: "spentspent".to_owned(), label: "line 2".into(), ..spent };
    let device = KeyView {
        kind: KeyKind::Device,
        role: None,
        device_id: Some("pump-eu-0317".parse().expect("a device id")),
        ..key("devicedevi", "telegraf")
    };
    vec![admin, device, enrol, far, gone, near, new, old, past, spent]
}

/// A key that was just made.
pub(crate) fn made() -> ApiKey {
    ApiKey::generate(KeyKind::Operator, sample::identity()).expect("random numbers")
}

/// Whoever is signed in.
pub(crate) fn me(role: Role, scope: Option<&str>) -> Me {
    Me {
        id: "adminadmin".to_owned(),
        kind: KeyKind::Operator,
        label: ADMIN_LABEL.into(),
        role: Some(role),
        rights: if role == Role::Admin { Right::ALL.into() } else { Rights::new() },
        scope: scope.map(Into::into),
        device_id: None,
        expires_at: None,
    }
}

/// Answers a request.
pub(crate) fn tell(app: &mut App, request: Request, answer: Result<Answer, Failed>) -> Vec<Effect> {
    let now = sample::moment(app.desk.now.since_start);
    app.apply(now, Event::Answer(request, answer))
}

/// Signs somebody in.
pub(crate) fn sign_in(app: &mut App, me: Me) {
    tell(app, Request::Me, Ok(Answer::Me(Box::new(me))));
}

/// A console of an admin that shows the keys.
pub(crate) fn listed() -> App {
    let mut app = live_app();
    sign_in(&mut app, me(Role::Admin, None));
    press(&mut app, "8");
    tell(&mut app, Request::Keys, Ok(Answer::Keys(keys())));
    app
}

/// What the server is asked for.
pub(crate) fn asked(effects: Vec<Effect>) -> Vec<Request> {
    let request = |effect| match effect {
        Effect::Ask(request) => Some(request),
        _ => None,
    };
    effects.into_iter().filter_map(request).collect()
}
