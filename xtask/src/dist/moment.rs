//! Of which commit something is built, and of when that is. The clock is not asked, so that who
//! builds the same commit again gets the same files.

use std::process::Command;

use anyhow::Context as _;

use super::output;
use crate::cargo::root;

/// A commit.
pub(super) struct Moment {
    /// Its short name; `-dirty` behind it if files were changed since.
    pub(super) commit: String,
    /// Its day, such as `2026-01-31`.
    pub(super) date: String,
    /// The same as mails have it.
    pub(super) mail_date: String,
    /// Seconds since 1970, the `SOURCE_DATE_EPOCH` of <https://reproducible-builds.org>.
    pub(super) epoch: String,
}

impl Moment {
    /// What git says; `SOURCE_DATE_EPOCH` in the environment has the last word on the time.
    pub(super) fn of_the_source() -> anyhow::Result<Self> {
        let git = |args: &[&str]| {
            let said = output(Command::new("git").args(args).current_dir(root()));
            said.map(|said| said.trim().to_owned()).context("git does not know the commit")
        };
        let commit = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"])?;
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        let date = |format: &str| {
            let mut date = Command::new("date");
            date.args(["--utc", "--date", &format!("@{epoch}"), format]).env("LC_ALL", "C");
            output(&mut date).map(|said| said.trim().to_owned())
        };
        Ok(Self { commit, date: date("+%F")?, mail_date: date("--rfc-email")?, epoch })
    }

    /// Has a build, or what packs it, know.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env("FLEETD_COMMIT", &self.commit).env("FLEETD_BUILD_DATE", &self.date);
        command.env("SOURCE_DATE_EPOCH", &self.epoch);
    }
}
