use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, Digest, HostId, ReceiptId,
    Resource, Usage,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    StatusChanged {
        deployment: DeploymentId,
        allocation: AllocationId,
        service: String,
        replica: u32,
        host: HostId,
        status: AllocationStatus,
    },
    Settled(Receipt),
    /// The lease has ended: reservation freed, nothing more is charged.
    LeaseClosed {
        deployment: DeploymentId,
        allocation: AllocationId,
        charged: Amount,
    },
}

/// What settlement made of one usage line. Emitted also when the amount is zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    pub id: ReceiptId,
    pub deployment: DeploymentId,
    pub release: u32,
    pub service: String,
    pub allocation: AllocationId,
    pub host: HostId,
    pub payer: AccountId,
    pub payee: AccountId,
    /// Host's report and its root, so that the usage record can be opened.
    pub interval: u64,
    pub root: Digest,
    pub record: Digest,
    pub sequence: u64,
    pub from_ms: u64,
    pub until_ms: u64,
    /// Cumulative, after this receipt.
    pub total: Usage,
    /// One per resource, in the order of [`Resource::ALL`].
    pub charges: Vec<Charge>,
    pub amount: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Charge {
    pub resource: Resource,
    /// Counted units (see [`Resource::counted_per_unit`]) since the receipt before.
    pub counted: u128,
    /// Per quoted unit.
    pub rate: Amount,
    pub amount: Amount,
}
