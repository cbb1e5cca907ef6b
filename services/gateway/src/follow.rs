//! Follow the validators' routes; keep the last known when none answers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{KnownRoutes, NotNext};
use sdk::Client;

use crate::limits::ROUTES_WAIT_MS;
use crate::proxy::Gateway;
use crate::validators::{Validator, Validators};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(250);

/// A client of each validator, in their order.
pub fn clients(urls: &[String]) -> Result<Vec<Client>> {
    urls.iter()
        .map(|url| Client::new([url.clone()]).with_context(|| format!("validator {url}")))
        .collect()
}

/// Returns, and why, once a long wait for `validator` is in vain.
async fn given_up(all: &Validators, validator: &Validator) -> String {
    loop {
        if !validator.is_healthy() {
            return "it hangs".into();
        }
        if all.is_behind(validator) {
            return "it has fallen behind the others".into();
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub async fn follow(clients: Vec<Client>, gateway: Arc<Gateway>) {
    let mut known = KnownRoutes::default();
    let mut pause = PAUSE_MIN;
    let mut silent = false;
    loop {
        let at = gateway.validators.first();
        let validator = &gateway.validators.all[at];
        let heard = tokio::select! {
            heard = clients[at].routes(known.known(), ROUTES_WAIT_MS) => {
                heard.map_err(|e| e.to_string())
            }
            why = given_up(&gateway.validators, validator), if validator.is_healthy() => Err(why),
        };
        let taken = heard.and_then(|told| {
            let height = told.height;
            let changed = known.take(told).map_err(|NotNext| {
                known.ask_all();
                "it tells changes that do not follow on what is known".to_string()
            })?;
            gateway.update(&known, &changed, height);
            Ok(height)
        });
        match taken {
            Ok(height) => {
                if silent {
                    tracing::info!(height, "routes are heard again");
                }
                (silent, pause) = (false, PAUSE_MIN);
                // Bounds how often a fast chain makes this gateway ask.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(why) => {
                validator.failed();
                let next = gateway.validators.first();
                if next != at && gateway.validators.all[next].is_healthy() {
                    continue;
                }
                if !silent {
                    tracing::warn!(why, "no validator tells routes: the last known are used");
                }
                silent = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
