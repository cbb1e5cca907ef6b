//! How a command on some machine asks a portal's people to let its key act for them: `runrig login`.
//!
//! The machine makes a key and says its public part. The portal gives it a code for people and a
//! secret for itself; somebody who is logged in types the code and signs a grant on the ledger; the
//! machine hears of it. The key never leaves the machine.

use serde::{Deserialize, Serialize};
use types::{AccountId, PublicKey};

/// `POST /device/ask` of a portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAsk {
    pub key: PublicKey,
    /// What the machine calls itself: shown to people as its own words, nothing else.
    pub machine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCode {
    /// `BCDF-GHJK`: for people.
    pub code: String,
    /// For `POST /device/poll`: tells nobody else what became of it.
    pub secret: String,
    /// Path of the page that takes the code.
    pub page: String,
    pub good_for_s: u64,
    /// Ask no more often.
    pub every_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePoll {
    pub secret: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum DeviceAnswer {
    Waiting,
    Refused,
    /// The code is old, or never was.
    Gone,
    /// The grant is on the ledger, which alone says what it allows.
    Allowed {
        account: AccountId,
        /// Of the account, on this portal.
        handle: String,
        /// The network's name.
        network: String,
        /// URL of a gateway.
        url: String,
    },
}
