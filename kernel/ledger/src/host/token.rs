//! Tokens: an owner lets one machine join in his name, once and soon.
//!
//! He puts the account of a fresh key on the ledger; whoever has its secret signs with it for one
//! host. So what stands in a block is of no use to another host. Source: RFD 28.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Digest, HostId, PublicKey, SecretKey, Signature};

use super::Event;
use crate::execute::Context;
use crate::{RejectKind, Rejection, State};

/// Of one owner.
pub const OPEN_MAX: usize = 16;
/// A token is good for so long at most.
pub const OPEN_MS_MAX: u64 = 86_400_000;
/// Past ones that one block forgets; nobody can use the others either.
const FORGOTTEN_MAX: usize = 1_000;

/// What the owner of machines to come has said, kept until a machine has joined with it or its
/// time is over.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Token {
    pub owner: AccountId,
    pub made_ms: u64,
    /// Ledger time from which on it is nothing.
    pub until_ms: u64,
}

/// With which token a host came to its owner.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Joined {
    pub token: AccountId,
    pub made_ms: u64,
    pub joined_ms: u64,
}

/// How a host shows that it has a token.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Invitation {
    pub token: PublicKey,
    /// By the token's key, for this host on this network.
    pub signature: Signature,
}

fn signed(network: &Digest, host: &HostId) -> Digest {
    Digest::of_value("runrig-host-invitation", &(network, host))
}

impl Invitation {
    /// Of `host`, by who has the token's `secret`.
    pub fn of(secret: &SecretKey, network: &Digest, host: &HostId) -> Self {
        Self {
            token: secret.public(),
            signature: secret.sign(&signed(network, host).0),
        }
    }
}

impl State {
    /// Those that no machine has joined with yet, past ones for a moment.
    pub fn tokens_of(&self, owner: &AccountId) -> impl Iterator<Item = (AccountId, &Token)> {
        let from = (*owner, AccountId([0; 20]))..=(*owner, AccountId([0xff; 20]));
        self.index
            .tokens_of
            .range(from)
            .filter_map(|(_, id)| Some((*id, self.tokens.get(id)?)))
    }
}

fn refusal(kind: RejectKind, token: &AccountId, why: impl Into<String>, next: &str) -> Rejection {
    Rejection::new(kind, format!("token {}", token.short()), why, next)
}

/// `owner` lets the machine that has the secret of `token` join in his name.
pub(super) fn invite(
    context: &mut Context,
    owner: AccountId,
    token: AccountId,
    until_ms: u64,
) -> Result<(), Rejection> {
    let now = context.env.time_ms;
    let reject = |kind, why: String, next| Err(refusal(kind, &token, why, next));
    if until_ms <= now || until_ms - now > OPEN_MS_MAX {
        let why = "its time is over already, or more than 24 hours away".into();
        let next = "Choose less: `runrig host invite --for 1h`.";
        return reject(RejectKind::Invalid, why, next);
    }
    if context.state.tokens.get(&token).is_some() {
        let why = "there is such a token already".into();
        return reject(RejectKind::Conflict, why, "Make one from a fresh key.");
    }
    let open = context.state.tokens_of(&owner);
    if open.take(OPEN_MAX).count() == OPEN_MAX {
        let why = format!("{OPEN_MAX} tokens of this account are open");
        let next = "Join with one of them, or take one back: `runrig host invitations`.";
        return reject(RejectKind::Conflict, why, next);
    }
    let made = Token {
        owner,
        made_ms: now,
        until_ms,
    };
    context.state.tokens.insert(token, made);
    context.state.index.note_token(token, &made);
    context.emit(crate::Event::Host(Event::HostInvited {
        owner,
        token,
        until_ms,
    }));
    Ok(())
}

/// `owner` takes `token` back: whoever has its secret has nothing.
pub(super) fn uninvite(
    context: &mut Context,
    owner: AccountId,
    token: AccountId,
) -> Result<(), Rejection> {
    // Another's are answered as if they were not there.
    let open = context.state.tokens.get(&token);
    if open.is_none_or(|open| open.owner != owner) {
        let why =
            "it is not open: a machine has joined with it, its time is over, or it is not yours";
        let next = "Look at what is open: `runrig host invitations`; a machine that has joined is drained: `runrig host drain`.";
        return Err(refusal(RejectKind::NotFound, &token, why, next));
    }
    context.state.forget_token(&token);
    context.emit(crate::Event::Host(Event::HostUninvited { owner, token }));
    Ok(())
}

/// May `host` register for `owner` by this? The token that is used up by it, if one is: an agent that
/// starts anew says again what it said when it came.
pub(super) fn check(
    context: &Context,
    host: &HostId,
    owner: &AccountId,
    invitation: &Invitation,
) -> Result<Option<AccountId>, Rejection> {
    let token = AccountId::of(&invitation.token);
    let message = signed(&context.state.globals.network, host);
    let proof = (&message.0, &invitation.signature);
    if invitation.token.verify(proof.0, proof.1).is_err() {
        let why = "it was not signed with for this host on this network";
        let next = "Join with the whole command as it was given to you.";
        return Err(refusal(RejectKind::Signature, &token, why, next));
    }
    let known = context.state.hosts.get(host);
    if known.is_some_and(|h| h.owner == *owner && h.joined.is_some_and(|j| j.token == token)) {
        return Ok(None);
    }
    let now = context.env.time_ms;
    let open = context.state.tokens.get(&token);
    let Some(open) = open.filter(|open| now < open.until_ms) else {
        let why = "it is not open: a machine has joined with it, its time is over, it was taken back, or never made here";
        let next = "Make another with `runrig host invite`, or on the portal's page /hosts/new.";
        return Err(refusal(RejectKind::NotFound, &token, why, next));
    };
    if open.owner != *owner {
        let why = "it lets machines of another account join";
        let next = "Leave --owner away: the token says who is paid.";
        return Err(refusal(RejectKind::Forbidden, &token, why, next));
    }
    Ok(Some(token))
}

/// `host` has joined by `token`: nobody else does.
pub(super) fn take(context: &mut Context, host: HostId, token: AccountId) {
    let Some(used) = context.state.forget_token(&token) else {
        return;
    };
    let joined = Joined {
        token,
        made_ms: used.made_ms,
        joined_ms: context.env.time_ms,
    };
    if let Some(record) = context.state.hosts.get_mut(&host) {
        record.joined = Some(joined);
    }
    context.emit(crate::Event::Host(Event::HostJoined {
        host,
        owner: used.owner,
        token,
        made_ms: used.made_ms,
    }));
}

/// Forgets tokens whose time is over.
pub(super) fn pass_time(context: &mut Context) {
    let now = context.env.time_ms;
    let ends = &context.state.index.token_ends;
    let past = ends.iter().take_while(|(until, _)| *until <= now);
    let past: Vec<AccountId> = past.take(FORGOTTEN_MAX).map(|(_, token)| *token).collect();
    for token in past {
        context.state.forget_token(&token);
    }
}

impl State {
    fn forget_token(&mut self, id: &AccountId) -> Option<Token> {
        let token = *self.tokens.get(id)?;
        self.index.token_ends.remove(&(token.until_ms, *id));
        self.index.tokens_of.remove(&(token.owner, *id));
        self.tokens.remove(id);
        Some(token)
    }
}
