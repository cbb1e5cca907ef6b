//! Recompute a drawing from certified headers alone.

use std::collections::BTreeSet;

use api::{DutyProof, EventProof, LotsView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::BorshDeserialize as _;
use ledger::Genesis;
use ledger::lots::{AHEAD, Event as Lots};
use light::{Duty, Header};
use lots::{Lineup, Seat};
use types::Digest;

use crate::Step;

/// Who sat, by what chance, as a certified event says.
struct Drawn {
    header: Header,
    beacon: Option<Digest>,
    lineup: Lineup,
}

/// All steps, in order; stops at the first that does not hold. It names every input.
///
/// `genesis`: as anyone says; it is held against the certified headers.
pub fn verify_lots(network_key: &[u8], genesis: &Genesis, view: &LotsView) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(why) = check(&mut steps, network_key, genesis, view) {
        steps.push(Step {
            what: why,
            good: false,
        });
    }
    steps
}

fn check(
    steps: &mut Vec<Step>,
    key: &[u8],
    genesis: &Genesis,
    view: &LotsView,
) -> Result<(), String> {
    let mut step = |what: String| steps.push(Step { what, good: true });
    let epoch = view.epoch;
    let drawn_in = epoch.checked_sub(AHEAD).ok_or(format!(
        "nobody was drawn for epoch {epoch}: the founders sit in the first {AHEAD} epochs, by the genesis"
    ))?;
    let proof = view.fallen.as_ref().ok_or(match &view.lineup {
        None => format!(
            "the lot for epoch {epoch} has not fallen: it does in the middle of epoch {drawn_in}"
        ),
        Some(_) => format!(
            "who served this lacks the block of epoch {drawn_in} in which the lot for epoch {epoch} fell: it began later; ask another with --url"
        ),
    })?;
    let fallen = event(key, proof, epoch)?;
    if genesis.digest() != fallen.header.network {
        return Err("the genesis is not that of the network whose key this is".into());
    }
    let blocks = genesis.params.epoch_blocks.max(1);
    let first = drawn_in.saturating_mul(blocks);
    at(&fallen.header, first + blocks / 2, "where the lot falls")?;
    step(format!(
        "block {} is certified, and says who was drawn for epoch {epoch}: {} seats",
        fallen.header.height,
        fallen.lineup.committee.len()
    ));
    let founders = ledger::State::genesis(genesis);
    let root = match &view.frozen {
        Some(proof) => {
            let (header, duty) = duty(key, proof)?;
            at(&header, first, "where candidates freeze")?;
            step(format!(
                "block {first} is certified, and froze the candidates before any beacon of epoch {drawn_in}"
            ));
            duty.candidates.ok_or("that block froze no candidates")?
        }
        None if first == 0 => {
            let drawing = founders
                .drawings
                .get(&epoch)
                .ok_or("the genesis froze none")?;
            step("the genesis froze the candidates".into());
            drawing.root()
        }
        None => return Err("the block that froze the candidates is not there".into()),
    };
    let before = if epoch - 1 < AHEAD {
        let seats = founders.committee(epoch - 1).unwrap_or_default();
        step(format!(
            "epoch {} is the founders', by the genesis",
            epoch - 1
        ));
        seats.to_vec()
    } else {
        let proof = view
            .fallen_before
            .as_ref()
            .ok_or(format!("who sits in epoch {} is not proved", epoch - 1))?;
        let before = event(key, proof, epoch - 1)?;
        at(
            &before.header,
            first - blocks + blocks / 2,
            "where the lot before fell",
        )?;
        step(format!(
            "block {} is certified, and says who sits in epoch {}",
            before.header.height,
            epoch - 1
        ));
        before.lineup.committee
    };
    let beacon = match (&view.told, fallen.beacon) {
        (Some(proof), Some(said)) => Some(beacon(key, proof, drawn_in, first, blocks, said)?),
        (None, None) => None,
        (Some(_), None) => return Err("a beacon is told that the drawing did not use".into()),
        (None, Some(_)) => return Err("the block that told the beacon is not there".into()),
    };
    step(match &beacon {
        Some(digest) => format!(
            "the beacon {} is the network's signature of epoch {drawn_in}, view {}",
            digest.hex(),
            light::BEACON_VIEW
        ),
        None => format!("no beacon was told in epoch {drawn_in}: those who sat go on"),
    });
    draw(view, &root, &before, beacon.as_ref(), &fallen.lineup)?;
    step(format!(
        "drawn anew for {} seats at most from {} candidates (root {}), {} who sat before and the beacon: the same {} seats and {} others",
        view.seats,
        view.candidates.len(),
        root.hex(),
        before.len(),
        fallen.lineup.committee.len(),
        fallen.lineup.payroll.len()
    ));
    match &view.seated {
        Some(proof) => step(seated(key, proof, epoch, blocks, &fallen.lineup)?),
        None => step(format!(
            "epoch {epoch} has not begun where this was asked: who votes is not certified yet"
        )),
    }
    Ok(())
}

/// Who got shares of the key for `epoch`, as the last block before it says.
fn seated(
    key: &[u8],
    proof: &DutyProof,
    epoch: u64,
    blocks: u64,
    drawn: &Lineup,
) -> Result<String, String> {
    let bytes = |text: &str| BASE64.decode(text).unwrap_or_default();
    let descendants: Vec<Vec<u8>> = proof.descendants.iter().map(|d| bytes(d)).collect();
    let header = bytes(&proof.header);
    let (certificate, duty) = (bytes(&proof.certificate), bytes(&proof.duty));
    let change = light::verify_epoch_change(key, &header, &descendants, &certificate, &duty);
    let change = change.map_err(|e| e.to_string())?;
    let header = Header::from_bytes(&header).map_err(|e| e.to_string())?;
    at(
        &header,
        epoch.saturating_mul(blocks) - 1,
        "that ends the epoch before",
    )?;
    let many = change.seats.len();
    if !change.handed_on {
        return Ok(format!(
            "block {} is certified: the key could not be handed on to those drawn, and the {many} who had it vote in epoch {epoch}",
            header.height
        ));
    }
    let keys: Vec<[u8; 32]> = drawn.committee.iter().map(|seat| seat.key.0).collect();
    if keys == change.seats {
        return Ok(format!(
            "block {} is certified, and handed the network's key, unchanged, on to the {many} drawn, who lead in the order drawn",
            header.height
        ));
    }
    let same: BTreeSet<_> = keys.iter().collect();
    Err(match same == change.seats.iter().collect() {
        true => "they lead in another order than they were drawn in".into(),
        false => "others than those drawn got shares of the key".into(),
    })
}

fn draw(
    view: &LotsView,
    root: &Digest,
    before: &[Seat],
    beacon: Option<&Digest>,
    certified: &Lineup,
) -> Result<(), String> {
    if view.lineup.as_ref() != Some(certified) || view.beacon.as_ref() != beacon {
        return Err("what is shown is not what the certified block says".into());
    }
    let rules = lots::Rules::of(view.seats);
    match beacon {
        Some(beacon) => lots::check(
            view.epoch,
            &view.candidates,
            root,
            before,
            beacon,
            rules,
            certified,
        )
        .map_err(|doubt| doubt.to_string()),
        None if certified.committee == before => Ok(()),
        None => Err("without a beacon those who sat must go on, and others were seated".into()),
    }
}

fn beacon(
    key: &[u8],
    proof: &DutyProof,
    drawn_in: u64,
    first: u64,
    blocks: u64,
    said: Digest,
) -> Result<Digest, String> {
    let (header, duty) = duty(key, proof)?;
    if !(first + 1..first + blocks / 2).contains(&header.height) {
        return Err(format!(
            "block {} is not in the first half of epoch {drawn_in}, where the beacon is told",
            header.height
        ));
    }
    let signature = duty.beacon.ok_or("that block tells no beacon")?;
    light::verify_beacon(key, drawn_in, &signature).map_err(|e| e.to_string())?;
    let digest = light::beacon_digest(&signature);
    if digest != said {
        return Err("the beacon that was told is not the one that was drawn with".into());
    }
    Ok(digest)
}

fn at(header: &Header, height: u64, what: &str) -> Result<(), String> {
    if header.height == height {
        Ok(())
    } else {
        Err(format!(
            "block {} is not {what}: that is {height}",
            header.height
        ))
    }
}

fn block(
    key: &[u8],
    header: &str,
    descendants: &[String],
    certificate: &str,
) -> Result<Header, String> {
    let bytes = |text: &str| BASE64.decode(text).unwrap_or_default();
    let descendants: Vec<Vec<u8>> = descendants.iter().map(|d| bytes(d)).collect();
    light::verify_block(key, &bytes(header), &descendants, &bytes(certificate))
        .map_err(|e| e.to_string())
}

pub(super) fn duty(key: &[u8], proof: &DutyProof) -> Result<(Header, Duty), String> {
    let header = block(key, &proof.header, &proof.descendants, &proof.certificate)?;
    let bytes = BASE64.decode(&proof.duty).unwrap_or_default();
    let duty = Duty::from_bytes(&header, &bytes).map_err(|e| e.to_string())?;
    Ok((header, duty))
}

/// An event's canonical bytes, under a certified header.
pub(super) fn certified_event(key: &[u8], proof: &EventProof) -> Result<(Header, Vec<u8>), String> {
    let header = block(key, &proof.header, &proof.descendants, &proof.certificate)?;
    let event = BASE64.decode(&proof.event).unwrap_or_default();
    light::verify_event(&header, &event, proof.index, proof.count, &proof.path)
        .map_err(|e| e.to_string())?;
    Ok((header, event))
}

fn event(key: &[u8], proof: &EventProof, epoch: u64) -> Result<Drawn, String> {
    let (header, event) = certified_event(key, proof)?;
    match ledger::Event::try_from_slice(&event) {
        Ok(ledger::Event::Lots(Lots::Drawn {
            epoch: of,
            beacon,
            lineup,
        })) if of == epoch => Ok(Drawn {
            header,
            beacon,
            lineup,
        }),
        _ => Err(format!("the event is not the drawing of epoch {epoch}")),
    }
}
