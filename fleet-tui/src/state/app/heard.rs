//! What comes from the server: each word and each answer goes to whom it concerns.

use fleet_core::api::StreamMessage;
use fleet_core::untrusted::Untrusted;

use super::App;
use crate::effect::{BatchChange, Request};
use crate::event::{Answer, Failed, LinkEvent};
use crate::state::deed;
use crate::state::link::Phase;
use crate::state::popup::Popup;
use crate::state::who;

impl App {
    pub(super) fn linked(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connecting => self.desk.link.connecting(),
            LinkEvent::Down { reason, retry_in, is_denied } => {
                let now = self.desk.now.since_start;
                self.desk.link.down(reason, retry_in, is_denied, now);
            }
            LinkEvent::Message(message) => self.heard(*message),
        }
    }

    fn heard(&mut self, message: StreamMessage) {
        let now = self.desk.now;
        self.desk.link.lives(now);
        match message {
            StreamMessage::Hello(hello) => {
                let was_up = self.desk.link.server.is_some();
                let was_down = matches!(self.desk.link.phase, Phase::Down { .. });
                self.desk.link.greeted(&hello, now);
                who::greeted(&mut self.desk);
                if !hello.resumed {
                    self.desk.data.clear();
                }
                self.desk.data.expected = hello.devices;
                // A new stream knows nothing of what is looked at.
                self.looked = None;
                if was_up && was_down {
                    self.desk.say("the server is back");
                }
                self.events.reconnected(&mut self.desk);
                self.batches.reconnected(&mut self.desk);
                self.keys.reconnected();
                deed::reconnected(&mut self.desk);
                if let Some(Popup::Outcome(outcome)) = &mut self.desk.popup {
                    outcome.reconnected();
                }
                if let Some(device) = &mut self.device {
                    device.reconnected();
                }
            }
            StreamMessage::Index(page) => self.desk.data.take_index(page),
            StreamMessage::Values(values) => self.desk.data.take_values(values),
            StreamMessage::Report(report) => {
                if let Some(device) = &mut self.device {
                    device.reported(report, &self.desk);
                }
            }
            StreamMessage::Event(event) => {
                if let Some(device) = &mut self.device {
                    device.happened(&event);
                }
                deed::happened(&event, &mut self.desk);
                self.batches.happened(&event, &mut self.desk);
                self.keys.happened(&event);
                self.events.happened(event);
            }
            // Sent only to those who do not take the whole index.
            StreamMessage::Counts(_) => {}
            StreamMessage::Health(health) => {
                let trouble = health.reason.map(Untrusted::new);
                match &trouble {
                    Some(trouble) => self.desk.warn(format!("the server's store: {trouble}")),
                    None => self.desk.say("the server's store works again"),
                }
                self.desk.link.trouble = trouble;
            }
            StreamMessage::Ping(ping) => self.desk.link.heard(ping.time, now),
        }
    }

    pub(super) fn answered(&mut self, request: Request, answer: Result<Answer, Failed>) {
        match (request, answer) {
            (Request::Me, answer) => who::answered(answer, &mut self.desk),
            (Request::Events { device: None, before }, answer) => {
                self.events.answered(before, answer, &mut self.desk);
            }
            (Request::Command(id), answer) => {
                if let Ok(Answer::Command(view)) = &answer {
                    deed::looked(view, &mut self.desk);
                }
                if let Some(Popup::Outcome(outcome)) = &mut self.desk.popup {
                    outcome.answered(id, answer);
                }
            }
            (Request::Batches { before, limit }, answer) => {
                self.batches.answered(before, limit, answer, &mut self.desk);
            }
            (Request::Batch(id), answer) => {
                self.batches.answered_one(id, answer, &mut self.desk);
            }
            (request @ Request::Members { .. }, answer) => {
                self.batches.answered_members(&request, answer);
            }
            (Request::BeginBatch(_), answer) => self.batches.begun(answer, &mut self.desk),
            (Request::ChangeBatch(id, change), answer) => {
                if let Some(command) = self.batches.changed(id, change, answer, &mut self.desk) {
                    self.run(command);
                }
            }
            (Request::RetryBatch(id, _), answer) => {
                let change = BatchChange::Retry;
                if let Some(command) = self.batches.changed(id, change, answer, &mut self.desk) {
                    self.run(command);
                }
            }
            (Request::Keys, answer) => self.keys.answered(answer),
            (request @ (Request::MakeKey(_) | Request::RotateKey { .. }), answer) => {
                self.keys.made(&request, answer, &mut self.desk);
            }
            (Request::RevokeKey(id), answer) => {
                self.keys.revoked(&id, answer, &mut self.desk);
            }
            (Request::Preview(request), answer) => {
                deed::previewed(&request, answer, &mut self.desk);
            }
            (Request::Change(uid, change), answer) => {
                if let Some(Popup::Outcome(outcome)) = &mut self.desk.popup {
                    outcome.given(uid, &change, &answer);
                }
                if let Some(device) = &mut self.device {
                    device.ordered(uid);
                }
                deed::answered(uid, &change, answer, &mut self.desk);
            }
            (request, answer) => {
                if let Some(device) = &mut self.device {
                    device.answered(&request, answer, &mut self.desk);
                }
            }
        }
    }
}
