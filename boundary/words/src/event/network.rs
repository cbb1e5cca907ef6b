//! What happens to the network itself: seats, lots, votes, lotteries, witnesses.

use ledger::{duty, lots, lottery, vote, witness};

use crate::{Names, account as who, plural, validator};

pub fn paid(event: &duty::Event) -> String {
    let duty::Event::Paid { epoch, fees } = event;
    format!("{fees} credits of fees went to those who did the duties of epoch {epoch}")
}

pub fn drawn(event: &lots::Event) -> String {
    use lots::Event as O;
    let validators = |count: u64| plural(count, "validator", "validators");
    match event {
        O::CandidatesFrozen { epoch, count, .. } => {
            format!(
                "{} may be drawn for epoch {epoch}",
                validators((*count).into())
            )
        }
        O::Drawn {
            epoch,
            beacon,
            lineup,
        } => {
            let seats = validators(lineup.committee.len() as u64);
            match beacon {
                Some(_) => format!("{seats} drawn to sit in epoch {epoch}"),
                None => format!(
                    "No beacon was told in time for epoch {epoch}: the {seats} who sat go on"
                ),
            }
        }
    }
}

pub fn flagged(event: &witness::Event, names: &Names) -> String {
    let witness::Event::HostFlagged { host, flag } = event;
    format!(
        "Host {} lost reputation: {} of {} witnesses got no answer from what it said was running ({} of {})",
        names.host(host),
        flag.witnesses.len(),
        flag.drawn,
        flag.saw,
        flag.allocation
    )
}

pub fn validated(event: &ledger::validator::Event) -> String {
    use ledger::validator::Event as V;
    match event {
        V::ValidatorRegistered {
            key, bond, until, ..
        } => format!(
            "{} entered with a bond of {bond} credits, good for drawings up to epoch {until}",
            validator(key)
        ),
        V::ValidatorLeaving { key, from, .. } => {
            format!(
                "{} leaves, and sits no more from epoch {from}",
                validator(key)
            )
        }
        V::BondReturned { key, to, amount } => format!(
            "{} is gone: its bond of {amount} credits went to {}",
            validator(key),
            who(to)
        ),
        V::ValidatorConvicted {
            key,
            epoch,
            view,
            lost,
            finder,
            reward,
            ..
        } => format!(
            "{} proposed two blocks for view {view} of epoch {epoch}: it lost its bond of {lost} credits, {reward} of them to {}",
            validator(key),
            who(finder)
        ),
    }
}

pub fn voted(event: &vote::Event) -> String {
    use vote::{Event as V, Phase};
    match event {
        V::Proposed {
            proposal,
            proposer,
            change,
            members,
        } => format!(
            "{} proposed {change} ({proposal}), on which {} may vote",
            who(proposer),
            plural((*members).into(), "member", "members")
        ),
        V::Cast {
            proposal,
            account,
            yes,
        } => format!(
            "{} voted {} on {proposal}",
            who(account),
            if *yes { "yes" } else { "no" }
        ),
        V::Moved { proposal, phase } => match phase {
            Phase::Open => format!("{proposal} is open"),
            Phase::Accepted { from } => {
                format!("{proposal} is accepted and counts from height {from}")
            }
            Phase::Rejected => format!("{proposal} is rejected"),
            Phase::Done { since } => format!("{proposal} counts since height {since}"),
        },
    }
}

pub fn played(event: &lottery::Event) -> String {
    use lottery::Event as L;
    match event {
        L::Created { lottery, terms } => format!(
            "lottery {lottery} ({}) opened at {} credits an entry",
            terms.name, terms.price
        ),
        L::Entered {
            lottery,
            account,
            count,
            ..
        } => format!(
            "{} bought {} in lottery {lottery}",
            who(account),
            plural((*count).into(), "entry", "entries")
        ),
        L::Closed {
            lottery,
            entries,
            draw_epoch,
            ..
        } => format!(
            "lottery {lottery} closed with {}: epoch {draw_epoch} decides",
            plural((*entries).into(), "entry", "entries")
        ),
        L::Drawn { lottery, draw } => format!(
            "lottery {lottery} was drawn: {}",
            plural(draw.wins.len() as u64, "winner", "winners")
        ),
        L::Refunded { lottery, .. } => {
            format!("too few entered lottery {lottery}: each got the price back")
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Event, validator};
    use types::{AccountId, Amount, PublicKey};

    use super::*;
    use crate::event;

    #[test]
    fn what_happens_to_the_network_is_a_sentence() {
        let names = Names::default();
        let told = |e: Event| event(&e, &names);
        let left = validator::Event::BondReturned {
            key: PublicKey([7; 32]),
            to: AccountId([1; 20]),
            amount: Amount::credits(300),
        };
        let left = told(Event::Validator(left));
        assert!(left.starts_with("Validator 0707"), "{left}");
        assert!(
            left.contains("bond of 300 credits went to account 0101"),
            "{left}"
        );
        let paid = duty::Event::Paid {
            epoch: 4,
            fees: Amount::credits(2),
        };
        let paid = told(Event::Duty(paid));
        assert!(
            paid.starts_with("2 credits of fees") && paid.contains("epoch 4"),
            "{paid}"
        );
        let none = lots::Event::Drawn {
            epoch: 9,
            beacon: None,
            lineup: Default::default(),
        };
        let none = told(Event::Lots(none));
        assert!(
            none.ends_with("for epoch 9: the 0 validators who sat go on"),
            "{none}"
        );
    }
}
