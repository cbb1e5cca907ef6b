//! An owner's form for the hours in which his host takes work: a row for each day of the week, or
//! all of it in one line.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use ledger::host::Call;
use maud::{Markup, html};
use types::{Hours, HoursError, Span};

use super::lend::submit;
use crate::app::App;
use crate::ui::{cli, field};
use crate::web::{Form, Page, Trouble, Visitor};

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// The same on the command line.
pub fn command(host: &api::HostView) -> String {
    match &host.hours {
        Some(hours) => format!("runrig host hours {} '{hours}'", host.name),
        None => format!("runrig host hours {} --always", host.name),
    }
}

/// For its owner alone.
pub fn card(visitor: &Visitor, host: &api::HostView) -> Markup {
    let days = days_of(host.hours.as_ref());
    // A row has one time; who has several a day said them in a line.
    let one_each = days.iter().all(|spans| spans.len() <= 1);
    let line = host.hours.map(|h| h.to_string()).unwrap_or_default();
    let action = format!("/hosts/{}/hours", host.host);
    html! {
        section.card.s6 {
            header { div { h2 { "Its hours" } p.sub { "In UTC. Outside them what runs there moves, what has volumes there stays, and nothing new comes" } } }
            @if one_each {
                form method="post" action=(action) {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    fieldset.week {
                        legend.sr { "When it takes work on each day, in UTC" }
                        @for (day, spans) in days.iter().enumerate() { (row(day, spans.first().copied())) }
                    }
                    p.hint { "Where it ends at an earlier hour than it begins, it runs over midnight." }
                    div.row { button.btn.primary name="how" value="days" { "Set the hours" } @if host.hours.is_some() { button.btn name="how" value="always" { "Take work at any time" } } }
                }
            }
            details open[!one_each] {
                summary { "In one line, also for several times a day" }
                form method="post" action=(action) {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    (field("hours", "Days and hours in UTC", html! { input.in id="hours" name="hours" value=(line) maxlength="1000" placeholder="mon-fri 20-8, sat-sun 0-24" aria-describedby="hours-hint" required; }, "For example mon-fri 20-8, sat 0-12 14-24", None))
                    div.row { button.btn name="how" value="line" { "Set this line" } @if !one_each { button.btn name="how" value="always" { "Take work at any time" } } }
                }
            }
            (cli(&command(host)))
        }
    }
}

/// Without hours every day is open.
fn days_of(hours: Option<&Hours>) -> [Vec<Span>; 7] {
    match hours {
        Some(hours) => hours.days(),
        None => std::array::from_fn(|_| vec![(0, 24)]),
    }
}

fn row(day: usize, span: Option<Span>) -> Markup {
    let name = DAYS[day];
    let (from, until) = (span.map(|s| s.0), span.map_or(24, |s| s.1));
    html! {
        div.day {
            span aria-hidden="true" { (name[..3]) }
            select.short name=(format!("from-{day}")) aria-label=(format!("{name} from")) {
                option value="" selected[from.is_none()] { "closed" }
                @for hour in 0..24u8 { option value=(hour) selected[from == Some(hour)] { (clock(hour)) } }
            }
            select.short name=(format!("until-{day}")) aria-label=(format!("{name} until")) {
                @for hour in 1..=24u8 { option value=(hour) selected[until == hour] { (clock(hour)) } }
            }
        }
    }
}

/// `08:00`
fn clock(hour: u8) -> String {
    format!("{hour:02}:00")
}

/// What the rows say, as a line.
fn line_of(form: &Form) -> String {
    let days = (0..DAYS.len()).filter_map(|day| {
        let from = form.text(&format!("from-{day}"));
        let until = form.text(&format!("until-{day}"));
        (!from.is_empty()).then(|| format!("{} {from}-{until}", Hours::day_name(day)))
    });
    days.collect::<Vec<_>>().join(", ")
}

fn wish(form: &Form) -> Result<Option<Hours>, HoursError> {
    match form.text("how") {
        "always" => Ok(None),
        "line" => form.text("hours").parse().map(Some),
        _ => line_of(form).parse().map(Some),
    }
}

/// `POST /hosts/{id}/hours`
pub async fn set(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    form: Form,
) -> Page {
    let hours = wish(&form).map_err(|wrong| {
        Trouble::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "These hours cannot be taken",
            wrong.to_string(),
            "Go back and correct them. A host that is to take no work at all is drained.",
        )
    })?;
    submit(&app, &visitor, &id, |host| Call::SetHours { host, hours }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fields: &[(&str, &str)]) -> Result<Option<String>, HoursError> {
        let body = fields.iter().map(|(name, value)| format!("{name}={value}"));
        let body = body.collect::<Vec<_>>().join("&").replace(' ', "+");
        let hours = wish(&Form::read(body.as_bytes()))?;
        Ok(hours.map(|h| h.to_string()))
    }

    #[test]
    fn a_form_is_a_week() {
        let said = |fields: &[(&str, &str)]| sent(fields).expect("a week");
        let nights = [
            ("from-0", "20"),
            ("until-0", "8"),
            ("from-6", "0"),
            ("until-6", "24"),
            ("from-2", ""),
            ("until-2", "24"),
        ];
        assert_eq!(said(&nights).as_deref(), Some("mon 20-8, sun 0-24"));
        let line = [
            ("how", "line"),
            ("hours", "tue 8-12 14-18"),
            ("from-0", "1"),
        ];
        assert_eq!(said(&line).as_deref(), Some("tue 8-12 14-18"));
        assert_eq!(said(&[("how", "always"), ("hours", "x")]), None);
        assert_eq!(sent(&[("how", "days")]), Err(HoursError::Never));
        assert_eq!(sent(&[("how", "line")]), Err(HoursError::Never));
        let wrong = sent(&[("from-0", "8"), ("until-0", "8")]);
        assert_eq!(wrong, Err(HoursError::Span("8-8".into())));
        assert!(sent(&[("from-0", "<b>"), ("until-0", "8")]).is_err());
    }

    /// What the rows show is what they send.
    #[test]
    fn rows_hold_a_week_of_one_time_a_day() {
        for text in ["mon-fri 20-8, sat-sun 0-24", "mon-sun 0-24", "wed 3-4"] {
            let hours: Hours = text.parse().expect(text);
            let days = days_of(Some(&hours));
            assert!(days.iter().all(|spans| spans.len() <= 1), "{text}");
            let rows = days.iter().enumerate().flat_map(|(day, spans)| {
                let (from, until) = spans
                    .first()
                    .map_or((String::new(), 24), |s| (s.0.to_string(), s.1));
                [format!("from-{day}={from}"), format!("until-{day}={until}")]
            });
            let body = rows.collect::<Vec<_>>().join("&");
            assert_eq!(
                wish(&Form::read(body.as_bytes())),
                Ok(Some(hours)),
                "{text}"
            );
        }
    }
}
