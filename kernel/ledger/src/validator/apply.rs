//! Validators enter, renew, leave and get their bonds back.

use std::net::SocketAddr;

use lots::{NONCE_MAX, is_ticket, ticket};
use types::{AccountId, Amount, Digest, PublicKey};

use super::{Call, Event, Leaving, Registration, Validator, accuse};
use crate::execute::Context;
use crate::lots::{AHEAD, Founder};
use crate::{RejectKind, Rejection, State};

/// All candidates are listed in each drawing that is kept: so many at most.
const VALIDATORS_MAX: usize = 4_096;
const ADDRESS_BYTES_MAX: usize = 64;
const API_BYTES_MAX: usize = 200;

/// Those of the genesis. Each one's bond comes out of what the genesis gives to the account of
/// its identity key; one that is not given so much has none.
pub(crate) fn founders(state: &mut State, founders: &[Founder]) {
    let (asked, until) = (state.params().validator_bond, state.params().ticket_epochs);
    for founder in founders {
        let owner = AccountId::of(&founder.key);
        let mut bond = Amount::ZERO;
        if let Some(account) = state.accounts.get_mut(&owner)
            && let Some(left) = account.spendable.checked_sub(asked)
        {
            account.spendable = left;
            bond = asked;
        }
        let validator = Validator {
            owner,
            address: founder.address.clone(),
            api: String::new(),
            bond,
            ticket: Digest::of_value("runrig-founder", &founder.key),
            until,
            leaving: None,
            convicted: None,
        };
        state.validators.insert(founder.key, validator);
    }
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Register(registration) => register(context, sender, registration),
        Call::Leave { key, to } => leave(context, sender, key, to),
        Call::Accuse(double) => accuse::accuse(context, sender, &double),
    }
}

pub(super) fn named(key: &PublicKey) -> String {
    let short: String = key.to_string().chars().take(12).collect();
    format!("validator {short}")
}

fn register(
    context: &mut Context,
    sender: AccountId,
    registration: Registration,
) -> Result<(), Rejection> {
    let key = registration.key;
    check_addresses(&registration)?;
    let network = context.state.globals.network;
    let said = Registration::proof_digest(&network, &sender, &key);
    if key.verify(&said.0, &registration.proof).is_err() {
        return Err(Rejection::new(
            RejectKind::Signature,
            named(&key),
            "its own key has not signed that this account may enter it",
            "Run `runrig validator join` where the validator's seat is, with the account that pays.",
        ));
    }
    let (ticket, until) = check_ticket(&context.state, &registration)?;
    let asked = context.state.params().validator_bond;
    let (owner, bonded) = match context.state.validators.get(&key) {
        None if context.state.validators.len() >= VALIDATORS_MAX => {
            return Err(Rejection::new(
                RejectKind::Conflict,
                named(&key),
                format!(
                    "{VALIDATORS_MAX} validators are entered already, and there is no room for more"
                ),
                "Try again when one has left.",
            ));
        }
        None => (sender, Amount::ZERO),
        Some(known) => {
            check_renewal(known, &key, &sender)?;
            (known.owner, known.bond)
        }
    };
    let short = asked.saturating_sub(bonded);
    if !short.is_zero() && (sender != owner || !context.bond(sender, short)) {
        return Err(Rejection::new(
            RejectKind::Funds,
            named(&key),
            format!(
                "its bond of {asked} lacks {short}, which account {owner} does not have or has not signed for"
            ),
            format!("Get that much to {owner}, then run `runrig validator join` with its key."),
        ));
    }
    let bond = Amount(bonded.0 + short.0);
    let validator = Validator {
        owner,
        address: registration.address.clone(),
        api: registration.api,
        bond,
        ticket,
        until,
        leaving: None,
        convicted: None,
    };
    context.state.validators.insert(key, validator);
    context.emit(crate::Event::Validator(Event::ValidatorRegistered {
        key,
        owner,
        address: registration.address,
        bond,
        until,
    }));
    Ok(())
}

fn check_renewal(known: &Validator, key: &PublicKey, sender: &AccountId) -> Result<(), Rejection> {
    if let Some(convicted) = known.convicted {
        return Err(Rejection::new(
            RejectKind::Forbidden,
            named(key),
            format!(
                "it is convicted of two blocks for view {} of epoch {}",
                convicted.view, convicted.epoch
            ),
            "Enter another, in an empty folder; and never run one seat in two places.",
        ));
    }
    if known.owner == *sender || (*sender == AccountId::of(key) && known.leaving.is_none()) {
        return Ok(());
    }
    let why = if known.leaving.is_some() {
        format!("its owner {} has taken it off", known.owner)
    } else {
        format!("account {} has entered it", known.owner)
    };
    Err(Rejection::new(
        RejectKind::Forbidden,
        named(key),
        why,
        "Sign with the owner's key, or make another validator in an empty folder.",
    ))
}

fn check_addresses(registration: &Registration) -> Result<(), Rejection> {
    let invalid = |what: &str, why: String, next: &str| {
        Err(Rejection::new(RejectKind::Invalid, what, why, next))
    };
    let address = &registration.address;
    let read = Some(address)
        .filter(|a| a.len() <= ADDRESS_BYTES_MAX)
        .and_then(|a| a.parse::<SocketAddr>().ok());
    let reachable =
        |at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast();
    if !read.as_ref().is_some_and(reachable) {
        let shown: String = address.chars().take(ADDRESS_BYTES_MAX).collect();
        return invalid(
            "address",
            format!("\"{shown}\" is no ip:port that others can reach"),
            "Say --advertise IP:PORT, as the other validators see this machine.",
        );
    }
    let api = &registration.api;
    let url = api.starts_with("http://") || api.starts_with("https://");
    let plain = api.len() <= API_BYTES_MAX && api.bytes().all(|b| b.is_ascii_graphic());
    if !(api.is_empty() || url && plain) {
        return invalid(
            "API address",
            format!("it is no http URL of at most {API_BYTES_MAX} characters"),
            "Say --api-advertise http://IP:PORT, or leave it out.",
        );
    }
    Ok(())
}

/// The ticket, and the last epoch that may be drawn from it.
fn check_ticket(state: &State, registration: &Registration) -> Result<(Digest, u64), Rejection> {
    let epoch = registration.epoch;
    let refused = |kind, why: String| {
        let next = "Make a new one from the newest beacon; `runrig validator join` does so.";
        Rejection::new(kind, "ticket", why, next)
    };
    let params = state.params();
    let until = epoch.saturating_add(params.ticket_epochs);
    if until <= state.epoch() + AHEAD {
        let why = format!("epoch {until} was the last one that it could be drawn for");
        return Err(refused(RejectKind::Conflict, why));
    }
    let beacon = state.drawings.get(&epoch).and_then(|d| d.beacon);
    let beacon = beacon.ok_or_else(|| {
        let why = format!("the beacon of epoch {epoch} is not known");
        refused(RejectKind::NotFound, why)
    })?;
    let found = ticket(&beacon, &registration.key, registration.nonce);
    if registration.nonce >= NONCE_MAX || !is_ticket(&found, params.ticket_bits) {
        let why = format!(
            "nonce {} gives none: {} zero bits are asked for, from a nonce below {NONCE_MAX}",
            registration.nonce, params.ticket_bits
        );
        return Err(refused(RejectKind::Invalid, why));
    }
    Ok((found, until))
}

fn leave(
    context: &mut Context,
    sender: AccountId,
    key: PublicKey,
    to: AccountId,
) -> Result<(), Rejection> {
    let epoch = context.state.epoch();
    let from = context
        .state
        .seated_until(&key, epoch)
        .map_or(epoch, |e| e + 1);
    let refused = |kind, why: String, next: &str| Err(Rejection::new(kind, named(&key), why, next));
    let Some(validator) = context.state.validators.get_mut(&key) else {
        return refused(
            RejectKind::NotFound,
            "it is not entered".into(),
            "See `runrig validator status`.",
        );
    };
    let owner = validator.owner;
    if owner != sender {
        return refused(
            RejectKind::Forbidden,
            format!("account {owner} owns it"),
            "Sign with the owner's key.",
        );
    }
    if validator.leaving.is_some() {
        return refused(
            RejectKind::Conflict,
            "it is leaving already".into(),
            "Wait for its bond: see `runrig validator status`.",
        );
    }
    validator.leaving = Some(Leaving { to, from });
    let event = Event::ValidatorLeaving { key, owner, from };
    context.emit(crate::Event::Validator(event));
    Ok(())
}

/// In an epoch's first block: those who left, and whose delay is over, get their bonds.
pub(crate) fn return_bonds(context: &mut Context, epoch: u64) {
    let delay = context.state.params().bond_epochs;
    let leaving = context.state.validators.iter();
    let leaving: Vec<(PublicKey, Leaving)> = leaving
        .filter_map(|(key, v)| Some((*key, v.leaving.clone()?)))
        .collect();
    for (key, Leaving { to, from }) in leaving {
        match context.state.seated_until(&key, epoch) {
            // The lot has fallen on it once more since it was taken off.
            Some(last) if last + 1 > from => {
                if let Some(validator) = context.state.validators.get_mut(&key) {
                    validator.leaving = Some(Leaving { to, from: last + 1 });
                }
            }
            None if epoch >= from.saturating_add(delay) => {
                let known = context.state.validators.get(&key);
                let (amount, convicted) =
                    known.map_or_else(Default::default, |v| (v.bond, v.convicted.is_some()));
                context.state.validators.remove(&key);
                if convicted {
                    continue;
                }
                context.unbond(to, amount);
                let event = Event::BondReturned { key, to, amount };
                context.emit(crate::Event::Validator(event));
            }
            _ => {}
        }
    }
}
