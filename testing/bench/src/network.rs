//! Four real validators, each a process with its own disk folder, on loopback: the network
//! that transfers are measured on.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use api::{NetworkFile, ValidatorAddress};
use ledger::lots::Founder;
use ledger::{Genesis, Params, Transaction, TransactionBody};
use sdk::Client;
use types::{AccountId, Amount, Digest, PublicKey, SecretKey};

use crate::process::{Cost, Process};

pub const VALIDATORS: u32 = 4;
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Far above any height that a measurement reaches.
const EXPIRES: u64 = 1 << 40;

/// Ends with its guard; so does its folder.
pub struct Network {
    /// Before the folder, so that it is ended before that goes.
    processes: Vec<Process>,
    pub clients: Vec<Client>,
    pub keys: Vec<SecretKey>,
    id: Digest,
    _folder: tempfile::TempDir,
}

/// Held until the address is written down, so that no two are the same.
pub fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let open = |_| TcpListener::bind("127.0.0.1:0").context("find a free port");
    let listeners: Vec<TcpListener> = (0..count).map(open).collect::<Result<_>>()?;
    let address = |l: &TcpListener| l.local_addr().context("find a free port");
    listeners.iter().map(address).collect()
}

impl Network {
    /// `program` is a `runrig`; `accounts` hold credits from the start.
    pub async fn start(program: &Path, accounts: usize) -> Result<Self> {
        Self::of(program, accounts, Amount::credits(1_000), |_| {}).await
    }

    /// As [`Self::start`]; each account has `balance`, and parameters are changed.
    pub async fn of(
        program: &Path,
        accounts: usize,
        balance: Amount,
        change: impl FnOnce(&mut Params),
    ) -> Result<Self> {
        let mut params = Params::dev();
        change(&mut params);
        let folder = tempfile::tempdir().context("make a folder")?;
        let keys: Vec<SecretKey> = (0..accounts as u64).map(key).collect();
        let (committee, seats) = consensus::deal(VALIDATORS, [3; 32])?;
        let ports = free_ports(2 * seats.len())?;
        let genesis = Genesis {
            name: "bench".into(),
            time_ms: 1_700_000_000_000,
            params,
            balances: keys
                .iter()
                .map(|key| (AccountId::of(&key.public()), balance))
                .collect(),
            faucet: AccountId([0; 20]),
            validators: seats
                .iter()
                .zip(ports.chunks(2))
                .map(|(seat, ports)| Founder {
                    key: PublicKey(seat.key()),
                    address: ports[0].to_string(),
                })
                .collect(),
            watchers: Vec::new(),
            origin: None,
        };
        let id = genesis.digest();
        let file = NetworkFile {
            genesis,
            committee: hex::encode(committee.to_bytes()),
            network_key: hex::encode(committee.network_key()),
            validators: seats
                .iter()
                .zip(ports.chunks(2))
                .map(|(seat, ports)| ValidatorAddress {
                    key: hex::encode(seat.key()),
                    p2p: ports[0].to_string(),
                    api: format!("http://{}", ports[1]),
                })
                .collect(),
            gateway: None,
        };
        let network = folder.path().join("network.json");
        std::fs::write(&network, serde_json::to_vec(&file)?)?;
        let mut processes = Vec::new();
        for (number, seat) in seats.iter().enumerate() {
            let data = folder.path().join(number.to_string());
            std::fs::create_dir(&data)?;
            std::fs::write(data.join("seat"), seat.to_bytes())?;
            let mut command = Command::new(program);
            command.args(["validator", "run", "--data"]).arg(&data);
            command.arg("--network").arg(&network);
            let log = folder.path().join(format!("{number}.log"));
            let process = Process::start(command, &log);
            processes.push(process.with_context(|| format!("start {}", program.display()))?);
        }
        let clients = file
            .validators
            .iter()
            .map(|v| Client::new([v.api.clone()]))
            .collect::<Result<_, _>>()?;
        let mut network = Self {
            processes,
            clients,
            keys,
            id,
            _folder: folder,
        };
        network.await_blocks().await?;
        Ok(network)
    }

    async fn await_blocks(&mut self) -> Result<()> {
        let started = Instant::now();
        for number in 0..self.clients.len() {
            while !self.clients[number]
                .status()
                .await
                .is_ok_and(|s| s.height >= 2)
            {
                ensure!(
                    started.elapsed() < START_LIMIT,
                    "validator {number} makes no blocks"
                );
                if self.processes[number].has_ended() {
                    bail!("validator {number} has ended");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Account number `from` gives one of the others `amount` of the smallest unit.
    pub fn transfer(&self, from: usize, nonce: u64, amount: u128) -> Transaction {
        let key = &self.keys[from];
        let to = self.account(self.recipient(from, nonce));
        let body = TransactionBody {
            network: self.id,
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce,
            expires: EXPIRES,
            tip: types::Amount::ZERO,
            call: ledger::Call::Account(ledger::account::Call::Transfer {
                to,
                amount: Amount(amount),
                memo: String::new(),
            }),
        };
        Transaction::sign(body, key)
    }

    /// Whom `from` pays: never itself; with many accounts another one each time.
    pub fn recipient(&self, from: usize, nonce: u64) -> usize {
        let others = self.keys.len() - 1;
        (from + 1 + nonce as usize % others) % self.keys.len()
    }

    pub fn account(&self, number: usize) -> AccountId {
        AccountId::of(&self.keys[number].public())
    }

    /// What all validators have cost so far.
    pub fn cost(&self) -> Cost {
        Cost::of_all(self.processes.iter().map(Process::pid))
    }

    /// Returns when nothing waits at any validator: each has finalised all it was given.
    pub async fn until_settled(&self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        for client in &self.clients {
            while client.status().await?.queued > 0 {
                ensure!(
                    started.elapsed() < limit,
                    "transfers wait for over {limit:?}"
                );
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

/// The same accounts in each run.
pub fn key(number: u64) -> SecretKey {
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(seed)
}
