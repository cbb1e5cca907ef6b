use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AllocationId, Signature};

/// Lines of one statement.
pub const LINES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Signed by a witness of the present epoch, once a round.
    State(Statement),
}

/// What a witness saw in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Statement {
    pub epoch: u64,
    /// Ledger time in units of [`crate::Params::witness_ms`]: this one or the one before.
    pub round: u64,
    /// Head by whose state it looked.
    pub height: u64,
    /// Of [`lots::look_message`]: which hosts it had to look at.
    pub lot: Signature,
    /// Fresh. Its requests carried [`Statement::trace`]: who doubts it finds them in his log.
    pub nonce: [u8; 16],
    /// In the order of their allocations, each once; at most [`LINES_MAX`].
    pub lines: Vec<Line>,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Line {
    pub allocation: AllocationId,
    pub saw: Saw,
}

/// How a replica answered that its host says is running.
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
pub enum Saw {
    /// Anything that only its side can send, within a second: bytes, an end, "nobody listens".
    Prompt,
    /// The same, later.
    Slow,
    /// Its side took the connection and sent nothing, though the service had answered before.
    Silent,
    /// The host's agent could not reach it.
    Refused,
    /// The host's agent could not be reached.
    Unreachable,
}

impl Saw {
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Prompt | Self::Slow)
    }
}

impl std::fmt::Display for Saw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prompt => "answered",
            Self::Slow => "answered late",
            Self::Silent => "connections were taken and nothing came",
            Self::Refused => "its agent could not reach the replica",
            Self::Unreachable => "its agent could not be reached",
        })
    }
}

impl Statement {
    /// Trace id of the request to `allocation`: as in any request, so that no host can tell by
    /// it who looks.
    pub fn trace(nonce: &[u8; 16], allocation: AllocationId) -> [u8; 16] {
        let digest = types::Digest::of_value("runrig-trace", &(nonce, allocation));
        digest.0[..16].try_into().expect("16 of 32 bytes")
    }
}
