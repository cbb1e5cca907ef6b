//! Check proofs in people's browsers: what `--verify` checks, as a program for WebAssembly.
//!
//! The same functions as the command line's (`verify`), behind one call: a request in, an answer
//! out, both JSON. No network and no clock: the page's script brings the proof and says the time.
//! Nothing that a proof may hold makes it panic.
//!
//! Start at [`check`]. The build script compiles this crate a second time, for browsers; what came
//! of that is [`PROGRAM`]. Source: RFD 31.

#[cfg(target_family = "wasm")]
mod abi;

use api::{EventProof, RecordsProof, UsageProof, WhenView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::BorshDeserialize;
use ledger::Outcome;
use ledger::account::Account;
use ledger::host::Host;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, HostId, ReceiptId};
use verify::{
    Checkpoint, Sight, Step, Trust, outcome, verify_receipt, verify_records, verify_when,
};
use words::{Names, credits, grouped, utc};

/// This crate as a program for browsers (WebAssembly), or why this build has none.
#[cfg(not(target_family = "wasm"))]
pub const PROGRAM: Result<&[u8], &str> = include!(concat!(env!("OUT_DIR"), "/program.rs"));

/// A block that is older is no word on what is so now: as with `--verify`.
const AGE_MAX_MS: u64 = 60_000;

/// What is to be checked; its proof is JSON, of the type that is named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// By a [`ReceiptProof`].
    Receipt(ReceiptId),
    /// By a [`WhenView`].
    Transaction(Digest),
    /// By a [`WhenView`].
    Block(u64),
    /// By a [`RecordsProof`] of its record in [`ACCOUNTS`].
    Account(AccountId),
    /// By a [`RecordsProof`] of its record in [`HOSTS`].
    Host(HostId),
}

/// Tables of the ledger.
pub const ACCOUNTS: &str = "accounts";
pub const HOSTS: &str = "hosts";

/// What proves a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptProof {
    pub event: EventProof,
    /// The host's own record, if the host still answers.
    pub usage: Option<UsageProof>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub about: About,
    /// The network's key, hex: all that is trusted.
    pub key: String,
    /// By the clock of whoever asks.
    pub now_ms: u64,
    /// The newest block that was seen before, if any: no record of an older one is taken.
    pub seen: Option<Checkpoint>,
    /// As the API or a portal sent it, unread.
    pub proof: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub good: bool,
    /// What is so, or why that is not known, as a sentence.
    pub said: String,
    /// What was checked, in order; the last one failed if it is not good.
    pub steps: Vec<Step>,
    /// The block that the record is of, to be remembered.
    pub seen: Option<Checkpoint>,
}

impl Answer {
    pub fn to_json(&self) -> Vec<u8> {
        // Text and numbers always can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn refused(steps: Vec<Step>) -> Self {
        let why = steps.last().map_or("there is no proof", |s| &s.what);
        Self {
            good: false,
            said: format!("It does not hold: {why}."),
            steps,
            seen: None,
        }
    }

    /// Good if all steps are; only then `said` is asked for.
    fn of(steps: Vec<Step>, said: impl FnOnce() -> Option<String>) -> Self {
        let good = !steps.is_empty() && steps.iter().all(|s| s.good);
        match said().filter(|_| good) {
            Some(said) => Self {
                good: true,
                said,
                steps,
                seen: None,
            },
            None => Self::refused(steps),
        }
    }

    fn unread(why: String) -> Self {
        Self::refused(vec![Step {
            what: why,
            good: false,
        }])
    }
}

/// Checks a [`Request`], as JSON. Whatever the bytes are, there is an answer.
pub fn check(request: &[u8]) -> Answer {
    match serde_json::from_slice(request) {
        Ok(request) => answer(&request).unwrap_or_else(Answer::unread),
        Err(error) => Answer::unread(format!("the request cannot be read: {error}")),
    }
}

fn answer(request: &Request) -> Result<Answer, String> {
    let key = hex::decode(request.key.trim())
        .map_err(|_| "the network's key is not hex: 192 digits 0 to 9 and a to f".to_string())?;
    let text = &request.proof;
    Ok(match request.about {
        About::Receipt(id) => receipt(&key, id, &read(text)?),
        About::Transaction(id) => transaction(&key, &id, &read(text)?),
        About::Block(height) => block(&key, height, &read(text)?),
        About::Account(id) => account(key, id, &read(text)?, request)?,
        About::Host(id) => host(key, id, &read(text)?, request)?,
    })
}

fn read<T: DeserializeOwned>(proof: &str) -> Result<T, String> {
    serde_json::from_str(proof).map_err(|error| format!("the proof cannot be read: {error}"))
}

fn receipt(key: &[u8], id: ReceiptId, proof: &ReceiptProof) -> Answer {
    let (steps, receipt) = verify_receipt(key, id, &proof.event, proof.usage.as_ref());
    Answer::of(steps, || {
        let receipt = receipt?;
        Some(format!(
            "Receipt {id}: {} credits from account {} to account {}, for use until {} UTC.",
            receipt.amount,
            receipt.payer,
            receipt.payee,
            utc(receipt.until_ms)
        ))
    })
}

fn transaction(key: &[u8], id: &Digest, view: &WhenView) -> Answer {
    let steps = verify_when(key, &id.to_string(), view);
    Answer::of(steps, || {
        let proof = view.transaction.as_ref()?;
        let bytes = BASE64.decode(&proof.transaction).ok()?;
        let said = match ledger::decode(&bytes) {
            Ok(signed) => words::call(&signed.body.call, &signed.sender(), &Names::default()),
            Err(_) => "Bytes that are no transaction".into(),
        };
        let came = match outcome(proof)? {
            Some(Outcome {
                rejection: None, ..
            }) => "applied in",
            Some(_) => "asked for and rejected in",
            None => "in",
        };
        let height = grouped(view.height.into());
        Some(format!("{said}: {came} block {height}."))
    })
}

fn block(key: &[u8], height: u64, view: &WhenView) -> Answer {
    let steps = verify_when(key, &height.to_string(), view);
    Answer::of(steps, || {
        Some(format!(
            "Block {} is final: made not before {} UTC.",
            grouped(height.into()),
            utc(view.not_before_ms)
        ))
    })
}

/// The record of `table` under `id`, or that there is none; what was checked for that.
fn now<V: BorshDeserialize>(
    key: Vec<u8>,
    (table, id): (&str, AccountId),
    proof: &RecordsProof,
    request: &Request,
) -> Result<(Sight, Option<V>, Vec<Step>), String> {
    let trust = Trust {
        network_key: key,
        age_max_ms: AGE_MAX_MS,
        checkpoint: request.seen.clone(),
    };
    let (sight, found) = verify_records(&trust, table, &[id], proof, request.now_ms)?;
    let found: Option<V> = found.into_iter().next().flatten();
    let good = |what| Step { what, good: true };
    let steps = vec![
        good(format!(
            "block {} is certified by the network key: {} bytes of certificate; it is {} s old by this machine's clock",
            sight.checkpoint.height,
            sight.certificate_bytes,
            sight.age_ms / 1_000
        )),
        good(format!(
            "{} under the block's state root: {} bytes of proof",
            match &found {
                Some(_) => "its record is",
                None => "no record of it is",
            },
            sight.proof_bytes_max
        )),
    ];
    Ok((sight, found, steps))
}

/// What is so after the block that was seen.
fn standing(sight: Sight, steps: Vec<Step>, said: &str) -> Answer {
    Answer {
        good: true,
        said: format!(
            "{said}: after block {}.",
            grouped(sight.checkpoint.height.into())
        ),
        steps,
        seen: Some(sight.checkpoint),
    }
}

fn account(
    key: Vec<u8>,
    id: AccountId,
    proof: &RecordsProof,
    request: &Request,
) -> Result<Answer, String> {
    let (sight, record, steps) = now::<Account>(key, (ACCOUNTS, id), proof, request)?;
    // Whom nobody has paid yet is in no record, and has nothing.
    let record = record.unwrap_or_default();
    let held = match record.held {
        Amount::ZERO => String::new(),
        held => format!(
            ", of which {} may be spent and {} are in escrow",
            credits(record.spendable),
            credits(held)
        ),
    };
    let said = format!("The account has {} credits{held}", record.balance());
    Ok(standing(sight, steps, &said))
}

fn host(
    key: Vec<u8>,
    id: HostId,
    proof: &RecordsProof,
    request: &Request,
) -> Result<Answer, String> {
    let (sight, record, steps) = now::<Host>(key, (HOSTS, id), proof, request)?;
    let said = match record {
        None => "There is no such host".into(),
        Some(host) => format!(
            "Host {} {}, offers {} and has earned {} credits",
            host.name,
            match (host.online, host.closed) {
                (_, true) => "is outside its hours",
                (true, false) => "is online",
                (false, false) => "is silent",
            },
            words::resources(&host.offer.capacity),
            host.earned
        ),
    };
    Ok(standing(sight, steps, &said))
}

#[cfg(test)]
mod tests;
