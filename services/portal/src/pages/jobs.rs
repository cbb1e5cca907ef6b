//! Deployments of who is logged in, as a list.

use api::{AllocationView, DeploymentView};
use axum::extract::{Query, State};
use ledger::deployment::Funding;
use ledger::lease::Desired;
use maud::{Markup, html};
use serde::Deserialize;
use types::RunState;

use super::explorer::now_of;
use super::shown;
use crate::app::App;
use crate::people::Login;
use crate::ui::{self, Place, Tone, badge, cli, credits, empty, icon, image, replica_dots, when};
use crate::web::{Page, Trouble, Visitor};
use crate::words::{bytes, cores, plural};

/// Rows of one page.
const PAGE: usize = 50;

/// The deployment of this name that the person owns; anybody else's is not there.
pub async fn own_deployment(
    app: &App,
    login: &Login,
    name: &str,
) -> Result<DeploymentView, Trouble> {
    let all = app.client.deployments(login.account(), true).await?;
    // Of a name that was used before, the one that lives.
    all.into_iter()
        .filter(|d| d.project == name)
        .max_by_key(|d| (!d.removed, d.deployment))
        .ok_or_else(|| Trouble::missing("You have no job of this name"))
}

/// What a deployment does as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Running,
    Starting,
    Waiting,
    Failing,
    Frozen,
    Limited,
    Stopped,
    Completed,
    Removed,
}

impl JobState {
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Starting,
        Self::Waiting,
        Self::Failing,
        Self::Frozen,
        Self::Limited,
        Self::Stopped,
        Self::Completed,
        Self::Removed,
    ];

    pub fn of(view: &DeploymentView) -> Self {
        let live: Vec<&AllocationView> = live(view).collect();
        let failed = |a: &AllocationView| {
            a.status.state == RunState::Failed
                || a.status.exit_code.is_some_and(|c| c != 0) && a.status.state != RunState::Running
        };
        match () {
            () if view.removed => Self::Removed,
            () if view.limited => Self::Limited,
            () if view.funding == Funding::Frozen => Self::Frozen,
            () if !view.unplaced.is_empty() => Self::Waiting,
            () if live.is_empty() && view.wanted_all() == 0 => Self::Stopped,
            // What was asked to stop and had to be killed has an exit code, and did no wrong.
            () if live.iter().any(|a| a.desired == Desired::Run && failed(a)) => Self::Failing,
            () if !live.is_empty() && live.iter().all(|a| a.desired == Desired::Stop) => {
                Self::Stopped
            }
            () if !live.is_empty() && live.iter().all(|a| a.status.state == RunState::Exited) => {
                Self::Completed
            }
            () if !live.is_empty()
                && live
                    .iter()
                    .all(|a| a.status.is_ready() || a.status.state == RunState::Exited) =>
            {
                Self::Running
            }
            () => Self::Starting,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Starting => "Starting",
            Self::Waiting => "Waiting for a place",
            Self::Failing => "Failing",
            Self::Frozen => "Frozen",
            Self::Limited => "Stopped by the limit",
            Self::Stopped => "Stopped",
            Self::Completed => "Completed",
            Self::Removed => "Removed",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failing => "failing",
            Self::Frozen => "frozen",
            Self::Limited => "limited",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Removed => "removed",
        }
    }

    pub fn tone(self) -> Tone {
        match self {
            Self::Running => Tone::Ok,
            Self::Starting => Tone::Info,
            Self::Waiting | Self::Frozen | Self::Limited => Tone::Warn,
            Self::Failing => Tone::Bad,
            Self::Stopped | Self::Completed | Self::Removed => Tone::Plain,
        }
    }

    /// Its colour in charts.
    pub fn colour(self) -> u8 {
        match self {
            Self::Running => 1,
            Self::Starting | Self::Waiting => 3,
            Self::Failing => 4,
            Self::Frozen | Self::Limited | Self::Stopped => 2,
            Self::Completed | Self::Removed => 5,
        }
    }
}

/// Replicas that are not over.
pub fn live(view: &DeploymentView) -> impl Iterator<Item = &AllocationView> {
    view.allocations
        .iter()
        .filter(|a| !a.closed && a.desired != Desired::Remove)
}

/// A table of deployments: the same on the overview and in the list.
pub fn table(all: &[&DeploymentView], now_ms: u64) -> Markup {
    html! {
        div.tablewrap {
            table.cards {
                thead { tr { th { "Job" } th { "Status" } th { "Replicas" } th { "CPU reserved" } th { "Memory reserved" } th { "Runs on" } th.num { "Charged" } th.num { "Age" } th { span.sr { "Logs" } } } }
                tbody {
                    @for view in all {
                        @let state = JobState::of(view);
                        @let replicas: Vec<&AllocationView> = live(view).collect();
                        @let cpu: u64 = replicas.iter().map(|a| u64::from(a.reserved.cpu_millis)).sum();
                        @let memory: u128 = replicas.iter().map(|a| u128::from(a.reserved.memory_bytes)).sum();
                        @let hosts: std::collections::BTreeSet<&str> = replicas.iter().map(|a| a.host_name.as_str()).collect();
                        @let first = view.spec.services.values().next();
                        tr {
                            td {
                                a.row href=(format!("/jobs/{}", view.project)) { (view.project) }
                                @if let Some(service) = first { (image(&service.image.reference)) }
                                @if view.spec.services.len() > 1 { span.second { "and " (plural(view.spec.services.len() as u64 - 1, "more service", "more services")) } }
                            }
                            td data-l="Status" { (badge(state.tone(), state.word())) }
                            td data-l="Replicas" { @if view.removed { "–" } @else { (replica_dots(&replicas, view.wanted_all())) } }
                            td data-l="CPU reserved" { @if view.removed { "–" } @else { span.nowrap { b { (cores(cpu)) } " cores" } } }
                            td data-l="Memory reserved" { @if view.removed { "–" } @else { b.nowrap { (bytes(memory)) } } }
                            td data-l="Runs on" { @if hosts.is_empty() { "–" } @else { @for (at, host) in hosts.iter().take(3).enumerate() { @if at > 0 { " · " } (host) } @if hosts.len() > 3 { " and " (hosts.len() - 3) " more" } } }
                            td.num.strong data-l="Charged" { (credits(view.charged)) }
                            td.num data-l="Age" { (when(view.created_ms, now_ms)) }
                            td { @if !view.removed { a.iconbtn href=(format!("/jobs/{}/logs", view.project)) aria-label=(format!("Live log of {}", view.project)) title="Live log" { (icon("terminal")) } } }
                        }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
pub struct Filter {
    q: Option<String>,
    status: Option<String>,
    page: Option<usize>,
}

/// `GET /jobs`
pub async fn list(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let login = visitor.login()?;
    let mut all = app.client.deployments(login.account(), true).await?;
    all.sort_by_key(|d| (d.removed, std::cmp::Reverse(d.deployment)));
    let text = filter.q.as_deref().unwrap_or("").trim().to_lowercase();
    let chosen = filter.status.as_deref().unwrap_or("active");
    let matches = |view: &&DeploymentView| {
        let state = JobState::of(view);
        let by_state = match chosen {
            "all" => true,
            "active" => !matches!(state, JobState::Removed | JobState::Completed),
            name => state.name() == name,
        };
        let has = |s: &str| s.to_lowercase().contains(&text);
        by_state
            && (text.is_empty()
                || has(&view.project)
                || view.spec.services.values().any(|s| has(&s.image.reference))
                || live(view).any(|a| has(&a.host_name)))
    };
    let found: Vec<&DeploymentView> = all.iter().filter(matches).collect();
    let pages = found.len().div_ceil(PAGE).max(1);
    let page = filter.page.unwrap_or(1).clamp(1, pages);
    let rows: Vec<&DeploymentView> = found
        .iter()
        .skip((page - 1) * PAGE)
        .take(PAGE)
        .copied()
        .collect();
    let at = |page: usize| {
        format!(
            "/jobs?q={}&status={}&page={page}",
            crate::web::escaped(&text),
            crate::web::escaped(chosen)
        )
    };
    let content = html! {
        div.pagehead {
            div { h1 { "Jobs" } p.sub { (plural(all.iter().filter(|d| !d.removed).count() as u64, "deployment", "deployments")) " of yours on the ledger" } }
            div.acts { a.btn.primary href="/jobs/new" { (icon("plus")) "Create job" } }
        }
        div.card.flush {
            header {
                form.filters action="/jobs" {
                    div.search { (icon("search")) label.sr for="filter" { "Filter" } input id="filter" name="q" type="search" value=(filter.q.as_deref().unwrap_or("")) placeholder="Filter by name, image or host" maxlength="100"; }
                    label.sr for="status" { "Status" }
                    select.short id="status" name="status" {
                        option value="active" selected[chosen == "active"] { "Active" }
                        option value="all" selected[chosen == "all"] { "All" }
                        @for state in JobState::ALL { option value=(state.name()) selected[chosen == state.name()] { (state.word()) } }
                    }
                    button.btn { (icon("funnel")) "Filter" }
                }
            }
            @if rows.is_empty() {
                @if all.is_empty() { (empty("rocket", "Nothing runs yet", "Paste a compose file or name an image: you see the price before anything starts.", Some(("/jobs/new", "Create your first job")))) }
                @else { (empty("funnel", "No job matches", "Take away the filter to see all of them.", Some(("/jobs?status=all", "Show all jobs")))) }
            } @else {
                (table(&rows, now_of(&app)))
                @if pages > 1 { (ui::pager(&format!("Page {page} of {pages}, {} jobs", found.len()), (page > 1).then(|| at(1)).as_deref(), (page < pages).then(|| at(page + 1)).as_deref())) }
            }
        }
        (cli("runrig ls"))
    };
    shown(&app, &visitor, Place::Jobs, "Jobs", content).await
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use super::*;
    use crate::hostile_tests::deployment;

    #[test]
    fn what_was_stopped_is_stopped_however_it_ended() {
        for (desired, exit_code, expected) in [
            (Desired::Stop, 0, JobState::Stopped),
            (Desired::Stop, 137, JobState::Stopped),
            (Desired::Run, 137, JobState::Failing),
            (Desired::Run, 0, JobState::Completed),
        ] {
            let mut view = deployment(AccountId::default());
            view.unplaced.clear();
            for one in &mut view.allocations {
                one.desired = desired;
                one.status.state = RunState::Exited;
                one.status.exit_code = Some(exit_code);
            }
            assert_eq!(JobState::of(&view), expected, "{desired:?} {exit_code}");
        }
    }
}
