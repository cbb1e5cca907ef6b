//! `portal run`: serve the web pages, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::failure::Result;
use crate::roles;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig portal run --network http://10.0.0.5:8700 --data /var/lib/runrig/portal --listen 0.0.0.0:8780\n  runrig portal run --network http://10.0.0.5:8700 --data /var/lib/runrig/portal --index 'postgres://portal@db.internal/portal?sslmode=verify-full'"
)]
pub struct Run {
    /// URL of a gateway; several with commas between
    #[arg(long)]
    network: String,
    /// Who signed up, and the index, lie here
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8780")]
    listen: SocketAddr,
    /// A PostgreSQL database for the index, which portals may share; else it is a file in --data
    #[arg(
        long,
        value_name = "URL",
        env = "RUNRIG_PORTAL_INDEX",
        hide_env_values = true
    )]
    index: Option<String>,
    /// Browsers reach it by HTTPS: cookies are sent by that only
    #[arg(long)]
    secure: bool,
    /// Addresses of proxies before it, whose X-Forwarded-For is believed; may be given again. Without
    /// it, limits by address count all whom a proxy lets through as one
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<portal::Range>,
}

pub fn run(args: &Run) -> Result {
    let config = portal::Config {
        network: roles::validators_of(&args.network)?,
        listen: args.listen,
        data: args.data.clone(),
        index: args.index.clone(),
        secure: args.secure,
        trusted_proxies: args.trusted_proxy.clone(),
    };
    roles::foreground(|asked| portal::run(config, asked))
}
