use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, HostId, Hours, Offer, Resources};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    HostRegistered {
        host: HostId,
        name: String,
        owner: AccountId,
        offer: Offer,
        bond: Amount,
    },
    HostOnline {
        host: HostId,
    },
    /// Said nothing for `host_timeout_ms`.
    HostOffline {
        host: HostId,
        last_seen_ms: u64,
    },
    HostCordoned {
        host: HostId,
        cordoned: bool,
    },
    HostDraining {
        host: HostId,
        draining: bool,
    },
    HostPriced {
        host: HostId,
        price_multiplier_milli: u32,
    },
    HostLeft {
        host: HostId,
        /// Its bond went to its owner.
        bond: Amount,
        owner: AccountId,
    },
    HostAllotted {
        host: HostId,
        allotment: Resources,
    },
    HostHours {
        host: HostId,
        /// None: always.
        hours: Option<Hours>,
    },
    /// Its hours have begun, or it has none any more.
    HostOpened {
        host: HostId,
        /// When they end, if they do.
        until_ms: Option<u64>,
    },
    /// Its hours are over: what runs there moves.
    HostClosed {
        host: HostId,
        /// When they begin again.
        until_ms: u64,
    },
    /// Its owner lets the machine that has the token's secret join.
    HostInvited {
        owner: AccountId,
        token: AccountId,
        until_ms: u64,
    },
    /// By a token, which is used up.
    HostJoined {
        host: HostId,
        owner: AccountId,
        token: AccountId,
        /// When the token was made.
        made_ms: u64,
    },
}
