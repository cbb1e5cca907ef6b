//! Accounts that pay each other: transfers made beforehand, and what must come of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::Handle;
use ledger::lots::Founder;
use ledger::{Call, Genesis, Params, State, Transaction, TransactionBody};
use types::{AccountId, Amount, Digest, SecretKey};
use validator::LedgerMachine;

const ACCOUNTS: u8 = 8;
const PURSE: Amount = Amount::credits(1_000);
pub const GENESIS_MS: u64 = 1_700_000_000_000;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number + 1; 32])
}

fn account(number: u8) -> AccountId {
    AccountId::of(&key(number).public())
}

fn payers() -> impl Iterator<Item = (AccountId, Amount)> {
    (0..ACCOUNTS).map(|n| (account(n), PURSE))
}

/// What `key` asks of the ledger, as its transaction number `nonce`.
pub fn signed(network: Digest, key: &SecretKey, nonce: u64, call: Call) -> (Digest, Bytes) {
    let body = TransactionBody {
        network,
        key: key.public().into(),
        on_behalf: Vec::new(),
        nonce,
        expires: u64::MAX,
        tip: types::Amount::ZERO,
        call,
    };
    let transaction = Transaction::sign(body, key);
    let bytes = borsh::to_vec(&transaction).expect("writing to memory does not fail");
    (transaction.id(), bytes.into())
}

/// Who gets a vote later begins with enough for a bond. Each transaction pays `fee`.
pub fn genesis(
    founders: Vec<Founder>,
    newcomers: &[AccountId],
    epoch_blocks: u64,
    seats_max: u32,
    fee: Amount,
) -> Genesis {
    Genesis {
        name: "sim".into(),
        time_ms: GENESIS_MS,
        params: Params {
            epoch_blocks,
            seats_max,
            fee,
            ticket_bits: 4,
            witness_ms: 3_000,
            ..Params::dev()
        },
        balances: payers()
            .chain([(AccountId::of(&flooder().public()), PURSE)])
            .chain(newcomers.iter().map(|id| (*id, PURSE)))
            .collect(),
        faucet: account(0),
        validators: founders,
        watchers: Vec::new(),
        origin: None,
    }
}

/// Signed transfers and the balances after all of them.
pub struct Payments {
    pub transactions: Vec<(Digest, Bytes)>,
    balances: BTreeMap<AccountId, Amount>,
}

impl Payments {
    pub fn new(genesis: &Genesis, count: u32) -> Self {
        let mut balances: BTreeMap<AccountId, Amount> = payers().collect();
        let transactions = (0..count)
            .map(|n| {
                let (from, to) = (n as u8 % ACCOUNTS, (n * 5 + 3) as u8 % ACCOUNTS);
                let amount = Amount(u128::from(n) * 1_000_003 + 1);
                let given = amount.0 + genesis.params.fee.0;
                for (who, change) in [(from, -(given as i128)), (to, amount.0 as i128)] {
                    let balance = balances.entry(account(who)).or_default();
                    *balance = Amount(balance.0.wrapping_add_signed(change));
                }
                let call = Call::Account(ledger::account::Call::Transfer {
                    to: account(to),
                    amount,
                    memo: String::new(),
                });
                let nonce = u64::from(n / u32::from(ACCOUNTS)) + 1;
                signed(genesis.digest(), &key(from), nonce, call)
            })
            .collect();
        Self {
            transactions,
            balances,
        }
    }

    /// Panics if `state` is not what the transfers make, each applied once.
    pub fn check(&self, state: &State) {
        for (account, balance) in &self.balances {
            assert_eq!(state.account(account).balance(), *balance, "{account}");
        }
        let supply = state.supply();
        assert_eq!(supply.expected, supply.sum(), "the supply is whole");
    }
}

/// One who submits more than there is room for, everywhere, and pays himself.
pub struct Flood {
    network: Digest,
    /// Transfers with each turn; none at first.
    pub many: u32,
    turn: u64,
}

fn flooder() -> SecretKey {
    SecretKey::from_seed([250; 32])
}

impl Flood {
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            network: genesis.digest(),
            many: 0,
            turn: 0,
        }
    }

    /// What comes to validator `at` in this turn: each hears of other transfers.
    pub fn pour(&mut self, at: usize, node: &Handle<LedgerMachine>) {
        if self.many == 0 {
            return;
        }
        let used = node
            .head()
            .state
            .account(&AccountId::of(&flooder().public()))
            .nonce;
        self.turn += 1;
        let made = (0..self.many).map(|n| {
            // Rising, with gaps; each nonce again and again, for another transfer.
            let nonce = used + 1 + u64::from(n + n / 16);
            let call = Call::Account(ledger::account::Call::Transfer {
                to: AccountId::of(&flooder().public()),
                amount: Amount(1 + at as u128),
                memo: format!("{:x>64}", self.turn),
            });
            signed(self.network, &flooder(), nonce, call).1
        });
        // Refused: too many of this account wait already.
        let _ = node.submit_many(made.collect());
    }
}
