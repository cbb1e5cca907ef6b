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
        /// Outside its hours, as it had said: nobody misses it.
        excused: bool,
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
        /// It is not there: missed from then on.
        missed_ms: Option<u64>,
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
    /// No machine can join with the token any more.
    HostUninvited {
        owner: AccountId,
        token: AccountId,
    },
}

impl Event {
    /// Whose it is; a token is nobody's yet.
    pub fn host(&self) -> Option<HostId> {
        match self {
            Self::HostRegistered { host, .. }
            | Self::HostOnline { host }
            | Self::HostOffline { host, .. }
            | Self::HostCordoned { host, .. }
            | Self::HostDraining { host, .. }
            | Self::HostPriced { host, .. }
            | Self::HostLeft { host, .. }
            | Self::HostAllotted { host, .. }
            | Self::HostHours { host, .. }
            | Self::HostOpened { host, .. }
            | Self::HostClosed { host, .. }
            | Self::HostJoined { host, .. } => Some(*host),
            Self::HostInvited { .. } | Self::HostUninvited { .. } => None,
        }
    }
}
