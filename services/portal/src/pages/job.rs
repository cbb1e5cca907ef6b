//! One deployment: replicas and why each is where it is, live log, releases, events, receipts.

use api::{AllocationView, DeploymentView, JobState};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect};
use futures::StreamExt;
use ledger::deployment::{Call as Deployments, Cause};
use maud::{Markup, html};
use serde::Deserialize;
use similar::{ChangeTag, TextDiff};
use words::{bytes, cores, plural};

use super::explorer::{happenings, now_of};
use super::jobs::{address, live, own_deployment, tone, word};
use super::{lines, shown, slowly};
use crate::app::App;
use crate::index::{EventFilter, query};
use crate::limits::Act;
use crate::ui::{
    self, Figure, Place, Tone, alert, badge, cli, copy, credits, crumbs, empty, icon, image, kpi,
    meter, no_right, when,
};
use crate::web::{Form, Page, Right, Trouble, Visitor};

/// Replicas whose placement is explained on one page.
const WHY_MAX: usize = 12;

pub(super) fn head(visitor: &Visitor, view: &DeploymentView, tab: &str) -> Markup {
    let state = view.state();
    let name = &view.project;
    let base = address(name, view.deployment);
    let act = format!("{base}/act");
    let lack = visitor.lack(Right::Deploy, "restart, scale, stop or remove jobs");
    let button = |what: &str, class: &str, content: Markup| {
        html! {
            form.inline method="post" action=(act) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="act" value=(what);
                button class={ "btn small " (class) } { (content) }
            }
        }
    };
    let tabs = [
        ("", "Overview"),
        ("/logs", "Logs"),
        ("/shell", "Shell"),
        ("/metrics", "Metrics"),
        ("/variables", "Variables"),
        ("/network", "Network"),
        ("/compose", "Compose file"),
        ("/releases", "Releases"),
        ("/events", "Events"),
        ("/receipts", "Receipts"),
    ];
    html! {
        (crumbs(&[("/jobs", "Jobs")]))
        @if view.limited && !view.removed {
            (alert(Tone::Warn, html! { p.strong { "Stopped by the limit" } p { "This month's limit is reached for this job; its data is kept. " a href="/bills/limits" { "See the limits" } } }))
        }
        div.pagehead {
            div { h1 { (name) } p.sub { (view.deployment) " · release " (view.release) @if view.good == view.release { ", good" } } }
            div.acts {
                (badge(tone(state), word(state)))
                @if !view.removed && lack.is_none() {
                    @if state == JobState::Stopped { (button("start", "", html! { (icon("play")) "Start" })) }
                    @else { (button("restart", "", html! { (icon("rotate-cw")) "Restart" })) (button("stop", "", html! { (icon("square")) "Stop" })) }
                    a.btn.small href=(format!("{base}/scale")) { (icon("layers")) "Scale" }
                    details.pop {
                        summary.btn.small.danger { (icon("trash-2")) "Remove" }
                        div.sheet {
                            div.head { p.strong { "Remove " (name) "?" } p.dim { "Everything stops; escrow comes back once the last use is settled." } }
                            form method="post" action=(act) {
                                input type="hidden" name="csrf" value=(visitor.form_token());
                                input type="hidden" name="act" value="remove";
                                @if !view.spec.volumes.is_empty() {
                                    label.check { input type="checkbox" name="volumes" value="yes"; span { "Delete its volumes too. What they hold is gone then; left here, it stays where it is." } }
                                }
                                button.bad { (icon("trash-2")) "Remove it now" }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(lack) = lack.filter(|_| !view.removed && tab.is_empty()) { (no_right(&lack)) }
        nav.tabs aria-label="Parts of this job" {
            @for (path, label) in tabs { a href=(format!("{base}{path}")) aria-current=[(tab == path).then_some("page")] { (label) } }
        }
    }
}

/// Where each service answers, through the gateway.
pub(super) fn addresses(app: &App, view: &DeploymentView) -> Vec<(String, String)> {
    let authority = app.gateway.split("://").last().unwrap_or("");
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let mut all = Vec::new();
    for (name, service) in &view.spec.services {
        for port in &service.ports {
            if let Some(published) = port.published {
                let scheme = if port.protocol == types::Protocol::Udp {
                    "udp"
                } else {
                    "http"
                };
                all.push((name.clone(), format!("{scheme}://{host}:{published}")));
            }
        }
        let tcp = service
            .ports
            .iter()
            .any(|p| p.protocol == types::Protocol::Tcp);
        if tcp || !service.expose.is_empty() {
            let part = name.replace(['_', '.'], "-").to_lowercase();
            all.push((
                name.clone(),
                format!("http://{part}.{}.localhost:{port}", view.label),
            ));
        }
    }
    all
}

/// A placement's reason in words: who was looked at, who scored what, what decided.
fn why_words(why: &api::WhyView) -> Markup {
    let name = |id: &types::HostId| {
        why.names
            .get(&id.to_string())
            .cloned()
            .unwrap_or_else(|| words::brief(&id.to_string()))
    };
    let reason = &why.reason;
    html! {
        p { "At block " (words::grouped(reason.height.into())) ", " (plural(reason.probed.into(), "host was", "hosts were")) " looked at and " (reason.scored) " could hold it." }
        @for dropped in &reason.dropped { p.dim { (plural(dropped.hosts.into(), "host", "hosts")) " fell out: " (dropped.rule) } }
        @for relaxed in &reason.relaxed { p.dim { "Too few hosts for the rule “" (relaxed) "”; it was relaxed." } }
        div.tablewrap tabindex="0" { table {
            thead { tr { th { "Host" } th.num { "Score" } th { "Made of" } } }
            tbody { @for (at, candidate) in reason.candidates.iter().enumerate() { tr {
                td { @if at == 0 { span.strong { (name(&candidate.host)) } span.second { "chosen" } } @else { (name(&candidate.host)) } }
                td.num.mono { (candidate.score) }
                td.dim { @for (n, term) in candidate.terms.iter().filter(|t| t.value != 0).enumerate() { @if n > 0 { ", " } (term.feature) " " (term.value * term.weight) } }
            } } }
        } }
    }
}

fn replica_row(one: &AllocationView, now: u64) -> Markup {
    let (tone, word) = ui::status(one);
    html! {
        tr {
            td { span.strong { (one.service) "." (one.replica) } span.second { (one.allocation) ", release " (one.release) } }
            td data-l="State" { (badge(tone, word)) @if !one.status.message.is_empty() { span.second.wrap { (one.status.message) } } }
            td data-l="Host" { a href=(format!("/explorer/hosts/{}", one.host)) { (one.host_name) } }
            td data-l="Reserved" { span.nowrap { (cores(one.reserved.cpu_millis.into())) " cores, " (bytes(one.reserved.memory_bytes.into())) } }
            td.num data-l="Restarts" { (one.status.restarts) }
            td.num.strong data-l="Charged" { (credits(one.charged)) }
            td.num data-l="Since" { (when(one.placed_ms, now)) }
        }
    }
}

/// What of a job changes while it is looked at.
async fn now_part(app: &App, visitor: &Visitor, view: &DeploymentView) -> Result<Markup, Trouble> {
    let login = visitor.login()?;
    let (name, now) = (&view.project, now_of(app));
    let replicas: Vec<&AllocationView> = live(view).collect();
    let stats = sample(&login.client(app), &login.key, &replicas).await;
    let ready = replicas.iter().filter(|a| a.status.is_ready()).count();
    let restarts: u32 = replicas.iter().map(|a| a.status.restarts).sum();
    Ok(html! {
        (head(visitor, view, ""))
        @if let Some(setback) = &view.setback { (alert(Tone::Warn, html! { p.strong { "Release " (setback.release) " failed" } p { (setback.why) } })) }
        @for one in &view.unplaced { (alert(Tone::Warn, html! { p.strong { (one.service) "." (one.replica) " has no place" } p { (one.why) " The ledger goes on trying." } })) }
        @for one in &view.tried { (alert(Tone::Warn, html! { p.strong { (one.service) "." (one.replica) " could not be made ready " @if one.times == 1 { "once" } @else { (one.times) " times" } } p { "Tried on " (plural(one.hosts.len() as u64, "host", "hosts")) " so far. The ledger tries again, elsewhere if it can; " a href=(format!("/jobs/{name}/events")) { "the events" } " say why it failed." } })) }
        div.grid {
            (kpi(Figure { label: "Ready replicas", value: Some(ready.to_string()), unit: &format!("of {}", view.wanted_all()), note: html! { (plural(restarts.into(), "restart", "restarts")) }, spark: None }))
            (kpi(Figure { label: "Charged in all", value: Some(words::credits(view.charged)), unit: "credits", note: html! { a href=(format!("/jobs/{name}/receipts")) { "Every receipt" } }, spark: None }))
            (kpi(Figure { label: "In escrow", value: Some(words::credits(view.escrow)), unit: "credits", note: html! { "comes back when it is removed" }, spark: None }))
            (kpi(Figure { label: "Running since", value: Some(words::span(now.saturating_sub(view.created_ms))), unit: "", note: html! { (words::utc(view.created_ms)) " UTC" }, spark: None }))
        }
        div.grid {
            section.card.flush.s8 {
                header { div { h2 { "Replicas" } } div.more { a href=(format!("/jobs/{name}/logs")) { "Live log" } (icon("chevron-right")) } }
                @if replicas.is_empty() { (empty("box", "None lives", "This job was removed, or nothing has been placed yet.", None)) }
                @else { div.tablewrap { table.cards {
                    thead { tr { th { "Replica" } th { "State" } th { "Host" } th { "Reserved" } th.num { "Restarts" } th.num { "Charged" } th.num { "Age" } } }
                    tbody { @for one in &replicas { (replica_row(one, now)) } }
                } } }
            }
            section.card.s4 {
                header { div { h2 { "Use now" } p.sub { "A sample from each host, just taken" } } }
                @if stats.is_empty() { (empty("gauge", "Not known", "No replica runs, or its host does not answer.", None)) }
                @else { div.stack { @for one in &stats {
                    div {
                        div.row { span.strong { (one.service) " " (one.allocation) } span.dim { (cores(one.cpu_millis)) " / " (cores(one.cpu_limit_millis)) " cores, " (bytes(one.memory_bytes.into())) " / " (bytes(one.memory_limit_bytes.into())) } }
                        (meter(one.cpu_millis.into(), one.cpu_limit_millis.into(), "full")) (meter(one.memory_bytes.into(), one.memory_limit_bytes.into(), "full"))
                    }
                } } }
            }
        }
    })
}

/// `GET /parts/jobs/{name}`: what a job's page reads again.
pub async fn now(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    Ok(now_part(&app, &visitor, &view).await?.into_response())
}

/// `GET /jobs/{name}`
pub async fn overview(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let login = visitor.login()?;
    let view = own_deployment(&app, login, &name).await?;
    let placed = live(&view).take(WHY_MAX).map(|a| a.allocation);
    let reasons: Vec<api::WhyView> = futures::stream::iter(placed.collect::<Vec<_>>())
        .map(|id| {
            let client = app.client.clone();
            async move { client.why(id).await.ok() }
        })
        .buffered(4)
        .filter_map(futures::future::ready)
        .collect()
        .await;
    let urls = addresses(&app, &view);
    let content = html! {
        div data-refresh=(format!("/parts/jobs/{name}")) data-every="2" { (now_part(&app, &visitor, &view).await?) }
        div.grid {
            section.card.s6 {
                header { div { h2 { "Addresses" } p.sub { "Through the network's gateway" } } }
                @if urls.is_empty() { (empty("globe", "None", "No service publishes or exposes a port.", None)) }
                @else { ul.feed { @for (service, url) in &urls { li { span.ic { (icon("globe")) } div.tx { span.wrap { a href=(url) rel="noreferrer" { (url) } } span.second { (service) } } (copy(url, "the address")) } } } }
            }
            section.card.s6 {
                header { div { h2 { "Services" } p.sub { "Pinned by digest" } } }
                ul.feed { @for (service, spec) in &view.spec.services { li { span.ic { (icon("box")) } div.tx { span { (service) " × " (spec.replicas) } (image(&spec.image.reference)) span.second.mono { (words::brief(&spec.image.digest.hex())) } } } } }
            }
            section.card.s12 {
                header { div { h2 { "Why each is where it is" } p.sub { "As the ledger decided and keeps it" } } }
                @if reasons.is_empty() { (empty("map-pin", "Not known", "Nothing is placed.", None)) }
                @else { div.stack { @for why in &reasons { details open[reasons.len() == 1] { summary { span.strong { (why.service) "." (why.replica) } " on " (why.names.get(&why.host.to_string()).map_or("its host", String::as_str)) } (why_words(why)) } } } }
            }
        }
        (cli(&format!("runrig ps {name}")))
    };
    shown(&app, &visitor, Place::Jobs, &name, content).await
}

async fn sample(
    client: &sdk::Client,
    key: &types::SecretKey,
    replicas: &[&AllocationView],
) -> Vec<api::Stats> {
    let running: Vec<_> = replicas
        .iter()
        .filter(|a| a.status.state == types::RunState::Running)
        .take(8)
        .map(|a| a.allocation)
        .collect();
    futures::stream::iter(running)
        .map(|id| {
            let (client, key) = (client.clone(), key.clone());
            async move {
                let one = async {
                    let stats = client.stats(&key, id, false).await.ok()?;
                    std::pin::pin!(stats).next().await?.ok()
                };
                tokio::time::timeout(std::time::Duration::from_secs(2), one)
                    .await
                    .ok()
                    .flatten()
            }
        })
        .buffered(4)
        .filter_map(futures::future::ready)
        .collect()
        .await
}

/// `GET /jobs/{name}/logs`
pub async fn logs(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let login = visitor.login()?;
    let view = own_deployment(&app, login, &name).await?;
    let last = lines::last(&app, login, &view).await;
    let content = html! {
        (head(&visitor, &view, "/logs"))
        div.row { span.badge id="log-state" { "Opening" } span.dim { "All replicas together, times in UTC. It goes on where it was after a cut, and pauses while this tab is hidden." } }
        div.log.stack tabindex="0" role="log" aria-label=(format!("Live log of {name}")) data-stream=(format!("/jobs/{name}/logs/stream")) data-state="log-state" {
            (lines::shown(&name, &last))
        }
        (cli(&format!("runrig logs -f {name}")))
    };
    shown(
        &app,
        &visitor,
        Place::Jobs,
        &format!("Log of {name}"),
        content,
    )
    .await
}

/// What changed from one text to the next, with three lines around.
pub(super) fn diff(old: &str, new: &str) -> Markup {
    let diff = TextDiff::from_lines(old, new);
    html! {
        div.diff tabindex="0" {
            @for group in diff.grouped_ops(3) {
                div.hunk { "…" }
                @for op in &group { @for change in diff.iter_changes(op) {
                    @let (class, sign) = match change.tag() { ChangeTag::Delete => ("del", "-"), ChangeTag::Insert => ("add", "+"), ChangeTag::Equal => ("", " ") };
                    div class=(class) { (sign) (change.value().trim_end_matches('\n')) }
                } }
            }
        }
    }
}

/// `GET /jobs/{name}/releases`
pub async fn releases(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let all = app.client.releases(view.deployment).await?;
    let now = now_of(&app);
    let texts: Vec<String> = all.iter().map(|r| manifest::to_compose(&r.spec)).collect();
    let content = html! {
        (head(&visitor, &view, "/releases"))
        div.stack {
            @for (at, release) in all.iter().enumerate() {
                section.card {
                    header {
                        div {
                            h2 { "Release " (release.release) }
                            p.sub { @match &release.cause { Cause::Deployed => { "Deployed" } Cause::RolledBack { to, why } => { "The same as release " (to) " again" @if !why.is_empty() { ": " (why) } } } " " (when(release.made_ms, now)) " ago" }
                        }
                        div.more {
                            @if release.latest { (badge(Tone::Info, "Latest")) }
                            @if release.good { (badge(Tone::Ok, "Good")) }
                            @if !release.latest && !view.removed && visitor.lack(Right::Deploy, "go back to releases").is_none() {
                                form.inline method="post" action=(format!("/jobs/{name}/act")) {
                                    input type="hidden" name="csrf" value=(visitor.form_token());
                                    input type="hidden" name="act" value="rollback";
                                    input type="hidden" name="release" value=(release.release);
                                    button.btn.small { (icon("undo-2")) "Go back to it" }
                                }
                            }
                        }
                    }
                    @match texts.get(at + 1) {
                        Some(before) if *before == texts[at] => { p.dim { "The same as the release before it." } }
                        Some(before) => { (diff(before, &texts[at])) }
                        None => { details { summary { "Its compose file, as the ledger keeps it" } div.code tabindex="0" { (texts[at]) } } }
                    }
                }
            }
        }
        (cli(&format!("runrig releases {name}")))
    };
    shown(
        &app,
        &visitor,
        Place::Jobs,
        &format!("Releases of {name}"),
        content,
    )
    .await
}

#[derive(Deserialize)]
pub struct Before {
    before: Option<u64>,
}

/// `GET /jobs/{name}/events`
pub async fn events(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(page): Query<Before>,
) -> Page {
    const ROWS: usize = 60;
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let filter = EventFilter {
        deployment: Some(view.deployment),
        before: page.before,
        ..EventFilter::default()
    };
    let rows = app
        .index
        .ask(move |c| query::events(c, &filter, ROWS))
        .await?;
    let base = format!("/jobs/{name}/events");
    let next = (rows.len() == ROWS)
        .then(|| rows.last().map(|r| format!("{base}?before={}", r.sequence)))
        .flatten();
    let content = html! {
        (head(&visitor, &view, "/events"))
        section.card {
            @if rows.is_empty() { (empty("activity", "Nothing yet", "The index has no event of this job.", None)) } @else { (happenings(&rows, now_of(&app))) }
        }
        (ui::pager(&plural(rows.len() as u64, "event", "events"), page.before.map(|_| base.as_str()), next.as_deref()))
        (cli(&format!("runrig events {name}")))
    };
    shown(
        &app,
        &visitor,
        Place::Jobs,
        &format!("Events of {name}"),
        content,
    )
    .await
}

/// `GET /jobs/{name}/receipts`
pub async fn receipts(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(page): Query<Before>,
) -> Page {
    const ROWS: usize = 60;
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let filter = EventFilter {
        deployment: Some(view.deployment),
        kind: Some("receipt".into()),
        before: page.before,
        ..EventFilter::default()
    };
    let rows = app
        .index
        .ask(move |c| query::events(c, &filter, ROWS))
        .await?;
    let base = format!("/jobs/{name}/receipts");
    let next = (rows.len() == ROWS)
        .then(|| rows.last().map(|r| format!("{base}?before={}", r.sequence)))
        .flatten();
    let content = html! {
        (head(&visitor, &view, "/receipts"))
        section.card.flush {
            @if rows.is_empty() { (empty("receipt-text", "No receipt yet", "Hosts report use every few seconds while something runs.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Receipt" } th { "What" } th { "Time" } th { "Block" } th.num { "Credits" } } }
                tbody { @for row in &rows { tr {
                    td { @if let Some(id) = row.receipt { a.row href=(format!("/explorer/receipts/r-{id}")) { "r-" (id) } } }
                    td.wrap data-l="What" { (row.words) }
                    td.nowrap data-l="Time" { (words::utc(row.time_ms)) }
                    td data-l="Block" { a href=(format!("/explorer/blocks/{}", row.height)) { (words::grouped(row.height.into())) } }
                    td.num.mono data-l="Credits" { @if let Some(amount) = row.amount { (amount) } }
                } } }
            } } }
            (ui::pager(&plural(rows.len() as u64, "receipt", "receipts"), page.before.map(|_| base.as_str()), next.as_deref()))
        }
        (cli(&format!("runrig bill {name}")))
    };
    shown(
        &app,
        &visitor,
        Place::Jobs,
        &format!("Receipts of {name}"),
        content,
    )
    .await
}

/// `POST /jobs/{name}/act`
pub async fn act(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    form: Form,
) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let deployment = own_deployment(&app, login, &name).await?.deployment;
    let all = None;
    let call = match form.text("act") {
        "restart" => Deployments::Restart {
            deployment,
            service: all,
        },
        "stop" => Deployments::SetRunning {
            deployment,
            service: all,
            running: false,
        },
        "start" => Deployments::SetRunning {
            deployment,
            service: all,
            running: true,
        },
        "remove" => Deployments::Remove {
            deployment,
            volumes: form.text("volumes") == "yes",
        },
        "rollback" => Deployments::Rollback {
            deployment,
            release: form.text("release").parse().ok(),
        },
        _ => return Err(Trouble::missing("There is no such act")),
    };
    login.submit(&app, ledger::Call::Deployment(call)).await?;
    Ok(Redirect::to(&format!("/jobs/{name}")).into_response())
}
