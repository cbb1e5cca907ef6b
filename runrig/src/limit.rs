//! `limit`: what the account may spend in a month on what runs, and what stops first.

use clap::{Args, Subcommand};
use ledger::limit::Call;
use types::Amount;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::{output, units};

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig limit show\n  runrig limit set --alert 20 --limit 50\n  runrig limit set --order batch,preview\n  runrig limit set --limit none"
)]
pub enum Limit {
    /// What was spent this month, the limit, and the order in which projects stop
    Show,
    /// Set the alert, the limit or the order; what is not said stays
    Set(Set),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct Set {
    /// Be told when so many credits are spent in a month; none: no alert
    #[arg(long, value_name = "CREDITS", value_parser = bound)]
    alert: Option<Bound>,
    /// Spend no more credits than this in a month; none: no limit
    #[arg(long, value_name = "CREDITS", value_parser = bound)]
    limit: Option<Bound>,
    /// Projects, what stops first first; the others stop after them, the newest first. "" for none
    #[arg(long, value_name = "PROJECT,PROJECT")]
    order: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Bound(Option<Amount>);

fn bound(text: &str) -> std::result::Result<Bound, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let amount: std::result::Result<Amount, _> = text.parse();
    amount
        .map(|amount| Bound(Some(amount)))
        .map_err(|why| format!("{why}, or none"))
}

pub async fn run(session: &Session, command: &Limit, json: bool) -> Result {
    match command {
        Limit::Show => show(session, json).await,
        Limit::Set(args) => set(session, args, json).await,
    }
}

async fn set(session: &Session, args: &Set, json: bool) -> Result {
    let known = session.client.limit(session.account()?).await?;
    let order = match &args.order {
        None => known.order,
        Some(text) => names(text),
    };
    let call = Call::Set {
        alert: args.alert.map_or(known.alert, |bound| bound.0),
        limit: args.limit.map_or(known.limit, |bound| bound.0),
        order,
    };
    let applied = session.submit(ledger::Call::Limit(call)).await?;
    if !json {
        output::say(format!(
            "transaction {} at height {}",
            applied.id,
            applied.height.unwrap_or(0)
        ));
    }
    show(session, json).await
}

fn names(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim);
    names.filter(|n| !n.is_empty()).map(Into::into).collect()
}

async fn show(session: &Session, json: bool) -> Result {
    let view = session.client.limit(session.account()?).await?;
    if json {
        output::json(&view);
        return Ok(());
    }
    let or_none = |amount: Option<Amount>| match amount {
        Some(amount) => amount.to_string(),
        None => "none".into(),
    };
    let rows = [
        ["spent".into(), view.spent.to_string()],
        ["alert".into(), or_none(view.alert)],
        ["limit".into(), or_none(view.limit)],
    ];
    output::data(output::table(
        &["IN A MONTH", "CREDITS"],
        &rows.map(Vec::from),
        &[1],
    ));
    output::say(format!(
        "counted since {}, anew from {}",
        units::time(view.from_ms),
        units::time(view.until_ms)
    ));
    if view.stops.is_empty() || view.limit.is_none() {
        if view.limit.is_none() {
            output::say("Nothing stops: set a limit with `runrig limit set --limit CREDITS`.");
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = view
        .stops
        .iter()
        .map(|stop| {
            let state = match stop.limited {
                true => "stopped by the limit",
                false => "-",
            };
            vec![stop.project.clone(), or_none(stop.at), state.into()]
        })
        .collect();
    output::data(output::table(&["STOPS FIRST", "AT", "NOW"], &rows, &[1]));
    let more = view.projects.saturating_sub(view.stops.len() as u64);
    if more > 0 {
        output::say(format!("and {more} more"));
    }
    if let Some(most) = view.most.filter(|most| Some(*most) > view.limit) {
        output::say(format!(
            "The limit was lowered: up to {most} credits are taken this month for what had been used by then."
        ));
    }
    Ok(())
}

/// Of a project that its owner's limit stopped.
pub fn stopped(project: &str) -> Failure {
    Failure::new(
        crate::failure::FUNDS,
        format!("{project} is stopped"),
        "the account's limit for this month is reached; its data is kept",
        "See `runrig limit show`; raise it with `runrig limit set --limit CREDITS`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_orders_are_read() {
        assert_eq!(bound("none").map(|b| b.0), Ok(None));
        assert_eq!(bound("2.5").map(|b| b.0), Ok("2.5".parse().ok()));
        for bad in ["", "-1", "lots", "None", "1e3"] {
            let why = bound(bad).map(|b| b.0).expect_err(bad);
            assert!(why.contains("or none"), "{why}");
        }
        assert_eq!(names(" a, b ,,c"), ["a", "b", "c"]);
        assert!(names("").is_empty());
    }
}
