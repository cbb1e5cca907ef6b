//! Execute a block: what time brings about first, then its transactions in order.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use rand::SeedableRng;
use rand::rngs::StdRng;
use types::{
    AccountId, AccountKey, Amount, DeploymentId, Digest, HostId, Proof, PublicKey, Signature,
    state_key, verify_batch,
};

use crate::invariant::{self, BrokenInvariant};
use crate::state::State;
use crate::tree::Change;
use crate::{
    BlockEnv, Call, Event, Outcome, RejectKind, Rejection, Transaction, TransactionBody, account,
    deployment, duty, host, lease, limit, lots, lottery, validator, vote, witness,
};

/// The state after a block and what came of it.
#[derive(Clone, Debug)]
pub struct Executed {
    pub state: State,
    /// Key and value digest of each changed record (`None`: deleted), sorted by key.
    pub changes: Vec<Change>,
    pub events: Vec<Event>,
    /// Root of the candidates that the block froze, if it did.
    pub candidates: Option<Digest>,
    /// One per transaction, in block order.
    pub outcomes: Vec<Outcome>,
}

/// A block under execution.
pub(crate) struct Context {
    pub state: State,
    pub env: BlockEnv,
    pub events: Vec<Event>,
    /// Hosts whose plan changes with this block.
    touched_hosts: BTreeSet<HostId>,
    /// Deployments whose replicas, or what peers see of them, changed: so do the plans of
    /// all their hosts.
    touched: BTreeSet<DeploymentId>,
    routes_changed: bool,
    /// Root of the candidates frozen by this block.
    pub frozen: Option<Digest>,
}

/// Reads canonical bytes, bounded.
pub fn decode(bytes: &[u8]) -> Result<Transaction, Rejection> {
    if bytes.len() > Transaction::BYTES_MAX {
        return Err(Rejection::new(
            RejectKind::Invalid,
            "transaction",
            format!(
                "{} bytes; at most {} are taken",
                bytes.len(),
                Transaction::BYTES_MAX
            ),
            "Split the deployment into several projects.",
        ));
    }
    let unreadable = |_| {
        Rejection::new(
            RejectKind::Invalid,
            "transaction",
            "its bytes are not a transaction",
            "Use a client of this network's version.",
        )
    };
    let transaction = Transaction::try_from_slice(bytes).map_err(unreadable)?;
    if !is_canonical(bytes, &transaction) {
        return Err(Rejection::new(
            RejectKind::Invalid,
            "transaction",
            "its bytes are not in canonical form",
            "Use a client of this network's version.",
        ));
    }
    Ok(transaction)
}

/// Maps out of order decode too, but only one form of a transaction may exist: what is
/// counted, kept and proved are its bytes.
fn is_canonical(bytes: &[u8], transaction: &Transaction) -> bool {
    struct Rest<'a>(&'a [u8]);
    impl std::io::Write for Rest<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let rest = self.0.strip_prefix(bytes);
            self.0 = rest.ok_or(std::io::ErrorKind::InvalidData)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut rest = Rest(bytes);
    transaction.serialize(&mut rest).is_ok() && rest.0.is_empty()
}

impl State {
    /// Would `transaction` be executed in the next block? (Its call may still be rejected.)
    pub fn admit(&self, transaction: &Transaction) -> Result<(), Rejection> {
        let next = self.globals.height.saturating_add(1);
        self.check_fresh(&transaction.body, &transaction.signer(), next)?;
        let sender = transaction.sender();
        let body = &transaction.body;
        let price = self.price_of(body);
        if price > self.account(&sender).spendable {
            return Err(cannot_pay(self, &sender, price));
        }
        if !body.tip.is_zero() {
            // Nobody comes first by what another would pay.
            let signer = transaction.signer();
            self.authorise(signer, &body.on_behalf, &body.call)?;
            self.may_spend(signer, &body.on_behalf, price)?;
        }
        Ok(())
    }

    fn fee_of(&self, call: &Call) -> Amount {
        match call.is_free() {
            true => Amount::ZERO,
            false => self.globals.params.fee,
        }
    }

    fn price_of(&self, body: &TransactionBody) -> Amount {
        self.fee_of(&body.call).saturating_add(body.tip)
    }

    /// Network, expiry and nonce.
    fn check_fresh(
        &self,
        body: &TransactionBody,
        sender: &AccountId,
        height: u64,
    ) -> Result<(), Rejection> {
        let stale = |why: String| {
            Rejection::new(
                RejectKind::Stale,
                "transaction",
                why,
                "Sign it anew; the runrig command does so by itself.",
            )
        };
        if body.network != self.globals.network {
            return Err(stale("it was signed for another network".into()));
        }
        if body.expires < height {
            return Err(stale(format!(
                "it expired at height {}, the next is {height}",
                body.expires
            )));
        }
        match self.accounts.get(sender) {
            Some(account) => account.check_nonce(body.nonce),
            None => account::Account::default().check_nonce(body.nonce),
        }
    }

    /// The state after the block. Transactions that are not valid are recorded as rejected.
    ///
    /// `verified` knows the ids whose signature was checked before.
    ///
    /// Errors: an invariant does not hold afterwards, which is a bug; the node must stop.
    pub fn execute<T: AsRef<[u8]>>(
        &self,
        env: BlockEnv,
        transactions: &[T],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Result<Executed, BrokenInvariant> {
        let mut state = self.clone();
        let before_ms = state.globals.time_ms;
        state.globals.height = env.height;
        state.globals.time_ms = env.time_ms;
        let mut context = Context::new(state, env);
        context.pass_time(before_ms);
        let decoded: Vec<_> = transactions
            .iter()
            .map(|bytes| decode(bytes.as_ref()).map(|t| (t.id(), t)))
            .collect();
        let signed = check_signatures(&decoded, verified);
        let mut outcomes = Vec::with_capacity(decoded.len());
        let mut payers = Vec::with_capacity(decoded.len());
        for ((bytes, decoded), signed) in transactions.iter().zip(decoded).zip(signed) {
            let before = context.events.len();
            let mut fee = Amount::ZERO;
            let sender = decoded.as_ref().ok().map(|(_, t)| t.sender());
            let (transaction, result) = match decoded {
                Ok((id, _)) if !signed => (id, Err(bad_signature())),
                Ok((id, transaction)) => (id, context.apply(transaction, &mut fee)),
                Err(rejection) => (Digest::of(bytes.as_ref()), Err(rejection)),
            };
            payers.push(sender.filter(|_| result.is_ok() && !fee.is_zero()));
            outcomes.push(Outcome {
                transaction,
                rejection: result.err(),
                fee,
                before: before as u32,
                events: (context.events.len() - before) as u32,
            });
        }
        duty::note_screened(&mut context, &payers);
        context.finish(self, outcomes)
    }
}

/// Of a transaction whose fee and tip its sender does not have.
fn cannot_pay(state: &State, sender: &AccountId, price: Amount) -> Rejection {
    let have = state.account(sender).spendable;
    Rejection::new(
        RejectKind::Funds,
        "transaction",
        format!("its fee and tip are {price} credits, {have} may be spent"),
        "See `runrig wallet balance`.",
    )
}

/// Of a transaction that its key did not sign so.
pub fn bad_signature() -> Rejection {
    Rejection::new(
        RejectKind::Signature,
        "transaction",
        "its signature does not fit",
        "Sign it with the key that it names.",
    )
}

/// Whether each is signed by whom it names (what was not decoded counts as signed): one
/// batch; only if it fails is each signature checked alone. `verified` knows the ids whose
/// signature was checked before.
pub fn check_signatures(
    decoded: &[Result<(Digest, Transaction), Rejection>],
    verified: &dyn Fn(&Digest) -> bool,
) -> Vec<bool> {
    let mut good = vec![true; decoded.len()];
    let mut unseen: Vec<(usize, PublicKey, [u8; 32], Signature)> = Vec::new();
    for (at, one) in decoded.iter().enumerate() {
        let Ok((id, transaction)) = one else { continue };
        if verified(id) {
            continue;
        }
        let (body, digest) = (&transaction.body, transaction.body.signed_digest());
        match (body.key, &transaction.signature) {
            (AccountKey::Ed25519(key), Proof::Ed25519(signature)) => {
                unseen.push((at, key, digest.0, *signature));
            }
            (key, proof) => good[at] = key.verify(&digest, proof).is_ok(),
        }
    }
    // Chance must be the same everywhere, yet unknown to who made the signatures: it follows
    // from all of them.
    let seed = Digest::of_value(
        "runrig-batch",
        &unseen.iter().map(|(_, _, m, s)| (m, s)).collect::<Vec<_>>(),
    );
    let mut rng = StdRng::from_seed(seed.0);
    let items = unseen.iter().map(|(_, key, m, s)| (key, &m[..], s));
    if unseen.len() > 1 && verify_batch(items, &mut rng) {
        return good;
    }
    for (at, key, message, signature) in &unseen {
        good[*at] = key.verify(message, signature).is_ok();
    }
    good
}

impl Context {
    pub(crate) fn new(state: State, env: BlockEnv) -> Self {
        Self {
            state,
            env,
            events: Vec::new(),
            touched_hosts: BTreeSet::new(),
            touched: BTreeSet::new(),
            routes_changed: false,
            frozen: None,
        }
    }

    /// Does all of `act` or, if it is refused, nothing.
    pub fn attempt(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let before = Self {
            state: self.state.clone(),
            env: self.env.clone(),
            events: Vec::new(),
            touched_hosts: self.touched_hosts.clone(),
            touched: self.touched.clone(),
            routes_changed: self.routes_changed,
            frozen: self.frozen,
        };
        let events = self.events.len();
        let result = act(self);
        if result.is_err() {
            let mut kept = std::mem::replace(self, before).events;
            kept.truncate(events);
            self.events = kept;
        }
        result
    }

    /// What should run on a host has changed.
    pub fn touch_host(&mut self, host: HostId) {
        self.touched_hosts.insert(host);
    }

    /// What peers and routes know of a deployment has changed.
    pub fn touch(&mut self, deployment: DeploymentId) {
        self.touched.insert(deployment);
        self.routes_changed = true;
    }

    /// A host has come, gone or moved: requests go elsewhere.
    pub fn touch_routes(&mut self) {
        self.routes_changed = true;
    }

    /// Looks after the replicas of all deployments in which something changed, and of those
    /// whose time has come.
    fn tend_seats(&mut self) {
        let mut ids = self.touched.clone();
        ids.extend(self.state.due(&self.state.index.looks, self.env.time_ms));
        for id in ids {
            deployment::tend(self, &id);
        }
    }

    /// Plans get their next number once per block, however much changed.
    fn number_plans(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let deployment = self.state.deployments.get(&id);
            let allocations = deployment.into_iter().flat_map(|d| &d.allocations);
            let hosts = allocations.filter_map(|a| Some(self.state.allocations.get(a)?.host));
            self.touched_hosts.extend(hosts);
        }
        for id in std::mem::take(&mut self.touched_hosts) {
            if let Some(host) = self.state.hosts.get_mut(&id) {
                host.plan = host.plan.saturating_add(1);
            }
        }
        if self.routes_changed {
            self.state.globals.routes_height = self.env.height;
        }
    }

    /// A rejected transaction uses up its nonce, pays its fee and tip and changes nothing else. They
    /// are that account's on whose behalf it is; the signer, who may not act for it or spend so much
    /// of it, pays the fee himself.
    fn apply(&mut self, transaction: Transaction, paid: &mut Amount) -> Result<(), Rejection> {
        let signer = transaction.signer();
        let body = transaction.body;
        self.state.check_fresh(&body, &signer, self.env.height)?;
        self.account_mut(signer).use_nonce(body.nonce);
        let price = self.state.price_of(&body);
        let sender = match self.payer(signer, &body, price) {
            Ok(sender) => sender,
            Err(refused) => {
                let fee = self.state.fee_of(&body.call);
                if self.take_fee(signer, fee) {
                    *paid = fee;
                }
                return Err(refused);
            }
        };
        if !self.take_fee(sender, price) {
            return Err(cannot_pay(&self.state, &sender, price));
        }
        *paid = price;
        if body.on_behalf.is_empty() {
            return self.carry_out(sender, body.call);
        }
        self.attempt(|context| {
            let before = context.state.account(&sender).spendable;
            context.carry_out(sender, body.call)?;
            let after = context.state.account(&sender).spendable;
            let spent = before.saturating_sub(after);
            context.count_spent(signer, &body.on_behalf, spent)
        })
    }

    /// Who pays, `price` counted against the grants by which `signer` acts.
    fn payer(
        &mut self,
        signer: AccountId,
        body: &TransactionBody,
        price: Amount,
    ) -> Result<AccountId, Rejection> {
        let path = &body.on_behalf;
        let sender = self.state.authorise(signer, path, &body.call)?;
        if !path.is_empty() {
            self.attempt(|context| context.count_spent(signer, path, price))?;
        }
        Ok(sender)
    }

    fn carry_out(&mut self, sender: AccountId, call: Call) -> Result<(), Rejection> {
        match call {
            Call::Account(call) => account::apply(self, sender, call),
            Call::Host(call) => host::apply(self, sender, call),
            Call::Deployment(call) => deployment::apply(self, sender, call),
            Call::Lease(call) => lease::apply(self, sender, call),
            Call::Lottery(call) => lottery::apply(self, sender, call),
            Call::Vote(call) => vote::apply(self, sender, call),
            Call::Validator(call) => validator::apply(self, sender, call),
            Call::Witness(call) => witness::apply(self, sender, call),
            Call::Limit(call) => limit::apply(self, sender, call),
        }
    }

    fn pass_time(&mut self, before_ms: u64) {
        vote::pass_time(self);
        lots::pass_time(self);
        duty::pass_time(self);
        lottery::pass_time(self);
        host::pass_time(self, before_ms);
        self.turn_wheel();
        limit::pass_time(self);
    }

    fn finish(
        mut self,
        before: &State,
        outcomes: Vec<Outcome>,
    ) -> Result<Executed, BrokenInvariant> {
        host::judge(&mut self);
        self.tend_seats();
        limit::review_changed(&mut self);
        self.number_plans();
        let Self {
            mut state,
            events,
            frozen,
            ..
        } = self;
        invariant::check(before, &state)?;
        let mut changes = vec![(
            state_key("globals", &()),
            Some(Digest::of_value("globals", &state.globals)),
        )];
        state.accounts.changes(&mut changes);
        state.hosts.changes(&mut changes);
        state.deployments.changes(&mut changes);
        state.allocations.changes(&mut changes);
        state.releases.changes(&mut changes);
        state.scales.changes(&mut changes);
        state.validators.changes(&mut changes);
        state.drawings.changes(&mut changes);
        state.duties.changes(&mut changes);
        state.lotteries.changes(&mut changes);
        state.entries.changes(&mut changes);
        state.proposals.changes(&mut changes);
        state.members.changes(&mut changes);
        state.watched.changes(&mut changes);
        state.limits.changes(&mut changes);
        state.tokens.changes(&mut changes);
        changes.sort_unstable();
        state.tree = state.tree.changed(&changes);
        state.forget_changed();
        Ok(Executed {
            state,
            changes,
            events,
            candidates: frozen,
            outcomes,
        })
    }

    pub fn account_mut(&mut self, id: AccountId) -> &mut account::Account {
        self.state.accounts.or_default(id)
    }

    /// `false`, and no change, if there is not so much.
    #[must_use]
    pub fn spend(&mut self, from: AccountId, amount: Amount) -> bool {
        let account = self.account_mut(from);
        let Some(left) = account.spendable.checked_sub(amount) else {
            return false;
        };
        account.spendable = left;
        self.state.index.spendable -= amount.0;
        true
    }

    pub fn credit(&mut self, to: AccountId, amount: Amount) {
        let account = self.account_mut(to);
        account.spendable = Amount(account.spendable.0 + amount.0);
        self.state.index.spendable += amount.0;
    }

    /// Moves money, and says so to both sides; `false`, and no change, if there is not so much.
    #[must_use]
    pub fn pay(&mut self, from: AccountId, to: AccountId, amount: Amount, memo: String) -> bool {
        if amount.is_zero() {
            return true;
        }
        if !self.spend(from, amount) {
            return false;
        }
        self.credit(to, amount);
        self.emit(crate::Event::Account(account::Event::Transferred {
            from,
            to,
            amount,
            memo,
        }));
        true
    }

    /// From a purse into a validator's bond, which the caller records; `false` if there is not so
    /// much.
    #[must_use]
    pub fn bond(&mut self, from: AccountId, amount: Amount) -> bool {
        let spent = self.spend(from, amount);
        if spent {
            self.state.index.bonded += amount.0;
        }
        spent
    }

    /// Out of a bond that the caller has taken off its record.
    pub fn unbond(&mut self, to: AccountId, amount: Amount) {
        self.state.index.bonded -= amount.0;
        self.credit(to, amount);
    }

    /// From the owner's purse into a deployment's escrow; `false` if there is not so much.
    #[must_use]
    pub fn hold(&mut self, id: &DeploymentId, amount: Amount) -> bool {
        let Some(owner) = self.state.deployments.get(id).map(|d| d.owner) else {
            return false;
        };
        if !self.spend(owner, amount) {
            return false;
        }
        let account = self.account_mut(owner);
        account.held = Amount(account.held.0 + amount.0);
        if let Some(deployment) = self.state.deployments.get_mut(id) {
            deployment.escrow = Amount(deployment.escrow.0 + amount.0);
        }
        self.state.index.escrow += amount.0;
        true
    }

    /// Takes at most `amount` out of the escrow; the caller credits what is returned.
    #[must_use]
    pub fn draw(&mut self, id: &DeploymentId, amount: Amount) -> Amount {
        let Some(deployment) = self.state.deployments.get_mut(id) else {
            return Amount::ZERO;
        };
        let taken = amount.min(deployment.escrow);
        deployment.escrow = deployment.escrow.saturating_sub(taken);
        let owner = deployment.owner;
        let account = self.account_mut(owner);
        account.held = account.held.saturating_sub(taken);
        self.state.index.escrow -= taken.0;
        taken
    }

    pub fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

impl State {
    /// What would come of `call`, asked by `sender` now: for quotes. Nothing changes.
    pub(crate) fn try_out(
        &self,
        sender: AccountId,
        call: deployment::Call,
    ) -> (Context, Result<(), Rejection>) {
        let env = BlockEnv {
            height: self.globals.height.saturating_add(1),
            time_ms: self.globals.time_ms.saturating_add(1),
            ..BlockEnv::default()
        };
        let mut context = Context::new(self.clone(), env);
        let result = deployment::apply(&mut context, sender, call);
        (context, result)
    }
}
