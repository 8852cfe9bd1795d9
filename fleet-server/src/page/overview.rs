//! The overview: one sentence, counts, the devices with problems first, and what happened last.

use fleet_core::field::SortKey;
use fleet_core::filter::{Filter, FilterError, Words, missing, suggestion};
use fleet_core::glyph::Glyph;
use fleet_core::limits::FILTER_BYTES_MAX;

use super::counts::Counts;
use super::html::Html;
use super::layout::{Sheet, found};
use super::table::{Place, table};
use super::{Ask, Reader, events, ok, words};
use crate::http::query::Query;
use crate::http::reply::{Failure, Reply};
use crate::live::Listing;
use crate::ops::Access;
use crate::store::StoreHealth;

/// Devices of one page.
const PAGE_DEVICES: usize = 100;
/// Events at the end of the page.
const EVENTS_SHOWN: usize = 10;

/// `GET /` for somebody who may see everything.
pub(super) async fn show(
    ask: Ask<'_>,
    reader: &Reader,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    let query = Query::parse(query, &["filter", "sort", "page"])?;
    let ops = &ask.http.ops;
    let wanted = query.get("filter").unwrap_or_default();
    let sort: SortKey = query.parsed("sort")?.unwrap_or_default();
    let live = &ask.http.live;
    let access = &reader.access;
    let counts = Counts::kept(&live.counts(access));
    if ask.browser.wants_json {
        return Ok(ok(&counts.summary()));
    }
    let now = ops.world.now();
    let filter = Filter::parse(wanted, Words::Refused);
    let listing = live.list(access, filter.as_ref().unwrap_or(&Filter::default()), sort);
    let total = listing.len();
    let pages = total.div_ceil(PAGE_DEVICES).max(1);
    let page = query.count("page", usize::MAX)?.unwrap_or(1).min(pages);
    let place = Place { filter: wanted.to_owned(), sort, page };
    let shown = (page - 1) * PAGE_DEVICES..total.min(page * PAGE_DEVICES);

    let mut html = Html::default();
    summary(&mut html, &counts, Some(&ops.world.health()));
    if counts.total() == 0 {
        first_steps(&mut html);
    } else {
        search(&mut html, &place, filter.as_ref().err());
        if total == 0 {
            nothing(&mut html, wanted, &live.list(access, &Filter::default(), sort));
        } else {
            table(&mut html, &listing.part(shown.clone()), &place, now);
            turning(&mut html, &place, shown, total);
        }
    }
    events::section(&mut html, &events::newest(ops, access, None, EVENTS_SHOWN).await?, now);
    let sheet = Sheet {
        title: counts.title(),
        reader: Some(reader),
        is_live: true,
        identity: Some(ask.http.page.identity),
        content: html,
    };
    Ok(found(ask.browser, &sheet))
}

/// `GET /` for anybody: numbers without names. They are those of the live streams, so that however
/// often strangers ask, no list of all devices is made for them.
pub(super) fn show_to_anybody(ask: Ask<'_>) -> Reply {
    // Nobody's key bounds what everybody may see.
    let counts = Counts::kept(&ask.http.live.counts(&Access::server()));
    if ask.browser.wants_json {
        return ok(&counts.summary());
    }
    let mut html = Html::default();
    summary(&mut html, &counts, None);
    html.raw("<p><a href=\"/sign-in\">Sign in</a> to see which.</p>");
    let sheet =
        Sheet { title: counts.title(), reader: None, is_live: true, identity: None, content: html };
    found(ask.browser, &sheet)
}

/// The sentence and the counts; for those who may see everything also what is wrong with the
/// server's store, and the counts lead to their devices.
fn summary(html: &mut Html, counts: &Counts, health: Option<&StoreHealth>) {
    let has_links = health.is_some();
    html.raw("<div id=\"summary\"><h1><span role=\"status\">");
    for (position, part) in counts.parts().iter().enumerate() {
        if position > 0 {
            html.raw(", ");
        }
        match part.glyph {
            Some(glyph) => words::marked(html, glyph, &part.words),
            None => {
                html.text(&part.words);
            }
        }
    }
    html.raw("</span></h1>");
    if let Some(StoreHealth::Degraded(reason)) = health {
        html.raw("<p role=\"alert\">");
        words::marked(html, Glyph::Failed, format!("The server's store: {reason}"));
        html.raw("</p>");
    }
    html.raw("<ul class=\"counts\">");
    for (status, number) in counts.shown() {
        html.raw("<li>");
        if has_links {
            html.raw("<a href=\"/?filter=status%3D").parameter(status.word()).raw("\">");
        }
        words::marked(html, Glyph::of(status), words::count(number));
        html.raw(" ").text(status.word());
        html.raw(if has_links { "</a></li>" } else { "</li>" });
    }
    if has_links && counts.total() > 0 {
        html.raw("<li><a href=\"/\">all ").text(words::count(counts.total())).raw("</a></li>");
    }
    html.raw("</ul></div>");
}

/// The filter, and what is wrong with it.
fn search(html: &mut Html, place: &Place, error: Option<&FilterError>) {
    html.raw("<form class=\"filter\" role=\"search\"><label for=\"filter\">Filter</label>");
    html.raw("<input id=\"filter\" name=\"filter\" type=\"search\" autocapitalize=\"off\" ");
    html.raw(
        "autocomplete=\"off\" spellcheck=\"false\" placeholder=\"status=offline and tag:lab\"",
    );
    html.raw(" maxlength=\"").text(FILTER_BYTES_MAX).raw("\" value=\"").text(&place.filter);
    html.raw("\">");
    if place.sort != SortKey::default() {
        html.raw("<input type=\"hidden\" name=\"sort\" value=\"").text(place.sort).raw("\">");
    }
    html.raw("<button>Show</button></form>");
    if let Some(error) = error {
        html.raw("<div class=\"problem\" role=\"alert\"><pre>");
        for line in error.caret(&place.filter).lines() {
            html.text(line).raw("\n");
        }
        html.raw("</pre>All devices are shown.</div>");
    }
    html.raw("<p id=\"again\" hidden><a href=\"");
    place.link(html);
    html.raw("\">The fleet has changed. Show the list anew</a></p>");
}

/// That no device matches a filter, and what may have been meant.
fn nothing(html: &mut Html, filter: &str, all: &Listing) {
    html.raw("<p>No device matches");
    if let Some(missing) = missing(filter, all.devices().iter()) {
        html.raw(": none has <code>").text(missing).raw("</code>");
    }
    html.raw(". ");
    if let Some(meant) = suggestion(filter, all.devices().iter()) {
        let place = Place { filter: meant.filter, ..Place::default() };
        html.raw("Did you mean <a href=\"");
        place.link(html);
        html.raw("\"><code>").text(&place.filter).raw("</code></a>? ");
    }
    html.raw("<a href=\"/\">Show all</a></p>");
}

/// Which part of the list this is, and the way to the others.
fn turning(html: &mut Html, place: &Place, shown: std::ops::Range<usize>, total: usize) {
    html.raw("<nav class=\"turning\" aria-label=\"Pages\"><span>");
    html.text(words::count(shown.start + 1)).raw("–").text(words::count(shown.end)).raw(" of ");
    html.text(words::count(total)).raw("</span>");
    let mut turn = |page: usize, rel: &'static str, word: &'static str| {
        html.raw(" <a rel=\"").raw(rel).raw("\" href=\"");
        Place { page, ..place.clone() }.link(html);
        html.raw("\">").raw(word).raw("</a>");
    };
    if place.page > 1 {
        turn(place.page - 1, "prev", "Previous");
    }
    if shown.end < total {
        turn(place.page + 1, "next", "Next");
    }
    html.raw("</nav>");
}

/// What to do with a server that has no devices.
fn first_steps(html: &mut Html) {
    html.raw("<div class=\"steps\"><p>Bring in the first one:</p><ol>");
    html.raw("<li>On the device, start <code>fleetd agent</code>.</li>");
    html.raw("<li>On this network, run <code>fleets configure</code> and choose it.</li>");
    html.raw("</ol><p>It appears here as soon as it reports.</p></div>");
}
