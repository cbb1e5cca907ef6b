//! `validator join`, `leave` and `status`: take part in voting, without anybody's leave.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use api::{MemberView, MembersView, NetworkFile};
use clap::Args;
use futures::future::join_all;
use sdk::Client;
use types::{AccountId, PublicKey, SecretKey};
use validator::Whereabouts;

use crate::anew::{self, Then};
use crate::context::{self, Session};
use crate::failure::{self, Failure, Result};
use crate::{network, output, roles};

const LOOK: Duration = Duration::from_secs(1);
/// Validators asked for what all know.
const ASKED_MAX: usize = 32;
/// For a validator to say that it follows.
const ANSWER: Duration = Duration::from_secs(2);
/// Who is so many blocks behind does not keep up.
const BEHIND_MAX: u64 = 32;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig validator join --network http://10.0.0.1:8720 --data ./validator --advertise 10.0.0.9:8710 --key ./owner.key\n  runrig validator join --network ./network.json --data ./validator\n\nRun it again to go on after a stop. Without --key, DATA/owner.key pays the bond: it is made when it is missing, and the command says what to send to it."
)]
pub struct Join {
    /// network.json, or the URL of a gateway or validator
    #[arg(long, value_name = "FILE|URL")]
    network: String,
    /// State lies here, and the validator's seat, which is made here
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Listen for peers here
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8710")]
    p2p: SocketAddr,
    /// Listen for HTTP here
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8720")]
    http: SocketAddr,
    /// What other validators reach --p2p by, if it is not that address
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<SocketAddr>,
    /// What others reach --http by, if it is not that address
    #[arg(long, value_name = "URL")]
    api_advertise: Option<String>,
    /// Ask these validators for the state, too; may be said again
    #[arg(long, value_name = "URL")]
    from: Vec<String>,
    /// Keep so many blocks, the newest, and what says who sat; all from the first fetched if not said
    #[arg(long, value_name = "N")]
    keep_blocks: Option<NonZeroU64>,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig validator leave --data ./validator --key ./owner.key\n  runrig validator leave --data ./net/validator-1 --network ./net/network.json --to 6f6673f4c628d55b50bd2a3fe2db427d7de283c3"
)]
pub struct Leave {
    /// The validator's folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// network.json, or URLs; DATA/network.json if not said
    #[arg(long, value_name = "FILE|URL")]
    network: Option<String>,
    /// Account that gets the bond; the owner's if not said
    #[arg(long)]
    to: Option<AccountId>,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig validator status\n  runrig validator status --data ./validator\n  runrig validator status --data ./validator --wait && echo the next one may be stopped"
)]
pub struct Status {
    /// Only the validator of this folder, at its own network
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// network.json, or URLs; DATA/network.json or the context's if not said
    #[arg(long, value_name = "FILE|URL")]
    network: Option<String>,
    /// Wait until it votes and enough others do: then the next one may be stopped. At most so long,
    /// five minutes if not said
    #[arg(
        long, value_name = "DURATION", requires = "data", num_args = 0..=1,
        default_missing_value = "5m", value_parser = crate::units::duration
    )]
    wait: Option<Duration>,
}

fn whereabouts(args: &Join) -> Result<Whereabouts> {
    let nowhere = |flag: &str, listen: SocketAddr| {
        Failure::usage(
            format!("where others find this validator: {flag}"),
            format!("it listens on {listen}, which is no address of one machine"),
            format!("Say {flag}, as the other validators see this machine."),
        )
    };
    let address = match args.advertise {
        Some(address) => address,
        None if args.p2p.ip().is_unspecified() => {
            return Err(nowhere("--advertise IP:PORT", args.p2p));
        }
        None => args.p2p,
    };
    let api = match &args.api_advertise {
        Some(url) => url.trim_end_matches('/').to_string(),
        // By the name that its peers know it by.
        None if args.http.ip().is_unspecified() => {
            format!("http://{}", SocketAddr::new(address.ip(), args.http.port()))
        }
        None => format!("http://{}", args.http),
    };
    Ok(Whereabouts {
        address: address.to_string(),
        api,
    })
}

/// The network file that `network` names, and the URLs to ask: first those it names itself.
async fn found(network: &str) -> Result<(NetworkFile, Vec<String>)> {
    if network.starts_with("http://") || network.starts_with("https://") {
        let urls = roles::validators_of(network)?;
        let file = Client::new(urls.clone())?.network().await?;
        let named = file.validators.iter().map(|v| v.api.clone());
        let all = urls.into_iter().chain(named).collect();
        return Ok((file, all));
    }
    let file = network::read_file(Path::new(network))?;
    let urls = file.validators.iter().map(|v| v.api.clone()).collect();
    Ok((file, urls))
}

/// The identity in `data`, made if there is none.
pub fn seat(data: &Path) -> Result<Vec<u8>> {
    let path = data.join("seat");
    match std::fs::read(&path) {
        Ok(seat) => Ok(seat),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            rand::RngCore::fill_bytes(&mut rand::rng(), &mut secret);
            let seat = consensus::Seat::from_secret(secret).to_bytes();
            context::write_private(&path, &seat)
                .with_context(|| format!("write {}", path.display()))?;
            Ok(seat)
        }
        Err(e) => Err(Failure::usage(
            format!("seat {}", path.display()),
            e.to_string(),
            "Make it readable, or choose another --data.",
        )),
    }
}

fn identity(seat: &[u8]) -> Result<SecretKey> {
    let seat = consensus::Seat::from_bytes(seat)?;
    Ok(SecretKey::from_seed(seat.secret()))
}

/// Who pays and owns: the named key, or that of the folder.
pub fn owner(data: &Path, key: Option<&Path>) -> Result<SecretKey> {
    match key {
        None => context::key_file(&data.join("owner.key")),
        Some(path) => context::read_key(path)?.ok_or_else(|| {
            Failure::usage(
                format!("key {}", path.display()),
                "there is no such file",
                "Name a key file as --key, or leave it out: one is made in --data.",
            )
        }),
    }
}

pub fn short(key: &PublicKey) -> String {
    key.to_string().chars().take(12).collect()
}

pub fn join(
    args: &Join,
    key: Option<&Path>,
    block_on: impl FnOnce(Entering<'_>) -> Result<Entered>,
) -> Result {
    let at = whereabouts(args)?;
    context::create_private_dir(&args.data).map_err(|e| {
        Failure::usage(
            format!("data folder {}", args.data.display()),
            e.to_string(),
            "Choose another with --data.",
        )
    })?;
    let seat = seat(&args.data)?;
    let kept = args.data.join("network.json");
    let entering = Entering {
        args,
        at: at.clone(),
        identity: identity(&seat)?,
        owner: owner(&args.data, key)?,
    };
    let Entered { file, urls } = match block_on(entering) {
        // Nobody answers: it may be this validator that they wait for.
        Err(failure) if failure.exit == failure::FAILED && kept.exists() => {
            output::say(format!("{failure}: going on with {}", kept.display()));
            let file = network::read_file(&kept)?;
            let urls = file.validators.iter().map(|v| v.api.clone()).collect();
            Entered { file, urls }
        }
        entered => entered?,
    };
    network::write_file(&kept, &file)?;
    let config = validator::Config {
        data: args.data.clone(),
        network: file,
        seat: seat.clone(),
        p2p: args.p2p,
        http: args.http,
        whereabouts: Some(at),
        keep_blocks: args.keep_blocks,
    };
    let identity = identity(&seat)?;
    anew::foreground(|mut asked| async move {
        tokio::select! {
            () = &mut asked => return Ok(Then::End),
            begun = until_begun(&config, &urls, identity) => begun?,
        }
        Ok(match validator::run(config, asked).await? {
            validator::Ended::Asked => Then::End,
            validator::Ended::Turned => Then::Again,
            // Beginning again looks by itself how far.
            validator::Ended::LeftBehind => Then::Again,
        })
    })
}

/// What entering takes.
pub struct Entering<'a> {
    args: &'a Join,
    at: Whereabouts,
    identity: SecretKey,
    owner: SecretKey,
}

/// The network, and those to ask.
pub struct Entered {
    file: NetworkFile,
    urls: Vec<String>,
}

impl Entering<'_> {
    /// Registers with a bond and a ticket, unless that is done.
    pub async fn enter(self) -> Result<Entered> {
        let (file, mut urls) = found(&self.args.network).await?;
        urls.extend(self.args.from.iter().cloned());
        let client = Client::new(urls.iter().cloned())?;
        let view = client.members().await?;
        let key = self.identity.public();
        let others = view.members.iter().filter(|m| m.key != key);
        urls.extend(others.map(|m| m.api.clone()).filter(|u| !u.is_empty()));
        let mut seen = std::collections::BTreeSet::new();
        urls.retain(|url| *url != self.at.api && seen.insert(url.clone()));
        urls.truncate(ASKED_MAX);
        let known = view.members.iter().find(|m| m.key == key);
        let owner = AccountId::of(&self.owner.public());
        let fresh = known.is_some_and(|m| m.leaving.is_none() && m.until > view.epoch + 3);
        if !fresh {
            output::say(format!(
                "entering validator {} at {}: account {owner} bonds {} credits",
                short(&key),
                self.at.address,
                view.bond
            ));
            client
                .register_validator(&self.owner, &self.identity, &self.at.address, &self.at.api)
                .await?;
        }
        output::say(format!(
            "validator {} of network {} is entered; network key {}",
            short(&key),
            file.genesis.name,
            file.network_key
        ));
        Ok(Entered { file, urls })
    }
}

/// Returns when the validator has a state from which it goes on. Meanwhile its ticket is kept fresh.
async fn until_begun(
    config: &validator::Config,
    urls: &[String],
    identity: SecretKey,
) -> anyhow::Result<()> {
    let at = config.whereabouts.clone().context("it says where it is")?;
    let wait = async {
        let mut told = String::new();
        loop {
            match begin(config, urls).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let why = format!("{error:#}");
                    if why != told {
                        tracing::warn!("{why}; it is tried again");
                        told = why;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        done = wait => done,
        () = validator::keep_ticket(urls.to_vec(), identity, at) => Ok(()),
    }
}

/// Fetches the newest state, unless what is there is not far behind it.
async fn begin(config: &validator::Config, urls: &[String]) -> anyhow::Result<()> {
    let reached = validator::reached(&config.data)?;
    let newest = match validator::newest(config, urls).await {
        Ok(newest) => newest,
        // What it has is all there is.
        Err(error) if reached.is_some() => {
            tracing::warn!("{error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let epoch = config.network.genesis.params.epoch_blocks;
    // The others keep those linked whom they left behind not long ago.
    if reached.is_some_and(|height| height + 2 * epoch > newest.height()) {
        return Ok(());
    }
    if reached.is_some() {
        tracing::warn!("this validator is too far behind: it fetches the state anew");
        validator::forget(&config.data)?;
    }
    let fetched = newest.adopt(config).await?;
    for complaint in &fetched.complaints {
        tracing::warn!("{complaint}");
    }
    tracing::info!(
        height = fetched.height,
        bytes = fetched.bytes,
        "the state is fetched and holds under the network key"
    );
    Ok(())
}

/// Those to ask about the validator in `data`.
async fn client_of(data: &Path, network: Option<&str>) -> Result<Client> {
    let (_, urls) = found_by(data, network).await?;
    Ok(Client::new(urls)?)
}

/// As [`found`]: by what is said, or what lies in or beside `data`.
async fn found_by(data: &Path, network: Option<&str>) -> Result<(NetworkFile, Vec<String>)> {
    let kept = data.join("network.json");
    let beside = data.join("../network.json");
    let network = match network {
        Some(network) => network.to_string(),
        None if !kept.exists() && beside.exists() => beside.display().to_string(),
        None => kept.display().to_string(),
    };
    found(&network).await
}

fn seat_there(data: &Path) -> Result<SecretKey> {
    if !data.join("seat").exists() {
        return Err(Failure::usage(
            format!("validator's folder {}", data.display()),
            "there is no seat in it",
            "Name the --data of `runrig validator join` or `run`.",
        ));
    }
    identity(&seat(data)?)
}

pub async fn leave(args: &Leave, key: Option<&Path>, json: bool) -> Result {
    let identity = seat_there(&args.data)?;
    let public = identity.public();
    let client = client_of(&args.data, args.network.as_deref()).await?;
    let view = client.members().await?;
    let Some(member) = view.members.iter().find(|m| m.key == public) else {
        return Err(Failure::new(
            failure::NOT_FOUND,
            format!("validator {}", short(&public)),
            "it is not entered on this network",
            "See `runrig validator status`.",
        ));
    };
    // A founder owns itself.
    let signer = if key.is_none() && member.owner == AccountId::of(&public) {
        identity
    } else {
        owner(&args.data, key)?
    };
    let to = args.to.unwrap_or(member.owner);
    client.leave_validator(&signer, public, to).await?;
    let view = client.members().await?;
    let left = view.members.iter().find(|m| m.key == public);
    if json {
        output::json(&left);
        return Ok(());
    }
    output::data(public);
    if let Some(leaving) = left.and_then(|m| m.leaving.as_ref()) {
        output::say(format!(
            "validator {} sits no more from epoch {}; its bond goes to {to} with epoch {}. Keep it running until then.",
            short(&public),
            leaving.from,
            leaving.returns
        ));
    }
    Ok(())
}

pub async fn status(
    args: &Status,
    session: impl FnOnce() -> Result<Session>,
    json: bool,
) -> Result {
    if let (Some(data), Some(within)) = (&args.data, args.wait) {
        let (file, urls) = found_by(data, args.network.as_deref()).await?;
        let key = seat_there(data)?.public();
        return crate::validator_wait::wait(&file, &urls, key, within, json).await;
    }
    let client = match (&args.data, &args.network) {
        (Some(data), network) => client_of(data, network.as_deref()).await?,
        (None, Some(network)) => Client::new(found(network).await?.1)?,
        (None, None) => session()?.client,
    };
    let mut view = client.members().await?;
    if let Some(data) = &args.data {
        let key = seat_there(data)?.public();
        view.members.retain(|m| m.key == key);
        if view.members.is_empty() {
            return Err(Failure::new(
                failure::NOT_FOUND,
                format!("validator {}", short(&key)),
                "it is not entered on this network",
                "Enter it with `runrig validator join`.",
            ));
        }
    }
    if json {
        output::json(&view);
        return Ok(());
    }
    output::data(table(&view, &following(&view).await));
    output::say(format!(
        "epoch {} at height {}; a bond is {} credits",
        view.epoch, view.height, view.bond
    ));
    Ok(())
}

/// Those without a seat that keep up with the chain, as they say themselves.
async fn following(view: &MembersView) -> BTreeSet<PublicKey> {
    let unseated = view.members.iter();
    let unseated = unseated.filter(|m| m.place.is_none() && !m.api.is_empty());
    let asked = unseated.take(ASKED_MAX).map(|member| {
        let client = Client::new([member.api.clone()]);
        async move {
            let asked = client.ok()?;
            let status = tokio::time::timeout(ANSWER, asked.status())
                .await
                .ok()?
                .ok()?;
            let own = status
                .own
                .filter(|own| own.follows && own.key == member.key);
            let near = status.height + BEHIND_MAX >= view.height;
            own.filter(|_| near).map(|_| member.key)
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn table(view: &MembersView, following: &BTreeSet<PublicKey>) -> String {
    let rows = view.members.iter();
    let rows: Vec<Vec<String>> = rows
        .map(|m| row(view, m, following.contains(&m.key)))
        .collect();
    output::table(
        &[
            "VALIDATOR",
            "SEAT",
            "PLACE",
            "LED",
            "WITNESSED",
            "SCREENED",
            "EARNED",
            "BOND",
            "LOST",
            "TICKET",
            "ADDRESS",
            "OWNER",
        ],
        &rows,
        &[2, 3, 4, 5, 6, 7, 8],
    )
}

fn row(view: &MembersView, member: &MemberView, follows: bool) -> Vec<String> {
    let next = member.seats.first();
    let convicted = member.convicted.as_ref();
    let seat = match (&member.leaving, member.place, next) {
        _ if convicted.is_some() => "convicted: leads no more".into(),
        (Some(leaving), Some(_), _) => format!("sits until epoch {}", leaving.from - 1),
        (Some(leaving), None, _) => format!("left; bond with epoch {}", leaving.returns),
        (None, Some(_), _) => "sits".into(),
        (None, None, Some(next)) if follows => format!("follows; drawn for epoch {next}"),
        (None, None, Some(next)) => format!("drawn for epoch {next}"),
        (None, None, None) if member.until <= view.epoch + 3 => "ticket is worn out".into(),
        (None, None, None) if follows => "follows, not seated".into(),
        (None, None, None) if member.other_duties => "other duties".into(),
        (None, None, None) => "may be drawn".into(),
    };
    vec![
        short(&member.key),
        seat,
        member.place.map_or_else(String::new, |p| p.to_string()),
        format!("{} of 100", member.led),
        match (member.witness, member.witnessed) {
            (false, 0) => String::new(),
            (true, rounds) => format!("{rounds} rounds"),
            (false, rounds) => format!("{rounds} rounds, not now"),
        },
        match (member.screener, member.screened) {
            (false, 0) => String::new(),
            (true, blocks) => format!("{blocks} blocks"),
            (false, blocks) => format!("{blocks} blocks, not now"),
        },
        member.earned.to_string(),
        member.bond.to_string(),
        convicted.map_or_else(String::new, |c| c.lost.to_string()),
        format!("to epoch {}", member.until),
        member.address.clone(),
        member.owner.short(),
    ]
}
