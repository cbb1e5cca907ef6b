//! Check between which two times a block came about.

use api::WhenView;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
