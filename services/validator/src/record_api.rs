//! Records of the state as they are now, each with what proves it.

use std::sync::Arc;
use std::time::Duration;

use api::{ProvedRecord, RecordsProof};
use axum::Json;
use axum::extract::State as From;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::answer::{Answer, Asked, Named, Refused};
use crate::http::App;

/// Until a block comes with a certificate of its own, if the head has none.
const CERTIFIED_WAIT: Duration = Duration::from_secs(10);
const KEY_BYTES_MAX: usize = 512;

#[derive(Deserialize)]
pub struct Keys {
    keys: String,
}

/// The newest block here that has a certificate of its own, with the state after it.
async fn certified(app: &App) -> Result<Arc<consensus::Finalized<ledger::State>>, Refused> {
    let mut heads = app.handle.subscribe();
    let found = async {
        loop {
            let head = heads.borrow_and_update().clone();
            if head.record.certificate.is_some() {
                return Some(head);
            }
            heads.changed().await.ok()?;
        }
    };
    let found = tokio::time::timeout(CERTIFIED_WAIT, found).await;
    let found = found.ok().flatten();
    found.ok_or_else(|| Refused::busy("it has no certified block to prove by"))
}

fn read_keys(keys: &str) -> Result<Vec<Vec<u8>>, Refused> {
    if keys.len() > RecordsProof::KEYS_MAX * (2 * KEY_BYTES_MAX + 1) {
        return Err(Refused::invalid("keys", "they are too long"));
    }
    let keys: Vec<&str> = keys.split(',').collect();
    if keys.len() > RecordsProof::KEYS_MAX {
        let why = format!("at most {} are proved at once", RecordsProof::KEYS_MAX);
        return Err(Refused::invalid("keys", why));
    }
    let read = keys.iter().map(|text| {
        let long = text.len() > 2 * KEY_BYTES_MAX;
        let bytes = hex::decode(text).ok().filter(|_| !long);
        bytes.ok_or_else(|| Refused::invalid("keys", "one is no hex of at most 512 bytes"))
    });
    read.collect()
}

pub async fn records(
    From(app): From<App>,
    Named(table): Named<String>,
    Asked(asked): Asked<Keys>,
) -> Answer<RecordsProof> {
    let keys = read_keys(&asked.keys)?;
    let _place = app.wait_place()?;
    let head = certified(&app).await?;
    let proved = app.compute_with(move |_| {
        let proved = keys.iter().map(|key| {
            let found = head.state.locate(&table, key)?;
            let (_, proof) = head.state.prove(&found.key);
            Some(ProvedRecord {
                record: found.record.map(|bytes| BASE64.encode(bytes)),
                proof: BASE64.encode(borsh::to_vec(&proof).ok()?),
            })
        });
        let records: Option<Vec<ProvedRecord>> = proved.collect();
        let records = records.ok_or_else(|| {
            Refused::invalid("keys", "there is no such table, or one is no key of it")
        })?;
        let certificate = head.record.certificate.as_deref().unwrap_or_default();
        Ok(RecordsProof {
            header: BASE64.encode(&head.record.header),
            certificate: BASE64.encode(certificate),
            records,
        })
    });
    Ok(Json(proved.await??))
}
