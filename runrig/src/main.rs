//! The binary: the CLI, and every role as a subcommand.
//!
//! One file per noun or group of verbs. A command reads the ledger and the hosts through
//! `sdk` and nothing else; what changes state is a signed transaction. Data goes to stdout,
//! words to stderr; [`failure`] says what the exit codes mean.

mod access_log;
mod account;
mod accuse;
mod anew;
mod bench;
mod build;
mod chain;
mod charter;
mod compose_file;
mod config;
mod content;
mod context;
mod control;
mod copy;
mod demo;
mod dev;
mod doctor;
mod drain;
mod drawn;
mod endpoint;
mod events;
mod exec;
mod export;
mod failure;
mod forward;
mod founding;
#[cfg(test)]
mod grammar_tests;
mod host_hours;
mod host_invite;
mod host_join;
mod host_price;
mod host_set;
mod host_together;
mod image;
mod job;
mod limit;
mod login;
mod logs;
mod lottery;
mod manual;
mod misread;
mod money;
mod network;
mod network_incidents;
mod network_now;
mod network_past;
mod odds;
mod output;
mod portal_run;
mod progress;
mod projects;
mod proof;
mod ps;
mod relay_run;
mod releases;
mod roles;
mod rollout;
mod run;
mod scale;
mod secret;
mod stats;
mod units;
mod up;
mod validator_join;
mod validator_wait;
mod verified;
mod vote;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use context::{Overrides, Session};
use failure::{Failure, Result};
use network::Network;

const EXAMPLES: &str = "Examples:
  runrig dev                          a whole cloud on this machine
  runrig up                           deploy the compose file here
  runrig ps                           what runs
  runrig logs -f web                  what it says
  runrig exec -it web -- sh           a shell in it
  runrig bill                         what it cost
";

#[derive(Parser, Debug)]
#[command(
    name = "runrig",
    version,
    about = "A cloud made of many owners' machines",
    before_help = EXAMPLES,
    propagate_version = true,
    disable_help_subcommand = false
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Globals {
    /// Context to use (see `runrig context ls`)
    #[arg(
        long,
        global = true,
        env = "RUNRIG_CONTEXT",
        value_name = "NAME",
        help_heading = "Global options"
    )]
    context: Option<String>,
    /// Gateway or validator; several apart by commas
    #[arg(
        long,
        global = true,
        env = "RUNRIG_URL",
        help_heading = "Global options"
    )]
    url: Option<String>,
    /// Act as this account
    #[arg(
        long,
        global = true,
        env = "RUNRIG_ACCOUNT",
        help_heading = "Global options"
    )]
    account: Option<String>,
    /// Sign with this key
    #[arg(
        long,
        global = true,
        env = "RUNRIG_KEY",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    key: Option<PathBuf>,
    /// Verify what is read down to a certified block, trusting only the network key; the block may
    /// be AGE old, one minute if not said
    #[arg(
        long,
        global = true,
        value_name = "AGE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1m",
        value_parser = units::duration,
        help_heading = "Global options"
    )]
    verify: Option<std::time::Duration>,
    /// What each transaction pays, in credits, for a place before others that wait for a block
    #[arg(
        long,
        global = true,
        value_name = "CREDITS",
        help_heading = "Global options"
    )]
    tip: Option<types::Amount>,
    /// Data as JSON, one document per line when streaming; errors too, on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Only data and errors; lists print ids only
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// How each step is told on stderr
    #[arg(
        long,
        global = true,
        env = "RUNRIG_PROGRESS",
        value_name = "HOW",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    progress: output::Talk,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A whole network on this machine
    Dev(dev::Dev),
    /// Deploy a compose file
    Up(up::Up),
    /// Build the images of a compose file
    Build(build::Build),
    /// Print the compose files as one, with all filled in and written out
    Config(config::Config),
    /// Run one container of an image
    Run(Box<run::Run>),
    /// Remove a project
    Down(control::Down),
    /// List projects
    Ls(projects::Ls),
    /// List what runs
    Ps(ps::Ps),
    /// Show what containers print
    Logs(logs::Logs),
    /// Run a command in a container
    Exec(exec::Exec),
    /// Copy files into or out of a container
    Cp(copy::Copy),
    /// Lead a local port to a port of a replica
    PortForward(forward::Forward),
    /// Show live use of resources
    Stats(stats::StatsArgs),
    /// Everything that is known of a job, as JSON
    Inspect(ps::Inspect),
    /// Show what happens
    Events(events::Events),
    /// Start containers anew
    Restart(control::Target),
    /// Stop containers; place and data are kept
    Stop(control::Target),
    /// Start what was stopped
    Start(control::Target),
    /// Remove projects
    Rm(control::Rm),
    /// Change how many replicas services have
    Scale(scale::Scale),
    /// What a project was, release by release
    Releases(releases::Releases),
    /// What changed between two releases
    Diff(releases::Diff),
    /// Make a project again what an earlier release was
    Rollback(releases::Rollback),
    /// Where a published port is
    Port(projects::Port),
    /// Why a replica is where it is
    Why(ps::Why),
    /// What was used and what it cost
    Bill(money::BillArgs),
    /// A line of a bill, and the proof of it
    Receipt(money::ReceiptArgs),
    /// Who may act for your account: keys, members
    #[command(subcommand)]
    Account(account::Account),
    /// What may be spent in a month, and what stops first: show, set
    #[command(subcommand)]
    Limit(limit::Limit),
    /// Credits: balance, send, topup, history
    #[command(subcommand)]
    Wallet(money::Wallet),
    /// The ledger: status, block, tx, supply, params, account
    #[command(subcommand)]
    Chain(chain::Chain),
    /// Machines that run containers
    #[command(subcommand)]
    Host(Host),
    /// Images in the network's registry
    #[command(subcommand)]
    Image(image::Image),
    /// Passwords and keys kept outside of projects
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Networks and accounts that this command knows
    #[command(subcommand)]
    Context(chain::ContextCommand),
    /// Found a network; how one stands, and what went wrong
    #[command(subcommand)]
    Network(Network),
    /// Vote on blocks
    #[command(subcommand)]
    Validator(Validator),
    /// Who was drawn to vote, and whether rightly
    #[command(subcommand)]
    Lots(drawn::Lots),
    /// The network's parameters, changed by those who have sat
    #[command(subcommand)]
    Vote(vote::Vote),
    /// Rounds that anyone may open, enter and check
    #[command(subcommand)]
    Lottery(lottery::Lottery),
    /// What this machine can do as a host
    Doctor(doctor::Doctor),
    /// One address for services and the API
    #[command(subcommand)]
    Gateway(Gateway),
    /// Keep images for the network
    #[command(subcommand)]
    Registry(Registry),
    /// Pass on between hosts where no direct way leads
    #[command(subcommand)]
    Relay(Relay),
    /// Web pages for everyone
    #[command(subcommand)]
    Portal(Portal),
    /// Let this machine act for your account: by a code that you type on a portal's page
    Login(login::Login),
    /// Take that back, and forget the key
    Logout(login::Logout),
    /// Who asks, which network, and what the key may
    Whoami,
    /// Your images in the network's registry
    Images,
    /// Measure this machine, each figure beside its peer or limit
    Bench(bench::Bench),
    /// Print the completion script of a shell
    #[command(
        before_help = "Examples:\n  runrig completion bash > /etc/bash_completion.d/runrig\n  runrig completion zsh > ~/.zfunc/_runrig"
    )]
    Completion { shell: clap_complete::Shell },
    /// Write manual pages
    Man(manual::Man),
    /// Print the version
    Version,
    #[command(hide = true)]
    DemoApp {
        /// Ask the one that runs, instead of being one
        #[arg(long)]
        check: bool,
    },
}

#[derive(Subcommand, Debug)]
enum Host {
    /// Offer this machine to a network, in the foreground
    Join(Box<host_join::Join>),
    /// Print the line by which one machine joins for your account, once
    Invite(host_invite::Invite),
    /// The account's lines that no machine has joined with yet
    Invitations,
    /// Take such a line back: no machine joins with it any more
    Uninvite(host_invite::Uninvite),
    /// Many in one process, for `runrig dev`
    #[command(hide = true)]
    Together(host_together::Together),
    /// All hosts, with what is free on them
    #[command(alias = "list")]
    Ls,
    /// One host, by name or id
    Show { host: String },
    /// The images that a host of this machine keeps
    Images(image::HostImages),
    /// Move everything away from a host, and let nothing new come
    Drain(drain::Drain),
    /// Ask less than the network's rates for what begins on a host from now on
    Price(host_price::Price),
    /// Hours of the week in which a host takes work: say them, or see them
    Hours(host_hours::HoursOf),
    /// Lend more or less of a host that has joined
    Set(host_set::Set),
    /// Move everything away from a host, then take it off the network
    Leave(drain::Leave),
}

#[derive(Subcommand, Debug)]
enum Validator {
    /// Run a validator in the foreground
    Run(roles::ValidatorRun),
    /// Take part in voting, in the foreground: enter with a bond, sit when drawn
    Join(Box<validator_join::Join>),
    /// Take a validator off; its bond comes back after a delay
    Leave(validator_join::Leave),
    /// Who sits, who may be drawn, and until when
    Status(validator_join::Status),
    /// Prove that a leader made two blocks for one view; its bond is lost
    Accuse(accuse::Accuse),
}

#[derive(Subcommand, Debug)]
enum Gateway {
    /// Run a gateway in the foreground
    Run(roles::GatewayRun),
}

#[derive(Subcommand, Debug)]
enum Registry {
    /// Run a registry in the foreground
    Run(roles::RegistryRun),
}

#[derive(Subcommand, Debug)]
enum Relay {
    /// Run a relay in the foreground
    Run(relay_run::Run),
}

#[derive(Subcommand, Debug)]
enum Portal {
    /// Run a portal in the foreground
    Run(portal_run::Run),
}

fn main() -> ExitCode {
    // Before anything else: a container is made in a process with one thread.
    let args: Vec<String> = std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    if args.get(1).is_some_and(|a| a == "shim") {
        engine::shim_main(&args[2..]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let json = args
                .iter()
                .take_while(|a| *a != "--")
                .any(|a| a == "--json");
            match misread::failure(&error, json) {
                Some(failure) => fail(&failure, json),
                None => error.exit(),
            }
        }
    };
    let json = cli.globals.json;
    output::talk_like(match cli.globals.quiet {
        true => output::Talk::Quiet,
        false => cli.globals.progress,
    });
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure, json),
    }
}

/// Not returned to `main`: a thread that reads a terminal would hold the process up.
fn fail(failure: &Failure, json: bool) -> ! {
    if json {
        output::shout(failure.to_json());
    } else if !failure.what.is_empty() {
        failure.details.iter().for_each(output::shout);
        output::shout(format!("error: {failure}"));
    }
    std::process::exit(i32::from(failure.exit))
}

/// On one thread: a command waits more than it works.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// A command that asks the network: interrupted by Ctrl-C, with the exit code that says so.
fn ask<T>(globals: &Globals, work: impl AsyncFnOnce(&Session) -> Result<T>) -> Result<T> {
    let overrides = overrides(globals);
    block_on(async {
        let session = Session::open(&overrides)?;
        let result = tokio::select! {
            // What has more to say about an interruption says it first.
            biased;
            result = work(&session) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(failure::INTERRUPTED, "", "", "")),
        };
        match result {
            Err(mut failure) if failure.lacks_credits() => {
                failure.next = money::next_for_funds(&session).await;
                Err(failure)
            }
            Err(failure) if session.is_logged_in() => {
                Err(login::over(&session).await.unwrap_or(failure))
            }
            result => result,
        }
    })
}

fn overrides(globals: &Globals) -> Overrides {
    Overrides {
        context: globals.context.clone(),
        url: globals.url.clone(),
        account: globals.account.clone(),
        key: globals.key.clone(),
        verify: globals.verify,
        tip: globals.tip,
    }
}

/// Does the command read what `--verify` can verify?
fn verifies(command: &Command) -> bool {
    matches!(
        command,
        Command::Ps(_)
            | Command::Inspect(_)
            | Command::Port(_)
            | Command::Releases(_)
            | Command::Diff(_)
            | Command::Receipt(_)
            | Command::Wallet(money::Wallet::Balance)
            | Command::Account(account::Account::Keys(account::Keys::Ls))
            | Command::Chain(
                chain::Chain::Account { .. }
                    | chain::Chain::Block { .. }
                    | chain::Chain::Tx { .. }
                    | chain::Chain::Duties { .. }
                    | chain::Chain::Params
            )
            | Command::Host(Host::Ls | Host::Show { .. })
            | Command::Vote(vote::Vote::Ls | vote::Vote::Show { .. })
            | Command::Lottery(lottery::Lottery::Ls | lottery::Lottery::Show { .. })
    )
}

fn run(cli: Cli) -> Result<u8> {
    // Two providers are compiled in; rustls wants to be told which.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (globals, json) = (&cli.globals, cli.globals.json);
    let done = |result: Result| result.map(|()| 0);
    if globals.verify.is_some() && !verifies(&cli.command) {
        return Err(Failure::usage(
            "--verify",
            "this command reads nothing that can be verified so",
            "Say it with ps, inspect, port, releases, diff, receipt, wallet balance, account keys ls, host ls|show, vote ls|show, lottery ls|show, chain account|block|tx|duties|params; `lots verify`, `lottery verify`, `chain when` and `receipt` check all by themselves.",
        ));
    }
    match &cli.command {
        Command::Dev(args) => done(block_on(dev::run(args, json))),
        Command::Up(args) => done(ask(globals, async |s| up::up(s, args, json).await)),
        Command::Build(args) => done(ask(globals, async |s| build::build(s, args, json).await)),
        Command::Config(args) => done(config::config(args, json)),
        Command::Run(args) => ask(globals, async |s| run::run(s, args, json).await),
        Command::Down(args) => done(ask(globals, async |s| control::down(s, args, json).await)),
        Command::Ls(args) => done(ask(globals, async |s| projects::ls(s, args, json).await)),
        Command::Port(args) => done(ask(globals, async |s| projects::port(s, args, json).await)),
        Command::Login(args) => done(block_on(login::login(args, &overrides(globals), json))),
        Command::Logout(args) => done(block_on(login::logout(args, &overrides(globals), json))),
        Command::Whoami => done(ask(globals, async |s| projects::whoami(s, json).await)),
        Command::Images => done(ask(globals, async |s| {
            image::run(s, &image::Image::Ls, json).await
        })),
        Command::Man(args) => done(manual::man(args, json)),
        Command::Ps(args) => done(ask(globals, async |s| ps::ps(s, args, json).await)),
        Command::Logs(args) => done(ask(globals, async |s| logs::logs(s, args, json).await)),
        Command::Exec(args) => {
            // Ctrl-C belongs to the command that runs there.
            let overrides = overrides(globals);
            let code = block_on(async { exec::exec(&Session::open(&overrides)?, args).await })?;
            std::process::exit(i32::from(code))
        }
        Command::Cp(args) => done(ask(globals, async |s| copy::copy(s, args).await)),
        Command::PortForward(args) => done(ask(globals, async |s| {
            forward::forward(s, args, json).await
        })),
        Command::Stats(args) => done(ask(globals, async |s| stats::stats(s, args, json).await)),
        Command::Inspect(args) => done(ask(globals, async |s| ps::inspect(s, args).await)),
        Command::Events(args) => done(ask(globals, async |s| events::events(s, args, json).await)),
        Command::Restart(args) => act(globals, control::Act::Restart, args),
        Command::Stop(args) => act(globals, control::Act::Stop, args),
        Command::Start(args) => act(globals, control::Act::Start, args),
        Command::Rm(args) => done(ask(globals, async |s| control::rm(s, args, json).await)),
        Command::Scale(args) => done(ask(globals, async |s| scale::scale(s, args, json).await)),
        Command::Releases(args) => {
            done(ask(globals, async |s| releases::list(s, args, json).await))
        }
        Command::Diff(args) => done(ask(globals, async |s| releases::diff(s, args, json).await)),
        Command::Rollback(args) => done(ask(globals, async |s| {
            releases::rollback(s, args, json).await
        })),
        Command::Why(args) => done(ask(globals, async |s| ps::why(s, args, json).await)),
        Command::Bill(args) => done(ask(globals, async |s| money::bill(s, args, json).await)),
        Command::Receipt(args) => done(ask(globals, async |s| money::receipt(s, args, json).await)),
        Command::Account(args) => done(ask(globals, async |s| account::run(s, args, json).await)),
        Command::Limit(args) => done(ask(globals, async |s| limit::run(s, args, json).await)),
        Command::Wallet(args) => done(ask(globals, async |s| money::wallet(s, args, json).await)),
        Command::Chain(args) => done(ask(globals, async |s| chain::chain(s, args, json).await)),
        Command::Image(args) => done(ask(globals, async |s| image::run(s, args, json).await)),
        Command::Secret(args) => done(ask(globals, async |s| secret::run(s, args, json).await)),
        Command::Host(Host::Join(args)) => done(host_join::run(args)),
        Command::Host(Host::Invite(args)) => done(ask(globals, async |s| {
            host_invite::invite(s, args, json).await
        })),
        Command::Host(Host::Invitations) => {
            done(ask(globals, async |s| host_invite::list(s, json).await))
        }
        Command::Host(Host::Uninvite(args)) => done(ask(globals, async |s| {
            host_invite::uninvite(s, args, json).await
        })),
        Command::Host(Host::Together(args)) => done(host_together::run(args)),
        Command::Host(Host::Ls) => done(ask(globals, async |s| chain::host_ls(s, json).await)),
        Command::Host(Host::Images(args)) => done(image::of_host(args, json)),
        Command::Host(Host::Show { host }) => {
            done(ask(globals, async |s| chain::host_show(s, host).await))
        }
        Command::Host(Host::Drain(args)) => {
            done(ask(globals, async |s| drain::drain(s, args, json).await))
        }
        Command::Host(Host::Price(args)) => done(ask(globals, async |s| {
            host_price::price(s, args, json).await
        })),
        Command::Host(Host::Hours(args)) => done(ask(globals, async |s| {
            host_hours::hours(s, args, json).await
        })),
        Command::Host(Host::Set(args)) => {
            done(ask(globals, async |s| host_set::set(s, args, json).await))
        }
        Command::Host(Host::Leave(args)) => {
            done(ask(globals, async |s| drain::leave(s, args, json).await))
        }
        Command::Context(args) => done(block_on(chain::context(args, &overrides(globals), json))),
        Command::Network(Network::Init(args)) => done(network::init(args, json)),
        Command::Network(Network::Founder(args)) => {
            done(charter::founder(args, globals.key.as_deref(), json))
        }
        Command::Network(Network::Charter(args)) => done(charter::charter(args, json)),
        Command::Network(Network::Found(args)) => done(founding::run(args, json)),
        Command::Network(Network::Show { file }) => done(network::show(file)),
        Command::Network(Network::Status) => {
            done(ask(globals, async |s| network_now::status(s, json).await))
        }
        Command::Network(Network::Queue) => {
            done(ask(globals, async |s| network_now::queue(s, json).await))
        }
        Command::Network(Network::Incidents(since)) => done(ask(globals, async |s| {
            network_incidents::incidents(s, since, json).await
        })),
        Command::Network(Network::Placements(since)) => done(ask(globals, async |s| {
            network_past::placements(s, since, json).await
        })),
        Command::Network(Network::Audit(args)) => done(ask(globals, async |s| {
            network_past::audit(s, args, json).await
        })),
        Command::Lots(drawn::Lots::Odds(args)) => done(odds::run(args, json)),
        Command::Lots(args) => done(ask(globals, async |s| drawn::run(s, args, json).await)),
        Command::Vote(args) => done(ask(globals, async |s| vote::run(s, args, json).await)),
        Command::Lottery(args) => done(ask(globals, async |s| lottery::run(s, args, json).await)),
        Command::Validator(Validator::Run(args)) => done(roles::validator(args)),
        Command::Validator(Validator::Join(args)) => {
            let enter = |entering: validator_join::Entering<'_>| block_on(entering.enter());
            done(validator_join::join(args, globals.key.as_deref(), enter))
        }
        Command::Validator(Validator::Leave(args)) => {
            let key = globals.key.as_deref();
            done(block_on(validator_join::leave(args, key, json)))
        }
        Command::Validator(Validator::Accuse(args)) => {
            done(ask(globals, async |s| accuse::run(s, args, json).await))
        }
        Command::Validator(Validator::Status(args)) => {
            let session = || Session::open(&overrides(globals));
            done(block_on(validator_join::status(args, session, json)))
        }
        Command::Gateway(Gateway::Run(args)) => done(roles::gateway(args, globals.key.as_deref())),
        Command::Registry(Registry::Run(args)) => done(roles::registry(args)),
        Command::Relay(Relay::Run(args)) => done(relay_run::run(args)),
        Command::Portal(Portal::Run(args)) => done(portal_run::run(args)),
        Command::Doctor(args) => {
            let session = Session::open(&overrides(globals));
            done(block_on(doctor::run(args, session, json)))
        }
        Command::Bench(args) => done(block_on(bench::run(args, json))),
        Command::Completion { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "runrig",
                &mut std::io::stdout(),
            );
            Ok(0)
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            if json {
                output::json(&serde_json::json!({"name": "runrig", "version": version}));
            } else {
                output::data(format!("runrig {version}"));
            }
            Ok(0)
        }
        Command::DemoApp { check } => {
            let result = if *check { demo::check() } else { demo::run() };
            result.map_err(anyhow::Error::from)?;
            Ok(0)
        }
    }
}

fn act(globals: &Globals, act: control::Act, args: &control::Target) -> Result<u8> {
    ask(globals, async |s| {
        control::act(s, act, args, globals.json).await
    })
    .map(|()| 0)
}
