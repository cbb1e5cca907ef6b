//! What lets a machine join in somebody's name.

use serde::{Deserialize, Serialize};
use types::{AccountId, SecretKey};
use utoipa::ToSchema;

/// A token that no machine has joined with yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// The account of its key.
    #[schema(value_type = String)]
    pub token: AccountId,
    /// Whose machine the one that joins with it becomes.
    #[schema(value_type = String)]
    pub owner: AccountId,
    pub made_ms: u64,
    /// Ledger time from which on it is nothing.
    pub until_ms: u64,
}

/// The command with which a machine joins by a token; `secret` is its key, and in nothing else.
pub fn join_line(network: &str, name: &str, secret: &SecretKey) -> String {
    format!(
        "sudo runrig host join --network {network} --data /var/lib/runrig --name {name} --token {}",
        secret.to_hex()
    )
}
