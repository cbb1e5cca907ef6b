//! What may be spent in a month, what that comes to, and what stops first; and how long funds last.

use api::LimitView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::limit::Call;
use maud::{Markup, html};
use types::Amount;

use super::explorer::now_of;
use super::overview::{length, month_so_far};
use super::slowly;
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::index::query::{self, HourRow, Side};
use crate::limits::Act;
use crate::ui::{self, Place, Tone, alert, badge, bound, cli, credits, crumbs, empty, field, icon};
use crate::web::{Form, Page, Visitor};
use crate::words;

const HOUR_MS: u64 = 3_600_000;
/// Under so much a page says when funds end.
const SHORT_MS: u64 = 72 * HOUR_MS;

/// What the month comes to if it goes on so; `None` in the first day of charges: too little is known.
pub fn plan(view: &LimitView, charges: &[HourRow], now_ms: u64) -> Option<f64> {
    let since = charges.first()?.hour * HOUR_MS;
    let (_, share) = month_so_far(now_ms);
    let known = now_ms.saturating_sub(since) >= 24 * HOUR_MS && !view.spent.is_zero();
    known.then(|| length(view.spent) / share)
}

/// When `balance` is used up at the mean rate of the last 24 full hours, if that is soon; `None` too
/// where less than an hour of them is known.
pub fn runs_out(charges: &[HourRow], balance: Amount, now_ms: u64) -> Option<u64> {
    let hour = now_ms / HOUR_MS;
    let last = charges
        .iter()
        .filter(|c| c.hour + 24 >= hour && c.hour < hour);
    let first = last.clone().map(|c| c.hour).min()?;
    let sum = last.fold(0u128, |sum, c| sum.saturating_add(c.amount().0));
    let span_ms = u128::from((hour - first) * HOUR_MS);
    let left_ms = balance.0.saturating_mul(span_ms).checked_div(sum)?;
    let left_ms = u64::try_from(left_ms).ok().filter(|ms| *ms < SHORT_MS)?;
    Some(now_ms + left_ms)
}

/// What the reader should know before he reads on.
pub fn notices(view: &LimitView, ends_ms: Option<u64>) -> Markup {
    let spent = view.spent.0;
    let percent = |limit: Amount| (spent.saturating_mul(100)).checked_div(limit.0);
    let stopped = view.stops.iter().filter(|s| s.limited).count();
    let reached = match view.limit {
        Some(limit) => percent(limit).unwrap_or(100).min(100),
        None => 0,
    };
    html! {
        @if let Some(at) = ends_ms {
            (alert(Tone::Warn, html! {
                p.strong { "Funds last until about " (words::utc(at)) " UTC" }
                p { "If it goes on as in the last day. Then what runs is stopped, and its data is kept. " a href="/wallet" { "Top up" } }
            }))
        }
        @if stopped > 0 {
            (alert(Tone::Bad, html! {
                p.strong { (words::plural(stopped as u64, "job is", "jobs are")) " stopped by the limit" }
                p { "Their data is kept. They run again when the limit is raised, or from " (words::utc(view.until_ms)) " UTC on. " a href="/bills/limits" { "Limits" } }
            }))
        } @else if reached >= 75 {
            (alert(Tone::Warn, html! {
                p.strong { (if reached >= 90 { "90" } else { "75" }) " % of this month's limit are spent" }
                p { (words::credits(view.spent)) " of " (words::credits(view.limit.unwrap_or_default())) " credits. " a href="/bills/limits" { "Limits" } }
            }))
        } @else if view.alert.is_some_and(|alert| view.spent >= alert) {
            (alert(Tone::Warn, html! {
                p.strong { "This month's alert is reached" }
                p { (words::credits(view.spent)) " credits are spent, your alert is at " (words::credits(view.alert.unwrap_or_default())) ". " a href="/bills/limits" { "Limits" } }
            }))
        }
    }
}

/// Spent against alert and limit, with what the month comes to.
pub fn month(view: &LimitView, plan: Option<f64>) -> Markup {
    let marks: Vec<(&str, f64)> = [("Alert", view.alert), ("Limit", view.limit)]
        .into_iter()
        .filter_map(|(label, at)| Some((label, length(at?))))
        .collect();
    html! {
        (bound(length(view.spent), plan, &marks))
        dl.facts {
            dt { "Spent" } dd { (credits(view.spent)) " credits" }
            dt { "If the month goes on so" } dd { @if let Some(plan) = plan { (format!("{plan:.6}")) " credits" } @else { span.unknown { "Not known before a day has passed" } } }
            dt { "Alert" } dd { @if let Some(alert) = view.alert { (credits(alert)) " credits" } @else { span.dim { "None" } } }
            dt { "Limit" } dd { @if let Some(limit) = view.limit { (credits(limit)) " credits" } @else { span.dim { "None" } } }
        }
    }
}

async fn limits_page(
    app: &App,
    visitor: &Visitor,
    form: Option<&Form>,
    wrong: Option<(&str, String)>,
) -> Page {
    let me = visitor.login()?.account();
    let view = app.client.limit(me).await?;
    let account = app.client.account(me).await?;
    let now = now_of(app);
    let charges = app
        .index
        .ask(move |c| query::by_hour(c, Side::Payer, &me, 0))
        .await?;
    let of = |name: &str| {
        wrong
            .as_ref()
            .filter(|(of, _)| *of == name)
            .map(|(_, why)| why.as_str())
    };
    let shown = |name: &str, kept: Option<Amount>| match form {
        Some(form) => form.text(name).to_string(),
        None => kept.map(|a| a.to_string()).unwrap_or_default(),
    };
    let order = match form {
        Some(form) => form.text("order").to_string(),
        None => view.order.join(", "),
    };
    let or_none = |kept: Option<Amount>| kept.map_or("none".into(), |a| a.to_string());
    let content = html! {
        (crumbs(&[("/bills", "Bills")]))
        div.pagehead { div { h1 { "Limits" } p.sub { "What may be spent in a month on what runs, in UTC. Payments and fees do not count: you sign each of them" } } }
        (notices(&view, runs_out(&charges, account.balance, now)))
        div.grid {
            section.card.s6 {
                header { div { h2 { "This month" } p.sub { "From " (words::day(view.from_ms)) " to " (words::day(view.until_ms)) ", by the ledger at block " (words::grouped(view.height.into())) } } }
                (month(&view, plan(&view, &charges, now)))
            }
            section.card.s6 {
                header { div { h2 { "Set them" } p.sub { "The ledger holds to them, whoever signs" } } }
                form method="post" action="/bills/limits" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    div.two {
                        (field("alert", "Alert, in credits", html! { input.in id="alert" name="alert" value=(shown("alert", view.alert)) inputmode="decimal" maxlength="30" autocomplete="off"; }, "You are told; nothing stops. Empty: none", of("alert")))
                        (field("limit", "Limit, in credits", html! { input.in id="limit" name="limit" value=(shown("limit", view.limit)) inputmode="decimal" maxlength="30" autocomplete="off"; }, "Not one unit more is taken. Empty: none", of("limit")))
                    }
                    (field("order", "What stops first", html! { input.in id="order" name="order" value=(order) maxlength="4200" autocomplete="off" spellcheck="false"; }, "Jobs, apart by commas, as batch, preview. The others stop after them, the newest first", of("order")))
                    button.btn.primary { "Set the limits" }
                }
            }
        }
        section.card.flush {
            header { div { h2 { "In this order" } p.sub { "From nine tenths of the limit on, one after the other, so that the rest runs on. Nothing is deleted" } } }
            @if view.stops.is_empty() { (empty("list", "No job yet", "Jobs stand here in the order in which the limit stops them.", Some(("/jobs/new", "Create job")))) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Job" } th.num { "Stops at" } th { "Now" } } }
                tbody { @for stop in &view.stops { tr {
                    td { a.row href=(format!("/jobs/{}", stop.project)) { (stop.project) } }
                    td.num data-l="Stops at" { @if let Some(at) = stop.at { (credits(at)) } @else { span.dim { "no limit" } } }
                    td data-l="Now" { @if stop.limited { (badge(Tone::Warn, "Stopped by the limit")) } @else { span.dim { "Not stopped by it" } } }
                } } }
            } } }
            @if view.projects > view.stops.len() as u64 { p.foot-note { "And " (words::grouped((view.projects - view.stops.len() as u64).into())) " more after them." } }
        }
        p.note { (icon("info")) " A stopped job keeps its place and its data. The storage goes on being counted: it is paid up to the limit, and the rest when the next month begins." }
        (cli(&format!("runrig limit set --alert {} --limit {}{}", or_none(view.alert), or_none(view.limit), match view.order.is_empty() { true => String::new(), false => format!(" --order {}", view.order.join(",")) })))
    };
    let mut response = ui::page(app, visitor, Place::Bills, "Limits", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /bills/limits`
pub async fn page(State(app): State<App>, visitor: Visitor) -> Page {
    limits_page(&app, &visitor, None, None).await
}

fn amount(form: &Form, name: &str) -> Result<Option<Amount>, String> {
    let text = form.text(name).trim();
    if text.is_empty() {
        return Ok(None);
    }
    let amount: Result<Amount, types::AmountError> = text.parse();
    amount.map(Some).map_err(|why| why.to_string())
}

/// `POST /bills/limits`
pub async fn set(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let read = |name: &'static str| amount(&form, name).map_err(|why| (name, why));
    let (alert, limit) = match (read("alert"), read("limit")) {
        (Ok(alert), Ok(limit)) => (alert, limit),
        (Err(wrong), _) | (_, Err(wrong)) => {
            return limits_page(&app, &visitor, Some(&form), Some(wrong)).await;
        }
    };
    let order = form.text("order").split([',', ' ']).map(str::trim);
    let order = order.filter(|n| !n.is_empty()).map(Into::into).collect();
    let call = Call::Set {
        alert,
        limit,
        order,
    };
    match login.submit(&app, ledger::Call::Limit(call)).await {
        Ok(_) => Ok(Redirect::to("/bills/limits").into_response()),
        Err(Unsubmitted::Sdk(error)) if error.is_rejection() => {
            let why = error.to_string();
            let of = if why.contains("alert") {
                "alert"
            } else {
                "order"
            };
            limits_page(&app, &visitor, Some(&form), Some((of, why))).await
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(hour: u64, credits: u64) -> HourRow {
        let mut amounts = [Amount::ZERO; 5];
        amounts[0] = Amount::credits(credits);
        HourRow {
            hour,
            amounts,
            moved: 0,
            receipts: 1,
        }
    }

    #[test]
    fn funds_last_as_long_as_the_last_day_says() {
        let hour = 500_000;
        let now = hour * HOUR_MS;
        // Two credits an hour, known for two hours; the hour that has just begun does not count.
        let rows = [
            charged(hour - 2, 2),
            charged(hour - 1, 2),
            charged(hour, 900),
        ];
        let ends = runs_out(&rows, Amount::credits(10), now);
        assert_eq!(ends, Some(now + 5 * HOUR_MS));
        // Three days or more are nothing to speak of, and of nothing nothing follows.
        assert_eq!(runs_out(&rows, Amount::credits(144), now), None);
        assert_eq!(runs_out(&rows[2..], Amount::credits(1), now), None);
        assert_eq!(
            runs_out(&[charged(hour - 30, 5)], Amount::credits(1), now),
            None
        );
        assert_eq!(runs_out(&[], Amount::ZERO, now), None);
    }

    fn view(spent: u64, alert: Option<u64>, limit: Option<u64>) -> LimitView {
        LimitView {
            account: types::AccountId([1; 20]),
            height: 7,
            from_ms: 0,
            until_ms: 1,
            spent: Amount::credits(spent),
            alert: alert.map(Amount::credits),
            limit: limit.map(Amount::credits),
            most: None,
            order: Vec::new(),
            stops: Vec::new(),
            projects: 0,
        }
    }

    #[test]
    fn a_page_says_what_is_reached_and_nothing_before() {
        let said = |view: &LimitView| notices(view, None).into_string();
        assert_eq!(said(&view(10, None, None)), "");
        assert_eq!(said(&view(19, Some(20), Some(50))), "");
        assert!(said(&view(20, Some(20), Some(50))).contains("alert is reached"));
        assert!(said(&view(38, Some(20), Some(50))).contains("75 %"));
        assert!(said(&view(45, Some(20), Some(50))).contains("90 %"));
        assert!(said(&view(0, None, Some(0))).contains("90 %"));
        let mut stopped = view(50, None, Some(50));
        stopped.stops.push(api::StopView {
            deployment: types::DeploymentId(1),
            project: "shop".into(),
            at: None,
            limited: true,
        });
        assert!(said(&stopped).contains("1 job is stopped by the limit"));
        let soon = notices(&view(0, None, None), Some(1_795_260_024_092)).into_string();
        assert!(soon.contains("Funds last until about 2026-11-21"), "{soon}");
    }
}
