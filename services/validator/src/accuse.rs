//! Tell the ledger of leaders that were seen to make two blocks for one view.

use std::time::Duration;

use bytes::Bytes;
use ledger::validator::Call as Act;
use ledger::{Call, State, Transaction, TransactionBody};
use tokio::sync::watch;
use types::{AccountId, DoubleProposal, SecretKey};

use crate::index::Handle;

const LOOK: Duration = Duration::from_secs(1);
/// An accusation that is not on the ledger after so many looks is sent again.
const RESEND: u32 = 5;
/// Heights after which an accusation is void.
const EXPIRES: u64 = 20;

/// A transaction of `key` that convicts one of `doubles` who is not convicted yet; `None`: there
/// is none. Nobody accuses himself.
pub fn accusation(state: &State, doubles: &[DoubleProposal], key: &SecretKey) -> Option<Bytes> {
    let me = key.public();
    let held = state.params().bond_epochs;
    let double = doubles.iter().find(|double| {
        let known = state.validators.get(&double.leader);
        double.leader != me
            && known.is_some_and(|v| v.convicted.is_none())
            && double.seals[0].epoch.saturating_add(held) >= state.epoch()
    })?;
    let body = TransactionBody {
        network: state.globals.network,
        key: me.into(),
        on_behalf: Vec::new(),
        // The next one is that of a vote on silent hosts that may be under way.
        nonce: state.account(&AccountId::of(&me)).nonce + 2,
        expires: state.height() + EXPIRES,
        tip: types::Amount::ZERO,
        call: Call::Validator(Act::Accuse(*double)),
    };
    let transaction = Transaction::sign(body, key);
    borsh::to_vec(&transaction).ok().map(Bytes::from)
}

/// Accuses whomever `handle` saw, until `stop`.
pub(crate) async fn keep(handle: Handle, key: SecretKey, mut stop: watch::Receiver<bool>) {
    let mut wait = 0u32;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        wait = wait.saturating_sub(1);
        let doubles = handle.doubles();
        if wait > 0 || doubles.is_empty() {
            continue;
        }
        let Some(bytes) = accusation(&handle.head().state, &doubles, &key) else {
            continue;
        };
        wait = RESEND;
        match handle.submit(bytes) {
            Ok(_) => tracing::warn!("a leader of two blocks for one view is accused"),
            Err(error) => tracing::warn!(%error, "an accusation is not taken; it is sent again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Digest, Seal};

    use super::*;

    #[test]
    fn who_is_entered_and_not_convicted_is_accused_by_others() {
        let keys = [1, 2].map(|n| SecretKey::from_seed([n; 32]));
        let founder = |key: &SecretKey| ledger::lots::Founder {
            key: key.public(),
            address: "10.0.0.1:9000".into(),
        };
        let genesis = ledger::Genesis {
            name: "test".into(),
            time_ms: 1,
            params: ledger::Params::dev(),
            balances: Vec::new(),
            faucet: AccountId([0; 20]),
            validators: keys.iter().map(founder).collect(),
            watchers: Vec::new(),
            origin: None,
        };
        let state = State::genesis(&genesis);
        let double = |key: &SecretKey| DoubleProposal {
            leader: key.public(),
            seals: [b"a", b"b"]
                .map(|block| Seal::put(key, &state.globals.network, 0, 3, Digest::of(block))),
        };
        let stranger = SecretKey::from_seed([9; 32]);
        let seen = [double(&stranger), double(&keys[0])];
        assert!(accusation(&state, &seen, &keys[0]).is_none(), "not himself");
        assert!(accusation(&state, &seen[..1], &keys[1]).is_none());
        let bytes = accusation(&state, &seen, &keys[1]).expect("told");
        let env = ledger::BlockEnv {
            height: 1,
            time_ms: 2,
            ..ledger::BlockEnv::default()
        };
        let after = state.execute(env, &[bytes], &|_| false).expect("conserved");
        assert_eq!(after.outcomes[0].rejection, None);
        assert!(after.state.is_convicted(&keys[0].public()));
        assert!(accusation(&after.state, &seen, &keys[1]).is_none(), "once");
    }
}
