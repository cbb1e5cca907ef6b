//! Records as bytes: what is read by its table's name and its key's canonical bytes.

use borsh::{BorshDeserialize, BorshSerialize};
use types::Digest;

use crate::State;
use crate::table::Table;

/// Where a record lies in the state, and its canonical bytes, if it is there.
pub struct Located {
    /// Its [`types::state_key`].
    pub key: Digest,
    pub record: Option<Vec<u8>>,
}

fn bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory does not fail")
}

impl State {
    /// The record of `table` under `key`, canonical bytes; `None` if there is no such table, or if
    /// those are no bytes of a key of it.
    pub fn locate(&self, table: &str, key: &[u8]) -> Option<Located> {
        fn at<K, V>(name: &str, table: &Table<K, V>, key: &[u8]) -> Option<Located>
        where
            K: Ord + Clone + BorshSerialize + BorshDeserialize,
            V: Clone + BorshSerialize + BorshDeserialize,
        {
            let key = K::try_from_slice(key).ok()?;
            Some(Located {
                key: types::state_key(name, &key),
                record: table.get(&key).map(bytes),
            })
        }
        match table {
            "globals" => key.is_empty().then(|| Located {
                key: types::state_key(table, &()),
                record: Some(bytes(&self.globals)),
            }),
            "accounts" => at(table, &self.accounts, key),
            "hosts" => at(table, &self.hosts, key),
            "deployments" => at(table, &self.deployments, key),
            "allocations" => at(table, &self.allocations, key),
            "releases" => at(table, &self.releases, key),
            "scales" => at(table, &self.scales, key),
            "validators" => at(table, &self.validators, key),
            "drawings" => at(table, &self.drawings, key),
            "duties" => at(table, &self.duties, key),
            "lotteries" => at(table, &self.lotteries, key),
            "entries" => at(table, &self.entries, key),
            "proposals" => at(table, &self.proposals, key),
            "limits" => at(table, &self.limits, key),
            "tokens" => at(table, &self.tokens, key),
            "members" => at(table, &self.members, key),
            _ => None,
        }
    }
}
