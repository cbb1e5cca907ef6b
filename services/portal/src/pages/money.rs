//! Wallet and bills: balances and bills are the ledger's answers, charts the index's.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use futures::{StreamExt, stream};
use maud::html;
use sdk::{JobQuery, SdkError};
use serde::Deserialize;
use types::{AccountId, Amount, DeploymentId, Resource};

use super::explorer::{happenings, now_of};
use super::limit::{grown, month, notices, plan, runs_out};
use super::overview::{RESOURCES, by_month, sum};
use super::{file, shown, slowly};
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::index::EventFilter;
use crate::index::query::{self, Side};
use crate::limits::Act;
use crate::ui::{
    self, Figure, Place, Tone, alert, cli, copy, credits, crumbs, empty, field, icon, if_may, kpi,
    legend, submit,
};
use crate::web::{Form, Page, Right, Visitor};

const HOUR_MS: u64 = 3_600_000;
/// Jobs on one page of bills, and bills that are asked for at once.
const JOBS: usize = 50;
const BILLS_AT_ONCE: usize = 4;

async fn wallet_page(
    app: &App,
    visitor: &Visitor,
    form: &Form,
    wrong: Option<(&str, String)>,
) -> Page {
    let login = visitor.login()?;
    let me = login.account();
    let account = app.client.account(me).await?;
    let filter = EventFilter {
        account: Some(me),
        kind: Some("transfer".into()),
        ..EventFilter::default()
    };
    let events = app
        .index
        .ask(move |c| query::events(c, &filter, 20))
        .await?;
    let of = |name: &str| {
        wrong
            .as_ref()
            .filter(|(of, _)| *of == name)
            .map(|(_, why)| why.as_str())
    };
    let id = me.to_string();
    let content = html! {
        div.pagehead { div { h1 { "Wallet" } p.sub { "By the ledger, at block " (words::grouped(account.height.into())) } } }
        @if let Some(why) = of("") { (alert(Tone::Bad, html! { p { (why) } })) }
        div.grid {
            (kpi(Figure { label: "Balance", value: Some(words::credits(account.balance)), unit: "credits", note: html! { "exactly " (account.balance) }, spark: None }))
            (kpi(Figure { label: "May be spent", value: Some(words::credits(account.spendable)), unit: "credits", note: html! {}, spark: None }))
            (kpi(Figure { label: "In escrow", value: Some(words::credits(account.held)), unit: "credits", note: html! { "for what runs; still yours" }, spark: None }))
            section.card.kpi.s3.keep6 {
                p.lab { "Test faucet" }
                @if account.gift.is_zero() { p.unknown { "Taken" } p.note { "Once per account, on test networks" } }
                @else if visitor.lack(Right::Pay, "take credits").is_some() { p.val { (words::credits(account.gift)) } p.note { "Taken by the role " (Right::Pay.roles()) } }
                @else { p.val { (words::credits(account.gift)) } (submit(visitor, "/wallet/topup", "small", html! { (icon("gift")) "Get test credits" })) }
            }
        }
        div.grid {
            section.card.s6 {
                header { div { h2 { "Send" } p.sub { "Final within a second or so; nobody can take it back" } } }
                (if_may(visitor.lack(Right::Pay, "send credits"), || html! { form method="post" action="/wallet/send" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    (field("to", "To account", html! { input.in.mono id="to" name="to" value=(form.text("to")) maxlength="40" required spellcheck="false" autocomplete="off"; }, "40 characters, as it stands in their wallet", of("to")))
                    div.two {
                        (field("amount", "Credits", html! { input.in id="amount" name="amount" value=(form.text("amount")) inputmode="decimal" maxlength="30" required autocomplete="off"; }, "", of("amount")))
                        (field("memo", "Note", html! { input.in id="memo" name="memo" value=(form.text("memo")) maxlength="100"; }, "Public, on the ledger", None))
                    }
                    button.btn.primary { (icon("send")) "Send" }
                } }))
                (cli("runrig wallet send ACCOUNT 2.5"))
            }
            section.card.s6 {
                header { div { h2 { "Receive" } p.sub { "Give this to who pays you" } } }
                div.row { div.code.soft.wrap { (id) } (copy(&id, "your account")) }
                p.foot-note { @if login.person.has_passkey() { "Your account key is your passkey; this portal never has it." } @else { "Your account key is sealed by your password. The recovery file in " a href="/settings" { "Settings" } " is the only way back if you forget it." } }
            }
            section.card.s12 {
                header { div { h2 { "Payments" } p.sub { "What hosts were paid for your jobs stands under Bills" } } div.more { a href="/bills" { "Bills" } (icon("chevron-right")) } }
                @if events.is_empty() { (empty("arrow-left-right", "No payment yet", "Sent and received credits come here.", None)) } @else { (happenings(&events, now_of(app))) }
            }
        }
        (cli("runrig wallet balance"))
    };
    let mut response = ui::page(app, visitor, Place::Wallet, "Wallet", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /wallet`
pub async fn wallet(State(app): State<App>, visitor: Visitor) -> Page {
    wallet_page(&app, &visitor, &Form::default(), None).await
}

/// `POST /wallet/send`
pub async fn send(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let Ok(to) = form.text("to").parse::<AccountId>() else {
        let why = "An account has 40 characters, 0 to 9 and a to f.".to_string();
        return wallet_page(&app, &visitor, &form, Some(("to", why))).await;
    };
    let amount: Amount = match form.text("amount").parse() {
        Ok(amount) => amount,
        Err(error) => {
            let why = types::AmountError::to_string(&error);
            return wallet_page(&app, &visitor, &form, Some(("amount", why))).await;
        }
    };
    let memo = form.text("memo").chars().take(100).collect();
    let call = ledger::account::Call::Transfer { to, amount, memo };
    match login.submit(&app, ledger::Call::Account(call)).await {
        Ok(_) => Ok(Redirect::to("/wallet").into_response()),
        Err(Unsubmitted::Sdk(error)) if error.is_rejection() => {
            wallet_page(&app, &visitor, &form, Some(("amount", error.to_string()))).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /wallet/topup`: the test network's gift.
pub async fn topup(State(app): State<App>, visitor: Visitor) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let call = ledger::account::Call::Faucet {
        to: login.account(),
    };
    match login.submit(&app, ledger::Call::Account(call)).await {
        Ok(_) => Ok(Redirect::to("/wallet").into_response()),
        Err(Unsubmitted::Sdk(error)) if error.is_rejection() => {
            wallet_page(
                &app,
                &visitor,
                &Form::default(),
                Some(("", error.to_string())),
            )
            .await
        }
        Err(error) => Err(error.into()),
    }
}

/// Which page of the jobs, or one of them.
#[derive(Deserialize)]
pub struct Which {
    page: Option<usize>,
    job: Option<DeploymentId>,
}

/// `GET /bills`: by job, a page at a time; `?job=` by service.
pub async fn bills(State(app): State<App>, visitor: Visitor, Query(which): Query<Which>) -> Page {
    if let Some(id) = which.job {
        return one_bill(&app, &visitor, id).await;
    }
    let me = visitor.login()?.account();
    let page = which.page.unwrap_or(1).max(1);
    let query = JobQuery {
        state: Some("all".into()),
        from: (page - 1).saturating_mul(JOBS),
        count: Some(JOBS),
        ..JobQuery::default()
    };
    let jobs = app.client.jobs(me, &query).await?;
    let pages = (jobs.found as usize).div_ceil(JOBS).max(1);
    let limit = app.client.limit_in_short(me).await?;
    let account = app.client.account(me).await?;
    let now = now_of(&app);
    let charges = app
        .index
        .ask(move |c| query::by_hour(c, Side::Payer, &me, 0))
        .await?;
    let today: Vec<_> = charges
        .iter()
        .filter(|c| c.hour + 24 > now / HOUR_MS)
        .cloned()
        .collect();
    let last_hour: Vec<_> = charges
        .iter()
        .filter(|c| c.hour + 1 == now / HOUR_MS)
        .cloned()
        .collect();
    let thirty_days = grown(Amount::ZERO, &charges, now, now + 720 * HOUR_MS);
    let at = |page: usize| format!("/bills?page={page}");
    let content = html! {
        div.pagehead {
            div { h1 { "Bills" } p.sub { "By the ledger, at block " (words::grouped(account.height.into())) "; every amount is the sum of receipts" } }
            div.acts { a.btn href="/bills/limits" { (icon("gauge")) "Limits" } a.btn href="/bills.csv" { (icon("download")) "CSV" } }
        }
        (notices(&limit, runs_out(&charges, account.balance, now)))
        div.grid {
            (kpi(Figure { label: "Charged in all", value: Some(words::credits(jobs.charged)), unit: "credits", note: html! { "exactly " (jobs.charged) }, spark: None }))
            (kpi(Figure { label: "Last 24 hours", value: Some(words::credits(sum(&today))), unit: "credits", note: html! { "by the index" }, spark: None }))
            (kpi(Figure { label: "Last full hour", value: (!last_hour.is_empty()).then(|| words::credits(sum(&last_hour))), unit: "credits", note: html! { "by the index" }, spark: None }))
            (kpi(Figure { label: "A month like the last day", value: thirty_days.map(words::credits), unit: "credits", note: html! { "a projection, not a promise" }, spark: None }))
        }
        div.grid {
            section.card.s12 {
                header { div { h2 { "This month" } p.sub { "Since " (words::day(limit.from_ms)) ", UTC; dashed: if it goes on so" } } div.more { a href="/bills/limits" { "Set limits" } (icon("chevron-right")) } }
                (month(&limit, plan(&limit, &charges, now)))
            }
            section.card.s12 {
                header { div { h2 { "By month" } p.sub { "Credits, by what was used" } } div.more { (legend(&RESOURCES)) } }
                (ui::bars(&by_month(&charges, now, 12), &RESOURCES.map(|r| r.1), "Cost by month and resource", true))
            }
        }
        section.card.flush {
            header { div { h2 { "What it was for" } p.sub { "Use × rate, floored to the last digit in your favour; the latest jobs first, removed ones last" } } }
            @if jobs.rows.is_empty() { (empty("receipt-text", "No bill yet", "It begins with the first second that something runs.", Some(("/jobs/new", "Create job")))) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Job" } @for (label, _) in RESOURCES { th.num { (label) } } th.num { "Sum" } th { "Bill" } } }
                tbody { @for job in &jobs.rows { tr {
                    td { a.row href=(format!("/jobs/{}", job.project)) { (job.project) } span.second { (job.deployment) } }
                    @for (at, (label, _)) in RESOURCES.iter().enumerate() { td.num data-l=(label) { (credits(job.charged_by[at])) } }
                    td.num.strong data-l="Sum" { (credits(job.charged)) }
                    td data-l="Bill" { a href=(format!("/bills?job={}", job.deployment)) { "By service" } }
                } } }
            } } }
            @if pages > 1 { (ui::pager(&format!("Page {page} of {pages}, {} jobs", words::grouped(jobs.found.into())), (page > 1).then(|| at(page - 1)).as_deref(), (page < pages).then(|| at(page + 1)).as_deref())) }
        }
        (cli("runrig bill"))
    };
    shown(&app, &visitor, Place::Bills, "Bills", content).await
}

/// What one job was charged, by service.
async fn one_bill(app: &App, visitor: &Visitor, id: DeploymentId) -> Page {
    let bill = app
        .client
        .bill(visitor.login()?.account(), Some(id))
        .await?;
    // The bill lists each replica's resources: one row for each service here, all of it as CSV.
    let mut rows: BTreeMap<&str, [Amount; 5]> = BTreeMap::new();
    let lines = bill
        .lines
        .iter()
        .map(|l| (&l.service, l.resource, l.amount));
    let earlier = bill.earlier.iter();
    let earlier = earlier.map(|l| (&l.service, l.resource, l.amount));
    for (service, resource, amount) in lines.chain(earlier) {
        let row = rows.entry(service).or_default();
        if let Some(at) = Resource::ALL.iter().position(|r| *r == resource) {
            row[at].0 = row[at].0.saturating_add(amount.0);
        }
    }
    let named = bill.lines.iter().map(|l| &l.project);
    let named = named.chain(bill.earlier.iter().map(|l| &l.project)).next();
    let name = named.map_or_else(|| id.to_string(), String::clone);
    let content = html! {
        (crumbs(&[("/bills", "Bills")]))
        div.pagehead {
            div { h1 { "Bill of " (name) } p.sub { (id) ", by the ledger at block " (words::grouped(bill.height.into())) ": " (bill.total) " credits" } }
            @if named.is_some() { div.acts { a.btn href=(format!("/jobs/{id}/receipts")) { (icon("receipt-text")) "Receipts" } } }
        }
        section.card.flush {
            @if rows.is_empty() { (empty("receipt-text", "No bill yet", "It begins with the first second that something runs.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Service" } @for (label, _) in RESOURCES { th.num { (label) } } th.num { "Sum" } } }
                tbody { @for (service, amounts) in &rows { tr {
                    td.strong { (service) }
                    @for (at, (label, _)) in RESOURCES.iter().enumerate() { td.num data-l=(label) { (credits(amounts[at])) } }
                    td.num.strong data-l="Sum" { (credits(Amount(amounts.iter().map(|a| a.0).sum()))) }
                } } }
            } } }
        }
        (cli(&format!("runrig bill {id}")))
    };
    shown(app, visitor, Place::Bills, "Bill", content).await
}

/// A field of CSV: quoted where it must be, and never a formula to a spreadsheet, which passes over
/// space before one.
fn csv_field(text: &str) -> String {
    let formula = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let text = match text.trim_start().starts_with(formula) || text.starts_with(['\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

pub fn csv_line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
    fields.join(",") + "\n"
}

fn csv_of(bill: &api::Bill) -> String {
    let mut out = String::new();
    for l in &bill.lines {
        let row = [
            l.deployment.to_string(),
            l.project.clone(),
            l.release.to_string(),
            l.service.clone(),
            l.allocation.to_string(),
            l.host.to_string(),
            l.resource.name().into(),
            l.usage.clone(),
            l.unit.clone(),
            l.rate.to_string(),
            l.amount.to_string(),
        ];
        out += &csv_line(&row);
    }
    for l in &bill.earlier {
        let row = [
            l.deployment.to_string(),
            l.project.clone(),
            format!("{}-{}", l.releases.0, l.releases.1),
            l.service.clone(),
            format!("{} earlier", l.allocations),
            String::new(),
            l.resource.name().into(),
            l.usage.clone(),
            l.unit.clone(),
            String::new(),
            l.amount.to_string(),
        ];
        out += &csv_line(&row);
    }
    out
}

/// Numbers of all jobs that an account ever made.
async fn all_jobs(app: &App, account: AccountId) -> Result<BTreeSet<DeploymentId>, SdkError> {
    let mut all = BTreeSet::new();
    let mut query = JobQuery {
        state: Some("all".into()),
        count: Some(api::JobsView::ROWS_MAX),
        ..JobQuery::default()
    };
    loop {
        let found = app.client.jobs(account, &query).await?;
        query.from += found.rows.len();
        all.extend(found.rows.iter().map(|row| row.deployment));
        if found.rows.is_empty() || query.from as u64 >= found.found {
            return Ok(all);
        }
    }
}

/// `GET /bills.csv`: job by job, as they are read; whoever has many holds nothing here meanwhile.
pub async fn csv(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let jobs = all_jobs(&app, me).await?;
    let head =
        "deployment,project,release,service,allocation,host,resource,usage,unit,rate,credits\n";
    let client = app.client.clone();
    let bills = stream::iter(jobs)
        .map(move |id| {
            let client = client.clone();
            async move { client.bill(me, Some(id)).await.map(|bill| csv_of(&bill)) }
        })
        .buffered(BILLS_AT_ONCE);
    // Who is cut off sees that the file is not whole.
    let text = stream::once(async { Ok(head.to_string()) }).chain(bills);
    let body = Body::from_stream(text);
    Ok(file("bill.csv", "text/csv; charset=utf-8", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_computes_nothing_of_ours() {
        for evil in ["=cmd()", "+1", "-1", "@SUM(A1)", " =1", "\t1", "＝1"] {
            assert_eq!(csv_field(evil), format!("'{evil}"));
        }
        assert_eq!(csv_field("\r=1\n"), "\"'\r=1\n\"");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field("plain"), "plain");
    }
}
