//! The long-running roles as subcommands: each in the foreground until SIGTERM or Ctrl-C.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::anew;
use crate::failure::{self, Failure, Result};
use crate::network;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig validator run --data ./net/validator-1 --network ./net/network.json"
)]
pub struct ValidatorRun {
    /// State lives here, beside the file `seat`
    #[arg(long)]
    data: PathBuf,
    /// network.json
    #[arg(long)]
    network: PathBuf,
    /// Keys of this validator; DATA/seat if not said
    #[arg(long)]
    seat: Option<PathBuf>,
    /// Listen for peers here; what the network file says if not said
    #[arg(long, value_name = "ADDR")]
    p2p: Option<SocketAddr>,
    /// Listen for HTTP here; what the network file says if not said
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Keep so many blocks, the newest, and what says who sat; all if not said
    #[arg(long, value_name = "N")]
    keep_blocks: Option<NonZeroU64>,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig gateway run --network ./net/network.json --listen 0.0.0.0:8700 --key ./net/keys/gateway-1"
)]
pub struct GatewayRun {
    /// network.json, or the URL of a validator
    #[arg(long)]
    network: String,
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8700")]
    listen: SocketAddr,
    /// Open published ports on this address; that of --listen if not said
    #[arg(long, value_name = "IP")]
    publish: Option<IpAddr>,
    /// What follows <service>.<project> in names
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// URL of the registry
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// Folder in which it writes down what services are asked, by hours and days; without one it
    /// remembers an hour
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen for HTTPS here, too
    #[arg(long, value_name = "ADDR")]
    tls_listen: Option<SocketAddr>,
    /// Folder of an own authority for certificates, made if there is none; clients trust the
    /// file ca.pem in it
    #[arg(long, value_name = "DIR", conflicts_with = "tls_certificate")]
    tls_authority: Option<PathBuf>,
    /// Certificates in PEM, the server's first; with --tls-key, and as often as it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Vec<PathBuf>,
    /// Keys in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Vec<PathBuf>,
}

impl GatewayRun {
    fn tls(&self) -> Result<Option<gateway::Secure>> {
        let usage = |why: &str| {
            let next = "Say --tls-listen ADDR with --tls-authority DIR, or with --tls-certificate FILE --tls-key FILE.";
            Failure::usage("HTTPS", why, next)
        };
        let pairs = self.tls_certificate.iter().zip(&self.tls_key);
        let certificates = match (&self.tls_authority, self.tls_certificate.len()) {
            (Some(folder), _) => Some(gateway::Certificates::Authority(folder.clone())),
            (None, 0) => None,
            (None, count) if count != self.tls_key.len() => {
                return Err(usage("each certificate needs one key"));
            }
            (None, _) => Some(gateway::Certificates::Files(
                pairs.map(|(c, k)| (c.clone(), k.clone())).collect(),
            )),
        };
        match (self.tls_listen, certificates) {
            (None, None) => Ok(None),
            (Some(listen), Some(certificates)) => Ok(Some(gateway::Secure {
                listen,
                certificates,
            })),
            (Some(_), None) => Err(usage("there are no certificates")),
            (None, Some(_)) => Err(usage("there is no address to listen at")),
        }
    }
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig registry run --data ./registry --network ./net/network.json"
)]
pub struct RegistryRun {
    #[arg(long)]
    data: PathBuf,
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8701")]
    listen: SocketAddr,
    /// network.json, or the URL of a gateway or validator: only accounts of this network may
    /// write; any key may if not said
    #[arg(long)]
    network: Option<String>,
    /// Refuse larger blobs
    #[arg(long, default_value = "20g", value_parser = crate::units::size)]
    blob_max: u64,
    /// Refuse more from an account whose repositories take this together
    #[arg(long, default_value = "50g", value_parser = crate::units::size)]
    account_max: u64,
    /// Refuse uploads when the disk has less than this left
    #[arg(long, default_value = "1g", value_parser = crate::units::size)]
    disk_min: u64,
}

/// Logs to stderr; `RUST_LOG` chooses.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hyper=warn,reqwest=warn,commonware=warn,commonware_consensus=warn,commonware_p2p=warn,commonware_storage=warn"));
    // A second call in one process changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::output::lively())
        .try_init();
}

/// Done when a role is to end.
pub type Asked = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs `role` on all cores until it ends or is asked to.
pub fn foreground<F, R>(role: F) -> Result
where
    F: FnOnce(Asked) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let asked: Asked = Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {
                    // Whoever presses it again does not want to wait.
                    tokio::spawn(async {
                        let _ = tokio::signal::ctrl_c().await;
                        std::process::exit(i32::from(failure::INTERRUPTED));
                    });
                }
            }
            tracing::info!("asked to end");
        });
        role(asked).await
    });
    // Threads that still wait for something must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(ended?)
}

/// Which of the network's validators `seat` is.
fn own_address(file: &api::NetworkFile, seat: &[u8]) -> anyhow::Result<api::ValidatorAddress> {
    let key = hex::encode(consensus::Seat::from_bytes(seat)?.key());
    file.validators
        .iter()
        .find(|v| v.key == key)
        .cloned()
        .with_context(|| format!("the seat {} is not one of the founders of this network: run `runrig validator join` with the same --data", &key[..12]))
}

fn socket(url: &str) -> Option<SocketAddr> {
    url.rsplit('/').next()?.parse().ok()
}

/// A founder's, as the genesis has them.
fn whereabouts(
    file: &api::NetworkFile,
    own: &api::ValidatorAddress,
) -> Option<validator::Whereabouts> {
    let mut founders = file.genesis.validators.iter();
    let founder = founders.find(|f| hex::encode(f.key.0) == own.key)?;
    Some(validator::Whereabouts {
        address: founder.address.clone(),
        api: own.api.clone(),
    })
}

pub fn validator(args: &ValidatorRun) -> Result {
    let file = network::read_file(&args.network)?;
    let path = args.seat.clone().unwrap_or_else(|| args.data.join("seat"));
    let seat = std::fs::read(&path).map_err(|e| {
        Failure::usage(
            format!("seat {}", path.display()),
            e.to_string(),
            "Name the folder that `runrig network init` or `runrig network founder` made for this validator as --data, or the file as --seat.",
        )
    })?;
    let own = own_address(&file, &seat)?;
    let missing = |flag: &str, text: &str| {
        Failure::usage(
            format!("where to listen: {flag}"),
            format!("the network file says \"{text}\", which is no ip:port"),
            format!("Say {flag} ADDR."),
        )
    };
    let p2p = match args.p2p {
        Some(p2p) => p2p,
        None => own.p2p.parse().map_err(|_| missing("--p2p", &own.p2p))?,
    };
    let http = match args.http {
        Some(http) => http,
        None => socket(&own.api).ok_or_else(|| missing("--http", &own.api))?,
    };
    let whereabouts = whereabouts(&file, &own);
    consensus::spend_seat(&args.data, &path).with_context(|| consensus::damaged(&args.data))?;
    let config = validator::Config {
        data: args.data.clone(),
        network: file,
        seat,
        p2p,
        http,
        whereabouts,
        keep_blocks: args.keep_blocks,
    };
    let data = config.data.clone();
    anew::foreground(|asked| async move {
        Ok(match validator::run(config, asked).await? {
            validator::Ended::Asked => anew::Then::End,
            validator::Ended::Turned => anew::Then::Again,
            validator::Ended::LeftBehind => anyhow::bail!(
                "this validator was away for too long: the others keep the blocks no more that come next. Move all in {} but `seat` and `vault` away, and start it by `runrig validator join` with that folder: it fetches the newest state and keeps its seat and bond",
                data.display()
            ),
        })
    })
}

/// URLs of validators, from a network file or as given.
pub fn validators_of(network: &str) -> Result<Vec<String>> {
    if network.starts_with("http://") || network.starts_with("https://") {
        return Ok(network.split(',').map(|u| u.trim().to_string()).collect());
    }
    let file = network::read_file(Path::new(network))?;
    Ok(file.validators.into_iter().map(|v| v.api).collect())
}

/// `key` is its own: see [`gateway::Config`].
pub fn gateway(args: &GatewayRun, key: Option<&Path>) -> Result {
    let key = match key {
        Some(file) => Some(crate::context::read_key(file)?.ok_or_else(|| {
            let next = "Name one that `runrig network init` made: keys/gateway-1.";
            Failure::usage(
                format!("key {}", file.display()),
                "there is no such file",
                next,
            )
        })?),
        None => None,
    };

    let config = gateway::Config {
        validators: validators_of(&args.network)?,
        registry: args.registry.clone(),
        listen: args.listen,
        publish: args.publish.unwrap_or(args.listen.ip()),
        domain: args.domain.clone(),
        tls: args.tls()?,
        data: args.data.clone(),
        key,
    };
    foreground(|asked| gateway::run(config, asked))
}

pub fn registry(args: &RegistryRun) -> Result {
    let config = registry::Config {
        data: args.data.clone(),
        listen: args.listen,
        network: match &args.network {
            Some(network) => validators_of(network)?,
            None => Vec::new(),
        },
        blob_bytes_max: args.blob_max,
        account_bytes_max: args.account_max,
        disk_bytes_min: args.disk_min,
    };
    foreground(|asked| registry::run(config, asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_files_both_name_a_network() {
        let urls = validators_of("http://a:1, http://b:2").expect("urls");
        assert_eq!(urls, ["http://a:1", "http://b:2"]);
        assert_eq!(validators_of("/nonexistent").map_err(|f| f.exit), Err(2));
        assert_eq!(socket("http://127.0.0.1:80"), "127.0.0.1:80".parse().ok());
    }
}
