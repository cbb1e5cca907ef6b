//! Probe a running container as its health check asks.

use std::time::Duration;

use engine::{Engine, ExecInput, ExecOutput, ExecRequest};
use tokio::sync::watch;
use types::{Health, HealthCheck};

const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Runs until dropped; says each change. Timing as Docker's: failures within the start
/// period do not count, `retries` in a row make it unhealthy.
pub async fn watch(
    engine: std::sync::Arc<dyn Engine>,
    container: String,
    check: HealthCheck,
    health: watch::Sender<Health>,
) -> std::convert::Infallible {
    let started = tokio::time::Instant::now();
    let mut failures = 0;
    for probes in 0.. {
        let before = *health.borrow();
        let starting = before == Health::Starting;
        tokio::time::sleep(pause(&check, starting, probes)).await;
        let began = started.elapsed();
        let probe = probe(engine.as_ref(), &container, &check);
        let good = tokio::time::timeout(millis(check.timeout_ms), probe)
            .await
            .unwrap_or(false);
        let after = if good {
            failures = 0;
            Health::Healthy
        } else {
            failures += u32::from(!starting || counts(&check, began, failures));
            if failures >= check.retries.max(1) {
                Health::Unhealthy
            } else {
                before
            }
        };
        if after != before {
            health.send_replace(after);
        }
    }
    std::future::pending().await
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

/// Before probe number `probes`. Until it was healthy once they come soon and then ever less
/// often: a service is not kept waiting for its first requests once it is ready.
fn pause(check: &HealthCheck, starting: bool, probes: u32) -> Duration {
    if !starting {
        return millis(check.interval_ms).max(PAUSE_MIN);
    }
    let most = millis(check.start_interval_ms.min(check.interval_ms).min(1_000));
    let soon = PAUSE_MIN.saturating_mul(2u32.saturating_pow(probes));
    soon.min(most).max(PAUSE_MIN)
}

/// Whether a failed probe counts that began so long after the start, `failures` having
/// counted: not within the start period, and not each of the first ones, which come fast.
fn counts(check: &HealthCheck, began: Duration, failures: u32) -> bool {
    let apart = millis(check.interval_ms.min(500));
    began >= millis(check.start_period_ms) + apart.saturating_mul(failures + 1)
}

/// With the container's own variables, user and folder.
async fn probe(engine: &dyn Engine, container: &str, check: &HealthCheck) -> bool {
    let request = ExecRequest {
        args: check.test.clone(),
        env: Vec::new(),
        cwd: None,
        user: None,
        terminal: false,
        rows: 0,
        columns: 0,
    };
    let Ok(mut session) = engine.exec(container, request).await else {
        return false;
    };
    // A check gets no input; nobody listening is as good.
    let _ = session.input.send(ExecInput::StdinClosed).await;
    while let Some(output) = session.output.recv().await {
        if let ExecOutput::Exit(code) = output {
            return code == 0;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_ready_soon_is_found_soon() {
        let check = HealthCheck::default();
        let pauses: Vec<u128> = (0..6)
            .map(|probes| pause(&check, true, probes).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(pause(&check, true, u32::MAX), Duration::from_secs(1));
        assert_eq!(pause(&check, false, 0), millis(check.interval_ms));
        let hasty = HealthCheck {
            interval_ms: 300,
            start_interval_ms: 0,
            ..HealthCheck::default()
        };
        assert_eq!(pause(&hasty, true, 9), PAUSE_MIN);
        assert_eq!(pause(&hasty, false, 9), millis(300));
    }

    #[test]
    fn the_first_probes_do_not_condemn() {
        let check = HealthCheck {
            start_period_ms: 2_000,
            ..HealthCheck::default()
        };
        for (began_ms, failures, expected) in [
            (100, 0, false),
            (2_400, 0, false),
            (2_500, 0, true),
            (2_900, 1, false),
            (3_000, 1, true),
        ] {
            let counted = counts(&check, Duration::from_millis(began_ms), failures);
            assert_eq!(counted, expected, "{began_ms} ms, {failures} before");
        }
    }
}
