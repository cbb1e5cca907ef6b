//! Probe a running container as its health check asks.

use std::time::Duration;

use engine::{Engine, ExecInput, ExecOutput, ExecRequest};
use tokio::sync::watch;
use types::{Health, HealthCheck};

/// Runs until dropped; says each change. Timing as Docker's: failures within the start
/// period do not count, `retries` in a row make it unhealthy.
pub async fn watch(
    engine: std::sync::Arc<dyn Engine>,
    container: String,
    check: HealthCheck,
    health: watch::Sender<Health>,
) -> std::convert::Infallible {
    let started = tokio::time::Instant::now();
    let millis = |ms: u32| Duration::from_millis(u64::from(ms));
    let mut failures = 0;
    loop {
        let starting = *health.borrow() == Health::Starting;
        let grace = started.elapsed() < millis(check.start_period_ms);
        // Until it was healthy once, probes come often: a ready service is not kept waiting.
        let pause = match (starting, grace) {
            (true, true) => millis(check.start_interval_ms.clamp(100, 1_000)),
            (true, false) => millis(check.interval_ms.min(500)),
            (false, _) => millis(check.interval_ms),
        };
        tokio::time::sleep(pause.max(Duration::from_millis(100))).await;
        let probe = probe(engine.as_ref(), &container, &check);
        let good = tokio::time::timeout(millis(check.timeout_ms), probe)
            .await
            .unwrap_or(false);
        let before = *health.borrow();
        let after = if good {
            failures = 0;
            Health::Healthy
        } else {
            let counts =
                before != Health::Starting || started.elapsed() >= millis(check.start_period_ms);
            failures += u32::from(counts);
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
