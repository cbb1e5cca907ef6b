//! An organisation's books: what it spent and earned, by the ledger's receipts.
//!
//! Sums of months are open to all, the items to whom the organisation chose. All of it is added up
//! from certified events: nobody types a figure in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use maud::{Markup, html};
use types::{AccountId, Amount, DeploymentId};

use super::super::explorer::{behind, now_of};
use super::super::file;
use super::super::money::csv_field;
use super::super::overview::{RESOURCES, length};
use super::{Looker, looker, of as space_of};
use crate::app::App;
use crate::index::query::{self, Side};
use crate::people::{Books as Openness, Space};
use crate::ui::{self, Bar, Place, cli, credits, crumbs, empty, icon};
use crate::web::{Page, Trouble, Visitor};
use crate::words::{self, MONTHS, month_of};

const HOUR_MS: u64 = 3_600_000;
/// Books go back so far.
const MONTHS_KEPT: i64 = 12;
/// Sums are added up anew after so long, however many look.
const KEPT_MS: u64 = 15_000;
const ACCOUNTS_MAX: usize = 500;
/// Rows of the page; the file has all.
const ROWS_MAX: usize = 200;

/// Year and month (0 to 11).
type Month = (i64, usize);

fn month_words((year, month): Month) -> String {
    format!("{} {year}", MONTHS[month])
}

/// What an account spent and earned, by month.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The last twelve, empty ones too, in order of time.
    months: Vec<Month>,
    /// By resource, in the order of [`RESOURCES`].
    spent: BTreeMap<(Month, DeploymentId), [Amount; 5]>,
    /// By host.
    earned: BTreeMap<(Month, String), [Amount; 5]>,
    names: words::Names,
}

fn sum<'a>(all: impl Iterator<Item = &'a [Amount; 5]>) -> Amount {
    Amount(all.flatten().map(|amount| amount.0).sum())
}

fn add(to: &mut [Amount; 5], amounts: &[Amount; 5]) {
    for (sum, amount) in to.iter_mut().zip(amounts) {
        *sum = Amount(sum.0 + amount.0);
    }
}

impl Books {
    fn spent_in(&self, month: Month) -> Amount {
        sum(self
            .spent
            .iter()
            .filter(|((of, _), _)| *of == month)
            .map(|(_, a)| a))
    }

    fn earned_in(&self, month: Month) -> Amount {
        sum(self
            .earned
            .iter()
            .filter(|((of, _), _)| *of == month)
            .map(|(_, a)| a))
    }

    fn host(&self, id: &str) -> String {
        match id.parse() {
            Ok(host) => self.names.host(&host),
            Err(_) => words::brief(id),
        }
    }
}

/// Sums that were added up a moment ago: however many open a page, the index is asked seldom.
#[derive(Default)]
pub struct Kept(Mutex<BTreeMap<AccountId, (u64, Arc<Books>)>>);

impl Kept {
    fn find(&self, account: AccountId, now_ms: u64) -> Option<Arc<Books>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at_ms, books) = kept.get(&account)?;
        (now_ms.saturating_sub(*at_ms) < KEPT_MS).then(|| books.clone())
    }

    fn keep(&self, account: AccountId, now_ms: u64, books: Arc<Books>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ACCOUNTS_MAX {
            kept.clear();
        }
        kept.insert(account, (now_ms, books));
    }
}

/// The books of an account, as far as the index is.
pub(super) async fn of(app: &App, account: AccountId) -> Result<Arc<Books>, Trouble> {
    let now = api::now_ms();
    if let Some(books) = app.books.find(account, now) {
        return Ok(books);
    }
    let (year, month) = month_of(now_of(app));
    let last = year * 12 + month as i64;
    let months: Vec<Month> = (last - MONTHS_KEPT + 1..=last)
        .map(|at| (at.div_euclid(12), at.rem_euclid(12) as usize))
        .collect();
    let first = months.first().copied().unwrap_or_default();
    let since = (now_of(app) / HOUR_MS).saturating_sub(24 * 31 * MONTHS_KEPT as u64);
    let (spent, earned, names) = app
        .index
        .ask(move |c| {
            Ok((
                query::charges(c, Side::Payer, &account, since)?,
                query::charges(c, Side::Payee, &account, since)?,
                query::names_of(c, &account)?,
            ))
        })
        .await?;
    let mut books = Books {
        months,
        names,
        ..Books::default()
    };
    for row in spent {
        let month = month_of(row.hour * HOUR_MS);
        if month >= first {
            let sums = books.spent.entry((month, row.deployment)).or_default();
            add(sums, &row.amounts);
        }
    }
    for row in earned {
        let month = month_of(row.hour * HOUR_MS);
        if month >= first {
            let sums = books.earned.entry((month, row.host)).or_default();
            add(sums, &row.amounts);
        }
    }
    let books = Arc::new(books);
    app.books.keep(account, now, books.clone());
    Ok(books)
}

fn bars(books: &Books, of: impl Fn(Month) -> Amount) -> Vec<Bar> {
    let bar = |month: &Month| {
        let amount = of(*month);
        Bar {
            label: MONTHS[month.1].to_string(),
            parts: vec![length(amount)],
            plan: None,
            title: format!("{}: {amount} credits", month_words(*month)),
        }
    };
    books.months.iter().map(bar).collect()
}

/// What all may see: the sums of each month.
pub(super) fn sums(app: &App, space: &Space, books: &Books) -> Markup {
    let is_empty = books.spent.is_empty() && books.earned.is_empty();
    let known = books.months.iter().rev();
    let told: Vec<&Month> = known
        .filter(|m| !books.spent_in(**m).is_zero() || !books.earned_in(**m).is_zero())
        .collect();
    html! {
        @if let Some(behind) = behind(app) { (behind) }
        @if is_empty {
            section.card { header { div { h2 { "Spent and earned" } p.sub { "By month, from the ledger’s receipts; open to all" } } } (empty("receipt-text", "Nothing was spent or earned yet", "It begins with the first receipt.", None)) }
        } @else {
            div.grid {
                section.card.s6 {
                    header { div { h2 { "Spent" } p.sub { "By month, from the ledger’s receipts; open to all" } } }
                    (ui::bars(&bars(books, |m| books.spent_in(m)), &[2], "Spent by month", false))
                }
                section.card.s6 {
                    header { div { h2 { "Earned" } p.sub { "By its hosts, from the same receipts" } } }
                    (ui::bars(&bars(books, |m| books.earned_in(m)), &[1], "Earned by month", false))
                }
                section.card.flush.s12 {
                    header { div { h2 { "By month" } p.sub { "Credits; what each was for stands in the books, for whom " (space.name) " chose" } } div.more { a href=(format!("/o/{}/books", space.handle)) { "Books" } (icon("chevron-right")) } }
                    div.tablewrap { table.cards {
                        thead { tr { th { "Month" } th.num { "Spent" } th.num { "Earned" } } }
                        tbody { @for month in told { tr {
                            td.strong { (month_words(*month)) }
                            td.num data-l="Spent" { (credits(books.spent_in(*month))) }
                            td.num data-l="Earned" { (credits(books.earned_in(*month))) }
                        } } }
                    } }
                }
            }
        }
    }
}

/// Errors: the books are not open to who asks.
async fn opened(app: &App, visitor: &Visitor, space: &Space) -> Result<(), Trouble> {
    let named = || visitor.login.as_ref().is_some_and(|l| space.names(l));
    let open = match space.books {
        Openness::Everyone => true,
        Openness::Named if named() => true,
        _ => looker(app, visitor, space.account).await != Looker::Stranger,
    };
    if open {
        return Ok(());
    }
    let to = match space.books {
        Openness::Named => "They are open to members and to whom they name.",
        _ => "They are open to members.",
    };
    Err(Trouble::new(
        StatusCode::FORBIDDEN,
        format!("The books of {} are not open to you", space.name),
        to,
        match visitor.login {
            None => "Log in if you are one; the sums of each month are open to all.",
            Some(_) => "The sums of each month are open to all.",
        },
    ))
}

/// `GET /o/{handle}/books`
pub async fn page(State(app): State<App>, visitor: Visitor, Path(handle): Path<String>) -> Page {
    let space = space_of(&app, &handle).await?;
    opened(&app, &visitor, &space).await?;
    let books = of(&app, space.account).await?;
    let to = match space.books {
        Openness::Members => "to members",
        Openness::Named => "to members and whom they name",
        Openness::Everyone => "to everyone",
    };
    let back = format!("/o/{}", space.handle);
    let content = html! {
        (crumbs(&[(&back, &space.name)]))
        div.pagehead {
            div { h1 { "Books" } p.sub { "Of the last twelve months, from the ledger’s receipts; open " (to) } }
            div.acts { a.btn href=(format!("{back}/books.csv")) { (icon("download")) "CSV" } }
        }
        @if let Some(behind) = behind(&app) { (behind) }
        section.card.flush.gap-below {
            header { div { h2 { "Spent" } p.sub { "By month and job, latest first" } } }
            @if books.spent.is_empty() { (empty("receipt-text", "Nothing was spent", "It begins with the first second that something runs.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Job" } th { "Month" } @for (label, _) in RESOURCES { th.num { (label) } } th.num { "Sum" } } }
                tbody { @for ((month, deployment), amounts) in books.spent.iter().rev().take(ROWS_MAX) { tr {
                    td.wrap { span.strong { (books.names.project(deployment)) } span.second { (deployment) } }
                    td.nowrap data-l="Month" { (month_words(*month)) }
                    @for (at, (label, _)) in RESOURCES.iter().enumerate() { td.num data-l=(label) { (credits(amounts[at])) } }
                    td.num.strong data-l="Sum" { (credits(sum([amounts].into_iter()))) }
                } } }
            } } }
            @if books.spent.len() > ROWS_MAX { p.foot-note.in-card { (ROWS_MAX) " of " (books.spent.len()) " lines; the file has all." } }
        }
        section.card.flush {
            header { div { h2 { "Earned" } p.sub { "By month and host, latest first" } } }
            @if books.earned.is_empty() { (empty("hand-coins", "Nothing was earned", "It begins when a host of its own runs something.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Host" } th { "Month" } th.num { "Sum" } } }
                tbody { @for ((month, host), amounts) in books.earned.iter().rev().take(ROWS_MAX) { tr {
                    td.wrap { a.row href=(format!("/explorer/hosts/{host}")) { (books.host(host)) } }
                    td.nowrap data-l="Month" { (month_words(*month)) }
                    td.num.strong data-l="Sum" { (credits(sum([amounts].into_iter()))) }
                } } }
            } } }
        }
        (cli(&format!("runrig --account {} bill", space.account)))
    };
    let look = space.look();
    let title = format!("Books of {}", space.name);
    Ok(ui::page_of(&app, &visitor, Some(&look), Place::Space, &title, content).await)
}

/// `GET /o/{handle}/books.csv`
pub async fn csv(State(app): State<App>, visitor: Visitor, Path(handle): Path<String>) -> Page {
    let space = space_of(&app, &handle).await?;
    opened(&app, &visitor, &space).await?;
    let books = of(&app, space.account).await?;
    let mut out =
        String::from("month,side,of,name,cpu,memory,storage,bandwidth,transfer,credits\n");
    let mut line = |month: &Month, side: &str, of: String, name: String, amounts: &[Amount; 5]| {
        let mut row = vec![
            format!("{:04}-{:02}", month.0, month.1 + 1),
            side.into(),
            of,
            name,
        ];
        row.extend(amounts.iter().map(Amount::to_string));
        row.push(sum([amounts].into_iter()).to_string());
        let row: Vec<String> = row.iter().map(|field| csv_field(field)).collect();
        out.push_str(&row.join(","));
        out.push('\n');
    };
    for ((month, deployment), amounts) in &books.spent {
        let name = books.names.project(deployment);
        line(month, "spent", deployment.to_string(), name, amounts);
    }
    for ((month, host), amounts) in &books.earned {
        line(month, "earned", host.clone(), books.host(host), amounts);
    }
    let name = format!("books-{}.csv", space.handle);
    Ok(file(&name, "text/csv; charset=utf-8", out))
}
