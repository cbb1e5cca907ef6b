//! Follow the validators' routes; keep the last known when none answers.

use std::sync::Arc;
use std::time::Duration;

use sdk::Client;

use crate::limits::ROUTES_WAIT_MS;
use crate::proxy::Gateway;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub async fn follow(client: Client, gateway: Arc<Gateway>) {
    let mut after = None;
    let mut pause = PAUSE_MIN;
    let mut silent = false;
    loop {
        match client.routes(after, ROUTES_WAIT_MS).await {
            Ok(routes) => {
                if silent {
                    tracing::info!(height = routes.height, "routes are heard again");
                }
                (silent, pause) = (false, PAUSE_MIN);
                after = Some(routes.height);
                gateway.update(routes);
                // Bounds how often a fast chain makes this gateway ask.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                if !silent {
                    tracing::warn!(%error, "no validator tells routes: the last known are used");
                }
                silent = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
