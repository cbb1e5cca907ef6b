//! `network founder` and `network charter`: what several founders found a network on.
//!
//! A charter is public and says all that the network's first state is made of, so that all founders make
//! the same. Its digest is of what it says, not of how the file is laid out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::{NetworkFile, ValidatorAddress};
use borsh::BorshSerialize;
use clap::Args;
use consensus::{Committee, MEMBERS_MAX, Seat};
use ledger::{Genesis, Params, lots};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use types::{AccountId, Amount, Digest, PublicKey};

use crate::context::{create_private_dir, key_file, write_private};
use crate::failure::{self, Failure, Result};
use crate::network::{FOUNDERS_SHARE, Rules, SUPPLY};
use crate::{output, units, validator_join};

/// A founder's public part, in its folder.
pub const FOUNDER_FILE: &str = "founder.json";
/// Others' files are not read further.
const FILE_BYTES_MAX: u64 = 1 << 20;
const TEXT_MAX: usize = 256;
const API_PORT: u16 = 8720;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network founder --data ./validator --advertise 10.0.0.1:8710\n  runrig network founder --data ./validator --advertise 10.0.0.1:8710 --api-advertise https://v1.example.net --gateway-key\n\nHand DATA/founder.json to who writes the charter; all else in DATA is secret."
)]
pub struct FounderArgs {
    /// The validator's seat is made here, and the founder's key; both stay here
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the other founders and validators reach this one by
    #[arg(long, value_name = "IP:PORT")]
    advertise: SocketAddr,
    /// What others reach its HTTP API by; port 8720 of that IP if not said
    #[arg(long, value_name = "URL")]
    api_advertise: Option<String>,
    /// Make a key for a gateway, whose word on the demand for services counts: DATA/gateway.key
    #[arg(long)]
    gateway_key: bool,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network charter --out charter.json --founder a.json --founder b.json --founder c.json --founder d.json\n  runrig network charter --out charter.json --name acme --no-faucet --bond 1000 --founder a.json --founder b.json"
)]
pub struct CharterArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The public part of a founder: its founder.json; said once for each, 2 to 128
    #[arg(long, value_name = "FILE", required = true)]
    founder: Vec<PathBuf>,
    #[command(flatten)]
    rules: Rules,
}

/// The public part of a founder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its validator's identity.
    pub key: PublicKey,
    /// Gets its part of the founders' money.
    pub account: AccountId,
    pub p2p: SocketAddr,
    /// URL.
    pub api: String,
    /// Of a gateway that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<AccountId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    pub name: String,
    /// When it was written: the network's first time.
    pub time_ms: u64,
    /// Without gateways: those are the founders'.
    pub params: Params,
    /// Validators listen for hosts and vote on who is silent.
    pub watched: bool,
    /// URL.
    pub gateway: Option<String>,
    /// In the order of their keys.
    pub founders: Vec<Founder>,
}

/// A charter as it is shown.
#[derive(Serialize)]
pub struct Shown {
    digest: Digest,
    charter: Charter,
}

impl Founder {
    fn check(&self) -> std::result::Result<(), String> {
        let who = validator_join::short(&self.key);
        if !consensus::is_identity(&self.key.0) {
            return Err(format!("founder {who}: its key is none"));
        }
        if self.p2p.ip().is_unspecified() || self.p2p.port() == 0 {
            let at = self.p2p;
            return Err(format!("founder {who}: {at} is no address of one machine"));
        }
        if !is_url(&self.api) {
            return Err(format!(
                "founder {who}: its API is no http:// or https:// URL"
            ));
        }
        Ok(())
    }
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let good = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    text.len() <= TEXT_MAX && rest.is_some_and(good)
}

impl Charter {
    pub fn digest(&self) -> Digest {
        Digest::of_value("runrig-charter", self)
    }

    pub fn founder(&self, key: &[u8; 32]) -> Option<&Founder> {
        self.founders.iter().find(|f| f.key.0 == *key)
    }

    /// Errors: why nobody may found a network on it.
    pub fn check(&self) -> std::result::Result<(), String> {
        let count = self.founders.len();
        if count < 2 {
            return Err("it names one founder, or none: who founds alone makes the key alone, by `runrig network init --validators 1`".into());
        }
        if count > MEMBERS_MAX as usize {
            return Err(format!(
                "it names {count} founders; {MEMBERS_MAX} may found"
            ));
        }
        let named = !self.name.is_empty() && self.name.chars().count() <= TEXT_MAX;
        if !named || self.name.chars().any(char::is_control) {
            return Err(format!("its name has not 1 to {TEXT_MAX} letters"));
        }
        if self.gateway.as_ref().is_some_and(|url| !is_url(url)) {
            return Err("its gateway is no http:// or https:// URL".into());
        }
        if !self.params.gateways.is_empty() {
            return Err("it names gateways that are none of a founder's".into());
        }
        let (mut keys, mut places, mut urls) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut accounts = BTreeSet::new();
        for founder in &self.founders {
            founder.check()?;
            let own = [Some(founder.account), Some(AccountId::of(&founder.key))];
            let twice = match () {
                () if !keys.insert(founder.key) => format!("key {}", founder.key),
                () if !places.insert(founder.p2p) => format!("address {}", founder.p2p),
                () if !urls.insert(&founder.api) => format!("API {}", founder.api),
                () => {
                    let mut all = own.into_iter().chain([founder.gateway]).flatten();
                    match all.find(|account| !accounts.insert(*account)) {
                        Some(account) => format!("account {account}"),
                        None => continue,
                    }
                }
            };
            return Err(format!("it names {twice} twice"));
        }
        if !self.founders.is_sorted_by_key(|f| f.key) {
            return Err("its founders are not in the order of their keys".into());
        }
        self.genesis().check().map_err(|e| e.to_string())
    }

    /// The network's first state: of nothing but what the charter says.
    ///
    /// Each founder has an equal part of the founders' money, less its validator's bond. The faucet's
    /// pool is an account that nobody has a key to; where there are no gifts, there is no pool.
    pub fn genesis(&self) -> Genesis {
        let mut params = self.params.clone();
        params
            .gateways
            .extend(self.founders.iter().filter_map(|f| f.gateway));
        let all = Amount::credits(FOUNDERS_SHARE).0;
        let count = self.founders.len().max(1) as u128;
        let bond = params.validator_bond;
        let parts = (0u128..).zip(&self.founders).flat_map(|(at, founder)| {
            // What does not divide goes to the first.
            let part = Amount(all / count + u128::from(at < all % count));
            let identity = AccountId::of(&founder.key);
            [
                (founder.account, part.saturating_sub(bond)),
                (identity, bond),
            ]
        });
        let nobody = Digest::of_value("runrig-faucet", &self.digest());
        let faucet = AccountId(nobody.0[..20].try_into().expect("20 of 32 bytes"));
        let pool = Amount::credits(SUPPLY - FOUNDERS_SHARE);
        let pool = (params.faucet > Amount::ZERO).then_some((faucet, pool));
        let keys = self.founders.iter().map(|f| f.key);
        Genesis {
            name: self.name.clone(),
            time_ms: self.time_ms,
            balances: parts.chain(pool).collect(),
            faucet,
            validators: self
                .founders
                .iter()
                .map(|f| lots::Founder {
                    key: f.key,
                    address: f.p2p.to_string(),
                })
                .collect(),
            watchers: match self.watched {
                true => keys.collect(),
                false => Vec::new(),
            },
            origin: None,
            params,
        }
    }

    /// The network's file, with the committee that the founders made.
    pub fn network(&self, committee: &Committee) -> NetworkFile {
        let addresses = self.founders.iter().map(|f| ValidatorAddress {
            key: hex::encode(f.key.0),
            p2p: f.p2p.to_string(),
            api: f.api.clone(),
        });
        NetworkFile {
            genesis: self.genesis(),
            committee: hex::encode(committee.to_bytes()),
            network_key: hex::encode(committee.network_key()),
            validators: addresses.collect(),
            gateway: self.gateway.clone(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let charter: Self = read(path, "charter", "`runrig network charter` writes one.")?;
        charter.check().map_err(|why| {
            let next = "Have it written anew by `runrig network charter`.";
            Failure::usage(format!("charter {}", path.display()), why, next)
        })?;
        Ok(charter)
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

fn read<T: DeserializeOwned>(path: &Path, what: &str, next: &str) -> Result<T> {
    let wrong = |why: String| Failure::usage(format!("{what} {}", path.display()), why, next);
    let text = text(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// A founder's public part.
pub fn read_founder(path: &Path) -> Result<Founder> {
    let next = "Name the founder.json that `runrig network founder` made.";
    let founder: Founder = read(path, "founder's public part", next)?;
    let what = format!("founder's public part {}", path.display());
    founder
        .check()
        .map_err(|why| Failure::usage(what, why, next))?;
    Ok(founder)
}

/// The charter at `path`, unless that is something else.
pub fn shown(path: &Path) -> Result<Option<Shown>> {
    let said = text(path).ok();
    let said = said.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    if said.is_none_or(|said| said.get("founders").is_none()) {
        return Ok(None);
    }
    let charter = Charter::read(path)?;
    let digest = charter.digest();
    Ok(Some(Shown { digest, charter }))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result {
    use std::os::unix::fs::PermissionsExt;
    let mut text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    text.push('\n');
    // Public: meant to be handed around.
    let written = write_private(path, text.as_bytes())
        .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)));
    written.map_err(|e| {
        let next = "Free it, or choose another place.";
        Failure::usage(format!("write {}", path.display()), e.to_string(), next)
    })
}

/// Makes a founder's seat and key, unless they are there, and writes the public part.
pub fn founder(args: &FounderArgs, key: Option<&Path>, json: bool) -> Result {
    if args.data.join("network.json").exists() || args.data.join("vault").exists() {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("data folder {}", args.data.display()),
            "it belongs to a validator of a network already",
            "Choose another --data.",
        ));
    }
    let place = args.advertise;
    let api = match &args.api_advertise {
        Some(url) => url.trim_end_matches('/').to_string(),
        None => format!("http://{}", SocketAddr::new(place.ip(), API_PORT)),
    };
    let mut founder = Founder {
        // Of any sound key, until there is one: addresses are looked at before anything is made.
        key: PublicKey(Seat::from_secret([0; 32]).key()),
        account: AccountId([0; 20]),
        p2p: place,
        api,
        gateway: None,
    };
    founder.check().map_err(|why| {
        let why = why
            .rsplit_once(": ")
            .map_or(why.clone(), |(_, why)| why.into());
        let next =
            "Say what others reach this machine by: --advertise IP:PORT, --api-advertise URL.";
        Failure::usage("where others find this founder", why, next)
    })?;
    create_private_dir(&args.data).map_err(|e| {
        Failure::usage(
            format!("data folder {}", args.data.display()),
            e.to_string(),
            "Choose another with --data.",
        )
    })?;
    let seat = Seat::from_bytes(&validator_join::seat(&args.data)?)?;
    let owner = validator_join::owner(&args.data, key)?;
    founder.key = PublicKey(seat.key());
    founder.account = AccountId::of(&owner.public());
    if args.gateway_key {
        let key = key_file(&args.data.join("gateway.key"))?;
        founder.gateway = Some(AccountId::of(&key.public()));
    }
    let target = args.data.join(FOUNDER_FILE);
    write(&target, &founder)?;
    if json {
        output::json(&founder);
        return Ok(());
    }
    output::data(target.display());
    output::say(format!(
        "founder {} at {}, account {}.\n\
         Hand {FOUNDER_FILE} to who writes the charter; all else in {} is secret and stays here.",
        founder.key,
        founder.p2p,
        founder.account,
        args.data.display()
    ));
    Ok(())
}

/// Writes a charter, once.
pub fn charter(args: &CharterArgs, json: bool) -> Result {
    if args.out.exists() {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("{} exists", args.out.display()),
            "founders may have agreed on it, so it is not written over",
            "Choose another --out.",
        ));
    }
    let founders = args.founder.iter().map(|path| read_founder(path));
    let mut founders = founders.collect::<Result<Vec<_>>>()?;
    founders.sort_by_key(|f| f.key);
    let charter = Charter {
        name: args.rules.name.clone(),
        time_ms: units::now_ms(),
        params: args.rules.params(),
        watched: args.rules.watched,
        gateway: args.rules.gateway.clone(),
        founders,
    };
    charter.check().map_err(|why| {
        let next = "Nothing was written: see `runrig network charter --help`.";
        Failure::usage("write the charter", why, next)
    })?;
    write(&args.out, &charter)?;
    let digest = charter.digest();
    if json {
        output::json(&Shown { digest, charter });
        return Ok(());
    }
    output::data(args.out.display());
    output::say(format!(
        "charter {digest} of network {}, founded by {}.\n\
         Hand it to all founders. Each looks at it (`runrig network show {}`), compares its digest with the \
         others', and runs `runrig network found --charter {} --data DIR`.",
        charter.name,
        charter.founders.len(),
        args.out.display(),
        args.out.display(),
    ));
    Ok(())
}

#[cfg(test)]
mod tests;
