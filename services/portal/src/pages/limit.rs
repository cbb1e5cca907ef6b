//! What may be spent in a month, what that comes to, and what stops first; and how long funds last.

use api::LimitView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::limit::Call;
use maud::{Markup, html};
use types::Amount;

use super::explorer::now_of;
use super::overview::length;
use super::slowly;
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::index::query::{self, HourRow, Side};
use crate::limits::Act;
use crate::ui::{
    self, Place, Tone, alert, badge, bound, cli, credits, crumbs, empty, field, if_may,
};
use crate::web::{Form, Page, Right, Visitor};

const HOUR_MS: u64 = 3_600_000;
/// Under so much a page says when funds end.
const SHORT_MS: u64 = 72 * HOUR_MS;

/// What was charged in the last full hours, at most 24, and how long those are in milliseconds;
/// `None` where not one is known.
pub fn pace(charges: &[HourRow], now_ms: u64) -> Option<(Amount, u64)> {
    let hour = now_ms / HOUR_MS;
    let known = charges
        .first()
        .map(|row| row.hour)
        .filter(|at| *at < hour)?;
    let last = charges
        .iter()
        .filter(|c| c.hour + 24 >= hour && c.hour < hour);
    // Of who was charged before, and not in this time, a whole day is known.
    let first = last.clone().map(|c| c.hour).min();
    let first = first.unwrap_or(known.max(hour.saturating_sub(24)));
    let sum = last.fold(0u128, |sum, c| sum.saturating_add(c.amount().0));
    Some((Amount(sum), (hour - first) * HOUR_MS))
}

/// What `spent` comes to until then, at the pace of the last day.
pub fn grown(spent: Amount, charges: &[HourRow], now_ms: u64, until_ms: u64) -> Option<Amount> {
    let (sum, span_ms) = pace(charges, now_ms)?;
    let left_ms = u128::from(until_ms.saturating_sub(now_ms));
    let more = sum.0.saturating_mul(left_ms).checked_div(span_ms.into())?;
    Some(Amount(spent.0.saturating_add(more)))
}

/// What the month comes to if it goes on as in the last day; `None` while not an hour is known.
pub fn plan(view: &LimitView, charges: &[HourRow], now_ms: u64) -> Option<Amount> {
    grown(view.spent, charges, now_ms, view.until_ms)
}

/// When `balance` is used up at the pace of the last day, if that is soon.
pub fn runs_out(charges: &[HourRow], balance: Amount, now_ms: u64) -> Option<u64> {
    let (sum, span_ms) = pace(charges, now_ms)?;
    let left_ms = balance
        .0
        .saturating_mul(span_ms.into())
        .checked_div(sum.0)?;
    let left_ms = u64::try_from(left_ms).ok().filter(|ms| *ms < SHORT_MS)?;
    Some(now_ms + left_ms)
}

/// What the reader should know before he reads on.
pub fn notices(view: &LimitView, ends_ms: Option<u64>) -> Markup {
    let spent = view.spent.0;
    let percent = |limit: Amount| (spent.saturating_mul(100)).checked_div(limit.0);
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
        @if view.limited > 0 {
            (alert(Tone::Bad, html! {
                p.strong { (words::plural(view.limited, "job is", "jobs are")) " stopped by the limit" }
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
pub fn month(view: &LimitView, plan: Option<Amount>) -> Markup {
    let marks: Vec<(&str, f64)> = [("Alert", view.alert), ("Limit", view.limit)]
        .into_iter()
        .filter_map(|(label, at)| Some((label, length(at?))))
        .collect();
    html! {
        @if !marks.is_empty() { (bound(length(view.spent), plan.map(length), &marks)) }
        dl.facts {
            dt { "Spent" } dd { (credits(view.spent)) " credits" }
            dt { "If the month goes on so" } dd { @if let Some(plan) = plan { (credits(plan)) " credits" } @else { span.unknown { "Not known before an hour has passed" } } }
            dt { "Alert" } dd { @if let Some(alert) = view.alert { (credits(alert)) " credits" } @else { span.dim { "None" } } }
            dt { "Limit" } dd { @if let Some(limit) = view.limit { (credits(limit)) " credits" } @else { span.dim { "None" } } }
            @if let Some(most) = view.most.filter(|most| view.limit.is_some_and(|limit| *most > limit)) {
                dt { "Taken at most" } dd { (credits(most)) " credits" span.second { "The limit was lowered: this month goes on up to here, for what had been used by then" } }
            }
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
                (if_may(visitor.lack(Right::Pay, "set limits"), || html! { form method="post" action="/bills/limits" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    div.two {
                        (field("alert", "Alert, in credits", html! { input.in id="alert" name="alert" value=(shown("alert", view.alert)) inputmode="decimal" maxlength="30" autocomplete="off"; }, "You are told; nothing stops. Empty: none", of("alert")))
                        (field("limit", "Limit, in credits", html! { input.in id="limit" name="limit" value=(shown("limit", view.limit)) inputmode="decimal" maxlength="30" autocomplete="off"; }, "Not one unit more is taken. Empty: none", of("limit")))
                    }
                    (field("order", "What stops first", html! { input.in id="order" name="order" value=(order) maxlength="4200" autocomplete="off" spellcheck="false"; }, "Jobs, apart by commas, as batch, preview. The others stop after them, the newest first", of("order")))
                    button.btn.primary { "Set the limits" }
                } }))
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
        p.foot-note { "A stopped job keeps its place and its data. The storage goes on being counted: it is paid up to the limit, and the rest when the next month begins." }
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

    #[test]
    fn a_month_goes_on_as_the_last_day_whenever_it_began() {
        let until = 1_795_262_400_000 / HOUR_MS * HOUR_MS + 240 * HOUR_MS;
        let now = until - 240 * HOUR_MS;
        let hour = now / HOUR_MS;
        let spent = Amount::credits(48);
        let grown = |rows: &[HourRow]| grown(spent, rows, now, until);
        // It began two days ago, a credit an hour; ten days are to come.
        let rows: Vec<HourRow> = (1..=48).rev().map(|ago| charged(hour - ago, 1)).collect();
        assert_eq!(grown(&rows), Some(Amount::credits(48 + 240)));
        // It began three hours ago.
        assert_eq!(grown(&rows[45..]), Some(Amount::credits(48 + 240)));
        // What has ended costs nothing more.
        assert_eq!(grown(&rows[..20]), Some(spent));
        assert_eq!(grown(&[charged(hour, 1)]), None);
        assert_eq!(grown(&[]), None);
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
            limited: 0,
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
        // However many of them are listed.
        stopped.limited = 10_000;
        let many = words::plural(10_000, "job is", "jobs are");
        assert!(said(&stopped).contains(&format!("{many} stopped by the limit")));
        let mut lowered = view(40, None, Some(50));
        lowered.most = lowered.limit;
        let shown = |view: &LimitView| month(view, None).into_string();
        assert!(!shown(&lowered).contains("Taken at most"));
        lowered.most = Some(Amount::credits(60));
        assert!(shown(&lowered).contains("Taken at most"));
        let soon = notices(&view(0, None, None), Some(1_795_260_024_092)).into_string();
        assert!(soon.contains("Funds last until about 2026-11-21"), "{soon}");
    }
}
