//! What every check of a proof has in common: the key that is trusted, the steps, the verdict.

use sdk::Step;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;

/// The key to trust, as said or as the context has it.
pub async fn trusted_key(session: &Session, said: Option<&String>) -> Result<Vec<u8>> {
    let trusted = said.cloned().or_else(|| session.network_key.clone());
    let key = match trusted {
        Some(key) => key,
        None => {
            output::say(
                "warning: this context has no network key; the one that the network claims is used. \
                 Name the right one with --network-key.",
            );
            session.client.status().await?.network_key
        }
    };
    hex::decode(key.trim()).map_err(|e| {
        Failure::usage(
            "--network-key",
            e.to_string(),
            "It is hex, as `runrig chain status` shows it.",
        )
    })
}

/// The steps that were taken, each with a mark.
pub fn tell(steps: &[Step]) {
    for step in steps {
        let mark = if step.good { "✓" } else { "✗" };
        output::data(format!("{mark} {}", step.what));
    }
}

/// An error unless all held: `what` was claimed; the last step says why it does not hold.
pub fn verdict(verified: bool, steps: &[Step], what: impl Into<String>, next: &str) -> Result {
    if verified {
        return Ok(());
    }
    let why = steps.last().map(|s| s.what.clone()).unwrap_or_default();
    Err(Failure::new(failure::SIGNATURE, what, why, next))
}
