//! A PostgreSQL of its own in a temporary folder, on a private socket: the peer of the ledger, and
//! what tests keep an index on.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use crate::network::free_ports;
use crate::process::Process;

const INSTALLED: &str = "/usr/lib/postgresql";
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
/// Of its socket, where it has no other.
const PORT: u16 = 5432;
/// 100,000 accounts each.
const SCALE: u32 = 10;
const CLIENTS: u32 = 8;

#[derive(Clone)]
pub struct Postgres(Arc<Cluster>);

struct Cluster {
    /// Before the folder, so that it is ended before that goes.
    server: Process,
    programs: PathBuf,
    user: Option<User>,
    folder: tempfile::TempDir,
    port: u16,
}

/// Asked to end as others are it would wait for its clients, who go later.
impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.server.pid() as i32), Signal::SIGINT);
    }
}

/// Of the newest version installed.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir(INSTALLED).into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| {
            ["initdb", "postgres", "pgbench", "pg_isready"]
                .iter()
                .all(|p| bin.join(p).exists())
        })
        .max_by_key(|bin| {
            let version = bin.parent().and_then(|v| v.file_name()?.to_str());
            version.and_then(|v| v.parse::<u32>().ok()).unwrap_or(0)
        })
        .context("it is not installed: apt-get install postgresql postgresql-contrib")
}

/// PostgreSQL refuses to run as root.
fn user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("it does not run as root, and there is no user postgres or nobody")
}

fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn run(mut command: Command) -> Result<String> {
    let ran = command.output()?;
    ensure!(
        ran.status.success(),
        "{} fails: {}",
        Path::new(command.get_program()).display(),
        String::from_utf8_lossy(&ran.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

impl Postgres {
    /// A cluster with its default settings: every commit is on disk before it is answered.
    ///
    /// Errors: it is not installed, or does not start.
    pub fn start() -> Result<Self> {
        Self::listening(None)
    }

    /// As [`Self::start`]; it listens on a port of loopback too, and has a certificate and its key
    /// there, both in PEM.
    pub fn secured(certificate: &str, key: &str) -> Result<Self> {
        Self::listening(Some((certificate, key)))
    }

    fn listening(pair: Option<(&str, &str)>) -> Result<Self> {
        let programs = programs()?;
        let user = user()?;
        let folder = tempfile::Builder::new().prefix("pg").tempdir()?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700))?;
        if let Some(user) = &user {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        let mut make = command(&programs.join("initdb"), user.as_ref());
        make.args(["--auth=trust", "--username=bench", "--no-sync", "-D"])
            .arg(&data);
        run(make)?;
        let mut serve = command(&programs.join("postgres"), user.as_ref());
        let mut port = PORT;
        match pair {
            None => {
                serve.args(["-c", "listen_addresses="]);
            }
            Some((certificate, key)) => {
                for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                    let path = data.join(name);
                    std::fs::write(&path, text)?;
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
                    if let Some(user) = &user {
                        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
                    }
                }
                port = free_ports(1)?[0].port();
                serve.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-p"]);
                serve.arg(port.to_string());
            }
        }
        serve.arg("-D").arg(&data).arg("-k").arg(folder.path());
        let server = Process::start(serve, &folder.path().join("log"))?;
        let cluster = Cluster {
            server,
            programs,
            user,
            folder,
            port,
        };
        cluster.until_ready()?;
        Ok(Self(Arc::new(cluster)))
    }

    /// The folder of its socket; its own is `data` in it.
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// Of `database`, as `user`: `bench` is its master, who needs no password.
    pub fn url(&self, user: &str, database: &str) -> String {
        let folder = self.folder().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{folder}/{database}")
    }

    /// Of `database`, as `user`, over TCP; only if it is [`Self::secured`].
    pub fn tcp_url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.0.port)
    }

    /// Fills it for TPC-B.
    pub fn fill(&self) -> Result<()> {
        let mut fill = self.0.client("pgbench");
        fill.args(["-i", "-q", "-s", &SCALE.to_string(), "postgres"]);
        run(fill).map(drop)
    }

    /// TPC-B transactions per second over `time`.
    pub fn bench(&self, time: Duration) -> Result<f64> {
        let cluster = &self.0;
        let mut bench = cluster.client("pgbench");
        bench.args(["-c", &CLIENTS.to_string(), "-j", "2", "-n", "-T"]);
        bench.args([&time.as_secs().max(1).to_string(), "postgres"]);
        tps(&run(bench)?).context("pgbench says no tps")
    }
}

impl Cluster {
    fn client(&self, program: &str) -> Command {
        let mut client = command(&self.programs.join(program), self.user.as_ref());
        client.args(["-U", "bench", "-h"]).arg(self.folder.path());
        client.args(["-p", &self.port.to_string()]);
        client
    }

    fn until_ready(&self) -> Result<()> {
        let started = Instant::now();
        while let Err(error) = run(self.client("pg_isready")) {
            ensure!(started.elapsed() < START_LIMIT, error);
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Of `tps = 3343.123 (without initial connection time)`.
fn tps(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says() {
        let said = "latency average = 2 ms\ntps = 3343.5 (without initial connection time)\n";
        assert_eq!(tps(said), Some(3343.5));
        assert_eq!(tps("tps = many"), None);
    }
}
