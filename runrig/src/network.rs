//! `network`: its verbs; and `init`, which founds one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use api::{NetworkFile, ValidatorAddress};
use clap::{Args, Subcommand};
use ledger::lots::Founder;
use ledger::{Genesis, Params};
use rand::RngCore as _;
use types::{AccountId, Amount, PublicKey, SecretKey};

use crate::context::{create_private_dir, write_key, write_private};
use crate::export::{Places, refound};
use crate::failure::{self, Failure, Result};
use crate::network_past::{Audit, Since};
use crate::output;
use crate::units;
use crate::{charter, founding};

/// Less than a newcomer's gift on a test network, so that joining takes one command there; enough
/// that a thousand false hosts cost something.
pub const HOST_BOND: u64 = 5;
/// What there is, in credits: most of it in the faucet's pool of a test network.
pub const SUPPLY: u64 = 1_000_000_000;
pub const FOUNDERS_SHARE: u64 = 10_000_000;

#[derive(Subcommand, Debug)]
pub enum Network {
    /// Make the genesis, the committee's keys and a founder's key: one trusted founder makes all
    Init(Init),
    /// Make a founder's seat, and the public part of it that goes into a charter
    Founder(charter::FounderArgs),
    /// Write down what several founders found a network on
    Charter(charter::CharterArgs),
    /// Make the network of a charter with its other founders; nobody ever knows its secret
    Found(founding::Found),
    /// Read a network file or a charter
    Show { file: PathBuf },
    /// How validators and hosts stand now
    #[command(before_help = "Examples:\n  runrig network status\n  runrig network status --json")]
    Status,
    /// What waits at each validator for a block
    #[command(before_help = "Examples:\n  runrig network queue")]
    Queue,
    /// What went wrong: hosts silent, flagged or gone, evidence, epochs without a beacon
    Incidents(Since),
    /// Why replicas had no place, by cause
    Placements(Since),
    /// Who signed what on whose behalf, and whether it was accepted; the latest first
    Audit(Audit),
}

/// A look that finds nothing takes some ten seconds, and must be told in the round or the next.
pub fn witness_every(text: &str) -> std::result::Result<u64, String> {
    match text.parse() {
        Ok(seconds @ (0 | 10..=86_400)) => Ok(seconds),
        _ => Err("it is 0, or 10 to 86400 seconds".into()),
    }
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network init --out ./net\n  runrig network init --out ./net --validators 7 --name acme --p2p-base 10.0.0.1:9000 --api-base 10.0.0.1:9100\n\nThen, for each validator i: runrig validator run --data ./net/validator-i --network ./net/network.json\n\nWhoever runs this can know the network's secret, for good. Several founders who need not trust each other: runrig network founder, charter and found."
)]
pub struct Init {
    /// Folder to make: network.json (public), validator-1 … (secret), keys (secret)
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    validators: u32,
    /// Address of the first validator's peer listener; each next one has the next port.
    /// Given as often as there are validators, each is taken as it is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8710")]
    p2p_base: Vec<SocketAddr>,
    /// The same for the HTTP API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8720")]
    api_base: Vec<SocketAddr>,
    /// How many gateways there may be whose word on the demand for services counts: a key is
    /// made for each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=64))]
    gateways: u8,
    #[command(flatten)]
    rules: Rules,
    /// Go on from a state that `runrig chain export` wrote: its accounts, hosts, deployments and
    /// rules, and its name
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["name", "gateways", "no_faucet", "epoch_blocks", "bond", "host_bond", "bond_epochs", "fee", "witness_every"]
    )]
    from: Option<PathBuf>,
    /// The old network's key, hex: only a state that it certified is taken
    #[arg(long, value_name = "HEX", requires = "from")]
    network_key: Option<String>,
}

/// What a network is founded on, but for who founds it.
#[derive(Args, Debug)]
pub struct Rules {
    #[arg(long, default_value = "runrig")]
    pub name: String,
    /// URL of a gateway, if you run one
    #[arg(long)]
    pub gateway: Option<String>,
    /// No gifts to newcomers: a network for real money
    #[arg(long)]
    pub no_faucet: bool,
    /// Blocks of an epoch, after which the network's key is handed to the next committee
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    pub epoch_blocks: u64,
    /// Credits that a validator's owner bonds for it
    #[arg(long, value_name = "CREDITS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub bond: u64,
    /// Credits that a host bonds when it joins, and its owner gets back when it leaves
    #[arg(long, value_name = "CREDITS", default_value_t = HOST_BOND, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub host_bond: u64,
    /// Epochs from a validator's last seat until its bond comes back
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub bond_epochs: u64,
    /// What a transaction of a user pays, in credits; it goes to the validators
    #[arg(long, default_value = "0")]
    pub fee: Amount,
    /// Seconds between two looks of witnesses at hosts, 10 at least; 0: they do not look
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = witness_every)]
    pub witness_every: u64,
    /// Validators listen for hosts' signs of life, over UDP at the port of their API, and vote on
    /// who is silent; else hosts give them by transactions. For networks of many hosts
    #[arg(long)]
    pub watched: bool,
}

impl Rules {
    pub fn params(&self) -> Params {
        let mut params = Params::dev();
        if self.no_faucet {
            params.faucet = Amount::ZERO;
        }
        params.epoch_blocks = self.epoch_blocks;
        params.validator_bond = Amount::credits(self.bond);
        params.host_bond = Amount::credits(self.host_bond);
        params.bond_epochs = self.bond_epochs;
        params.fee = self.fee;
        params.witness_ms = self.witness_every * 1_000;
        params
    }
}

/// One address each: given as such, or counted up from the first.
fn addresses(flag: &str, given: &[SocketAddr], count: u32) -> Result<Vec<SocketAddr>> {
    if given.len() == count as usize {
        return Ok(given.to_vec());
    }
    let [base] = given else {
        return Err(Failure::usage(
            format!("{flag} was given {} times", given.len()),
            format!("there are {count} validators"),
            "Give one address to count up from, or one for each.",
        ));
    };
    (0..count)
        .map(|i| {
            let port = u16::try_from(u32::from(base.port()) + i).map_err(|_| {
                Failure::usage(
                    flag,
                    format!("port {} + {i} is too large", base.port()),
                    "Choose a lower one.",
                )
            })?;
            Ok(SocketAddr::new(base.ip(), port))
        })
        .collect()
}

/// What a founder needs to make a network.
pub struct Founding {
    pub name: String,
    pub p2p: Vec<SocketAddr>,
    pub api: Vec<SocketAddr>,
    pub gateway: Option<String>,
    /// Keys made for gateways, whose word on the demand for services counts.
    pub gateways: usize,
    pub params: Params,
    /// Validators listen for hosts and vote on who is silent.
    pub watched: bool,
}

/// Made once: the public file, and one seat per validator in its order.
pub struct Founded {
    pub file: NetworkFile,
    pub seats: Vec<Vec<u8>>,
    pub founder: SecretKey,
    pub faucet: SecretKey,
    pub gateways: Vec<SecretKey>,
}

pub fn found(founding: Founding) -> anyhow::Result<Founded> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let count = u32::try_from(founding.p2p.len()).context("too many validators")?;
    let (committee, seats) = consensus::deal(count, seed)?;
    let founder = SecretKey::random(&mut rand::rng());
    let faucet = SecretKey::random(&mut rand::rng());
    let gateways: Vec<SecretKey> = (0..founding.gateways)
        .map(|_| SecretKey::random(&mut rand::rng()))
        .collect();
    let account = |key: &SecretKey| AccountId::of(&key.public());
    let mut params = founding.params;
    params.gateways.extend(gateways.iter().map(account));
    // Each founder's bond: the ledger takes it from the account of its identity key.
    let bond = params.validator_bond;
    let bonds = Amount(bond.0 * seats.len() as u128);
    let bonded = seats
        .iter()
        .map(|seat| (AccountId::of(&PublicKey(seat.key())), bond));
    let addresses = founding.p2p.iter().zip(&founding.api);
    let validators = seats
        .iter()
        .zip(addresses)
        .map(|(seat, (p2p, api))| ValidatorAddress {
            key: hex::encode(seat.key()),
            p2p: p2p.to_string(),
            api: format!("http://{api}"),
        })
        .collect();
    let file = NetworkFile {
        genesis: Genesis {
            name: founding.name,
            time_ms: units::now_ms(),
            params,
            balances: [
                (
                    account(&founder),
                    Amount::credits(FOUNDERS_SHARE).saturating_sub(bonds),
                ),
                (account(&faucet), Amount::credits(SUPPLY - FOUNDERS_SHARE)),
            ]
            .into_iter()
            .chain(bonded)
            .collect(),
            faucet: account(&faucet),
            validators: seats
                .iter()
                .zip(&founding.p2p)
                .map(|(seat, at)| Founder {
                    key: PublicKey(seat.key()),
                    address: at.to_string(),
                })
                .collect(),
            watchers: match founding.watched {
                true => seats.iter().map(|s| PublicKey(s.key())).collect(),
                false => Vec::new(),
            },
            origin: None,
        },
        committee: hex::encode(committee.to_bytes()),
        network_key: hex::encode(committee.network_key()),
        validators,
        gateway: founding.gateway,
    };
    Ok(Founded {
        file,
        seats: seats.iter().map(consensus::Seat::to_bytes).collect(),
        founder,
        faucet,
        gateways,
    })
}

/// Where the key of a gateway lies, in the folder of the network.
pub fn gateway_key(number: usize) -> String {
    format!("keys/gateway-{number}")
}

/// Errors: no network may start from it.
pub fn check(genesis: &Genesis) -> Result {
    genesis.check().map_err(|why| {
        Failure::usage(
            "make the network",
            why.to_string(),
            "Choose otherwise: see `runrig network init --help`.",
        )
    })
}

impl Founded {
    /// `network.json` last: where it lies, the network is complete.
    ///
    /// Errors: no network may start from this genesis, and nothing is written; or what cannot be
    /// written.
    pub fn write(&self, out: &Path) -> Result {
        check(&self.file.genesis)?;
        let wrote = || -> anyhow::Result<()> {
            for (index, seat) in self.seats.iter().enumerate() {
                let folder = out.join(format!("validator-{}", index + 1));
                create_private_dir(&folder)
                    .with_context(|| format!("make {}", folder.display()))?;
                write_private(&folder.join("seat"), seat)?;
            }
            Ok(())
        };
        wrote()?;
        write_key(&out.join("keys/founder"), &self.founder)?;
        write_key(&out.join("keys/faucet"), &self.faucet)?;
        for (index, key) in self.gateways.iter().enumerate() {
            write_key(&out.join(gateway_key(index + 1)), key)?;
        }
        write_file(&out.join("network.json"), &self.file)
    }
}

pub fn write_file(path: &Path, file: &NetworkFile) -> Result {
    let text = serde_json::to_string_pretty(file).map_err(anyhow::Error::from)?;
    let write = || -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        write_private(path, text.as_bytes())?;
        // Public: meant to be handed around.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))?;
    Ok(())
}

pub fn read_file(path: &Path) -> Result<NetworkFile> {
    let wrong = |why: String| {
        Failure::usage(
            format!("network file {}", path.display()),
            why,
            "Name the network.json that `runrig network init` or `found` made.",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let file: NetworkFile = serde_json::from_str(&text).map_err(|e| {
        let said = serde_json::from_str::<serde_json::Value>(&text);
        if said.is_ok_and(|file| file.get("committee").is_some()) {
            return Failure::new(
                failure::CONFLICT,
                format!("network file {}", path.display()),
                format!("another version of runrig made this network ({e})"),
                "Run that version, or make the network anew in an empty folder.",
            );
        }
        wrong(e.to_string())
    })?;
    file.genesis.check().map_err(|e| wrong(e.to_string()))?;
    Ok(file)
}

pub fn show(file: &Path) -> Result {
    match charter::shown(file)? {
        Some(charter) => output::json(&charter),
        None => output::json(&read_file(file)?),
    }
    Ok(())
}

pub fn init(init: &Init, json: bool) -> Result {
    let target = init.out.join("network.json");
    if target.exists() {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("{} exists", target.display()),
            "a network was made there already, and its keys cannot be made again",
            "Choose another --out.",
        ));
    }
    let p2p = addresses("--p2p-base", &init.p2p_base, init.validators)?;
    let api = addresses("--api-base", &init.api_base, init.validators)?;
    let gateway = init.rules.gateway.clone();
    if let Some(from) = &init.from {
        let places = Places {
            p2p,
            api,
            gateway,
            watched: init.rules.watched,
        };
        return refound(from, init.network_key.as_ref(), &places, &init.out, json);
    }
    let founded = found(Founding {
        name: init.rules.name.clone(),
        p2p,
        api,
        gateway,
        gateways: init.gateways.into(),
        params: init.rules.params(),
        watched: init.rules.watched,
    })?;
    founded.write(&init.out)?;
    let founder = AccountId::of(&founded.founder.public());
    if json {
        output::json(&serde_json::json!({
            "network": founded.file.genesis.digest(),
            "network_key": founded.file.network_key,
            "network_file": target,
            "founder": founder,
        }));
        return Ok(());
    }
    output::data(target.display());
    output::say(format!(
        "network {} of {} validators; founder's account {founder}.\n\
         Hand network.json to everyone, validator-N to who runs that validator, and keep keys/ safe.\n\
         This machine has had the network's whole secret: founders who need not trust each other make it \
         together, beginning with `runrig network founder`.",
        founded.file.genesis.name, init.validators
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn addresses_are_counted_up_or_taken_as_they_are() {
        let base: SocketAddr = "127.0.0.1:8710".parse().expect("an address");
        let all = addresses("--p2p-base", &[base], 3).expect("three");
        assert_eq!(all.last().map(SocketAddr::port), Some(8712));
        assert_eq!(addresses("--p2p-base", &all, 3), Ok(all.clone()));
        assert_eq!(addresses("--p2p-base", &all, 4).map_err(|f| f.exit), Err(2));
        let high: SocketAddr = "127.0.0.1:65535".parse().expect("an address");
        assert_eq!(
            addresses("--p2p-base", &[high], 2).map_err(|f| f.exit),
            Err(2)
        );
    }

    #[test]
    fn a_founded_network_is_whole_and_its_secrets_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base: SocketAddr = "127.0.0.1:8710".parse().expect("an address");
        let all = addresses("--p2p-base", &[base], 4).expect("four");
        let founded = found(Founding {
            name: "test".into(),
            p2p: all.clone(),
            api: all,
            gateway: None,
            gateways: 2,
            params: Params::dev(),
            watched: true,
        })
        .expect("founded");
        founded.write(folder.path()).expect("written");
        let mut short = founded.file.clone();
        short.genesis.params.epoch_blocks = 11;
        let other = folder.path().join("short.json");
        std::fs::write(&other, serde_json::to_vec(&short).expect("JSON")).expect("written");
        let refused = read_file(&other).expect_err("no network may start from it");
        assert!(
            refused.why.contains("epoch_blocks must be"),
            "{}",
            refused.why
        );
        let file = read_file(&folder.path().join("network.json")).expect("read");
        assert_eq!(file, founded.file);
        for (number, gateway) in (1..).zip(&file.genesis.params.gateways) {
            let key = crate::context::read_key(&folder.path().join(gateway_key(number)));
            let key = key.expect("read").expect("there");
            assert_eq!(AccountId::of(&key.public()), *gateway);
        }
        assert_eq!(file.genesis.params.gateways.len(), 2);
        let sum: u128 = file.genesis.balances.iter().map(|(_, a)| a.0).sum();
        assert_eq!(Amount(sum), Amount::credits(SUPPLY));
        for (index, validator) in file.validators.iter().enumerate() {
            let path = folder.path().join(format!("validator-{}/seat", index + 1));
            let mode = std::fs::metadata(&path)
                .expect("a seat")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            let seat = consensus::Seat::from_bytes(&std::fs::read(path).expect("read"));
            let key = seat.expect("a seat").key();
            assert_eq!(hex::encode(key), validator.key);
            assert_eq!(file.genesis.watchers[index], PublicKey(key));
        }
        assert!(read_file(Path::new("/nonexistent")).is_err());
    }
}
