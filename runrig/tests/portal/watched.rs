//! A log that is looked at while the portal, and then the host's agent, are killed: no line of
//! a replica is missing, none comes twice. When its host is lost it goes on with the successor.

use fixtures::{Page, until};

use super::{Stage, journeys};

const COMPOSE: &str = r#"name: watched
services:
  web:
    image: busybox
    command: ["sh", "-c", "i=0; while :; do echo tick $$i; i=$$((i+1)); sleep 0.2; done"]
    deploy:
      resources:
        limits: { cpus: "0.1", memory: 32m }
"#;

/// What is said between the lines.
const NOTES: &str = "[...document.querySelectorAll('.log .note')].map(p => p.textContent)";
/// Who printed each line, and its number.
const TICKS: &str = "[...document.querySelectorAll('.log p:not(.note)')].map(p => \
    [p.querySelector('.from').title, Number(p.lastChild.textContent.slice(5))])";

fn notes(page: &Page) -> Vec<String> {
    serde_json::from_value(page.eval(NOTES)).expect("texts")
}

/// Lines of each replica, in the order in which the replicas began: every number since the first
/// is there once, in order.
fn ticks(page: &Page) -> Vec<(String, Vec<u64>)> {
    let lines: Vec<(String, u64)> = serde_json::from_value(page.eval(TICKS)).expect("lines");
    let mut of: Vec<(String, Vec<u64>)> = Vec::new();
    for (replica, tick) in lines {
        match of.iter_mut().find(|(known, _)| *known == replica) {
            Some((_, ticks)) => ticks.push(tick),
            None => of.push((replica, vec![tick])),
        }
    }
    for (replica, ticks) in &of {
        let whole = ticks.is_sorted_by(|a, b| a + 1 == *b);
        assert!(whole, "{replica}, a gap or a repeat: {ticks:?}");
    }
    of
}

fn goes_on(page: &Page, what: &str) {
    let seen = || ticks(page).iter().map(|(_, t)| t.len()).sum::<usize>();
    let before = seen();
    until(what, || seen() > before + 10);
}

/// `page`: of who owns the image `busybox`.
pub fn misses_nothing(stage: &Stage, page: &Page) {
    journeys::deploy(page, COMPOSE);
    page.at("/jobs/watched");
    page.until_says("/jobs/watched", "main", "1 of 1");
    let dev = page.text("td[data-l=Host]");
    let host = dev.replace("dev", "host");
    page.go("/jobs/watched/logs");
    goes_on(page, "lines");
    stage.cloud.without("portal", || {
        let state = "document.getElementById('log-state').textContent";
        page.until("it says so", &format!("{state} === 'Reconnecting'"));
        page.until(
            "since when",
            "!document.querySelector('[data-stale]').hidden",
        );
    });
    goes_on(page, "lines after the portal was killed");
    page.until("it moves", "document.querySelector('[data-stale]').hidden");
    stage.cloud.without(&host, || ());
    goes_on(page, "lines after its host's agent was killed");
    // An agent that was slow to come back was lost already.
    let told = notes(page);
    let mut successors = told.iter().filter_map(|n| n.split_once("; it is on "));
    let dev = successors.next_back().map_or(dev, |(_, host)| host.into());
    let before = ticks(page).len();
    stage.cloud.without(&dev.replace("dev", "host"), || {
        until("its loss and its successor are told", || {
            let new = &notes(page)[told.len()..];
            let is_lost = format!("its host {dev} is lost");
            new.iter().any(|n| n.contains(&is_lost))
                && new.iter().any(|n| n.contains("takes the place of"))
        });
        until("its successor's lines from the first", || {
            ticks(page)[before..]
                .iter()
                .any(|(_, ticks)| ticks[0] == 0 && ticks.len() > 10)
        });
    });
    ticks(page);
    journeys::remove(page, "watched");
    // While the portal was away, the browser said so.
    let faults = page.faults(&["ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY"]);
    assert!(faults.is_empty(), "{faults:?}");
}
