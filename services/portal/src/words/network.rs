//! What happens to the network itself, as people say it: seats, lots, votes, lotteries, witnesses.

use ledger::{duty, lots, lottery, validator, vote, witness};
use types::{AccountId, PublicKey};

use super::{Names, brief, plural};

fn who(id: &AccountId) -> String {
    format!("account {}", brief(&id.to_string()))
}

fn seat(key: &PublicKey) -> String {
    format!("validator {}", brief(&key.to_string()))
}

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
        "Host {} lost reputation: {} of {} witnesses got no answer from what it said was running",
        names.host(host),
        flag.witnesses.len(),
        flag.drawn
    )
}

pub fn validated(event: &validator::Event) -> String {
    use validator::Event as V;
    match event {
        V::ValidatorRegistered {
            key, bond, until, ..
        } => format!(
            "{} entered with a bond of {bond} credits, good for drawings up to epoch {until}",
            seat(key)
        ),
        V::ValidatorLeaving { key, from, .. } => {
            format!("{} leaves, and sits no more from epoch {from}", seat(key))
        }
        V::BondReturned { key, to, amount } => format!(
            "{} is gone: its bond of {amount} credits went to {}",
            seat(key),
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
            seat(key),
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
            members,
            ..
        } => format!(
            "{} proposed {proposal}, on which {} may vote",
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
            "lottery {lottery} opened at {} credits an entry",
            terms.price
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
            lottery, entries, ..
        } => format!(
            "lottery {lottery} closed with {}",
            plural((*entries).into(), "entry", "entries")
        ),
        L::Drawn { lottery, .. } => format!("the winners of lottery {lottery} were drawn"),
        L::Refunded { lottery, .. } => {
            format!("too few entered lottery {lottery}: each got the price back")
        }
    }
}

/// What was set or reached of an account's limits.
pub fn limited(event: &ledger::limit::Event, who: &dyn Fn(&types::AccountId) -> String) -> String {
    use ledger::limit::{Event, Notice};
    match event {
        Event::Set {
            account,
            alert,
            limit,
            ..
        } => format!(
            "{} set its limits: {}",
            who(account),
            bounds(*alert, *limit)
        ),
        Event::Told {
            account,
            notice: Notice::Alert,
            of,
            ..
        } => format!(
            "{} reached its alert of {of} credits this month",
            who(account)
        ),
        Event::Told {
            account,
            notice: Notice::Percent(percent),
            of,
            ..
        } => format!(
            "{} reached {percent} % of its limit of {of} credits this month",
            who(account)
        ),
    }
}

pub fn bounds(alert: Option<types::Amount>, limit: Option<types::Amount>) -> String {
    let of = |amount: Option<types::Amount>| match amount {
        Some(amount) => format!("{amount} credits"),
        None => "none".to_string(),
    };
    format!("alert {}, limit {} a month", of(alert), of(limit))
}

#[cfg(test)]
mod tests {
    use ledger::Event;
    use types::Amount;

    use super::*;
    use crate::words::event;

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
