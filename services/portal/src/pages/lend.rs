//! An owner's forms on the page of his host: what it asks, and how much of it he lends.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::host::Call;
use maud::{Markup, html};
use types::Resources;

use crate::app::App;
use crate::limits::Act;
use crate::ui::{cli, field, hbars, no_right};
use crate::web::{Form, Page, Right, Trouble, Visitor};

use super::{hours, slowly};

const GIB: u64 = 1 << 30;

/// What the hosts ask that are online, five percent to a bar; none where nobody is.
pub fn market(host: &api::HostView, all: &[api::HostView]) -> Markup {
    const STEP: u32 = 50;
    let mut bars = [0u32; 11];
    for other in all.iter().filter(|h| h.online) {
        let above = other.offer.price_multiplier_milli.saturating_sub(500);
        let bar = (above / STEP) as usize;
        bars[bar.min(10)] += 1;
    }
    let rows: Vec<(String, f64, String)> = (0u32..)
        .zip(bars)
        .map(|(at, count)| {
            let from = 500 + at * STEP;
            let own = (from..from + STEP).contains(&host.offer.price_multiplier_milli);
            let label = match at {
                10 => words::percent(1_000),
                _ => format!("{} to {}", from / 10, words::percent(from + STEP - 1)),
            };
            let mark = if own { " · this one" } else { "" };
            (
                format!("{label}{mark}"),
                f64::from(count),
                count.to_string(),
            )
        })
        .collect();
    html! {
        section.card.s12 {
            header { div { h2 { "What hosts ask" } p.sub { "Hosts that are online, by the part of the network's rates that each asks" } } }
            (hbars(&rows, 1))
        }
    }
}

/// The same acts on the command line.
fn price_line(host: &api::HostView) -> String {
    let percent = f64::from(host.offer.price_multiplier_milli) / 10.0;
    format!("runrig host price {} {percent}", host.name)
}

fn allotment_line(host: &api::HostView) -> String {
    let lent = host.allotment.unwrap_or(host.offer.capacity);
    format!(
        "runrig host set {} --cpus {} --memory {} --disk {} --bandwidth {}kbit",
        host.name,
        f64::from(lent.cpu_millis) / 1_000.0,
        exact(lent.memory_bytes),
        exact(lent.disk_bytes),
        lent.bandwidth_kbps
    )
}

fn drain_line(host: &api::HostView) -> String {
    let undo = if host.draining { " --undo" } else { "" };
    format!("runrig host drain {}{undo}", host.name)
}

/// For its owner alone.
pub fn forms(visitor: &Visitor, host: &api::HostView) -> Markup {
    if let Some(lack) = visitor.lack(Right::Rule, "change what hosts ask and lend") {
        return html! {
            section.card.s12 {
                header { div { h2 { "Its price, its size, its hours" } p.sub { "And emptying it for upkeep" } } }
                (no_right(&lack))
                (cli(&price_line(host))) (cli(&allotment_line(host))) (cli(&drain_line(host))) (cli(&hours::command(host)))
            }
        };
    }
    let lent = host.allotment.unwrap_or(host.offer.capacity);
    let percent = f64::from(host.offer.price_multiplier_milli) / 10.0;
    let input = |name: &str, value: String, least: &str, step: &str| html! { input.in id=(name) name=(name) type="number" value=(value) min=(least) step=(step) required; };
    let gib = |bytes: u64| format!("{:.3}", bytes as f64 / GIB as f64);
    html! {
        section.card.s6 {
            header { div { h2 { "Its price" } p.sub { "For what begins there from now on; what runs keeps its rates" } } }
            form method="post" action=(format!("/hosts/{}/price", host.host)) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                (field("percent", "Percent of the network's rates", html! { input.in id="percent" name="percent" type="number" value=(percent) min="50" max="100" step="0.1" required; }, "50 to 100: hosts that ask less are chosen more often", None))
                button.btn.primary { "Set the price" }
            }
            (cli(&price_line(host)))
        }
        section.card.s6 {
            header { div { h2 { "What you lend" } p.sub { "Less holds at once; more as soon as its agent finds that the machine has it" } } }
            form method="post" action=(format!("/hosts/{}/allotment", host.host)) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                div.two {
                    (field("cpus", "Cores", input("cpus", (f64::from(lent.cpu_millis) / 1_000.0).to_string(), "0.001", "0.001"), "", None))
                    (field("memory", "Memory in GiB", input("memory", gib(lent.memory_bytes), "0.001", "0.001"), "", None))
                }
                div.two {
                    (field("disk", "Disk in GiB", input("disk", gib(lent.disk_bytes), "0", "0.001"), "", None))
                    (field("bandwidth", "Network in Mbit/s", input("bandwidth", (f64::from(lent.bandwidth_kbps) / 1_000.0).to_string(), "0", "0.001"), "Not less than what runs there reserves: drain it first", None))
                }
                button.btn.primary { "Lend this" }
            }
            (cli(&allotment_line(host)))
        }
        (drain_card(visitor, host))
        (hours::card(visitor, host))
    }
}

/// Bytes as the command line reads them back.
fn exact(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => format!("{}m", bytes >> 20),
        _ => bytes.to_string(),
    }
}

/// Empties it for upkeep, and lets it take work again.
fn drain_card(visitor: &Visitor, host: &api::HostView) -> Markup {
    html! {
        section.card.s6 {
            header { div { h2 { "Empty it" } p.sub { "For upkeep: each replica moves once its successor is good; those with volumes stay" } } }
            form method="post" action=(format!("/hosts/{}/drain", host.host)) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                @if host.draining {
                    p.ink2 { (words::plural(host.allocations.into(), "replica is", "replicas are")) " left on it." }
                    button.btn name="draining" value="no" { "Let it take work again" }
                } @else { button.btn name="draining" value="yes" { "Drain it" } }
            }
            (cli(&drain_line(host)))
        }
    }
}

/// A decimal with at most three digits behind its point, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1_000 + part)
}

fn read(form: &Form, name: &str) -> Result<u64, Trouble> {
    let wrong = || {
        let why = format!(
            "{name} is not a number such as 4 or 0.5, with at most three digits behind its point"
        );
        Trouble::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This cannot be read",
            why,
            "Go back and correct it.",
        )
    };
    thousandths(form.text(name)).ok_or_else(wrong)
}

/// Signs and submits what is said of a host, and shows its page again.
pub async fn submit(
    app: &App,
    visitor: &Visitor,
    id: &str,
    make: impl FnOnce(types::HostId) -> Call,
) -> Page {
    let login = visitor.login()?;
    slowly(app, Act::Submit, &login.person.handle)?;
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || id.len() > 64 {
        return Err(Trouble::missing("There is no such host"));
    }
    let host = app.client.host(id).await?.host;
    login.submit(app, ledger::Call::Host(make(host))).await?;
    Ok(Redirect::to(&format!("/explorer/hosts/{host}")).into_response())
}

/// `POST /hosts/{id}/price`
pub async fn price(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    form: Form,
) -> Page {
    // 72.5 percent are 725 thousandths.
    let milli = u32::try_from(read(&form, "percent")? / 100).unwrap_or(u32::MAX);
    submit(&app, &visitor, &id, |host| Call::SetPrice {
        host,
        price_multiplier_milli: milli,
    })
    .await
}

/// `POST /hosts/{id}/drain`
pub async fn drain(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    form: Form,
) -> Page {
    let draining = form.text("draining") == "yes";
    submit(&app, &visitor, &id, |host| Call::Drain { host, draining }).await
}

/// `POST /hosts/{id}/allotment`
pub async fn allotment(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    form: Form,
) -> Page {
    let small = |name| Ok::<u32, Trouble>(u32::try_from(read(&form, name)?).unwrap_or(u32::MAX));
    let large = |name| {
        let milli = u128::from(read(&form, name)?);
        let bytes = milli * u128::from(GIB) / 1_000;
        Ok::<u64, Trouble>(u64::try_from(bytes).unwrap_or(u64::MAX))
    };
    let allotment = Resources {
        cpu_millis: small("cpus")?,
        memory_bytes: large("memory")?,
        disk_bytes: large("disk")?,
        bandwidth_kbps: small("bandwidth")?,
    };
    submit(&app, &visitor, &id, |host| Call::SetAllotment {
        host,
        allotment,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_forms_are_exact() {
        assert_eq!(thousandths("72.5"), Some(72_500));
        assert_eq!(thousandths("0.001"), Some(1));
        assert_eq!(thousandths("4"), Some(4_000));
        for text in ["", ".5", "1.2345", "-1", "1e3", "9999999999", "4 ", "٣"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
