//! Whose key the console is signed in with: asked for when a stream begins, and again for as long as
//! there is no answer. What the key may do decides what the server is asked for.

use std::time::Duration;

use fleet_core::api::Me;

use super::Desk;
use crate::effect::Request;
use crate::event::{Answer, Failed, Notice};

/// Before it is asked for again after one failure; after each further one twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// How far asking for it has come.
#[derive(Debug, Default)]
pub struct Who {
    /// Why the last answer was none, if so, safe to show.
    pub failure: Option<String>,
    /// How long to wait after the next failure, if there was one before.
    pause: Option<Duration>,
    /// When it is asked for again, if it is to be.
    again_at: Option<Duration>,
}

/// Asks, of a new stream.
pub(super) fn greeted(desk: &mut Desk) {
    (desk.who.pause, desk.who.again_at) = (None, None);
    desk.ask(Request::Me);
}

/// Asks again when it is time to.
pub(super) fn settle(desk: &mut Desk) {
    let now = desk.now.since_start;
    if desk.link.is_live() && desk.who.again_at.is_some_and(|at| now >= at) {
        desk.who.again_at = None;
        desk.ask(Request::Me);
    }
}

/// Takes the answer.
pub(super) fn answered(answer: Result<Answer, Failed>, desk: &mut Desk) {
    match answer {
        Ok(Answer::Me(me)) => known(*me, desk),
        Ok(_) => {}
        Err(failed) => {
            let pause = desk.who.pause.unwrap_or(RETRY_FIRST);
            if desk.who.failure.as_ref() != Some(&failed.text) {
                let text = format!("what this console's key may do did not come: {}", failed.text);
                desk.note(Notice { text, is_error: true });
            }
            desk.who = Who {
                failure: Some(failed.text),
                pause: Some((pause * 2).min(RETRY_LONGEST)),
                again_at: Some(desk.now.since_start.saturating_add(pause)),
            };
        }
    }
}

fn known(me: Me, desk: &mut Desk) {
    desk.me = Some(me);
    desk.who = Who::default();
}
