//! What is read of the ledger, checked down to a certified block when `--verify` asks for it.
//!
//! Not trusted: the gateway or validator that answers. Trusted: the network key of the context, this
//! machine's clock, and the newest certified block that was seen before, which is remembered beside
//! the contexts: nothing older is taken for the present.

use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use sdk::{Checkpoint, OfRecord, Sight, Trust, verify_records};
use types::DeploymentId;

use crate::context::{Home, Session};
use crate::failure::{self, Failure, Result};
use crate::{output, proof, units};

/// What is read and what proves it come one after the other: a block may come between.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(300);

/// `Err`: what does not hold. It may only be newer or older than what proves it.
pub type Verdict = Result<std::result::Result<(), String>>;

/// The key of the one record of parameters and counters: no bytes.
#[derive(Clone, Copy, Debug, BorshSerialize)]
pub struct Network;

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the network")
    }
}

/// A release's key.
#[derive(Clone, Copy, Debug, BorshSerialize)]
pub struct OfDeployment(pub DeploymentId, pub u32);

impl std::fmt::Display for OfDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "release {} of {}", self.1, self.0)
    }
}

/// Checks what was read, one table after the other.
pub struct Verifier<'a> {
    session: &'a Session,
    trust: Trust,
    told: Vec<String>,
}

/// What `fetch` gives, as `check` says that it holds, if the session asks for that.
///
/// Errors: it does not hold.
pub async fn read<T>(
    session: &Session,
    fetch: impl AsyncFn() -> Result<T>,
    check: impl AsyncFn(&mut Verifier<'_>, &T) -> Verdict,
) -> Result<T> {
    let Some(age) = session.verify else {
        return fetch().await;
    };
    let home = Home::open()?;
    let key = proof::trusted_key(session, None).await?;
    let mut verifier = Verifier {
        session,
        trust: Trust {
            age_max_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            checkpoint: remembered(&home, &key),
            network_key: key,
        },
        told: Vec::new(),
    };
    let mut wrong = String::new();
    for again in 0..TRIES {
        if again > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        verifier.told.clear();
        let found = fetch().await?;
        match check(&mut verifier, &found).await? {
            Ok(()) => {
                remember(&home, &verifier.trust);
                verifier.told.iter().for_each(output::say);
                return Ok(found);
            }
            Err(why) => wrong = why,
        }
    }
    Err(Failure::new(
        failure::SIGNATURE,
        "what was answered is not verified",
        wrong,
        "Ask another gateway or validator with --url. To take an older block: --verify=AGE.",
    ))
}

impl Verifier<'_> {
    /// Whether each view follows from the record of `table` under its key, as it is now.
    pub async fn rows<K, V>(&mut self, table: &str, rows: &[(K, &V)]) -> Verdict
    where
        K: BorshSerialize + Clone + std::fmt::Display,
        V: OfRecord<Record: BorshDeserialize>,
    {
        let mut last: Option<Sight> = None;
        for rows in rows.chunks(api::RecordsProof::KEYS_MAX) {
            let keys: Vec<K> = rows.iter().map(|(key, _)| key.clone()).collect();
            let shown = self.session.client.records(table, &keys).await?;
            let (trust, now) = (&self.trust, units::now_ms());
            let checked = verify_records::<K, V::Record>(trust, table, &keys, &shown, now);
            let (mut sight, records) = match checked {
                Ok(checked) => checked,
                Err(why) => return Ok(Err(why)),
            };
            for ((key, view), record) in rows.iter().zip(&records) {
                let differs = view.differs(record.as_ref()).join(", ");
                if !differs.is_empty() {
                    let why = format!("{key}: the certified record says otherwise of {differs}");
                    return Ok(Err(why));
                }
            }
            self.trust.checkpoint = Some(sight.checkpoint.clone());
            if let Some(before) = &last {
                sight.records += before.records;
                sight.proof_bytes_max = sight.proof_bytes_max.max(before.proof_bytes_max);
            }
            last = Some(sight);
        }
        self.told.extend(last.map(|sight| {
            format!(
                "✓ {} of {table} verified against block {}, {} old: certified by the network key in {} bytes, proved in at most {} bytes",
                sight.records,
                sight.checkpoint.height,
                units::age(sight.age_ms),
                sight.certificate_bytes,
                sight.proof_bytes_max,
            )
        }));
        Ok(Ok(()))
    }
}

fn remembered(home: &Home, key: &[u8]) -> Option<Checkpoint> {
    let text = std::fs::read_to_string(home.checkpoint_path(key)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Not to remember only means that the next command has less to go by.
fn remember(home: &Home, trust: &Trust) {
    let Some(checkpoint) = &trust.checkpoint else {
        return;
    };
    let path = home.checkpoint_path(&trust.network_key);
    let folder = path.parent().unwrap_or(&path);
    let text = serde_json::to_string(checkpoint).unwrap_or_default();
    let wrote = crate::context::create_private_dir(folder)
        .and_then(|()| crate::context::write_private(&path, text.as_bytes()));
    if let Err(error) = wrote {
        output::say(format!(
            "warning: {} is not written: {error}",
            path.display()
        ));
    }
}
