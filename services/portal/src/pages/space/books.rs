//! An organisation's books: what it spent and earned, by the ledger's receipts.
//!
//! Sums of months are open to all, the items to whom the organisation chose. All of it is added up
//! from certified events: nobody types a figure in.

use anyhow::Result;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use types::{AccountId, Amount, DeploymentId};
use words::MONTHS;

use super::super::explorer::{behind, now_of};
use super::super::file;
use super::super::measured::{FILE_MAX, ROWS_AT_ONCE};
use super::super::money::csv_line;
use super::super::overview::{RESOURCES, length};
use super::{Looker, looker, of as space_of};
use crate::app::App;
use crate::index::Store;
use crate::index::query::{self, MonthRow, Side, month_number};
use crate::people::{Books as Openness, Space};
use crate::ui::{self, Bar, Place, cli, credits, crumbs, empty, icon};
use crate::web::{Page, Trouble, Visitor};

/// Books go back so far.
const MONTHS_KEPT: u64 = 12;
/// Lines of one page of a list.
const ROWS: usize = 200;

fn month_words(month: u64) -> String {
    format!("{} {}", MONTHS[(month % 12) as usize], month / 12)
}

/// What an account spent and earned, by month.
pub struct Sums {
    /// The last of the twelve.
    last: u64,
    spent: Vec<MonthRow>,
    earned: Vec<MonthRow>,
}

fn in_month(rows: &[MonthRow], month: u64) -> Amount {
    let row = rows.iter().find(|row| row.month == month);
    row.map_or(Amount::ZERO, MonthRow::amount)
}

impl Sums {
    /// In order of time, empty ones too.
    fn months(&self) -> impl DoubleEndedIterator<Item = u64> + use<> {
        first(self.last)..=self.last
    }
}

/// The first month of which books up to `last` tell.
fn first(last: u64) -> u64 {
    last.saturating_sub(MONTHS_KEPT - 1)
}

/// The sums of an account, as far as the index is: some rows, however much it runs.
pub(super) async fn of(app: &App, account: AccountId) -> Result<Sums, Trouble> {
    let last = month_number(now_of(app));
    let asked = app.index.ask(move |store| {
        let of = |side| query::sums_of(store, side, &account, first(last)..=last);
        Ok(Sums {
            last,
            spent: of(Side::Payer)?,
            earned: of(Side::Payee)?,
        })
    });
    Ok(asked.await?)
}

fn bars(sums: &Sums, rows: &[MonthRow]) -> Vec<Bar> {
    let bar = |month: u64| {
        let amount = in_month(rows, month);
        Bar {
            label: MONTHS[(month % 12) as usize].to_string(),
            parts: vec![length(amount)],
            plan: None,
            title: format!("{}: {amount} credits", month_words(month)),
        }
    };
    sums.months().map(bar).collect()
}

/// What all may see: the sums of each month.
pub(super) fn sums(app: &App, space: &Space, sums: &Sums) -> Markup {
    let is_empty = sums.spent.is_empty() && sums.earned.is_empty();
    let told = sums
        .months()
        .rev()
        .map(|m| (m, in_month(&sums.spent, m), in_month(&sums.earned, m)))
        .filter(|(_, spent, earned)| !spent.is_zero() || !earned.is_zero());
    html! {
        @if let Some(behind) = behind(app) { (behind) }
        @if is_empty {
            section.card { header { div { h2 { "Spent and earned" } p.sub { "By month, from the ledger’s receipts; open to all" } } } (empty("receipt-text", "Nothing was spent or earned yet", "It begins with the first receipt.", None)) }
        } @else {
            div.grid {
                section.card.s6 {
                    header { div { h2 { "Spent" } p.sub { "By month, from the ledger’s receipts; open to all" } } }
                    (ui::bars(&bars(sums, &sums.spent), &[2], "Spent by month", false))
                }
                section.card.s6 {
                    header { div { h2 { "Earned" } p.sub { "By its hosts, from the same receipts" } } }
                    (ui::bars(&bars(sums, &sums.earned), &[1], "Earned by month", false))
                }
                section.card.flush.s12 {
                    header { div { h2 { "By month" } p.sub { "Credits; what each was for stands in the books, for whom " (space.name) " chose" } } div.more { a href=(format!("/o/{}/books", space.handle)) { "Books" } (icon("chevron-right")) } }
                    div.tablewrap { table.cards {
                        thead { tr { th { "Month" } th.num { "Spent" } th.num { "Earned" } } }
                        tbody { @for (month, spent, earned) in told { tr {
                            td.strong { (month_words(month)) }
                            td.num data-l="Spent" { (credits(spent)) }
                            td.num data-l="Earned" { (credits(earned)) }
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

/// A line of the books with the name of what it is about.
struct Line {
    row: MonthRow,
    /// A job's or a host's id.
    id: String,
    name: String,
}

fn line(store: &Store, side: Side, row: MonthRow) -> Result<Line> {
    let (id, name) = match (side, row.subject.parse()) {
        (Side::Payer, Ok(number)) => {
            let id = DeploymentId(number);
            (id.to_string(), query::project(store, id)?)
        }
        _ => (row.subject.clone(), query::host_name(store, &row.subject)?),
    };
    let name = name.unwrap_or_else(|| words::brief(&id));
    Ok(Line { row, id, name })
}

/// Behind which line a list goes on: `24310.SUBJECT`.
type Cursor = (u64, String);

fn cursor(text: Option<&str>) -> Option<Cursor> {
    let (month, subject) = text?.split_once('.')?;
    Some((month.parse().ok()?, subject.to_string()))
}

fn lines(
    store: &Store,
    side: Side,
    account: &AccountId,
    since: u64,
    before: Option<&Cursor>,
    count: usize,
) -> Result<Vec<Line>> {
    let rows = query::items_of(store, side, account, since, before, count)?;
    rows.into_iter().map(|row| line(store, side, row)).collect()
}

/// The address of the lines behind these, if there are more than a page of them.
fn older(lines: &mut Vec<Line>, side: &str) -> Option<String> {
    if lines.len() <= ROWS {
        return None;
    }
    lines.truncate(ROWS);
    let last = &lines.last()?.row;
    Some(format!("?{side}={}.{}", last.month, last.subject))
}

/// Where each of the two lists goes on.
#[derive(Deserialize)]
pub struct Behind {
    spent: Option<String>,
    earned: Option<String>,
}

/// `GET /o/{handle}/books`
pub async fn page(
    State(app): State<App>,
    visitor: Visitor,
    Path(handle): Path<String>,
    Query(behind_of): Query<Behind>,
) -> Page {
    let space = space_of(&app, &handle).await?;
    opened(&app, &visitor, &space).await?;
    let (account, since) = (space.account, first(month_number(now_of(&app))));
    let after = [&behind_of.spent, &behind_of.earned].map(|text| cursor(text.as_deref()));
    let [is_spent_on, is_earned_on] = [after[0].is_some(), after[1].is_some()];
    let (mut spent, mut earned) = app
        .index
        .ask(move |store| {
            let of = |side, before: &Option<Cursor>| {
                lines(store, side, &account, since, before.as_ref(), ROWS + 1)
            };
            Ok((of(Side::Payer, &after[0])?, of(Side::Payee, &after[1])?))
        })
        .await?;
    let (spent_older, earned_older) = (older(&mut spent, "spent"), older(&mut earned, "earned"));
    let to = match space.books {
        Openness::Members => "to members",
        Openness::Named => "to members and whom they name",
        Openness::Everyone => "to everyone",
    };
    let back = format!("/o/{}", space.handle);
    let here = format!("{back}/books");
    let pager = |is_on: bool, older: &Option<String>| {
        let older = older.as_ref().map(|query| format!("{here}{query}"));
        html! { @if is_on || older.is_some() {
            (ui::pager("Lines of the last twelve months", is_on.then_some(here.as_str()), older.as_deref()))
        } }
    };
    let content = html! {
        (crumbs(&[(&back, &space.name)]))
        div.pagehead {
            div { h1 { "Books" } p.sub { "Of the last twelve months, from the ledger’s receipts; open " (to) } }
            div.acts { a.btn href=(format!("{back}/books.csv")) { (icon("download")) "CSV" } }
        }
        @if let Some(behind) = behind(&app) { (behind) }
        section.card.flush.gap-below {
            header { div { h2 { "Spent" } p.sub { "By month and job, latest first" } } }
            @if spent.is_empty() { (empty("receipt-text", "Nothing was spent", "It begins with the first second that something runs.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Job" } th { "Month" } @for (label, _) in RESOURCES { th.num { (label) } } th.num { "Sum" } } }
                tbody { @for one in &spent { tr {
                    td.wrap { span.strong { (one.name) } span.second { (one.id) } }
                    td.nowrap data-l="Month" { (month_words(one.row.month)) }
                    @for (at, (label, _)) in RESOURCES.iter().enumerate() { td.num data-l=(label) { (credits(one.row.amounts[at])) } }
                    td.num.strong data-l="Sum" { (credits(one.row.amount())) }
                } } }
            } } }
            (pager(is_spent_on, &spent_older))
        }
        section.card.flush {
            header { div { h2 { "Earned" } p.sub { "By month and host, latest first" } } }
            @if earned.is_empty() { (empty("hand-coins", "Nothing was earned", "It begins when a host of its own runs something.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Host" } th { "Month" } th.num { "Sum" } } }
                tbody { @for one in &earned { tr {
                    td.wrap { a.row href=(format!("/explorer/hosts/{}", one.id)) { (one.name) } }
                    td.nowrap data-l="Month" { (month_words(one.row.month)) }
                    td.num.strong data-l="Sum" { (credits(one.row.amount())) }
                } } }
            } } }
            (pager(is_earned_on, &earned_older))
        }
        (cli(&format!("runrig --account {} bill", space.account)))
    };
    let look = space.look();
    let title = format!("Books of {}", space.name);
    Ok(ui::page_of(&app, &visitor, Some(&look), Place::Space, &title, content).await)
}

fn book_line(side: &str, one: &Line) -> String {
    let mut fields = vec![
        format!("{:04}-{:02}", one.row.month / 12, one.row.month % 12 + 1),
        side.into(),
        one.id.clone(),
        one.name.clone(),
    ];
    fields.extend(one.row.amounts.iter().map(Amount::to_string));
    fields.push(one.row.amount().to_string());
    csv_line(&fields)
}

/// `GET /o/{handle}/books.csv`: the latest first.
pub async fn csv(State(app): State<App>, visitor: Visitor, Path(handle): Path<String>) -> Page {
    let space = space_of(&app, &handle).await?;
    opened(&app, &visitor, &space).await?;
    let (account, since) = (space.account, first(month_number(now_of(&app))));
    let mut out =
        String::from("month,side,of,name,cpu,memory,storage,bandwidth,transfer,credits\n");
    let mut count = 0;
    for (side, name) in [(Side::Payer, "spent"), (Side::Payee, "earned")] {
        let mut before: Option<Cursor> = None;
        // Others read between two parts.
        while count < FILE_MAX {
            let part = app.index.ask(move |store| {
                lines(store, side, &account, since, before.as_ref(), ROWS_AT_ONCE)
            });
            let part = part.await?;
            let Some(last) = part.last() else { break };
            before = Some((last.row.month, last.row.subject.clone()));
            count += part.len();
            out.extend(part.iter().map(|one| book_line(name, one)));
        }
    }
    let name = format!("books-{}.csv", space.handle);
    Ok(file(&name, "text/csv; charset=utf-8", out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_behind_the_line_that_its_address_names() {
        let line = |month: u64, number: u64| Line {
            row: MonthRow {
                month,
                subject: query::subject_of(DeploymentId(number)),
                amounts: [Amount::ZERO; 5],
            },
            id: String::new(),
            name: String::new(),
        };
        let mut few = vec![line(24_310, 1)];
        assert_eq!(older(&mut few, "spent"), None);
        let mut many: Vec<Line> = (0..=ROWS as u64).rev().map(|n| line(24_310, n)).collect();
        let query = older(&mut many, "spent").expect("there are more");
        let text = query.strip_prefix("?spent=");
        let expected = (24_310, query::subject_of(DeploymentId(1)));
        assert_eq!(cursor(text), Some(expected));
        for wrong in ["", "x.y", "24310", "-1.a"] {
            assert_eq!(cursor(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(month_words(month_number(1_795_262_400_000)), "Nov 2026");
    }
}
