//! A finished image goes into the network's registry, under the names that the ledger has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::PlannedAllocation;
use images::{ImageError, Signer};
use types::{BuildSpec, Digest, SecretKey};

use super::command;
use crate::shared::Shared;

/// The registry may be away for a moment.
const TRIES: u32 = 5;

/// Signs as this host: the registry knows from the ledger what it builds.
fn signer(key: SecretKey) -> Signer {
    Arc::new(move |method, path| {
        let auth = api::RequestAuth::sign(&key, method, path, api::now_ms());
        (api::RequestAuth::HEADER.to_string(), auth.to_string())
    })
}

/// Pushes what the build left; returns the image's digest.
///
/// Errors: it left no image, or one that is not what it says; the registry refuses it.
pub async fn publish(
    shared: &Shared,
    planned: &PlannedAllocation,
    build: &BuildSpec,
) -> Result<Digest> {
    let made = command::out(&shared.upper(planned.allocation)).join(command::IMAGE);
    let most = planned.spec.resources.disk_bytes;
    let taken = tokio::task::spawn_blocking(move || images::take_folder(&made, most))
        .await
        .context("read what was built")??;
    let image = taken.images.first().context("nothing was built")?;
    let signer = signer(shared.config.key.clone());
    for output in &build.outputs {
        let (name, tag) = output.split_once(':').context("an image has a tag")?;
        let repository = format!("{}/{name}", planned.owner);
        let mut pause = Duration::from_millis(500);
        let mut tried = 1;
        loop {
            let pushed =
                images::push(image, &shared.config.network, &repository, tag, &signer).await;
            match pushed {
                Ok(_) => break,
                Err(error @ ImageError::Failed { .. }) if tried < TRIES => {
                    tracing::warn!(%error, output, "a built image cannot be pushed yet");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tried += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(image.manifest)
}
