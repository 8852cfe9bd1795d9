//! A configuration from the server: checked, applied, kept, reported; and brought back after a
//! restart. What is not the server's word for this device is dropped without an answer.

use fleet_core::api::ConfigDocument;
use fleet_core::identity::PublicKey;
use fleet_core::time::Clock;
use fleet_core::wire::{ConfigPush, ConfigReported};
use fleet_core::{Chain, limits};

use crate::state::applied::{APPLIED_FILE, Applied};
use crate::state::folder::Folder;
use crate::telemetry::Telemetry;

/// Characters of a refusal.
const REFUSAL_CHARS_MAX: usize = limits::SHOWN_CHARS_MAX;

/// What the server configured so far.
pub(super) struct Configured {
    folder: Folder,
    applied: Option<Applied>,
}

impl Configured {
    /// As it was kept. A configuration of another server than the device's stays on the disk
    /// without effect.
    pub(super) fn load(folder: Folder, server: Option<PublicKey>, telemetry: &Telemetry) -> Self {
        let applied = Applied::load(&folder);
        let applied = applied.filter(|applied| server.is_some_and(|key| applied.is_from(key)));
        let plan = applied.as_ref().map(|applied| telemetry.plan_for(&applied.read())).transpose();
        match plan {
            Ok(plan) => {
                if let Some(plan) = plan {
                    telemetry.follow(plan);
                }
                Self { folder, applied }
            }
            Err(error) => {
                tracing::warn!(%error, "the last configuration from the server no longer fits");
                Self { folder, applied: None }
            }
        }
    }

    /// Which one holds.
    pub(super) fn report(&self, server: PublicKey) -> ConfigReported {
        match self.current(server) {
            Some(applied) => ConfigReported {
                version: applied.version,
                at_millis: applied.at_millis,
                error: None,
            },
            None => ConfigReported { version: 0, at_millis: 0, error: None },
        }
    }

    /// Takes a new one; gives what to tell the server, if it is worth an answer.
    pub(super) fn take(
        &mut self,
        push: ConfigPush,
        device: [u8; 16],
        server: PublicKey,
        telemetry: &Telemetry,
        clock: &dyn Clock,
    ) -> Option<ConfigReported> {
        if !push.is_signed(device, server) {
            tracing::warn!("dropped a configuration that the server did not sign for this device");
            return None;
        }
        let current = self.current(server).map_or(0, |applied| applied.version);
        if push.version <= current {
            return (push.version == current).then(|| self.report(server));
        }
        let version = push.version;
        let at_millis = clock.now().millis();
        let new =
            Applied { server_pub: server.bytes(), version, document: push.document, at_millis };
        let error = self.apply(new, telemetry).err();
        match &error {
            None => tracing::info!(version, "applied the server's configuration"),
            Some(error) => tracing::warn!(version, %error, "refused the server's configuration"),
        }
        Some(ConfigReported { version, at_millis, error })
    }

    /// Kept first, applied then: what the server hears of is what holds after a power cut too.
    fn apply(&mut self, new: Applied, telemetry: &Telemetry) -> Result<(), String> {
        let value =
            serde_json::from_str(&new.document).map_err(|_| "not a JSON document".to_owned())?;
        let document = ConfigDocument::from_json(&value).map_err(|error| cut(&error))?;
        let plan = telemetry.plan_for(&document).map_err(|error| cut(&error))?;
        new.store(&self.folder).map_err(|error| cut(&error))?;
        telemetry.follow(plan);
        self.applied = Some(new);
        Ok(())
    }

    /// Goes back to the device's own file. What the disk keeps in spite of an error has no effect
    /// at another server.
    pub(super) fn forget(&mut self, telemetry: &Telemetry) {
        self.applied = None;
        telemetry.follow_file();
        if let Err(error) = self.folder.remove(APPLIED_FILE) {
            tracing::warn!(error = %Chain(&error), "a configuration of the old server was left behind");
        }
    }

    fn current(&self, server: PublicKey) -> Option<&Applied> {
        self.applied.as_ref().filter(|applied| applied.is_from(server))
    }
}

fn cut(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string().chars().take(REFUSAL_CHARS_MAX).collect()
}
