//! Wallet and bills: balances and bills are the ledger's answers, charts the index's.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use maud::html;
use types::{AccountId, Amount};

use super::explorer::{happenings, now_of};
use super::limit::{month, notices, plan, runs_out};
use super::overview::{RESOURCES, by_month, sum};
use super::{file, shown, slowly};
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::index::EventFilter;
use crate::index::query::{self, Side};
use crate::limits::Act;
use crate::ui::{
    self, Figure, Place, Tone, alert, cli, copy, credits, empty, field, icon, kpi, legend, submit,
};
use crate::web::{Form, Page, Visitor};
use crate::words::{self, plural};

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
                @else { p.val { (words::credits(account.gift)) } (submit(visitor, "/wallet/topup", "small", html! { (icon("gift")) "Get test credits" })) }
            }
        }
        div.grid {
            section.card.s6 {
                header { div { h2 { "Send" } p.sub { "Final within a second or so; nobody can take it back" } } }
                form method="post" action="/wallet/send" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    (field("to", "To account", html! { input.in.mono id="to" name="to" value=(form.text("to")) maxlength="40" required spellcheck="false" autocomplete="off"; }, "40 characters, as it stands in their wallet", of("to")))
                    div.two {
                        (field("amount", "Credits", html! { input.in id="amount" name="amount" value=(form.text("amount")) inputmode="decimal" maxlength="30" required autocomplete="off"; }, "", of("amount")))
                        (field("memo", "Note", html! { input.in id="memo" name="memo" value=(form.text("memo")) maxlength="100"; }, "Public, on the ledger", None))
                    }
                    button.btn.primary { (icon("send")) "Send" }
                }
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

/// `GET /bills`
pub async fn bills(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let bill = app.client.bill(me, None).await?;
    let limit = app.client.limit(me).await?;
    let account = app.client.account(me).await?;
    let now = now_of(&app);
    let charges = app
        .index
        .ask(move |c| query::by_hour(c, Side::Payer, &me, 0))
        .await?;
    let today: Vec<_> = charges
        .iter()
        .filter(|c| c.hour + 24 > now / 3_600_000)
        .cloned()
        .collect();
    let last_hour: Vec<_> = charges
        .iter()
        .filter(|c| c.hour + 1 == now / 3_600_000)
        .cloned()
        .collect();
    // The bill lists each replica's resources: one row for each service here, all of it as CSV.
    let mut rows: std::collections::BTreeMap<
        (types::DeploymentId, &str),
        (&str, [Amount; 5], usize),
    > = Default::default();
    let lines = bill.lines.iter().map(|l| {
        let of = (l.deployment, l.service.as_str());
        (of, &l.project, l.resource, l.amount, l.receipts.len())
    });
    let earlier = bill.earlier.iter().map(|l| {
        let of = (l.deployment, l.service.as_str());
        (of, &l.project, l.resource, l.amount, 0)
    });
    for (of, project, resource, amount, receipts) in lines.chain(earlier) {
        let row = rows.entry(of).or_insert((project, [Amount::ZERO; 5], 0));
        if let Some(at) = types::Resource::ALL.iter().position(|r| *r == resource) {
            row.1[at].0 = row.1[at].0.saturating_add(amount.0);
        }
        row.2 = row.2.max(receipts);
    }
    let content = html! {
        div.pagehead {
            div { h1 { "Bills" } p.sub { "By the ledger, at block " (words::grouped(bill.height.into())) "; every amount is the sum of receipts" } }
            div.acts { a.btn href="/bills/limits" { (icon("gauge")) "Limits" } a.btn href="/bills.csv" { (icon("download")) "CSV" } }
        }
        (notices(&limit, runs_out(&charges, account.balance, now)))
        div.grid {
            (kpi(Figure { label: "Charged in all", value: Some(words::credits(bill.total)), unit: "credits", note: html! { "exactly " (bill.total) }, spark: None }))
            (kpi(Figure { label: "Last 24 hours", value: Some(words::credits(sum(&today))), unit: "credits", note: html! { "by the index" }, spark: None }))
            (kpi(Figure { label: "Last full hour", value: (!last_hour.is_empty()).then(|| words::credits(sum(&last_hour))), unit: "credits", note: html! { "by the index" }, spark: None }))
            (kpi(Figure { label: "A month like this hour", value: (!last_hour.is_empty()).then(|| words::credits(Amount(sum(&last_hour).0.saturating_mul(720)))), unit: "credits", note: html! { "a projection, not a promise" }, spark: None }))
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
            header { div { h2 { "What it was for" } p.sub { "Use × rate, floored to the last digit in your favour" } } }
            @if rows.is_empty() { (empty("receipt-text", "No bill yet", "It begins with the first second that something runs.", Some(("/jobs/new", "Create job")))) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Service" } @for (label, _) in RESOURCES { th.num { (label) } } th.num { "Sum" } th { "Receipts" } } }
                tbody { @for ((deployment, service), (project, amounts, receipts)) in &rows { tr {
                    td { a.row href=(format!("/jobs/{project}")) { (project) } span.second { (service) ", " (deployment) } }
                    @for (at, (label, _)) in RESOURCES.iter().enumerate() { td.num data-l=(label) { (credits(amounts[at])) } }
                    td.num.strong data-l="Sum" { (credits(Amount(amounts.iter().map(|a| a.0).sum()))) }
                    td data-l="Receipts" { a href=(format!("/jobs/{project}/receipts")) { (plural(*receipts as u64, "receipt", "receipts")) } }
                } } }
            } } }
        }
        (cli("runrig bill"))
    };
    shown(&app, &visitor, Place::Bills, "Bills", content).await
}

/// A field of CSV: quoted where it must be, and never a formula to a spreadsheet, which passes over
/// space before one.
pub fn csv_field(text: &str) -> String {
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

/// `GET /bills.csv`
pub async fn csv(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let bill = app.client.bill(me, None).await?;
    let mut out = String::from(
        "deployment,project,release,service,allocation,host,resource,usage,unit,rate,credits\n",
    );
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
        out.push_str(&row.map(|f| csv_field(&f)).join(","));
        out.push('\n');
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
        out.push_str(&row.map(|f| csv_field(&f)).join(","));
        out.push('\n');
    }
    Ok(file("bill.csv", "text/csv; charset=utf-8", out))
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
