//! `relay run`: pass on between hosts that no direct way joins, in the foreground.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use anyhow::Context as _;
use clap::Args;

use crate::failure::Result;
use crate::roles;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig relay run --network http://10.0.0.5:8700 --listen 0.0.0.0:8440"
)]
pub struct Run {
    /// network.json, or the URL of a gateway or validator
    #[arg(long)]
    network: String,
    /// Hosts name it as --relay http://IP:PORT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8440")]
    listen: SocketAddr,
    /// Megabytes per second that one host may send through it
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=4_000))]
    rate: u32,
}

pub fn run(args: &Run) -> Result {
    let rate = NonZeroU32::new(args.rate.saturating_mul(1_000_000));
    let config = relay::Config {
        network: roles::validators_of(&args.network)?,
        listen: args.listen,
        bytes_per_second: rate.context("a rate is above zero")?,
    };
    roles::foreground(|asked| relay::run(config, asked))
}
