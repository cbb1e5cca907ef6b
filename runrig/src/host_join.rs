//! `host join`: offer this machine to a network, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use types::AccountId;

use crate::failure::{Failure, Result};
use crate::host_invite::Told;
use crate::host_set::Lent;
use crate::{context, doctor, output, roles};

/// The host's key, in its data folder.
pub const KEY: &str = "host.key";

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  sudo runrig host join --network http://10.0.0.5:8700 --data /var/lib/runrig --name rack-7\n  sudo runrig host join --network URL --data DIR --name small --cpus 2 --memory 4g --region eu\n  sudo runrig host join --network URL --data DIR --name barn --token-file token\n\nWhat is not said of cores, memory, disk and network is all there is, but for a reserve."
)]
pub struct Join {
    /// URL of a gateway or validator
    #[arg(long, value_name = "URL")]
    network: String,
    /// All state lies here; the host's key is made here
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Unique on the network: small letters, digits and -
    #[arg(long)]
    name: String,
    #[command(flatten)]
    lent: Lent,
    /// Where the machine stands, in your words
    #[arg(long, default_value = "")]
    region: String,
    /// libcontainer, runc or crun
    #[arg(long, default_value = "libcontainer")]
    engine: String,
    /// Account that is paid; if not said, whoever --token is of, or owns the host already, or else
    /// the host's own
    #[arg(long)]
    owner: Option<AccountId>,
    #[command(flatten)]
    token: Told,
    /// Address of the agent: logs, exec, routed traffic
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// URL that others reach the agent by, if it is not that of --listen
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// Links to other hosts end here, over UDP; the address and port of --listen if not said
    #[arg(long, value_name = "ADDR")]
    mesh: Option<SocketAddr>,
    /// What other hosts reach --mesh by, if it is not the address in --advertise
    #[arg(long, value_name = "IP:PORT")]
    mesh_advertise: Option<SocketAddr>,
    /// URL of a relay (`runrig relay run`) of this network, which passes links on where no
    /// direct way leads: between hosts behind NATs; may be said again
    #[arg(long, value_name = "URL")]
    relay: Vec<String>,
    /// First of the 65536 uids that containers are mapped to; apart for hosts on one machine
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(65_536..=4_000_000_000))]
    uid_base: u32,
    /// Stop the containers when the agent ends, instead of leaving them running
    #[arg(long)]
    stop_on_exit: bool,
    /// Send logs also to receivers on this machine's and private networks, if an owner names one
    #[arg(long)]
    private_receivers: bool,
    /// Do not offer building, though a builder (buildah) is installed
    #[arg(long)]
    no_builds: bool,
}

impl Join {
    /// What the agent is run with; makes the data folder and the host's key.
    pub fn config(&self) -> Result<host::Config> {
        let unusable = |e: std::io::Error| {
            Failure::usage(
                format!("data folder {}", self.data.display()),
                e.to_string(),
                "Choose another with --data.",
            )
        };
        context::create_private_dir(&self.data).map_err(unusable)?;
        let data = self.data.canonicalize().map_err(unusable)?;
        let key = context::key_file(&data.join(KEY))?;
        Ok(host::Config {
            data,
            images: None,
            network: self.network.clone(),
            name: self.name.clone(),
            owner: self.owner,
            token: self.token.key()?,
            listen: self.listen,
            advertise: self.advertise.clone(),
            mesh: self.mesh,
            mesh_advertise: self.mesh_advertise,
            relays: self.relay.clone(),
            cpus_millis: self.lent.cpus,
            memory_bytes: self.lent.memory,
            disk_bytes: self.lent.disk,
            bandwidth_kbps: self.lent.bandwidth,
            region: self.region.clone(),
            engine: self.engine.clone(),
            shim: doctor::shim()?,
            uid_base: self.uid_base,
            private_receivers: self.private_receivers,
            stop_on_exit: self.stop_on_exit,
            builds: !self.no_builds,
            key,
        })
    }
}

pub fn run(args: &Join) -> Result {
    let config = args.config()?;
    output::say(format!(
        "host {} ({}) joins {}",
        config.name,
        AccountId::of(&config.key.public()),
        config.network
    ));
    roles::foreground(|asked| async move {
        host::run(config, asked).await.context("the host has ended")
    })
}
