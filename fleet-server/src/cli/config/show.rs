//! How configurations, their versions and what differs between them are shown.

use fleet_core::api::{
    ConfigState, ConfigVersionView, ConfigView, Difference, LayerPreview, LayerView,
};
use fleet_core::cli::listed::{Listed, Reader};
use fleet_core::cli::table::{Cell, Column};
use fleet_core::glyph::Tone;
use fleet_core::untrusted::Untrusted;
use serde::Serialize;

/// A configuration, wanted and reported.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown<'a>(pub(super) &'a ConfigView);

impl Listed for Shown<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE ID", 20),
        Column::new("VERSION", 7).of_numbers(),
        Column::new("REPORTED", 8).of_numbers(),
        Column::new("STATE", 8),
        Column::new("CONFIG", 40),
        Column::spare("SERVER URL", 20, 1),
        Column::spare("AUTHOR", 10, 2),
        Column::spare("AT", 20, 3),
        Column::spare("COMMENT", 20, 4),
        Column::spare("FROM", 20, 5),
        Column::spare("DRIFT", 20, 6),
        Column::new("ERROR", 20),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        let error = view.reported.as_ref().and_then(|reported| reported.error.as_ref());
        let reported = view.reported.as_ref().map(|reported| reported.version);
        let current = reported == Some(view.version) && error.is_none();
        vec![
            Cell::new(&view.device_id),
            Cell::new(view.version),
            Cell::maybe(reported).toned(if current { Tone::Good } else { Tone::Warn }),
            state_cell(view),
            Cell::new(&view.config),
            Cell::maybe(view.server_url.as_ref()),
            Cell::maybe(view.author.as_ref()),
            reader.time(view.at),
            Cell::maybe(view.comment.as_ref()),
            Cell::new(provenance(view)),
            Cell::new(drift(view)).toned(Tone::Warn),
            Cell::maybe(error).toned(Tone::Bad),
        ]
    }

    fn name(&self) -> String {
        self.0.device_id.to_string()
    }
}

fn state_cell(view: &ConfigView) -> Cell {
    let Some(state) = view.state else { return Cell::default() };
    Cell::new(state.word()).toned(match state {
        ConfigState::None => Tone::Muted,
        ConfigState::Waiting | ConfigState::Sent | ConfigState::Trying => Tone::Warn,
        ConfigState::Applied => Tone::Plain,
        ConfigState::Refused | ConfigState::Reverted => Tone::Bad,
    })
}

/// What the device goes by that is otherwise than it shall be.
fn drift(view: &ConfigView) -> String {
    view.drift.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Which layer each path is from.
fn provenance(view: &ConfigView) -> String {
    let from = view.provenance.iter().map(|(path, layer)| {
        format!("{}={}", Untrusted::from(path.as_str()), Untrusted::from(layer.as_str()))
    });
    from.collect::<Vec<_>>().join(" ")
}

/// A layer.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ShownLayer(pub(super) LayerView);

impl Listed for ShownLayer {
    const COLUMNS: &'static [Column] = &[
        Column::new("LAYER", 12),
        Column::new("VERSION", 7).of_numbers(),
        Column::new("DEVICES", 7).of_numbers(),
        Column::new("CONFIG", 40),
        Column::spare("AUTHOR", 20, 2),
        Column::spare("AT", 20, 1),
        Column::new("COMMENT", 20),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        vec![
            Cell::new(&view.layer),
            Cell::new(view.version),
            Cell::new(view.devices),
            Cell::new(Untrusted::from(view.config.as_str())),
            Cell::maybe(view.author.as_ref()),
            reader.time(view.at),
            Cell::maybe(view.comment.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.0.layer.to_string()
    }
}

/// What a change of a layer would be, for programs.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ShownPreview(pub(super) LayerPreview);

impl Listed for ShownPreview {
    const COLUMNS: &'static [Column] = &[
        Column::new("LAYER", 12),
        Column::new("VERSION", 7).of_numbers(),
        Column::new("DEVICES", 7).of_numbers(),
        Column::new("CHANGES", 7).of_numbers(),
    ];

    fn cells(&self, _: Reader) -> Vec<Cell> {
        let Self(preview) = self;
        vec![
            Cell::new(&preview.layer),
            Cell::new(preview.version),
            Cell::new(preview.devices),
            Cell::new(preview.changes),
        ]
    }

    fn name(&self) -> String {
        self.0.changes.to_string()
    }
}

/// One version of a configuration.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ShownVersion(pub(super) ConfigVersionView);

impl Listed for ShownVersion {
    const COLUMNS: &'static [Column] = &[
        Column::new("VERSION", 7).of_numbers(),
        Column::new("AT", 20),
        Column::new("CONFIG", 40),
        Column::spare("AUTHOR", 20, 1),
        Column::new("COMMENT", 20),
        Column::spare("HASH", 16, 2),
    ];

    fn cells(&self, reader: Reader) -> Vec<Cell> {
        let Self(view) = self;
        vec![
            Cell::new(view.version),
            reader.moment(view.at),
            Cell::new(Untrusted::new(view.document.to_string())),
            Cell::new(&view.author),
            Cell::maybe(view.comment.as_ref()),
            Cell::new(Untrusted::from(view.hash.as_str())),
        ]
    }

    fn name(&self) -> String {
        self.0.version.to_string()
    }
}

/// What differs between two configurations at one path.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ShownDifference(pub(super) Difference);

impl Listed for ShownDifference {
    const COLUMNS: &'static [Column] =
        &[Column::new("PATH", 20), Column::new("BEFORE", 20), Column::new("AFTER", 20)];

    fn cells(&self, _: Reader) -> Vec<Cell> {
        let Self(Difference { path, before, after }) = self;
        vec![
            Cell::new(path),
            Cell::new(Difference::side(before.as_ref())),
            Cell::new(Difference::side(after.as_ref())),
        ]
    }

    fn name(&self) -> String {
        self.0.path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use fleet_core::cli::listed::Format;
    use fleet_core::cli::output::Terminal;
    use fleet_core::cli::testing::{HOSTILE, assert_harmless, written};
    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_versions_do_no_harm() {
        for format in Format::value_variants() {
            let terminal = Terminal { stdout: true, colour: true, ..Terminal::default() };
            let (mut output, out, _) = written(*format, terminal);
            for text in HOSTILE {
                let version = serde_json::from_value(json!({
                    "version": 3, "hash": text, "document": {*text: text}, "author": text,
                    "at": "2024-01-15T10:30:00Z", "comment": text
                }));
                output.one(&ShownVersion(version.unwrap())).unwrap();
                let difference = Difference {
                    path: (*text).into(),
                    before: Some(json!(text)),
                    after: Some(json!({*text: text})),
                };
                output.list(&[ShownDifference(difference)]).unwrap();
            }
            assert_harmless(&out.text());
        }
    }
}
