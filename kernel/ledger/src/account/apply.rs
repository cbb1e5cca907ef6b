//! Transfers, gifts, and nonces that are each used once.

use types::{AccountId, Amount};

use super::{Account, Call, Event, Grant, grant};
use crate::execute::Context;
use crate::{RejectKind, Rejection};

const MEMO_BYTES_MAX: usize = 140;
const WINDOW: u64 = 64;

impl Account {
    pub(crate) fn check_nonce(&self, nonce: u64) -> Result<(), Rejection> {
        let used = if nonce > self.nonce {
            nonce - self.nonce > WINDOW
        } else {
            let back = self.nonce - nonce;
            nonce == 0 || back == 0 || back > WINDOW || self.nonces >> (back - 1) & 1 == 1
        };
        if used {
            return Err(Rejection::new(
                RejectKind::Stale,
                "transaction",
                format!(
                    "nonce {nonce} was used or is out of reach of {}",
                    self.nonce
                ),
                "Sign it anew with the next nonce; the runrig command does so by itself.",
            ));
        }
        Ok(())
    }

    pub(crate) fn use_nonce(&mut self, nonce: u64) {
        if nonce > self.nonce {
            let ahead = nonce - self.nonce;
            let kept = if ahead >= WINDOW {
                0
            } else {
                self.nonces << ahead
            };
            let former = if self.nonce == 0 {
                0
            } else {
                1u64.checked_shl(ahead as u32 - 1).unwrap_or(0)
            };
            self.nonces = kept | former;
            self.nonce = nonce;
        } else {
            self.nonces |= 1 << (self.nonce - nonce - 1);
        }
    }
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Transfer { to, amount, memo } => transfer(context, sender, to, amount, memo),
        Call::Faucet { to } => faucet(context, to),
        Call::Grant {
            to,
            role,
            limit,
            expires_ms,
            label,
        } => {
            let now = context.env.time_ms;
            let new = Grant {
                role,
                limit,
                expires_ms,
                label,
                since_ms: now,
                spent: Amount::ZERO,
                counted_ms: now,
            };
            grant::give(context, sender, to, new)
        }
        Call::Revoke { from } => grant::take(context, sender, from),
    }
}

fn transfer(
    context: &mut Context,
    from: AccountId,
    to: AccountId,
    amount: Amount,
    memo: String,
) -> Result<(), Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "transfer", why, next));
    if memo.len() > MEMO_BYTES_MAX {
        let why = format!(
            "the memo has {} bytes; at most {MEMO_BYTES_MAX} are kept",
            memo.len()
        );
        return reject(RejectKind::Invalid, why, "Shorten it.");
    }
    if amount.is_zero() || from == to {
        let why = "it would move nothing".into();
        return reject(
            RejectKind::Invalid,
            why,
            "Name another account and an amount above 0.",
        );
    }
    if !context.spend(from, amount) {
        let have = context.state.account(&from).spendable;
        let why = format!("{amount} credits are asked for, {have} may be spent");
        return reject(RejectKind::Funds, why, "See `runrig wallet balance`.");
    }
    context.credit(to, amount);
    context.emit(crate::Event::Account(Event::Transferred {
        from,
        to,
        amount,
        memo,
    }));
    context.thaw(&to);
    Ok(())
}

fn faucet(context: &mut Context, to: AccountId) -> Result<(), Rejection> {
    let (from, amount) = (
        context.state.globals.faucet,
        context.state.globals.params.faucet,
    );
    let reject = |kind, why: &str, next| Err(Rejection::new(kind, "faucet", why, next));
    if amount.is_zero() {
        let why = "this network gives no test credits";
        return reject(RejectKind::Invalid, why, "Ask somebody for a transfer.");
    }
    if context.state.account(&to).faucet_used {
        let why = "this account has had its test credits";
        return reject(
            RejectKind::Conflict,
            why,
            "Make another account with `runrig context create`.",
        );
    }
    if !context.spend(from, amount) {
        return reject(
            RejectKind::Funds,
            "the faucet is empty",
            "Ask somebody for a transfer.",
        );
    }
    context.credit(to, amount);
    context.account_mut(to).faucet_used = true;
    context.emit(crate::Event::Account(Event::Transferred {
        from,
        to,
        amount,
        memo: "faucet".into(),
    }));
    context.thaw(&to);
    Ok(())
}
