//! Why a transaction was not applied: what, why, and what to do next.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Who must act. The CLI's exit code follows from it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RejectKind {
    /// The request makes no sense or exceeds a limit (exit 2).
    Invalid,
    NotFound,
    /// Not the owner.
    Forbidden,
    /// Somebody else has it, or it changed meanwhile (exit 5).
    Conflict,
    /// Not enough credits (exit 6).
    Funds,
    /// No host fits (exit 7).
    NoHost,
    /// Nonce used, expired, wrong network: signing anew helps.
    Stale,
    /// The signature does not fit: sending it again never helps (exit 8).
    Signature,
}

impl RejectKind {
    /// As the API and its JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Conflict => "conflict",
            Self::Funds => "funds",
            Self::NoHost => "no_host",
            Self::Stale => "stale",
            Self::Signature => "signature",
        }
    }
}

/// On rejection nothing changed.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    thiserror::Error,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[error("{what}: {why}. {next}")]
pub struct Rejection {
    pub kind: RejectKind,
    pub what: String,
    pub why: String,
    /// The next command or act, as a sentence.
    pub next: String,
}

impl Rejection {
    pub(crate) fn new(
        kind: RejectKind,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }
}
