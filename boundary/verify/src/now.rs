//! Check what is read of the ledger as it is now: the records behind it, down to a certified block.

use api::{
    AccountView, AllocationView, DeploymentView, DutiesView, DutyLine, HostView, LotteryView,
    ProposalView, RecordsProof, ReleaseView,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borsh::{BorshDeserialize, BorshSerialize};
use ledger::account::Account;
use ledger::deployment::{Deployment, Release};
use ledger::duty::Duties;
use ledger::host::Host;
use ledger::lease::Allocation;
use ledger::lottery::Round;
use ledger::vote::Proposal;
use ledger::{Globals, Params};
use light::Header;
use serde::{Deserialize, Serialize};
use types::{Amount, Digest};

/// What a client goes by.
#[derive(Clone, Debug)]
pub struct Trust {
    pub network_key: Vec<u8>,
    /// A block that is older is no word on what is now.
    pub age_max_ms: u64,
    /// The newest block that was seen before, if any: nothing older is taken.
    pub checkpoint: Option<Checkpoint>,
}

/// A certified block that a client has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub height: u64,
    pub time_ms: u64,
    pub block: Digest,
}

/// By what something was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Sight {
    pub checkpoint: Checkpoint,
    /// By this machine's clock.
    pub age_ms: u64,
    pub certificate_bytes: usize,
    /// Records that were proved, or proved absent.
    pub records: usize,
    /// The longest of their proofs.
    pub proof_bytes_max: usize,
}

/// The certified block, if it is of now, and no older than what was seen before.
fn block(trust: &Trust, proof: &RecordsProof, now_ms: u64) -> Result<(Header, Sight), String> {
    let bytes = |text: &String| BASE64.decode(text).unwrap_or_default();
    let certificate = bytes(&proof.certificate);
    let header = light::verify_block(&trust.network_key, &bytes(&proof.header), &[], &certificate);
    let header = header.map_err(|e| e.to_string())?;
    let age_ms = now_ms.saturating_sub(header.time_ms);
    if age_ms > trust.age_max_ms {
        return Err(format!(
            "block {} is {} s old, and {} s are allowed: the validator is behind, the network stands still, or this machine's clock is wrong",
            header.height,
            age_ms / 1_000,
            trust.age_max_ms / 1_000
        ));
    }
    let checkpoint = Checkpoint {
        height: header.height,
        time_ms: header.time_ms,
        block: header.digest(),
    };
    if let Some(seen) = &trust.checkpoint {
        if header.height < seen.height {
            return Err(format!(
                "block {} is older than block {}, which was seen before",
                header.height, seen.height
            ));
        }
        if header.height == seen.height && *seen != checkpoint {
            return Err(format!(
                "block {} is another one than was seen before: whoever holds the network's key has signed two",
                header.height
            ));
        }
    }
    let sight = Sight {
        checkpoint,
        age_ms,
        certificate_bytes: certificate.len(),
        records: proof.records.len(),
        proof_bytes_max: 0,
    };
    Ok((header, sight))
}

/// The records of `table` under `keys`, each proved to be so, or to be absent, after one certified
/// block.
pub fn verify_records<K: BorshSerialize, V: BorshDeserialize>(
    trust: &Trust,
    table: &str,
    keys: &[K],
    proof: &RecordsProof,
    now_ms: u64,
) -> Result<(Sight, Vec<Option<V>>), String> {
    let (header, mut sight) = block(trust, proof, now_ms)?;
    if proof.records.len() != keys.len() {
        return Err(format!(
            "{} records were asked for and {} were shown",
            keys.len(),
            proof.records.len()
        ));
    }
    let mut found = Vec::with_capacity(keys.len());
    for (key, shown) in keys.iter().zip(&proof.records) {
        let record = shown.record.as_ref().map(|r| BASE64.decode(r));
        let record = record.transpose().map_err(|e| e.to_string())?;
        let way = BASE64.decode(&shown.proof).map_err(|e| e.to_string())?;
        light::verify_record(&header, table, key, record.as_deref(), &way)
            .map_err(|e| e.to_string())?;
        sight.proof_bytes_max = sight.proof_bytes_max.max(way.len());
        let read = record.map(|bytes| V::try_from_slice(&bytes)).transpose();
        found.push(read.map_err(|_| "a record cannot be read: update runrig".to_string())?);
    }
    Ok((sight, found))
}

/// A view that is made of one record.
pub trait OfRecord {
    type Record;

    /// Names of what does not follow from the record.
    fn differs(&self, record: Option<&Self::Record>) -> Vec<&'static str>;
}

macro_rules! differing {
    ($view:expr, $record:expr, $($field:ident),+ $(,)?) => {{
        let mut all = Vec::new();
        $(if $view.$field != $record.$field {
            all.push(stringify!($field));
        })+
        all
    }};
}

const ABSENT: &str = "that it exists";

impl OfRecord for AccountView {
    type Record = Account;

    fn differs(&self, record: Option<&Account>) -> Vec<&'static str> {
        // Whom nobody has paid yet is in no record, and has nothing.
        let record = record.cloned().unwrap_or_default();
        let mut all = differing!(self, record, spendable, held, nonce, grants, retired);
        if self.balance != record.balance() {
            all.push("balance");
        }
        all
    }
}

impl OfRecord for HostView {
    type Record = Host;

    fn differs(&self, record: Option<&Host>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        differing!(
            self, record, name, address, owner, offer, free, online, cordoned, draining, hours,
            closed, trusted_ms, earned, interval, joined,
        )
    }
}

impl OfRecord for AllocationView {
    type Record = Allocation;

    fn differs(&self, record: Option<&Allocation>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        let mut all = differing!(
            self, record, deployment, release, service, replica, host, desired, generation,
            reserved, placed_ms, status, status_ms, usage, closed,
        );
        if self.charged != Amount(record.charged.iter().map(|a| a.0).sum()) {
            all.push("charged");
        }
        all
    }
}

impl OfRecord for DeploymentView {
    type Record = Deployment;

    fn differs(&self, record: Option<&Deployment>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        let mut all = differing!(
            self, record, owner, label, release, spec, created_ms, removed, funding, limited,
            escrow, charged, dry_ms, good, rollout, setback, unplaced, tried,
        );
        if self.project != record.spec.project {
            all.push("project");
        }
        let listed = self.allocations.iter().map(|a| &a.allocation);
        if !listed.eq(record.allocations.iter().take(DeploymentView::LISTED_MAX)) {
            all.push("allocations");
        }
        all
    }
}

impl OfRecord for ReleaseView {
    type Record = Release;

    fn differs(&self, record: Option<&Release>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        differing!(self, record, made_ms, cause, spec)
    }
}

impl OfRecord for ProposalView {
    type Record = Proposal;

    fn differs(&self, record: Option<&Proposal>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        let counted = |said| record.count(said) as u64;
        let mut all = Vec::new();
        if self.proposal != *record {
            all.push("proposal");
        }
        if (self.yes, self.no) != (counted(true), counted(false)) {
            all.push("votes");
        }
        if self.members != record.votes.len() as u64 {
            all.push("members");
        }
        all
    }
}

impl OfRecord for LotteryView {
    type Record = Round;

    /// The epoch of the draw follows from the length of epochs, too, which is in another record.
    fn differs(&self, record: Option<&Round>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        let mut all = Vec::new();
        if self.round != *record {
            all.push("round");
        }
        if self.pot != record.pot() {
            all.push("pot");
        }
        all
    }
}

impl OfRecord for DutiesView {
    type Record = Duties;

    fn differs(&self, record: Option<&Duties>) -> Vec<&'static str> {
        let Some(record) = record else {
            return vec![ABSENT];
        };
        let mut all = differing!(self, record, fees);
        let lines = record.by.iter().map(|(key, done)| DutyLine::of(*key, done));
        if !lines.eq(self.validators.iter().cloned()) {
            all.push("validators");
        }
        all
    }
}

impl OfRecord for Params {
    type Record = Globals;

    fn differs(&self, record: Option<&Globals>) -> Vec<&'static str> {
        match record {
            None => vec![ABSENT],
            Some(record) if record.params == *self => Vec::new(),
            Some(_) => vec!["parameters"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_view_is_noticed() {
        let record = Account {
            spendable: Amount(7),
            held: Amount(2),
            nonce: 3,
            ..Account::default()
        };
        let mut view = AccountView {
            account: types::AccountId([1; 20]),
            balance: Amount(9),
            spendable: Amount(7),
            held: Amount(2),
            nonce: 3,
            height: 5,
            gift: Amount::ZERO,
            grants: Default::default(),
            retired: false,
        };
        assert!(view.differs(Some(&record)).is_empty());
        assert_eq!(
            view.differs(None),
            ["spendable", "held", "nonce", "balance"]
        );
        view.balance = Amount(10);
        assert_eq!(view.differs(Some(&record)), ["balance"]);
    }
}
