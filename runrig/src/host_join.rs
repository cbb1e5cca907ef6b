//! `host join`: offer this machine to a network, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use types::AccountId;

use crate::failure::{Failure, Result};
use crate::{context, doctor, output, roles, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  sudo runrig host join --network http://10.0.0.5:8700 --data /var/lib/runrig --name rack-7\n  sudo runrig host join --network URL --data DIR --name small --cpus 2 --memory 4g --region eu"
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
    /// Cores to offer; all if not said
    #[arg(long, value_parser = units::cores_millis)]
    cpus: Option<u32>,
    /// Memory to offer, for example 4g; all but a reserve if not said
    #[arg(long, value_parser = units::size)]
    memory: Option<u64>,
    /// Disk to offer, for example 100g; most of what is free if not said
    #[arg(long, value_parser = units::size)]
    disk: Option<u64>,
    /// Network rate to offer, for example 1gbit
    #[arg(long, value_parser = units::rate_kbps)]
    bandwidth: Option<u32>,
    /// Where the machine stands, in your words
    #[arg(long, default_value = "")]
    region: String,
    /// libcontainer, runc or crun
    #[arg(long, default_value = "libcontainer")]
    engine: String,
    /// Account that is paid; the host's own if not said
    #[arg(long)]
    owner: Option<AccountId>,
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

pub fn run(args: &Join) -> Result {
    let unusable = |e: std::io::Error| {
        Failure::usage(
            format!("data folder {}", args.data.display()),
            e.to_string(),
            "Choose another with --data.",
        )
    };
    context::create_private_dir(&args.data).map_err(unusable)?;
    let data = args.data.canonicalize().map_err(unusable)?;
    let key = context::key_file(&data.join("host.key"))?;
    let config = host::Config {
        data,
        network: args.network.clone(),
        name: args.name.clone(),
        owner: args.owner,
        listen: args.listen,
        advertise: args.advertise.clone(),
        mesh: args.mesh,
        mesh_advertise: args.mesh_advertise,
        relays: args.relay.clone(),
        cpus_millis: args.cpus,
        memory_bytes: args.memory,
        disk_bytes: args.disk,
        bandwidth_kbps: args.bandwidth,
        region: args.region.clone(),
        engine: args.engine.clone(),
        shim: doctor::shim()?,
        uid_base: args.uid_base,
        private_receivers: args.private_receivers,
        stop_on_exit: args.stop_on_exit,
        builds: !args.no_builds,
        key,
    };
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
