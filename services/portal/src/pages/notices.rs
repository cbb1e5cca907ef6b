//! What a lender should know of his hosts, as far as the ledger says it: each with the way out.

use api::HostView;
use maud::{Markup, html};
use types::AccountId;

use super::hosts::against;
use crate::ui::{Tone, alert};

/// Of more than these it is said how many there are.
const SHOWN: usize = 6;
/// So many others must be online for there to be a market.
const MARKET_MIN: usize = 3;
/// Below a newcomer's, in thousandths.
const LOW_MILLI: u32 = 200;

/// So long it is told that witnesses got no answer.
const FLAG_MS: u64 = 7 * 86_400_000;

struct Notice {
    tone: Tone,
    title: String,
    words: String,
    command: String,
}

/// What half of the others ask at the most, in thousandths of the network's rates.
fn market(owner: AccountId, all: &[HostView]) -> Option<u32> {
    let others = all
        .iter()
        .filter(|other| other.online && other.owner != owner);
    let mut asked: Vec<u32> = others.map(|h| h.offer.price_multiplier_milli).collect();
    asked.sort_unstable();
    (asked.len() >= MARKET_MIN).then(|| asked[(asked.len() - 1) / 2])
}

/// `market`: see [`market`].
fn of(host: &HostView, market: Option<u32>, now_ms: u64) -> Vec<Notice> {
    let name = &host.name;
    let mut notices = Vec::new();
    let mut say = |tone, title: String, words: String, command: String| {
        notices.push(Notice {
            tone,
            title,
            words,
            command,
        });
    };
    let show = format!("runrig host show {name} --verify");
    if !host.online && !host.closed {
        let since = words::span(now_ms.saturating_sub(host.last_seen_ms));
        say(
            Tone::Bad,
            format!("{name} is silent"),
            format!(
                "The network has not heard it for {since}: what ran there moves, nothing new comes, and its reputation falls. Is the machine on, does the agent run, does it reach the gateway?"
            ),
            "runrig doctor".into(),
        );
    } else if host.online && host.trusted_ms > now_ms {
        let left = words::span(host.trusted_ms - now_ms);
        say(
            Tone::Warn,
            format!("{name} is on trial"),
            format!(
                "It fell silent: for {left} more it gets new work only where nothing else fits."
            ),
            show.clone(),
        );
    }
    let against = against(&host.reputation);
    if !against.is_empty() {
        let low = host.reputation.reliability_milli < LOW_MILLI;
        say(
            if low { Tone::Warn } else { Tone::Info },
            format!("The reputation of {name} fell"),
            format!(
                "It is {} now: it {}. It grows again with each hour of good service; until then others are chosen first.",
                super::hosts::of_one(host.reputation.reliability_milli),
                against.join(", ")
            ),
            show.clone(),
        );
    }
    if let Some(flag) = host.flag.as_ref().filter(|f| f.time_ms + FLAG_MS > now_ms) {
        say(
            Tone::Warn,
            format!("Witnesses got no answer from {name}"),
            format!(
                "{} of {}, {} ago: is {} let through?",
                flag.witnesses.len(),
                flag.drawn,
                words::span(now_ms.saturating_sub(flag.time_ms)),
                host.address
            ),
            show.clone(),
        );
    }
    if host.draining {
        let words = match host.allocations {
            0 => {
                "It is empty: what had to move has moved. Let it take work again, or let it leave."
                    .to_string()
            }
            n => format!(
                "{} left on it. It takes no new work until you say so.",
                words::plural(n.into(), "replica is", "replicas are")
            ),
        };
        let command = format!("runrig host drain {name} --undo");
        say(
            Tone::Info,
            format!("{name} is being emptied"),
            words,
            command,
        );
    }
    let asks = host.offer.price_multiplier_milli;
    let idle = host.online && !host.draining && host.allocations == 0;
    if let Some(half) = market.filter(|half| idle && asks > *half) {
        say(
            Tone::Info,
            format!("{name} asks more than others, and has no work"),
            format!(
                "It asks {} of the network's rates; half of the others ask {} or less. Who asks less is chosen more often.",
                words::percent(asks),
                words::percent(half)
            ),
            format!("runrig host price {name} {}", f64::from(half) / 10.0),
        );
    }
    notices
}

/// The gravest first.
pub fn notices(own: &[&HostView], all: &[HostView], now_ms: u64) -> Markup {
    let mut found: Vec<(&HostView, Notice)> = Vec::new();
    let market = own.first().and_then(|host| market(host.owner, all));
    for host in own {
        found.extend(
            of(host, market, now_ms)
                .into_iter()
                .map(|notice| (*host, notice)),
        );
    }
    let weight = |tone| match tone {
        Tone::Bad => 0,
        Tone::Warn => 1,
        _ => 2,
    };
    found.sort_by_key(|(host, notice)| (weight(notice.tone), host.name.clone()));
    let more = found.len().saturating_sub(SHOWN);
    html! {
        @for (host, notice) in found.iter().take(SHOWN) {
            (alert(notice.tone, html! {
                p.strong { a href=(format!("/explorer/hosts/{}", host.host)) { (notice.title) } }
                p { (notice.words) " " code { (notice.command) } }
            }))
        }
        @if more > 0 { p.foot-note { "And " (words::plural(more as u64, "notice", "notices")) " more: the list says how each host stands." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile_tests::host;

    const NOW: u64 = 1_000_000_000;

    fn good(name: &str, owner: u8, asks: u32) -> HostView {
        let mut host = host(AccountId([owner; 20]));
        host.name = name.into();
        host.offer.price_multiplier_milli = asks;
        host.reputation.reliability_milli = 900;
        host.last_seen_ms = NOW;
        host
    }

    fn said(host: &HostView, others: &[HostView]) -> String {
        notices(&[host], others, NOW).0
    }

    #[test]
    fn a_lender_is_told_what_is_wrong_and_nothing_else() {
        let well = good("barn", 1, 1_000);
        assert_eq!(said(&well, &[]), "");
        let change = |act: fn(&mut HostView)| {
            let mut host = good("barn", 1, 1_000);
            act(&mut host);
            host
        };
        for (host, expected) in [
            (change(|h| h.online = false), "barn is silent"),
            (change(|h| h.trusted_ms = NOW + 60_000), "barn is on trial"),
            (change(|h| h.draining = true), "1 replica is left on it"),
            (
                change(|h| {
                    h.draining = true;
                    h.allocations = 0;
                }),
                "It is empty",
            ),
            (
                change(|h| {
                    h.reputation.reliability_milli = 100;
                    h.reputation.silences_milli = 2_000;
                    h.reputation.late_milli = 1_000;
                }),
                "It is 0.100 of 1 now: it fell silent 2 times, reported late once.",
            ),
        ] {
            let said = said(&host, &[]);
            assert!(said.contains(expected), "{expected}: {said}");
        }
        // Whoever is away outside its hours is not silent; a newcomer's reputation did not fall.
        let away = change(|h| {
            h.online = false;
            h.closed = true;
        });
        assert_eq!(said(&away, &[]), "");
        assert_eq!(
            said(&change(|h| h.reputation.reliability_milli = 100), &[]),
            ""
        );
    }

    #[test]
    fn a_price_is_told_where_there_is_a_market_and_no_work() {
        let mut own = good("barn", 1, 900);
        own.allocations = 0;
        let market = [500, 600, 700].map(|asks| good("other", 2, asks));
        let told = said(&own, &market);
        assert!(
            told.contains("half of the others ask 60 % or less"),
            "{told}"
        );
        assert!(told.contains("runrig host price barn 60"), "{told}");
        assert_eq!(said(&own, &market[..2]), "", "two are no market");
        let mine = [500, 600, 700].map(|asks| good("other", 1, asks));
        assert_eq!(said(&own, &mine), "", "one's own are none");
        own.allocations = 1;
        assert_eq!(said(&own, &market), "");
    }

    #[test]
    fn the_gravest_stands_first_and_many_are_counted() {
        let hosts: Vec<HostView> = (0..9)
            .map(|n| {
                let mut host = good(&format!("h{n}"), 1, 1_000);
                host.draining = n < 8;
                host.online = n < 8;
                host
            })
            .collect();
        let own: Vec<&HostView> = hosts.iter().collect();
        let said = notices(&own, &[], NOW).0;
        let (first, _) = said.split_once("h0").expect("both");
        assert!(first.contains("h8 is silent"), "{said}");
        assert!(said.contains("And 3 notices more"), "{said}");
    }
}
