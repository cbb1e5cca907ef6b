//! Why replicas had no place, by cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::{Query, State};
use futures::stream::{self, StreamExt};
use maud::{Markup, html};
use serde::Deserialize;
use types::DeploymentId;
use words::{Names, plural};

use super::super::range::{self, Range};
use super::{cut, lasted, page_of, tabs};
use crate::app::App;
use crate::index::operate::{self, Counted, WaitRow};
use crate::index::query;
use crate::pages::explorer::{behind, now_of};
use crate::pages::shown;
use crate::ui::{Figure, Place, Tone, badge, cli, empty, icon, kpi, when};
use crate::web::{Page, Visitor, escaped};
use ledger::deployment::RETRY_MS;

/// Deployments that the ledger is asked about at once, and how long in all.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
pub struct Filter {
    cause: Option<String>,
    range: Option<String>,
    page: Option<usize>,
}

/// What the ledger says of a replica that the index has waiting; `None`: it was not asked in time.
type Waiting = BTreeMap<DeploymentId, Option<BTreeSet<(String, u32)>>>;

/// A release may have given a replica up without an event: the ledger knows.
async fn still_waiting(app: &App, rows: &[WaitRow]) -> Waiting {
    let open = rows.iter().filter(|row| row.until_ms.is_none());
    let ids: BTreeSet<DeploymentId> = open.map(|row| row.deployment).collect();
    let mut answers: Waiting = ids.iter().map(|id| (*id, None)).collect();
    let mut asked = stream::iter(ids)
        .map(|id| {
            let client = app.client.clone();
            async move { (id, client.deployment(id).await) }
        })
        .buffer_unordered(AT_ONCE);
    let all = async {
        while let Some((id, answer)) = asked.next().await {
            let waiting = answer.ok().map(|view| {
                let all = view.unplaced.into_iter();
                all.map(|u| (u.service, u.replica)).collect()
            });
            answers.insert(id, waiting);
        }
    };
    let _ = tokio::time::timeout(PATIENCE, all).await;
    answers
}

fn state(row: &WaitRow, waiting: &Waiting) -> Markup {
    let seat = (row.service.clone(), row.replica as u32);
    let said = waiting.get(&row.deployment).and_then(Option::as_ref);
    match (row.until_ms, said) {
        (Some(_), _) => badge(Tone::Ok, "Over"),
        (None, Some(still)) if still.contains(&seat) => badge(Tone::Warn, "Waits"),
        (None, Some(_)) => badge(Tone::Plain, "Not wanted any more"),
        (None, None) => html! { span.dim { "not known" } },
    }
}

fn by_cause(causes: &[Counted], chosen: Option<&str>, range: Range) -> Markup {
    html! {
        div.tablewrap tabindex="0" { table {
            thead { tr { th { "Cause" } th.num { "Replicas" } th.num { "Still open" } } }
            tbody { @for cause in causes { tr {
                td { a.row href=(format!("/operate/placements?range={}&cause={}", range.name, escaped(&cause.name))) aria-current=[(chosen == Some(cause.name.as_str())).then_some("true")] { (title(&cause.name)) } }
                td.num.strong { (words::grouped(cause.all.into())) }
                td.num { (words::grouped(cause.open.into())) }
            } } }
        } }
    }
}

/// A rule of the scheduler, for people.
fn title(cause: &str) -> String {
    match cause {
        "online" => {
            "Hosts that take no work: silent, drained, outside their hours, cordoned, on trial"
                .into()
        }
        "architecture" => "Another architecture".into(),
        "constraints" => "Placement constraints of the service".into(),
        "resources" => "Too little free CPU, memory, disk or bandwidth".into(),
        "tried in vain" => "It could not be made ready on a host".into(),
        "replicas per host" => "As many replicas on a host as it may have".into(),
        "distinct hosts" => "Another replica is there".into(),
        "distinct owners" => "Another replica is with that owner".into(),
        "reliability" => "Hosts of low reputation".into(),
        "spread over regions" => "Enough replicas in that region".into(),
        c if c == ledger::deployment::VOLUMES => "The host of its volumes cannot take it".into(),
        c if c == ledger::deployment::NO_HOSTS => "There are no hosts".into(),
        other => other.into(),
    }
}

fn table(
    rows: &[WaitRow],
    names: &Names,
    own: &BTreeSet<DeploymentId>,
    waiting: &Waiting,
    now: u64,
) -> Markup {
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Replica" } th { "State" } th { "Since" } th { "Waited" } th { "Why" } } }
            tbody { @for row in rows {
                @let project = names.project(&row.deployment);
                tr {
                    td {
                        @if own.contains(&row.deployment) { a.row href=(format!("/jobs/{project}")) { (project) } } @else { span.strong { (project) } }
                        span.second { (row.service) "." (row.replica) " of " (row.deployment) }
                    }
                    td data-l="State" { (state(row, waiting)) }
                    td data-l="Since" { span.nowrap { (when(row.from_ms, now)) " ago" } }
                    td data-l="Waited" { span.nowrap { (lasted(row.from_ms, row.until_ms, now)) } }
                    td.wrap data-l="Why" { (row.why) }
                }
            } }
        } }
    }
}

/// `GET /operate/placements`
pub async fn placements(
    State(app): State<App>,
    visitor: Visitor,
    Query(filter): Query<Filter>,
) -> Page {
    let range = Range::of(filter.range.as_deref());
    let page = page_of(filter.page);
    let cause = filter.cause.filter(|c| !c.is_empty() && c.len() <= 100);
    let me = visitor.login.as_ref().map(|login| login.account());
    let (since, of) = (range.since_ms(now_of(&app)), cause.clone());
    let (mut rows, causes, (all, open), names, own) = app
        .index
        .ask(move |store| {
            Ok((
                operate::waits(store, of.as_deref(), since, page - 1)?,
                operate::cause_counts(store, since)?,
                operate::wait_counts(store, since)?,
                query::names(store)?,
                match me {
                    Some(me) => operate::deployments_of(store, &me)?,
                    None => BTreeSet::new(),
                },
            ))
        })
        .await?;
    let now = now_of(&app);
    let base = format!(
        "/operate/placements?range={}&cause={}&",
        range.name,
        escaped(cause.as_deref().unwrap_or(""))
    );
    let pager = cut(&mut rows, page, &base);
    let waiting = still_waiting(&app, &rows).await;
    let with_cause = cause
        .as_ref()
        .map_or_else(String::new, |c| format!("cause={}&", escaped(c)));
    let content = html! {
        div.pagehead {
            div { h1 { "Placements" } p.sub { "Replicas that had no place in the last " (range.title) ", and why: by the ledger's events" } }
            div.acts { (range::links(&format!("/operate/placements?{with_cause}"), range.name)) }
        }
        (tabs("/operate/placements"))
        @if let Some(said) = behind(&app) { (said) }
        div.grid {
            (kpi(Figure { label: "Had no place", value: Some(words::grouped(all.into())), unit: "", note: html! { "replicas, the last " (range.title) }, spark: None }))
            (kpi(Figure { label: "Not placed since", value: Some(words::grouped(open.into())), unit: "", note: html! { "the ledger goes on trying" }, spark: None }))
            (kpi(Figure { label: "Causes", value: Some(causes.len().to_string()), unit: "", note: html! { "a replica may have several" }, spark: None }))
            (kpi(Figure { label: "Tried again every", value: Some((RETRY_MS / 1_000).to_string()), unit: "s", note: html! { "and when something changes" }, spark: None }))
        }
        @if !causes.is_empty() {
            section.card.flush.gap-below {
                header { div { h2 { "By cause" } p.sub { "Rules that left out hosts: choose one to see its replicas" } } @if cause.is_some() { div.more { a href=(format!("/operate/placements?range={}", range.name)) { (icon("x")) "All causes" } } } }
                (by_cause(&causes, cause.as_deref(), range))
            }
        }
        section.card.flush {
            header { div { h2 { @match &cause { Some(cause) => { (title(cause)) } None => { "Replicas" } } } p.sub { (plural(rows.len() as u64, "replica", "replicas")) " on this page; jobs of yours are links" } } }
            @if rows.is_empty() { (empty("map-pin", "Every replica had a place", "Nothing waited for a host in this time.", None)) }
            @else { (table(&rows, &names, &own, &waiting, now)) (pager) }
        }
        (cli(&format!("runrig network placements --since {}", range.since)))
    };
    shown(&app, &visitor, Place::Operate, "Placements", content).await
}
