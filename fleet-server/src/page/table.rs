//! The table of devices: its columns are those of [`fleet_core::field`].

use fleet_core::api::DeviceStatus;
use fleet_core::field::{Field, SortKey};
use fleet_core::filter::{Subject, tags};
use fleet_core::glyph::{Glyph, Tone};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::html::Html;
use super::words;
use crate::live::Listed;

/// What of the list is shown, as the URL says.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) filter: String,
    pub(super) sort: SortKey,
    /// From 1.
    pub(super) page: usize,
}

impl Place {
    /// Writes the URL of this place.
    pub(super) fn link(&self, html: &mut Html) {
        html.raw("/");
        let mut mark = "?";
        if !self.filter.is_empty() {
            html.raw(mark).raw("filter=").parameter(&self.filter);
            mark = "&amp;";
        }
        if self.sort != SortKey::default() {
            html.raw(mark).raw("sort=").parameter(self.sort);
            mark = "&amp;";
        }
        if self.page > 1 {
            html.raw(mark).raw("page=").parameter(self.page);
        }
    }

    /// The first page by another order.
    fn sorted(&self, sort: SortKey) -> Self {
        Self { sort, page: 1, ..self.clone() }
    }
}

/// The table, with a way to every other order.
pub(super) fn table(html: &mut Html, devices: &[Listed], place: &Place, now: Timestamp) {
    let fields = Field::usual();
    html.raw("<div class=\"wide\" role=\"region\" aria-label=\"Devices\" tabindex=\"0\">");
    html.raw("<table class=\"devices\"").raw(" data-glyphs=\"");
    glyphs(html);
    html.raw("\"><thead><tr>");
    for field in &fields {
        heading(html, *field, place);
    }
    html.raw("</tr></thead><tbody>");
    for device in devices {
        html.raw("<tr id=\"");
        text(html, device, Field::Uid);
        html.raw("\">");
        for field in &fields {
            cell(html, device, *field, now);
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>");
}

/// The statuses with their glyphs and tones, for the script.
pub(super) fn glyphs(html: &mut Html) {
    use DeviceStatus::{Late, Lost, Offline, Online, Pending, Rejected, Revoked};
    for status in [Online, Late, Offline, Lost, Pending, Rejected, Revoked] {
        let spec = Glyph::of(status).spec();
        html.text(status.word()).raw(" ").text(spec.unicode).raw(" ");
        html.raw(words::tone(spec.tone)).raw(" ");
    }
}

/// Use in percent: a bar for the eye and a number for everybody, or that there is none.
fn percent(html: &mut Html, device: &dyn Subject, field: Field) {
    match value(device, field) {
        Some(value) => {
            html.raw("<meter max=\"100\" low=\"75\" high=\"90\" value=\"");
            html.text(format_args!("{value:.0}")).raw("\" aria-label=\"");
            text(html, device, Field::Device);
            html.raw(" ").text(field.spec().title).raw("\"></meter>").text(words::percent(value));
        }
        None => none(html),
    }
}

/// What a device measured last, while it can be heard: an old value would look like a live one.
fn value(device: &dyn Subject, field: Field) -> Option<f64> {
    device.number(field).filter(|_| device.status().is_heard())
}

/// A column's name, which leads to the table sorted by it.
fn heading(html: &mut Html, field: Field, place: &Place) {
    let spec = field.spec();
    let current = (place.sort.field == field).then_some(place.sort.is_descending);
    // What is measured is wanted highest first.
    let is_descending = current.map_or(spec.is_fast && spec.is_number(), |current| !current);
    html.raw("<th scope=\"col\" data-field=\"").text(spec.name).raw("\"");
    match current {
        Some(false) => html.raw(" aria-sort=\"ascending\""),
        Some(true) => html.raw(" aria-sort=\"descending\""),
        None => html,
    };
    html.raw("><a href=\"");
    place.sorted(SortKey { field, is_descending }).link(html);
    html.raw("\">").text(spec.title);
    if let Some(current) = current {
        let glyph = if current { Glyph::SortDown } else { Glyph::SortUp };
        html.raw(" <i aria-hidden=\"true\">").text(glyph.spec().unicode).raw("</i>");
    }
    html.raw("</a></th>");
}

/// One cell of a device's row.
pub(super) fn cell(html: &mut Html, device: &dyn Subject, field: Field, now: Timestamp) {
    if field == Field::Device {
        html.raw("<th scope=\"row\"><a href=\"/devices/");
        text(html, device, field);
        html.raw("\">");
        text(html, device, field);
        html.raw("</a>");
        return;
    }
    // The next cell ends this one: a thousand ends of cells would be a tenth of the page.
    html.raw("<td>");
    match field {
        Field::Status => words::status(html, device.status()),
        Field::Cpu | Field::Memory | Field::Disk => percent(html, device, field),
        Field::Temperature => match value(device, field) {
            Some(value) => {
                html.text(format_args!("{value:.0} °C"));
            }
            None => none(html),
        },
        Field::Seen => match device.time(field) {
            Some(at) => words::ago(html, at, now),
            None => none(html),
        },
        Field::Why => why(html, device),
        Field::Tags => {
            for tag in tags(device.metadata("tags")) {
                html.text(Untrusted::from(tag)).raw(" ");
            }
        }
        other => text(html, device, other),
    }
}

/// What is wrong with a device; nothing about one that is well.
fn why(html: &mut Html, device: &dyn Subject) {
    text(html, device, Field::Why);
    if device.status() == DeviceStatus::Pending
        && let Some(fingerprint) = device.text(Field::Fingerprint)
    {
        html.raw(" <code>").text(Untrusted::from(fingerprint.as_ref())).raw("</code>");
    }
}

/// A field that is text, from whoever.
pub(super) fn text(html: &mut Html, device: &dyn Subject, field: Field) {
    if let Some(text) = device.text(field) {
        html.text(Untrusted::from(text.as_ref()));
    }
}

/// That there is nothing.
fn none(html: &mut Html) {
    html.raw("<i class=\"").raw(words::tone(Tone::Muted)).raw("\">");
    html.text(Glyph::None.spec().unicode).raw("</i>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(place: &Place) -> String {
        let mut html = Html::default();
        place.link(&mut html);
        html.into_string()
    }

    #[test]
    fn a_place_is_in_its_url() {
        let mut place = Place { page: 1, ..Place::default() };
        assert_eq!(link(&place), "/");
        place.filter = "status=offline and tag:\"a b\"".to_owned();
        place.sort = "-cpu".parse().unwrap();
        let filter = "/?filter=status%3Doffline%20and%20tag%3A%22a%20b%22&amp;sort=-cpu";
        assert_eq!(link(&place), filter);
        place.page = 3;
        assert_eq!(link(&place), format!("{filter}&amp;page=3"));
    }

    /// The style sheet counts columns to align them, and to leave some out on narrow screens.
    #[test]
    fn the_columns_are_those_that_the_style_counts() {
        let names: Vec<_> = Field::usual().into_iter().map(|field| field.spec().name).collect();
        let styled = [
            "status",
            "device",
            "type",
            "cpu",
            "mem",
            "disk",
            "last_seen",
            "version",
            "why",
            "tag",
        ];
        assert_eq!(names, styled);
    }
}
