//! `chain export` and `network init --from`: a ledger's state in one file, and a network that goes
//! on from it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use api::{NetworkFile, ValidatorAddress};
use ledger::lots::Founder;
use ledger::{Genesis, Origin, State};
use rand::RngCore as _;
use types::{Amount, PublicKey};

use crate::context::{Session, create_private_dir, write_private};
use crate::failure::{self, Failure, Result};
use crate::{network, output, proof, units};

const LOOK: Duration = Duration::from_secs(1);

/// What is asked of `chain export`.
pub struct Wanted<'a> {
    pub out: &'a Path,
    /// At the end of this one; of the newest that is over if not said.
    pub epoch: Option<u64>,
    pub network_key: Option<&'a String>,
}

fn exists(path: &Path) -> Result {
    if !path.exists() {
        return Ok(());
    }
    Err(Failure::new(
        failure::CONFLICT,
        format!("{} exists", path.display()),
        "it is not written over",
        "Choose another --out.",
    ))
}

/// Fetches the state at an epoch's end from validators, checks it and writes it.
pub async fn export(session: &Session, wanted: Wanted<'_>, json: bool) -> Result {
    exists(wanted.out)?;
    let key = proof::trusted_key(session, wanted.network_key).await?;
    let file = session.client.network().await?;
    if file.network_key != hex::encode(&key) {
        return Err(Failure::new(
            failure::SIGNATURE,
            "the network's key",
            format!(
                "the network says {}, which is not the trusted one",
                file.network_key
            ),
            "Ask another validator with --url, or name the right key with --network-key.",
        ));
    }
    let urls: Vec<String> = file.validators.iter().map(|v| v.api.clone()).collect();
    let blocks = file.genesis.params.epoch_blocks.max(1);
    let newest = loop {
        let newest = validator::newest_of(&file, &urls).await;
        let Some(epoch) = wanted.epoch else {
            break newest?;
        };
        let offered = newest.as_ref().ok().map(|n| n.height() / blocks);
        match offered {
            Some(offered) if offered == epoch => break newest?,
            Some(offered) if offered > epoch => {
                return Err(Failure::new(
                    failure::NOT_FOUND,
                    format!("the state at the end of epoch {epoch}"),
                    format!("that of epoch {offered} is the newest, and only that is given"),
                    "Leave --epoch out, or name one that is not over.",
                ));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    let export = newest.export().await?;
    let (header, named) = export.check(&key).map_err(|e| {
        Failure::new(
            failure::SIGNATURE,
            "the state",
            e.to_string(),
            "Run it again.",
        )
    })?;
    let bytes = export.to_bytes();
    write_private(wanted.out, &bytes).with_context(|| format!("write {}", wanted.out.display()))?;
    if json {
        output::json(&serde_json::json!({
            "file": wanted.out, "bytes": bytes.len(), "epoch": header.epoch,
            "height": header.height, "block": header.digest(), "state": named,
        }));
        return Ok(());
    }
    output::data(wanted.out.display());
    output::say(format!(
        "the state at the end of epoch {}, height {}, {}; certified by the network key. \
         `runrig network init --from {}` makes a network that goes on from it.",
        header.epoch,
        header.height,
        units::bytes(bytes.len() as u64),
        wanted.out.display()
    ));
    Ok(())
}

/// Where the validators of a new network listen.
pub struct Places {
    pub p2p: Vec<SocketAddr>,
    pub api: Vec<SocketAddr>,
    pub gateway: Option<String>,
    pub watched: bool,
}

/// Makes a network in `out` that goes on from the state in the file `from`.
pub fn refound(
    from: &Path,
    network_key: Option<&String>,
    places: &Places,
    out: &Path,
    json: bool,
) -> Result {
    let refused = |why: String| {
        Failure::new(
            failure::SIGNATURE,
            format!("export {}", from.display()),
            why,
            "Make it anew with `runrig chain export`, or get it from somebody else; nothing was made.",
        )
    };
    let bytes = std::fs::read(from).map_err(|e| {
        let next = "Name a file that `runrig chain export` made.";
        Failure::usage(format!("export {}", from.display()), e.to_string(), next)
    })?;
    let export = light::Export::from_bytes(&bytes).map_err(|e| refused(e.to_string()))?;
    let key = match network_key {
        Some(key) => hex::decode(key.trim()).map_err(|e| {
            let next = "It is hex, as `runrig chain status` showed it on the old network.";
            Failure::usage("--network-key", e.to_string(), next)
        })?,
        None => {
            output::say(format!(
                "warning: the key that the file itself names is believed, {}: compare it with the old network's, or say --network-key",
                hex::encode(&export.network_key)
            ));
            export.network_key.clone()
        }
    };
    let (header, named) = export.check(&key).map_err(|e| refused(e.to_string()))?;
    let before = State::load(&export.state).map_err(|e| refused(e.to_string()))?;
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let count = u32::try_from(places.p2p.len()).context("too many validators")?;
    let (committee, seats) = consensus::deal(count, seed)?;
    let keys: Vec<PublicKey> = seats.iter().map(|s| PublicKey(s.key())).collect();
    let founders = keys.iter().zip(&places.p2p).map(|(key, at)| Founder {
        key: *key,
        address: at.to_string(),
    });
    let addresses = keys.iter().zip(places.p2p.iter().zip(&places.api));
    let addresses = addresses.map(|(key, (p2p, api))| ValidatorAddress {
        key: hex::encode(key.0),
        p2p: p2p.to_string(),
        api: format!("http://{api}"),
    });
    let file = NetworkFile {
        genesis: Genesis {
            name: before.globals.name.clone(),
            time_ms: units::now_ms().max(before.time_ms() + 1),
            params: before.params().clone(),
            balances: Vec::new(),
            faucet: before.globals.faucet,
            validators: founders.collect(),
            watchers: match places.watched {
                true => keys.clone(),
                false => Vec::new(),
            },
            origin: Some(Origin {
                network: header.network,
                height: header.height,
                block: header.digest(),
                state: named,
            }),
        },
        committee: hex::encode(committee.to_bytes()),
        network_key: hex::encode(committee.network_key()),
        validators: addresses.collect(),
        gateway: places.gateway.clone(),
    };
    network::check(&file.genesis)?;
    let after =
        State::restarted(&file.genesis, &export.state).map_err(|e| refused(e.to_string()))?;
    let wrote = || -> anyhow::Result<()> {
        for (index, seat) in seats.iter().enumerate() {
            let folder = out.join(format!("validator-{}", index + 1));
            create_private_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
            write_private(&folder.join(validator::ORIGIN_FILE), &bytes)?;
            write_private(&folder.join("seat"), &seat.to_bytes())?;
        }
        Ok(())
    };
    wrote()?;
    network::write_file(&out.join("network.json"), &file)?;
    told(&file, &header, &after, &out.join("network.json"), json);
    Ok(())
}

fn told(file: &NetworkFile, header: &light::Header, state: &State, target: &Path, json: bool) {
    let supply: Amount = state.supply().sum();
    if json {
        output::json(&serde_json::json!({
            "network": file.genesis.digest(),
            "network_key": file.network_key,
            "network_file": target,
            "from": { "network": header.network, "height": header.height },
            "accounts": state.accounts.len(),
            "supply": supply,
        }));
        return;
    }
    output::data(target.display());
    output::say(format!(
        "network {} goes on from height {} of the old one: {} accounts, {supply} credits in all. \
         Keys of accounts stay as they are; secrets must be set anew, since the network's key is another.\n\
         Hand network.json to everyone, validator-N to who runs that validator.",
        file.genesis.name,
        header.height,
        state.accounts.len(),
    ));
}
