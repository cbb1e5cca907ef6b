//! What went wrong, from when until when, and whether it is over.

use axum::extract::{Query, State};
use maud::{Markup, html};
use sdk::IncidentKind;
use serde::Deserialize;
use words::plural;

use super::super::range::{self, Range};
use super::{cut, lasted, page_of};
use crate::app::App;
use crate::index::operate::{self, Counted, IncidentRow};
use crate::pages::explorer::{behind, now_of};
use crate::pages::shown;
use crate::ui::{Figure, Place, Tone, badge, cli, empty, icon, kpi, when};
use crate::web::{Page, Visitor};

#[derive(Deserialize)]
pub struct Filter {
    kind: Option<String>,
    range: Option<String>,
    /// Only those that go on.
    open: Option<String>,
    page: Option<usize>,
}

fn of_name(name: &str) -> Option<IncidentKind> {
    IncidentKind::ALL.into_iter().find(|k| k.name() == name)
}

fn picture(kind: Option<IncidentKind>) -> &'static str {
    match kind {
        Some(IncidentKind::Silent) => "wifi-off",
        Some(IncidentKind::Left) => "log-out",
        Some(IncidentKind::Convicted) => "circle-x",
        Some(IncidentKind::Turns) => "clock",
        Some(IncidentKind::Ceremony | IncidentKind::Beacon | IncidentKind::Revealed) => "key-round",
        Some(IncidentKind::Flagged) | None => "triangle-alert",
    }
}

/// What is bad of itself, what goes on, what is over.
fn state(row: &IncidentRow) -> Markup {
    match (of_name(&row.kind), row.until_ms) {
        (_, None) => badge(Tone::Bad, "Goes on"),
        (Some(IncidentKind::Convicted), _) => badge(Tone::Bad, "Bond lost"),
        (Some(IncidentKind::Flagged), _) => badge(Tone::Warn, "Noted"),
        (Some(IncidentKind::Left), _) => badge(Tone::Plain, "Gone"),
        _ => badge(Tone::Ok, "Over"),
    }
}

fn table(rows: &[IncidentRow], now: u64) -> Markup {
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Incident" } th { "State" } th { "From" } th { "Until" } th { "Lasted" } th { "Block" } } }
            tbody { @for row in rows {
                @let kind = of_name(&row.kind);
                @let host = matches!(kind, Some(IncidentKind::Silent | IncidentKind::Flagged));
                tr {
                    td.wrap {
                        span.strong { (icon(picture(kind))) " " (kind.map_or(row.kind.as_str(), |k| k.title())) }
                        span.second.wrap {
                            @if host { a href=(format!("/explorer/hosts/{}", row.subject)) { (row.words) } } @else { (row.words) }
                            @if kind == Some(IncidentKind::Turns) { ": " (plural(row.times, "turn", "turns")) }
                        }
                    }
                    td data-l="State" { (state(row)) }
                    td data-l="From" { span.nowrap title=(format!("{} UTC", words::utc(row.from_ms))) { (when(row.from_ms, now)) " ago" } }
                    td data-l="Until" { @match row.until_ms { Some(until) => { span.nowrap { (when(until, now)) " ago" } } None => { "–" } } }
                    td data-l="Lasted" { span.nowrap { (lasted(row.from_ms, row.until_ms, now)) } }
                    td data-l="Block" { a href=(format!("/explorer/blocks/{}", row.height)) { (words::grouped(row.height.into())) } }
                }
            } }
        } }
    }
}

fn count(counts: &[Counted], kinds: &[IncidentKind], of: fn(&Counted) -> u64) -> u64 {
    let wanted = |c: &&Counted| kinds.iter().any(|k| k.name() == c.name);
    counts.iter().filter(wanted).map(of).sum()
}

/// `GET /operate/incidents`
pub async fn incidents(
    State(app): State<App>,
    visitor: Visitor,
    Query(filter): Query<Filter>,
) -> Page {
    let range = Range::of(filter.range.as_deref());
    let page = page_of(filter.page);
    let kind = filter.kind.as_deref().and_then(of_name);
    let open = filter.open.is_some();
    let since = range.since_ms(now_of(&app));
    let (mut rows, counts) = app
        .index
        .ask(move |store| {
            let name = kind.map(IncidentKind::name);
            Ok((
                operate::incidents(store, name, open, since, page - 1)?,
                operate::incident_counts(store, since)?,
            ))
        })
        .await?;
    let now = now_of(&app);
    let mut base = String::from("/operate/incidents?");
    if let Some(kind) = kind {
        base.push_str(&format!("kind={}&", kind.name()));
    }
    if open {
        base.push_str("open=on&");
    }
    let pager = cut(&mut rows, page, &format!("{base}range={}&", range.name));
    use IncidentKind as K;
    let figure = |label, kinds: &[K], note: &'static str| {
        let all = count(&counts, kinds, |c| c.all);
        let open = count(&counts, kinds, |c| c.open);
        kpi(Figure {
            label,
            value: Some(words::grouped(all.into())),
            unit: "",
            note: html! { @if open > 0 { span.bad { (open) " " @if open == 1 { "goes" } @else { "go" } " on" } } @else { (note) } },
            spark: None,
        })
    };
    let content = html! {
        div.pagehead {
            div { h1 { "Incidents" } p.sub { "What went wrong in the last " (range.title) ", by certified events and headers" } }
            div.acts { (range::links(&base, range.name)) }
        }
        @if let Some(said) = behind(&app) { (said) }
        div.grid {
            (figure("Hosts silent", &[K::Silent], "none is silent now"))
            (figure("Hosts flagged or gone", &[K::Flagged, K::Left], "by witnesses, or by their owner"))
            (figure("Evidence", &[K::Convicted], "two blocks for one view"))
            (figure("Turns and epochs", &[K::Turns, K::Beacon, K::Ceremony, K::Revealed], "missed turns, failed ceremonies, shares shown"))
        }
        div.card.flush {
            header {
                form.filters action="/operate/incidents" {
                    label.sr for="kind" { "Kind" }
                    select.short id="kind" name="kind" {
                        option value="" { "All kinds" }
                        @for one in K::ALL { option value=(one.name()) selected[kind == Some(one)] { (one.title()) } }
                    }
                    input type="hidden" name="range" value=(range.name);
                    label.check.inline { input type="checkbox" name="open" checked[open]; span { "Only what goes on" } }
                    button.btn { (icon("funnel")) "Filter" }
                }
            }
            @if rows.is_empty() { (empty("circle-check", "Nothing went wrong", "No incident of this kind in this time.", None)) }
            @else { (table(&rows, now)) (pager) }
        }
        (cli(&format!("runrig network incidents --since {}", range.since)))
    };
    shown(&app, &visitor, Place::Incidents, "Incidents", content).await
}
