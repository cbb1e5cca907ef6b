//! Draw a lottery again, from what certified blocks say.

use api::LotteryExport;
use borsh::BorshDeserialize as _;
use ledger::lottery::{Draw, Event, draw_seed, draw_wins, entries_root};
use light::Header;
use types::{AccountId, Amount};

use crate::Step;
use crate::lots::{certified_event, duty};

/// All steps, in order; stops at the first that does not hold. Asks nobody: `export` has all.
pub fn verify_lottery(network_key: &[u8], export: &LotteryExport) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(why) = check(&mut steps, network_key, export) {
        steps.push(Step {
            what: why,
            good: false,
        });
    }
    steps
}

/// The round's event under a certified header.
fn event(
    key: &[u8],
    proof: &Option<api::EventProof>,
    what: &str,
) -> Result<(Header, Event), String> {
    let proof = proof
        .as_ref()
        .ok_or(format!("the round is not {what} yet"))?;
    let (header, event) = certified_event(key, proof)?;
    match ledger::Event::try_from_slice(&event) {
        Ok(ledger::Event::Lottery(event)) => Ok((header, event)),
        _ => Err(format!("the event is not that the round was {what}")),
    }
}

fn check(steps: &mut Vec<Step>, key: &[u8], export: &LotteryExport) -> Result<(), String> {
    let mut step = |what: String| steps.push(Step { what, good: true });
    let id = export.lottery;
    let (closed_in, closed) = event(key, &export.closed, "closed")?;
    let Event::Closed {
        lottery,
        terms,
        entries,
        root,
        draw_epoch,
    } = closed
    else {
        return Err("the event is not that the round was closed".into());
    };
    if lottery != id {
        return Err(format!("the file is of {id}, its proof of {lottery}"));
    }
    step(format!(
        "block {} is certified, and fixed {entries} entries of {id} by {}",
        closed_in.height,
        root.hex()
    ));
    if export.entries.len() != entries as usize || entries_root(id, &export.entries) != root {
        return Err(
            "the entries in the file are not those that were fixed: one was added, left out or changed"
                .into(),
        );
    }
    step(format!("the {entries} entries in the file are those"));
    let (over_in, over) = event(key, &export.over, "drawn")?;
    let draw = match over {
        Event::Refunded { lottery, .. } if lottery == id && entries < terms.entries_min => {
            if over_in.height != closed_in.height {
                return Err("it was paid back in another block than it was closed in".into());
            }
            step(format!(
                "fewer than {} had entered: block {} paid all back",
                terms.entries_min, over_in.height
            ));
            return Ok(());
        }
        Event::Drawn { lottery, draw } if lottery == id && entries >= terms.entries_min => draw,
        _ => return Err("the last event is not what these entries lead to".into()),
    };
    let told = export
        .told
        .as_ref()
        .ok_or("the block that told the beacon is not there")?;
    let (told_in, duty) = duty(key, told)?;
    let signature = duty.beacon.ok_or("that block tells no beacon")?;
    light::verify_beacon(key, draw.epoch, &signature).map_err(|e| e.to_string())?;
    if light::beacon_digest(&signature) != draw.beacon {
        return Err("the beacon that was told is not the one that was drawn with".into());
    }
    if told_in.epoch != draw.epoch {
        return Err(format!(
            "block {} is not of epoch {}",
            told_in.height, draw.epoch
        ));
    }
    if draw_epoch <= closed_in.epoch || draw.epoch < draw_epoch {
        return Err(format!(
            "the beacon of epoch {} may have been known when the entries were fixed, in epoch {}",
            draw.epoch, closed_in.epoch
        ));
    }
    step(format!(
        "the beacon of epoch {} is the network's signature, told in block {}, after the close",
        draw.epoch, told_in.height
    ));
    let seed = draw_seed(&closed_in.network, id, &root, &draw.beacon);
    let of = |number: u32| {
        let entry = export.entries.get(number as usize);
        entry.map_or(AccountId::default(), |e| e.account)
    };
    let paid = terms.price.0.saturating_mul(entries.into());
    let pot = Amount(paid.saturating_add(terms.stake.0));
    let (wins, rest) = draw_wins(&terms, pot, entries, &seed, of);
    let Draw {
        wins: said,
        rest: said_rest,
        ..
    } = draw;
    if (&wins, rest) != (&said, said_rest) {
        return Err("drawn again from these entries and this beacon, others win".into());
    }
    let won: u128 = wins.iter().map(|w| w.amount.0).sum();
    step(format!(
        "drawn again: the same {} winners, who have {} of {pot} credits; {rest} went to the owner",
        wins.len(),
        Amount(won)
    ));
    Ok(())
}
