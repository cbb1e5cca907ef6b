//! Check between which two times a block came about, and what came of a transaction in it.

use api::{TransactionProof, WhenView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::BorshDeserialize as _;
use ledger::Outcome;
use light::Header;
use types::{Digest, merkle_verify};

use crate::Step;
use crate::lots::duty;

/// All steps, in order; stops at the first that does not hold.
///
/// `what`: the transaction's id, or the height.
pub fn verify_when(network_key: &[u8], what: &str, view: &WhenView) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(why) = check(&mut steps, network_key, what, view) {
        steps.push(Step {
            what: why,
            good: false,
        });
    }
    steps
}

fn check(steps: &mut Vec<Step>, key: &[u8], what: &str, view: &WhenView) -> Result<(), String> {
    let mut step = |what: String| steps.push(Step { what, good: true });
    let (header, told) = duty(key, &view.made)?;
    if header.height != view.height || header.time_ms != view.not_before_ms {
        return Err("the block is not the one that is shown".into());
    }
    let stated = told.clock.map_or(0, |clock| clock.statements.len());
    step(format!(
        "block {} is certified, and carries {stated} clocks: it was not made before their median",
        header.height
    ));
    match &view.transaction {
        None if what == header.height.to_string() => {}
        None => return Err("the transaction is not shown to be in the block".into()),
        Some(proof) => {
            let bytes = BASE64.decode(&proof.transaction).unwrap_or_default();
            let id = ledger::decode(&bytes).map_or_else(|_| Digest::of(&bytes), |t| t.id());
            let root = &header.payload_root;
            if what.parse() != Ok(id)
                || !merkle_verify(root, &bytes, proof.index, proof.count, &proof.path)
            {
                return Err("the transaction is not in the block".into());
            }
            step(format!(
                "transaction {} of {} is under the block's payload root",
                proof.index + 1,
                proof.count
            ));
            step(came(&header, &id, proof)?);
        }
    }
    let (Some(not_after), Some(seen)) = (view.not_after_ms, &view.seen) else {
        step("no later block tells yet that a quorum had seen it final".into());
        return Ok(());
    };
    let (later, told) = duty(key, seen)?;
    let time_ms = told.clock.and_then(|clock| clock.seen_final(header.height));
    if later.height <= header.height || time_ms != Some(not_after) {
        return Err("the later block does not say that a quorum had seen it final then".into());
    }
    step(format!(
        "block {} is certified, and carries the clocks of a quorum that had seen block {} final: it was so no later than their median",
        later.height, header.height
    ));
    Ok(())
}

/// What came of the transaction, in words.
fn came(header: &Header, id: &Digest, proof: &TransactionProof) -> Result<String, String> {
    let Some(shown) = &proof.outcome else {
        return Ok("whether it was applied is not shown".into());
    };
    let (root, way) = (&header.outcomes_root, &proof.outcome_path);
    let bytes = BASE64.decode(shown).unwrap_or_default();
    let outcome = outcome(proof)
        .flatten()
        .filter(|outcome| outcome.transaction == *id)
        .filter(|_| merkle_verify(root, &bytes, proof.index, proof.count, way))
        .ok_or("what is shown to have come of the transaction is not in the block")?;
    Ok(match outcome.rejection {
        None => "under the block's outcomes root: it was applied".into(),
        Some(rejection) => format!(
            "under the block's outcomes root: it was rejected: {}",
            rejection.why
        ),
    })
}

/// What is shown to have come of the transaction; `None` inside: nothing is shown. To be believed
/// after [`verify_when`] only.
pub fn outcome(proof: &TransactionProof) -> Option<Option<Outcome>> {
    let Some(shown) = &proof.outcome else {
        return Some(None);
    };
    let bytes = BASE64.decode(shown).ok()?;
    Outcome::try_from_slice(&bytes).ok().map(Some)
}
