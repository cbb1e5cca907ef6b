//! Who else may act for an account: further keys of its owner, members of a company.
//!
//! A grant names an account, whose key then signs transactions on behalf of the one that gave it:
//! with its own nonces, within a role, a limit and a time. A person's key may so act for the person,
//! and a person for a company: at most two steps. Whoever gave it takes it back at once.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount};

use super::{Account, Call};
use crate::execute::Context;
use crate::{RejectKind, Rejection, State, deployment, host};

/// Of one account.
const GRANTS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 60;

/// From the most to the least.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, who else may act included.
    Owner,
    /// Everything but owners and admins.
    Admin,
    /// Deploys, changes and removes what runs.
    Developer,
    /// Pays and is paid; says how much may be spent.
    Billing,
    /// Sees logs and figures; signs nothing.
    Viewer,
}

impl Role {
    pub const ALL: [Self; 5] = [
        Self::Owner,
        Self::Admin,
        Self::Developer,
        Self::Billing,
        Self::Viewer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Billing => "billing",
            Self::Viewer => "viewer",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }

    /// What hosts and gateways report, they sign themselves.
    fn may(self, call: &crate::Call) -> bool {
        let deploys = matches!(call, crate::Call::Deployment(call)
            if !matches!(call, deployment::Call::ReportDemand { .. }));
        match self {
            Self::Owner | Self::Admin => match call {
                crate::Call::Account(_)
                | crate::Call::Limit(_)
                | crate::Call::Lottery(_)
                | crate::Call::Validator(_)
                | crate::Call::Vote(_) => true,
                crate::Call::Deployment(_) => deploys,
                crate::Call::Host(call) => {
                    matches!(
                        call,
                        host::Call::Drain { .. }
                            | host::Call::SetPrice { .. }
                            | host::Call::SetAllotment { .. }
                            | host::Call::SetHours { .. }
                            | host::Call::Invite { .. }
                            | host::Call::Uninvite { .. }
                    )
                }
                crate::Call::Lease(_) | crate::Call::Witness(_) => false,
            },
            Self::Developer => deploys,
            Self::Billing => matches!(
                call,
                crate::Call::Limit(_)
                    | crate::Call::Account(Call::Transfer { .. } | Call::Faucet { .. })
            ),
            Self::Viewer => false,
        }
    }

    /// Whether this role may give and take `other`.
    fn rules(self, other: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => other > Self::Admin,
            _ => false,
        }
    }
}

/// What may leave an account's purse by one grant: payments, and what deployments hold as escrow.
/// What a deployment goes on to use is the account's matter.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct SpendingLimit {
    pub amount: Amount,
    /// Counted anew after so long; 0: never.
    pub every_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Grant {
    pub role: Role,
    pub limit: Option<SpendingLimit>,
    /// Ledger time from which on it is nothing.
    pub expires_ms: Option<u64>,
    /// For whoever reads the list.
    pub label: String,
    pub since_ms: u64,
    /// Spent of the limit since `counted_ms`.
    pub spent: Amount,
    pub counted_ms: u64,
}

impl Grant {
    pub fn is_good(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| now_ms < expires)
    }

    /// Whoever has it may also say who else may act: what is bounded cannot give more than it has.
    fn is_whole(&self, now_ms: u64) -> bool {
        self.limit.is_none() && self.expires_ms.is_none() && self.is_good(now_ms)
    }

    /// Counts what was spent. `Err`: so much is left.
    fn count(&mut self, spent: Amount, now_ms: u64) -> Result<(), Amount> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if limit.every_ms > 0 && now_ms.saturating_sub(self.counted_ms) >= limit.every_ms {
            self.spent = Amount::ZERO;
            self.counted_ms = now_ms;
        }
        let left = limit.amount.saturating_sub(self.spent);
        if spent > left {
            return Err(left);
        }
        self.spent = Amount(self.spent.0 + spent.0);
        Ok(())
    }
}

fn too_much(spent: Amount, left: Amount) -> Rejection {
    Rejection::new(
        RejectKind::Funds,
        "transaction",
        format!("it takes {spent} credits; the key may spend {left} more"),
        "Use a key with a higher limit, or raise this one's.",
    )
}

fn forbidden(why: String, next: &str) -> Rejection {
    Rejection::new(RejectKind::Forbidden, "transaction", why, next)
}

impl Account {
    /// What `who` may do for this account.
    pub fn role_of(&self, who: &AccountId, now_ms: u64) -> Option<Role> {
        let grant = self.grants.get(who)?;
        grant.is_good(now_ms).then_some(grant.role)
    }

    /// The highest role that a call gives or takes here, if it is such a call.
    fn ruled_by(&self, call: &crate::Call) -> Option<Role> {
        let has = |id: &AccountId| self.grants.get(id).map(|grant| grant.role);
        match call {
            crate::Call::Account(Call::Grant { to, role, .. }) => {
                Some(has(to).map_or(*role, |had| had.min(*role)))
            }
            crate::Call::Account(Call::Revoke { from }) => Some(has(from).unwrap_or(Role::Owner)),
            _ => None,
        }
    }
}

impl State {
    /// For whom `signer` acts along `path` (each account gave a grant to the one before it), if
    /// every grant allows the call.
    pub(crate) fn authorise(
        &self,
        signer: AccountId,
        path: &[AccountId],
        call: &crate::Call,
    ) -> Result<AccountId, Rejection> {
        if path.len() > 2 {
            let why = format!("it names {} accounts on whose behalf it is", path.len());
            return Err(forbidden(why, "Name one, or a person and a company."));
        }
        let known = |id: &AccountId| self.accounts.get(id);
        let Some(last) = path.last() else {
            if known(&signer).is_some_and(|account| account.retired) {
                let why = "the account's first key was retired".to_string();
                return Err(forbidden(why, "Sign with another key of the account."));
            }
            return Ok(signer);
        };
        let now = self.time_ms();
        let over = known(last).and_then(|account| account.ruled_by(call));
        // Whoever has a grant may give it back, whatever else it lets him do.
        let gives_back = path.len() == 1
            && matches!(call, crate::Call::Account(Call::Revoke { from }) if *from == signer);
        let mut from = signer;
        for to in path {
            let grant = known(to).and_then(|account| account.grants.get(&from));
            let Some(grant) = grant.filter(|grant| grant.is_good(now)) else {
                let why = format!("{from} may not act for {to}");
                return Err(forbidden(why, "Ask its owner for a grant."));
            };
            if gives_back {
                return Ok(*to);
            }
            let role = grant.role;
            if !role.may(call) {
                let why = format!("{from} is {} of {to}, which does not do this", role.name());
                return Err(forbidden(why, "Ask its owner for another role."));
            }
            if matches!(call, crate::Call::Limit(_)) && grant.limit.is_some() {
                let why =
                    format!("what {from} may spend is limited itself, so it sets none of {to}");
                return Err(forbidden(why, "A key without a limit may."));
            }
            if let Some(over) = over
                && !(grant.is_whole(now) && role.rules(over))
            {
                let why = format!("{from} may not say who is {} of {to}", over.name());
                return Err(forbidden(
                    why,
                    "An owner's key without limit and expiry may.",
                ));
            }
            from = *to;
        }
        Ok(from)
    }

    /// Whether every grant on the `path` of `signer` leaves so much to spend.
    pub(crate) fn may_spend(
        &self,
        signer: AccountId,
        path: &[AccountId],
        spent: Amount,
    ) -> Result<(), Rejection> {
        let mut from = signer;
        for to in path {
            let account = self.accounts.get(to);
            let grant = account.and_then(|account| account.grants.get(&from));
            let counted = grant.map(|grant| grant.clone().count(spent, self.time_ms()));
            if let Some(Err(left)) = counted {
                return Err(too_much(spent, left));
            }
            from = *to;
        }
        Ok(())
    }
}

impl Context {
    /// Counts what a call took out of the purse at the end of `path` against every grant on it.
    pub(crate) fn count_spent(
        &mut self,
        signer: AccountId,
        path: &[AccountId],
        spent: Amount,
    ) -> Result<(), Rejection> {
        let now = self.env.time_ms;
        let mut from = signer;
        for to in path {
            let limited = |g: &Grant| g.limit.is_some();
            if self
                .state
                .account(to)
                .grants
                .get(&from)
                .is_some_and(limited)
                && let Some(grant) = self.account_mut(*to).grants.get_mut(&from)
                && let Err(left) = grant.count(spent, now)
            {
                return Err(too_much(spent, left));
            }
            from = *to;
        }
        Ok(())
    }
}

/// Gives a grant, or changes one. What was spent of it stays spent while the period lasts.
pub(super) fn give(
    context: &mut Context,
    account: AccountId,
    to: AccountId,
    mut new: Grant,
) -> Result<(), Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "grant", why, next));
    if to == account {
        let why = "an account needs no grant to act for itself".to_string();
        return reject(RejectKind::Invalid, why, "Name another key or member.");
    }
    if new.label.len() > LABEL_BYTES_MAX || new.label.chars().any(char::is_control) {
        let why = format!("a label is one line of at most {LABEL_BYTES_MAX} bytes");
        return reject(RejectKind::Invalid, why, "Shorten it.");
    }
    let now = context.env.time_ms;
    if !new.is_good(now) {
        let why = "it would have expired already".to_string();
        return reject(RejectKind::Invalid, why, "Name a later time.");
    }
    let known = context.state.account(&account).grants;
    if let Some(old) = known.get(&to) {
        (new.spent, new.counted_ms) = (old.spent, old.counted_ms);
    } else if known.values().filter(|g| g.is_good(now)).count() >= GRANTS_MAX {
        let why = format!("{GRANTS_MAX} keys and members is the most");
        return reject(RejectKind::Conflict, why, "Revoke one first.");
    }
    let event = super::Event::Granted {
        account,
        to,
        role: new.role,
        limit: new.limit,
        expires_ms: new.expires_ms,
    };
    let kept = context.account_mut(account);
    kept.grants.retain(|_, grant| grant.is_good(now));
    kept.grants.insert(to, new);
    tell_hosts(context, account);
    context.emit(crate::Event::Account(event));
    Ok(())
}

/// Takes a grant back; of the account itself: retires its first key.
pub(super) fn take(
    context: &mut Context,
    account: AccountId,
    from: AccountId,
) -> Result<(), Rejection> {
    let reject = |kind, why: String, next| Err(Rejection::new(kind, "revoke", why, next));
    let now = context.env.time_ms;
    let known = context.state.account(&account);
    let owners = |but: AccountId| {
        let whole = |g: &Grant| g.role == Role::Owner && g.is_whole(now);
        known.grants.iter().any(|(id, g)| *id != but && whole(g))
    };
    if (from == account || known.retired) && !owners(from) {
        let why = "nobody would be left who may act for the account".to_string();
        let next = "Give another key the role owner, without limit and expiry, first.";
        return reject(RejectKind::Conflict, why, next);
    }
    if from == account {
        context.account_mut(account).retired = true;
    } else if !known.grants.contains_key(&from) {
        let why = format!("{from} has no grant of {account}");
        return reject(RejectKind::NotFound, why, "See `runrig account keys ls`.");
    } else {
        context.account_mut(account).grants.remove(&from);
    }
    tell_hosts(context, account);
    let event = super::Event::Revoked { account, from };
    context.emit(crate::Event::Account(event));
    Ok(())
}

/// Hosts let in whom the plan names: those with work of the account get a new one.
fn tell_hosts(context: &mut Context, account: AccountId) {
    let hosts: BTreeSet<_> = context
        .state
        .deployments_of(&account)
        .flat_map(|(_, deployment)| &deployment.allocations)
        .filter_map(|id| Some(context.state.allocations.get(id)?.host))
        .collect();
    for host in hosts {
        context.touch_host(host);
    }
}
