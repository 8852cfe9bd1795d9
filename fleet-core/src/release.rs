//! Which release a program is of, as `--version` and `version` say it.
//!
//! `cargo xtask dist` gives a build its commit and date by two variables of the compiler. A build
//! that somebody makes by hand knows neither, and names neither.

use std::sync::LazyLock;

use serde::Serialize;

use crate::VERSION;

/// A release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Its version.
    pub version: &'static str,
    /// The commit that it was built of, if that is known.
    pub commit: Option<&'static str>,
    /// The day of that commit, which stands for that of the build: who builds it again gets the
    /// same bytes.
    pub build_date: Option<&'static str>,
}

/// The release of this build.
pub const RELEASE: Release = Release {
    version: VERSION,
    commit: option_env!("FLEETD_COMMIT"),
    build_date: option_env!("FLEETD_BUILD_DATE"),
};

impl Release {
    /// All that is known, in a line.
    pub fn text(&self) -> String {
        let commit = self.commit.map(|commit| format!("commit {commit}"));
        let built = self.build_date.map(|date| format!("built {date}"));
        let known: Vec<String> = commit.into_iter().chain(built).collect();
        if known.is_empty() {
            return self.version.to_owned();
        }
        format!("{} ({})", self.version, known.join(", "))
    }
}

/// [`Release::text`] of this build, for as long as it runs.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| RELEASE.text());
    &TEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_named() {
        let plain = Release { version: "1.2.3", commit: None, build_date: None };
        assert_eq!(plain.text(), "1.2.3");
        let built = Release { commit: Some("0123abc"), build_date: Some("2026-01-31"), ..plain };
        assert_eq!(built.text(), "1.2.3 (commit 0123abc, built 2026-01-31)");
        assert_eq!(
            serde_json::to_value(plain).unwrap(),
            serde_json::json!({ "version": "1.2.3", "commit": null, "build_date": null })
        );
    }
}
