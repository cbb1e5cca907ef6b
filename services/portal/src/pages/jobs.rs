//! Deployments of who is logged in, as a list.

use api::{AllocationView, DeploymentView, JobOrder, JobRow, JobState, JobsView, is_live};
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use sdk::JobQuery;
use serde::Deserialize;
use types::DeploymentId;
use words::{bytes, cores, plural};

use super::explorer::now_of;
use super::shown;
use crate::app::App;
use crate::people::Login;
use crate::ui::{
    self, Place, Slice, Tone, badge, cli, credits, empty, icon, image, replica_dots, when,
};
use crate::web::{Page, Trouble, Visitor};

/// Rows of one page.
const PAGE: usize = 50;
/// How a list is sorted, if nothing is said.
const LATEST: (JobOrder, bool) = (JobOrder::Age, false);
/// What is typed into a filter.
const TEXT_MAX: usize = 100;

/// The deployment of this name, or with this id, that the person owns; anybody else's is not there.
pub async fn own_deployment(
    app: &App,
    login: &Login,
    name: &str,
) -> Result<DeploymentView, Trouble> {
    let missing = || Trouble::missing("You have no job of this name");
    if name.len() > JobsView::TEXT_MAX {
        return Err(missing());
    }
    // Of a name that was used before, the one that lives.
    let query = JobQuery {
        state: Some("all".into()),
        name: Some(name.into()),
        count: Some(1),
        ..JobQuery::default()
    };
    let found = app.client.jobs(login.account(), &query).await?;
    let id = match found.rows.first() {
        Some(one) => one.deployment,
        // Of a name that another one has taken since.
        None => name.parse().map_err(|_| missing())?,
    };
    let view = app
        .client
        .deployment(id)
        .await
        .map_err(|e| match e.kind() {
            "not_found" => missing(),
            _ => e.into(),
        })?;
    match view.owner == login.account() {
        true => Ok(view),
        false => Err(missing()),
    }
}

/// Names that the portal's own pages have below `/jobs`.
const TAKEN: [&str; 2] = ["new", "overview"];

/// Where a job's page is: a name that a page of its own has is not its address, its id is.
pub fn address(project: &str, id: DeploymentId) -> String {
    match TAKEN.contains(&project) {
        true => format!("/jobs/{id}"),
        false => format!("/jobs/{project}"),
    }
}

/// The pages about all jobs.
pub(super) fn tabs(at: &str) -> Markup {
    let all = [
        ("/jobs/overview", "Overview"),
        ("/jobs/new", "Create"),
        ("/jobs", "List"),
    ];
    html! {
        nav.tabs aria-label="Jobs" {
            @for (href, label) in all { a href=(href) aria-current=[(at == href).then_some("page")] { (label) } }
        }
    }
}

pub fn word(state: JobState) -> &'static str {
    match state {
        JobState::Running => "Running",
        JobState::Starting => "Starting",
        JobState::Waiting => "Waiting for a place",
        JobState::Failing => "Failing",
        JobState::Frozen => "Frozen",
        JobState::Limited => "Stopped by the limit",
        JobState::Stopped => "Stopped",
        JobState::Completed => "Completed",
        JobState::Removed => "Removed",
    }
}

pub fn tone(state: JobState) -> Tone {
    match state {
        JobState::Running => Tone::Ok,
        JobState::Starting => Tone::Info,
        JobState::Waiting | JobState::Frozen | JobState::Limited => Tone::Warn,
        JobState::Failing => Tone::Bad,
        JobState::Stopped | JobState::Completed | JobState::Removed => Tone::Plain,
    }
}

/// How many jobs are in which state, for a picture.
pub fn slices(jobs: &JobsView) -> Vec<Slice> {
    let colour = |state| match state {
        JobState::Running => 1,
        JobState::Starting | JobState::Waiting => 3,
        JobState::Failing => 4,
        JobState::Frozen | JobState::Limited | JobState::Stopped => 2,
        JobState::Completed | JobState::Removed => 5,
    };
    JobState::ALL
        .into_iter()
        .map(|state| Slice {
            label: word(state).into(),
            count: jobs.count(state),
            colour: colour(state),
        })
        .filter(|s| s.count > 0)
        .collect()
}

/// Replicas that are not over.
pub fn live(view: &DeploymentView) -> impl Iterator<Item = &AllocationView> {
    view.allocations
        .iter()
        .filter(|a| is_live(a.closed, a.desired))
}

/// How a list is sorted, and where it is sorted otherwise: an address that goes on with an order.
pub struct Sorted<'a> {
    pub href: &'a str,
    pub by: JobOrder,
    pub most_first: bool,
}

/// A column's head; that of a list which can be sorted by it leads there, and turns around from there.
fn column(label: &str, order: JobOrder, class: Option<&str>, sorted: Option<&Sorted>) -> Markup {
    let Some(sorted) = sorted else {
        return html! { th class=[class] { (label) } };
    };
    let here = sorted.by == order;
    // Of numbers the most is looked for, of words the first, of ages the youngest.
    let first = matches!(order, JobOrder::Cpu | JobOrder::Memory | JobOrder::Charged);
    let most_first = if here { !sorted.most_first } else { first };
    let sign = if most_first { "-" } else { "" };
    let now = here.then_some(if sorted.most_first {
        "descending"
    } else {
        "ascending"
    });
    html! {
        th class=[class] aria-sort=[now] {
            a href=(format!("{}{sign}{}", sorted.href, order.name())) { (label) @if here { span aria-hidden="true" { (if sorted.most_first { " ↓" } else { " ↑" }) } } }
        }
    }
}

/// A table of deployments: the same on the overview and in the list.
pub fn table(all: &[JobRow], now_ms: u64, sorted: Option<&Sorted>) -> Markup {
    let column = |label: &str, order, class| column(label, order, class, sorted);
    html! {
        div.tablewrap {
            table.cards {
                thead { tr {
                    (column("Job", JobOrder::Name, None)) (column("Status", JobOrder::State, None)) th { "Replicas" }
                    (column("CPU reserved", JobOrder::Cpu, None)) (column("Memory reserved", JobOrder::Memory, None)) th { "Runs on" }
                    (column("Charged", JobOrder::Charged, Some("num"))) (column("Age", JobOrder::Age, Some("num"))) th { span.sr { "Logs" } }
                } }
                tbody {
                    @for job in all {
                        @let removed = job.state == JobState::Removed;
                        tr {
                            td {
                                a.row href=(address(&job.project, job.deployment)) { (job.project) }
                                (image(&job.image))
                                @if job.services > 1 { span.second { "and " (plural(job.services - 1, "more service", "more services")) } }
                            }
                            td data-l="Status" { (badge(tone(job.state), word(job.state))) }
                            td data-l="Replicas" { @if removed { "–" } @else { (replica_dots(job)) } }
                            td data-l="CPU reserved" { @if removed { "–" } @else { span.nowrap { b { (cores(job.cpu_millis)) } " cores" } } }
                            td data-l="Memory reserved" { @if removed { "–" } @else { b.nowrap { (bytes(job.memory_bytes.into())) } } }
                            td data-l="Runs on" { @if job.hosts.is_empty() { "–" } @else { @for (at, host) in job.hosts.iter().enumerate() { @if at > 0 { " · " } (host) } @let more = job.hosts_all.saturating_sub(job.hosts.len() as u64); @if more > 0 { " and " (more) " more" } } }
                            td.num.strong data-l="Charged" { (credits(job.charged)) }
                            td.num data-l="Age" { (when(job.created_ms, now_ms)) }
                            td { @if !removed { a.iconbtn href=(format!("/jobs/{}/logs", job.project)) aria-label=(format!("Live log of {}", job.project)) title="Live log" { (icon("terminal")) } } }
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
    sort: Option<String>,
    page: Option<usize>,
}

/// As [`JobOrder::read`] reads it.
fn sort_of((order, most_first): (JobOrder, bool)) -> String {
    let sign = if most_first { "-" } else { "" };
    format!("{sign}{}", order.name())
}

/// A page of the list, as it was asked for.
struct Listed {
    jobs: JobsView,
    text: String,
    /// Name of a [`JobState`], `active` or `all`.
    chosen: String,
    order: (JobOrder, bool),
    page: usize,
    pages: usize,
}

impl Listed {
    async fn read(app: &App, login: &Login, filter: &Filter) -> Result<Self, Trouble> {
        let text = filter.q.as_deref().unwrap_or("").trim();
        let text: String = text.chars().take(TEXT_MAX).collect();
        let named = filter.status.as_deref().unwrap_or("active");
        let chosen = match named == "all" || JobState::named(named).is_some() {
            true => named,
            false => "active",
        };
        let asked = filter.page.unwrap_or(1).max(1);
        let order = filter.sort.as_deref().and_then(JobOrder::read);
        let order = order.unwrap_or(LATEST);
        let of = |page: usize| JobQuery {
            state: Some(chosen.into()),
            text: Some(text.clone()),
            sort: Some(sort_of(order)),
            from: (page - 1).saturating_mul(PAGE),
            count: Some(PAGE),
            ..JobQuery::default()
        };
        let mut jobs = app.client.jobs(login.account(), &of(asked)).await?;
        let pages = (jobs.found as usize).div_ceil(PAGE).max(1);
        let page = asked.min(pages);
        if page < asked {
            jobs = app.client.jobs(login.account(), &of(page)).await?;
        }
        Ok(Self {
            jobs,
            chosen: chosen.into(),
            order,
            text,
            page,
            pages,
        })
    }

    fn chosen(&self) -> String {
        format!(
            "q={}&status={}",
            crate::web::escaped(&self.text),
            crate::web::escaped(&self.chosen)
        )
    }

    fn query(&self, page: usize) -> String {
        let (chosen, sort) = (self.chosen(), sort_of(self.order));
        format!("{chosen}&sort={sort}&page={page}")
    }

    fn rows(&self, now_ms: u64) -> Markup {
        let at = |page: usize| format!("/jobs?{}", self.query(page));
        let (page, pages, jobs) = (self.page, self.pages, &self.jobs);
        html! {
            @if jobs.rows.is_empty() {
                @if jobs.all() == 0 { (empty("rocket", "Nothing runs yet", "Paste a compose file or name an image: you see the price before anything starts.", Some(("/jobs/new", "Create your first job")))) }
                @else { (empty("funnel", "No job matches", "Take away the filter to see all of them.", Some(("/jobs?status=all", "Show all jobs")))) }
            } @else {
                (table(&jobs.rows, now_ms, Some(&Sorted { href: &format!("/jobs?{}&sort=", self.chosen()), by: self.order.0, most_first: self.order.1 })))
                @if pages > 1 {
                    @let shown = format!("Page {page} of {pages}, {} jobs", words::grouped(jobs.found.into()));
                    @let next = (page < pages).then(|| at(page + 1));
                    @if self.order == LATEST { (ui::pager(&shown, (page > 1).then(|| at(1)).as_deref(), next.as_deref())) }
                    @else { (ui::turner(&shown, (page > 1).then(|| at(page - 1)).as_deref(), next.as_deref())) }
                }
            }
        }
    }
}

/// `GET /parts/jobs`: what the list reads again.
pub async fn rows(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let listed = Listed::read(&app, visitor.login()?, &filter).await?;
    Ok(listed.rows(now_of(&app)).into_response())
}

/// `GET /jobs`
pub async fn list(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let listed = Listed::read(&app, visitor.login()?, &filter).await?;
    let (jobs, chosen) = (&listed.jobs, listed.chosen.as_str());
    let again = format!("/parts/jobs?{}", listed.query(listed.page));
    let content = html! {
        div.pagehead {
            div { h1 { "Jobs" } p.sub { (plural(jobs.alive(), "deployment", "deployments")) " of yours on the ledger" } }
            div.acts { a.btn.primary href="/jobs/new" { (icon("plus")) "Create job" } }
        }
        (tabs("/jobs"))
        div.card.flush {
            header {
                form.filters action="/jobs" {
                    input type="hidden" name="sort" value=(sort_of(listed.order));
                    div.search { (icon("search")) label.sr for="filter" { "Filter" } input id="filter" name="q" type="search" value=(listed.text) placeholder="Filter by name, image or host" maxlength="100"; }
                    label.sr for="status" { "Status" }
                    select.short id="status" name="status" {
                        option value="active" selected[chosen == "active"] { "Active" }
                        option value="all" selected[chosen == "all"] { "All" }
                        @for state in JobState::ALL { option value=(state.name()) selected[chosen == state.name()] { (word(state)) } }
                    }
                    button.btn { (icon("funnel")) "Filter" }
                }
            }
            div data-refresh=(again) data-every="2" { (listed.rows(now_of(&app))) }
        }
        (cli("runrig ls"))
    };
    shown(&app, &visitor, Place::Jobs, "Jobs", content).await
}

#[cfg(test)]
mod tests {
    use ledger::lease::Desired;
    use types::{AccountId, RunState};

    use super::*;
    use crate::hostile_tests::deployment;

    #[test]
    fn a_column_leads_to_the_list_sorted_by_it_and_back() {
        let head = |by, most_first| {
            let sorted = Sorted {
                href: "/jobs?q=a&sort=",
                by,
                most_first,
            };
            table(&[], 0, Some(&sorted)).into_string()
        };
        let text = head(JobOrder::Charged, true);
        for expected in [
            "aria-sort=\"descending\"><a href=\"/jobs?q=a&amp;sort=charged\">Charged",
            "<a href=\"/jobs?q=a&amp;sort=name\">Job</a>",
            "<a href=\"/jobs?q=a&amp;sort=-cpu\">",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(head(JobOrder::Age, false).contains("sort=-age\">Age"));
        let plain = table(&[], 0, None).into_string();
        assert!(
            !plain.contains("aria-sort") && plain.contains("<th>Job</th>"),
            "{plain}"
        );
    }

    #[test]
    fn a_job_that_is_called_as_a_page_is_found_by_its_id() {
        let at = |name| address(name, DeploymentId(7));
        assert_eq!(
            (at("shop"), at("overview"), at("new")),
            ("/jobs/shop".into(), "/jobs/d-7".into(), "/jobs/d-7".into())
        );
    }

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
            assert_eq!(view.state(), expected, "{desired:?} {exit_code}");
        }
    }
}
