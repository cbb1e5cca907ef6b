//! A leader that sealed two blocks for one view is convicted by the two seals alone.

use types::{AccountId, Amount, Digest, DoubleProposal};

use super::apply::named;
use super::{Conviction, Event, Leaving};
use crate::execute::Context;
use crate::{RejectKind, Rejection};

/// One part in so many of the bond goes to who told it first: worth telling, and never worth
/// doing for.
const FINDER_PARTS: u128 = 10;

/// Where lost bonds lie. No key makes this id; only a vote spends from it.
pub fn fund_account(network: &Digest) -> AccountId {
    let digest = Digest::of_value("runrig-fund", network);
    AccountId(digest.0[..20].try_into().expect("20 of 32 bytes"))
}

pub(super) fn accuse(
    context: &mut Context,
    sender: AccountId,
    double: &DoubleProposal,
) -> Result<(), Rejection> {
    let key = double.leader;
    let refused = |kind, why: String, next: &str| Err(Rejection::new(kind, named(&key), why, next));
    let now = context.state.epoch();
    let of = double.seals[0].epoch;
    let Some(validator) = context.state.validators.get(&key) else {
        return refused(
            RejectKind::NotFound,
            "it is not entered".into(),
            "See `runrig validator status`.",
        );
    };
    if let Some(convicted) = validator.convicted {
        return refused(
            RejectKind::Conflict,
            format!("it was convicted at height {} already", convicted.height),
            "Nothing is left to do.",
        );
    }
    // Older than its bond is held for, a proof could convict who has entered the key anew.
    if of > now || of.saturating_add(context.state.params().bond_epochs) < now {
        return refused(
            RejectKind::Stale,
            format!("it is accused of epoch {of}, and this is epoch {now}"),
            "Proofs are taken while bonds are held: see `bond_epochs` in `runrig chain params`.",
        );
    }
    if let Err(why) = double.check(&context.state.globals.network) {
        return refused(
            RejectKind::Invalid,
            why.to_string(),
            "Two seals convict: of one leader, for one view, on two blocks.",
        );
    }
    let (owner, lost) = (validator.owner, validator.bond);
    let last = context.state.seated_until(&key, now);
    let conviction = Conviction {
        epoch: of,
        view: double.seals[0].view,
        height: context.env.height,
        lost,
    };
    if let Some(validator) = context.state.validators.get_mut(&key) {
        validator.bond = Amount::ZERO;
        validator.convicted = Some(conviction);
        validator.leaving = Some(Leaving {
            to: owner,
            from: last.map_or(now, |epoch| epoch + 1),
        });
    }
    let reward = Amount(lost.0 / FINDER_PARTS);
    let fund = fund_account(&context.state.globals.network);
    context.unbond(sender, reward);
    context.unbond(fund, Amount(lost.0 - reward.0));
    context.emit(crate::Event::Validator(Event::ValidatorConvicted {
        key,
        owner,
        epoch: of,
        view: conviction.view,
        lost,
        finder: sender,
        reward,
    }));
    Ok(())
}
