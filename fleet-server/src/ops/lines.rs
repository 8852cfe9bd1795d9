//! Telemetry in Influx line protocol: what is good is stored in one commit, and of what is not the
//! sender is told which line, why and how many.

use bytes::Bytes;
use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::time::Timestamp;

use super::OpsError;
use super::drafts::{Content, Drafts, Reading, Refused, Sender};
use super::keys::Principal;
use super::senders::Subject;
use super::telemetry::{Posted, Telemetry};
use super::templates::{shown, vitals_of};
use crate::influx::Precision;
use crate::meters::Door;
use crate::series::batch::Batch;
use crate::series::number::Number;

/// Bodies up to this many bytes are read at once; longer ones would hold up others.
pub(crate) const AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// What became of a request's lines.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Lines that are on the disk.
    pub(crate) stored: usize,
    pub(crate) refused: Refused,
    /// Whether nothing is wrong with the lines but whom they are about.
    pub(crate) is_forbidden: bool,
    /// Fields that are text, which is not kept.
    pub(crate) strings: u64,
}

impl Telemetry {
    /// Stores what lines say. When this returns, it is on the disk.
    pub(crate) async fn write(
        &self,
        body: Bytes,
        precision: Precision,
        poster: &Principal,
    ) -> Result<Written, OpsError> {
        let (device, now) = (poster.device(), self.world.now());
        let (store, templates) = (self.world.store.clone(), self.templates.clone());
        let is_short = body.len() <= AT_ONCE_BYTES_MAX;
        let read = move || {
            let is_own = |name: &str| {
                store.directory().find(name).is_some_and(|(uid, _)| Some(uid) == device)
            };
            let sender = device.map_or(Sender::Operator, |uid| Sender::Device(uid, &is_own));
            let (names, templates) = (store.names(), &*templates);
            Drafts::read(&body, Reading { names, templates, precision, now, sender })
        };
        let mut drafts = if is_short {
            read()
        } else {
            let read = tokio::task::spawn_blocking(read);
            read.await.unwrap_or_else(|_| Err(OpsError::Defect))
        }?;
        let whose = std::mem::take(&mut drafts.whose);
        let subjects = self.senders.subjects(whose, poster).await?;
        drafts.teach(&self.templates, |place| subjects[place].is_ok());
        let Drafts { list, numbers, mut refused, foreign, strings, lines, .. } = drafts;
        let are_good = refused.lines == 0;
        refused.join(foreign);
        let mut posted = Posted::default();
        for draft in list {
            match &subjects[draft.device] {
                Ok(subject) => self.add(&mut posted, *subject, draft.at, &draft.content, &numbers),
                Err(reason) => refused.note(draft.line, draft.lines, reason),
            }
        }
        let stored = lines - refused.lines;
        self.meters.left_out(refused.lines, strings);
        self.store(posted, Door::Influx).await?;
        Ok(Written { stored, is_forbidden: are_good && stored == 0, refused, strings })
    }

    fn add(
        &self,
        posted: &mut Posted,
        subject: Subject,
        at: Timestamp,
        content: &Content,
        numbers: &[Number],
    ) {
        let (names, uid, millis) = (self.world.store.names(), subject.uid, at.millis());
        let (shape, values, shown) = match content {
            Content::Like(template, first) => {
                let values = &numbers[*first..*first + template.shape.series().len()];
                (template.shape.clone(), values.to_vec(), template.numbers(values))
            }
            Content::Mixed(series, numbers) => {
                let (series, values) = Batch::last_of_each(series, numbers);
                let shape = names.shape(&series);
                let shown = shown(&vitals_of(&shape, names), &values);
                (shape, values, shown)
            }
        };
        let samples = || {
            let names = shape.series().iter().filter_map(|id| names.name(*id));
            names.zip(&values).map(|(name, value)| name.sample(value.get())).collect()
        };
        posted.note(subject, at, shown, self.watched.is_watched(uid).then(samples));
        if shape.series().len() <= REPORT_SAMPLES_MAX {
            posted.batch.push_shaped(uid, None, millis, shape, values);
        } else {
            posted.batch.push_series(names, uid, None, millis, shape.series(), &values);
        }
    }
}
