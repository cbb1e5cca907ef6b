//! Check what the API shows down to certified blocks: receipts, times, records, drawings.
//!
//! Nobody is trusted but the network key. No I/O and no clock: the command line, the portal and
//! people's browsers run the same functions.

mod lots;
mod lottery;
mod now;
mod when;

pub use self::lots::verify_lots;
pub use self::lottery::verify_lottery;
pub use self::now::{Checkpoint, OfRecord, Sight, Trust, verify_records};
pub use self::when::{outcome, verify_when};

use api::{EventProof, UsageProof};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::BorshDeserialize;
use ledger::lease::Receipt;
use types::{ReceiptId, Resource, merkle_verify};

/// One thing that was checked, in words, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    pub what: String,
    pub good: bool,
}

/// All steps, in order; stops at the first that does not hold.
///
/// `usage`: the host's own record, if the host still answers.
pub fn verify_receipt(
    network_key: &[u8],
    id: ReceiptId,
    proof: &EventProof,
    usage: Option<&UsageProof>,
) -> (Vec<Step>, Option<Receipt>) {
    let mut steps = Vec::new();
    let receipt = check(&mut steps, network_key, id, proof, usage);
    (steps, receipt)
}

fn check(
    steps: &mut Vec<Step>,
    network_key: &[u8],
    id: ReceiptId,
    proof: &EventProof,
    usage: Option<&UsageProof>,
) -> Option<Receipt> {
    let mut step = |good: bool, what: String| {
        steps.push(Step { what, good });
        good.then_some(())
    };
    let bytes = |text: &String| BASE64.decode(text).unwrap_or_default();
    let descendants: Vec<Vec<u8>> = proof.descendants.iter().map(bytes).collect();
    let certificate = bytes(&proof.certificate);
    let block = light::verify_block(
        network_key,
        &bytes(&proof.header),
        &descendants,
        &certificate,
    );
    let header = match block {
        Ok(header) => {
            let what = format!(
                "block {} is certified by the network key: {} bytes of certificate, {} headers on the way",
                header.height,
                certificate.len(),
                descendants.len()
            );
            step(true, what)?;
            header
        }
        Err(error) => {
            step(false, error.to_string())?;
            return None;
        }
    };
    let event = bytes(&proof.event);
    let held = light::verify_event(&header, &event, proof.index, proof.count, &proof.path).is_ok();
    step(
        held,
        format!(
            "event {} of {} is under the block's events root, by {} digests",
            proof.index + 1,
            proof.count,
            proof.path.len()
        ),
    )?;
    let receipt = match ledger::Event::try_from_slice(&event) {
        Ok(ledger::Event::Lease(ledger::lease::Event::Settled(receipt))) => Some(receipt),
        _ => None,
    };
    step(
        receipt.as_ref().is_some_and(|r| r.id == id),
        format!("the event is receipt {id}"),
    )?;
    let receipt = receipt?;
    let sum: u128 = receipt.charges.iter().map(|c| c.amount.0).sum();
    step(
        sum == receipt.amount.0,
        format!(
            "its {} lines add up to {}",
            receipt.charges.len(),
            receipt.amount
        ),
    )?;
    let bounded = receipt.charges.iter().all(|c| {
        let price = c.counted.saturating_mul(c.rate.0) / c.resource.counted_per_unit();
        // Charges are floors of cumulative usage: one receipt may be a unit above its own floor.
        c.amount.0 <= price + 1
    });
    step(bounded, "no line charges more than usage × rate".into())?;
    if let Some(usage) = usage {
        let record = &usage.record;
        let leaf = borsh::to_vec(record).unwrap_or_default();
        let held = usage.root == receipt.root
            && merkle_verify(&receipt.root, &leaf, usage.index, usage.count, &usage.path);
        step(
            held && record.digest() == receipt.record,
            format!(
                "usage record {} is under the root that the host reported",
                record.sequence
            ),
        )?;
        let same = Resource::ALL
            .iter()
            .all(|r| record.total.counted(*r) == receipt.total.counted(*r));
        step(
            same && record.allocation == receipt.allocation,
            "the record's counters are those that were charged".into(),
        )?;
    }
    Some(receipt)
}
