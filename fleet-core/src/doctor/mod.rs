//! What `fleets doctor` and `fleetd doctor` find: each step that a person would take, taken, and what
//! came of it, with what would mend it.
//!
//! A check is a small function that gives a [`Check`]. It changes nothing, ends within
//! [`STEP`], and shows no secret. Whatever text a check brings, it is made safe to show where the
//! report is written, and nowhere else.

pub mod environment;
pub mod firewall;
pub mod host;
pub mod mdns;
pub mod reach;
mod tool;

use std::time::Duration;

use serde::Serialize;

use crate::untrusted::{escaped_json, write_escaped};

/// How long a step may take.
pub const STEP: Duration = Duration::from_secs(5);
/// How long the steps of the way to a server may take together, and what comes after it: a person waits
/// for both.
pub const WAY: Duration = Duration::from_secs(15);
/// See [`WAY`].
pub const AFTER: Duration = Duration::from_secs(10);
/// Characters of one line.
const LINE_CHARS_MAX: usize = 600;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Not as it should be, and things may go on so.
    Warning,
    /// Something does not work by this.
    Failed,
    /// There is nothing to look at, or something before it failed.
    NotApplicable,
}

impl Outcome {
    /// The word on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::NotApplicable => "-",
        }
    }
}

/// One step, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to.
    pub group: String,
    /// What was looked at.
    pub check: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found, in a sentence.
    pub detail: String,
    /// What to do about it: a command to type, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn new(check: &'static str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { group: String::new(), check, outcome, detail: detail.into(), fix: None }
    }

    /// As it should be.
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Ok, detail)
    }

    /// Not as it should be.
    pub fn warning(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Warning, detail)
    }

    /// Something does not work by this.
    pub fn failed(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::Failed, detail)
    }

    /// There is nothing to look at.
    pub fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Outcome::NotApplicable, detail)
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Whether something does not work.
    pub fn has_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }
}

/// All steps, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Report(Vec<Check>);

impl Report {
    /// Adds the steps of a group.
    pub fn add(&mut self, group: &str, checks: Vec<Check>) {
        let named = checks.into_iter().map(|check| Check { group: group.to_owned(), ..check });
        self.0.extend(named);
    }

    /// The steps.
    pub fn checks(&self) -> &[Check] {
        &self.0
    }

    /// Whether anything does not work.
    pub fn has_failed(&self) -> bool {
        self.0.iter().any(Check::has_failed)
    }

    /// Whether this is why: the server cannot be reached, or is another one.
    pub fn is_unreachable(&self) -> bool {
        self.0.iter().any(|check| check.has_failed() && reach::STEPS.contains(&check.check))
    }

    /// For people: a line for each step, and below one that is not well what to do about it.
    pub fn text(&self) -> String {
        let width = self.0.iter().map(|check| check.check.len()).max().unwrap_or(0);
        let mut text = String::new();
        let mut group = "";
        for check in &self.0 {
            if check.group != group {
                group = &check.group;
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(gap);
                push_line(&mut text, group);
            }
            let (word, name) = (check.outcome.word(), check.check);
            push_line(&mut text, &format!("  {word:<8} {name:<width$}  {}", check.detail));
            if let Some(fix) = &check.fix {
                push_line(&mut text, &format!("  {:<8} {:<width$}  fix: {fix}", "", ""));
            }
        }
        text.push('\n');
        push_line(&mut text, &self.sum());
        text
    }

    /// For programs.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(escaped_json(&serde_json::to_string_pretty(&self.0)?) + "\n")
    }

    fn sum(&self) -> String {
        let count = |outcome| self.0.iter().filter(|check| check.outcome == outcome).count();
        let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
        let warned = match warnings {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            many => format!(", {many} warnings"),
        };
        match failed {
            0 => format!("{} ok{warned}", count(Outcome::Ok)),
            failed => format!("{failed} failed, {} ok{warned}", count(Outcome::Ok)),
        }
    }
}

/// The steps of a group, or that they took too long.
pub async fn in_time(
    limit: Duration,
    name: &'static str,
    checks: impl Future<Output = Vec<Check>>,
) -> Vec<Check> {
    let late = || vec![Check::failed(name, format!("not done within {} s", limit.as_secs()))];
    tokio::time::timeout(limit, checks).await.unwrap_or_else(|_| late())
}

/// A length in words.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn push_line(text: &mut String, line: &str) {
    write_escaped(text, line.trim_end(), LINE_CHARS_MAX).expect("writing to a String cannot fail");
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_line_for_each_step_and_what_mends_it() {
        let mut report = Report::default();
        report.add(
            "Server",
            vec![
                Check::ok("address", "10.0.0.1"),
                Check::failed("port", "refused\u{1b}[2J\nok forged").fix("sudo systemctl start x"),
            ],
        );
        report.add("Host", vec![Check::skipped("unit", "no systemd here")]);
        let expected = "Server\n  ok       address  10.0.0.1\n  \
             failed   port     refused\\u{1b}[2J\\u{a}ok forged\n                    \
             fix: sudo systemctl start x\n\nHost\n  -        unit     no systemd here\n\n\
             1 failed, 1 ok\n";
        assert_eq!(report.text(), expected);
        assert!(report.has_failed() && report.is_unreachable());
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json[1]["outcome"], "failed");
        assert_eq!(json[1]["fix"], "sudo systemctl start x");
        assert_eq!(json[2]["outcome"], "not_applicable");
        assert!(json[0].get("fix").is_none());
    }

    #[test]
    fn lengths_are_short() {
        let shown = [0, 1023, 1024, 1_572_864, 5 << 40].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB"]);
    }
}
