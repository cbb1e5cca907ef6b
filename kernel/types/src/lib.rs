//! Name ids, units, amounts, digests, keys and what a deployment asks for.
//!
//! Small and inert: touching this rebuilds everything. No I/O, no clock, no float,
//! no hash-map order. Values are canonical in `borsh` (what is signed and hashed) and
//! readable in `serde` (what people and programs see).

mod amount;
mod autoscale;
mod build;
mod container;
mod digest;
mod hours;
mod id;
mod key;
mod logs;
mod month;
mod passkey;
mod resources;
mod seal;
mod spec;
mod state_proof;
mod usage;

pub use amount::{Amount, AmountError, CREDIT};
pub use autoscale::{AutoscaleSpec, ScaleTarget};
pub use build::*;
pub use container::*;
pub use digest::{Digest, DigestError, merkle_path, merkle_paths, merkle_root, merkle_verify};
pub use hours::{Hours, HoursError, Span};
pub use id::{
    AccountId, AllocationId, DeploymentId, HostId, IdError, LotteryId, ProposalId, ReceiptId,
};
pub use key::{PublicKey, SecretKey, Signature, SignatureError, verify_batch};
pub use logs::{ExportKind, LogExport, LogPolicy};
pub use month::{Month, civil, days_from_civil};
pub use passkey::{AccountKey, Assertion, PasskeyKey, Proof};
pub use resources::{Offer, Resources};
pub use seal::{DoubleProposal, NoDouble, Seal};
pub use spec::*;
pub use state_proof::{
    STATE_DEPTH_MAX, StateProof, record_digest, state_bit, state_key, state_leaf, state_node,
};
pub use usage::{Resource, Usage, UsageRecord};
