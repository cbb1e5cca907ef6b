//! A log that is looked at while the portal, and then the host's agent, are killed: no line is
//! missing, none comes twice. While the host is lost it goes on with the successor.

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

/// What is said between the lines, and the lines' numbers.
const NOTES: &str = "[...document.querySelectorAll('.log .note')].map(p => p.textContent)";
const TICKS: &str = "[...document.querySelectorAll('.log p:not(.note)')].map(p => Number(p.lastChild.textContent.slice(5)))";

/// The last number that is shown; every number since the first is there once, in order.
fn last(page: &Page) -> u64 {
    let texts =
        page.eval("[...document.querySelectorAll('.log p')].map(p => p.lastChild.textContent)");
    let texts = texts.as_array().cloned().unwrap_or_default();
    let ticks = texts
        .iter()
        .filter_map(|t| t.as_str()?.strip_prefix("tick ")?.parse().ok());
    let ticks: Vec<u64> = ticks.collect();
    for pair in ticks.windows(2) {
        assert_eq!(pair[0] + 1, pair[1], "a gap or a repeat: {ticks:?}");
    }
    ticks.last().copied().unwrap_or(0)
}

fn goes_on(page: &Page, what: &str) {
    let seen = last(page);
    until(what, || last(page) > seen + 10);
}

/// `page`: of who owns the image `busybox`.
pub fn misses_nothing(stage: &Stage, page: &Page) {
    journeys::deploy(page, COMPOSE);
    page.at("/jobs/watched");
    page.until_says("/jobs/watched", "main", "1 of 1");
    let host = page.text("td[data-l=Host]").replace("dev", "host");
    page.go("/jobs/watched/logs");
    goes_on(page, "lines");
    stage.cloud.without("portal", || {
        let state = "document.getElementById('log-state').textContent";
        page.until("it says so", &format!("{state} === 'Reconnecting'"));
    });
    goes_on(page, "lines after the portal was killed");
    stage.cloud.without(&host, || {
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    goes_on(page, "lines after its host's agent was killed");
    stage.cloud.without(&host, || {
        page.until(
            "its successor is told",
            &format!("{NOTES}.some(n => n.includes('takes the place of'))"),
        );
        page.until(
            "ten of its lines",
            &format!("{TICKS}.lastIndexOf(9) > {TICKS}.lastIndexOf(0)"),
        );
    });
    journeys::remove(page, "watched");
    // While the portal was away, the browser said so.
    let faults = page.faults(&["ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY"]);
    assert!(faults.is_empty(), "{faults:?}");
}
