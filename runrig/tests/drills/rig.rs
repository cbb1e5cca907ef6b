//! A host that a test joins itself, as its owner would: the agent is the test's to end.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fixtures::{Cloud, is_given_work, signal, until};

use crate::stage::{Trace, named, replicas, text};

/// Gone with all that it runs when dropped.
pub struct Rig<'a> {
    cloud: &'a Cloud,
    pub name: &'static str,
    pub data: PathBuf,
    agent: Option<Child>,
}

impl<'a> Rig<'a> {
    /// Joins with the `runrig` at `program`, and has one of the site's replicas when this
    /// returns.
    pub fn with_a_replica(cloud: &'a Cloud, name: &'static str, program: &Path) -> Self {
        let data = cloud.data().join(name);
        let mut rig = Self {
            cloud,
            name,
            data,
            agent: None,
        };
        rig.start(program, None);
        until("the new host is there, and is given work", || {
            is_given_work(&named(cloud, name))
        });
        // Two of four hosts are left for two replicas.
        let others = ["dev-1", "dev-2"];
        for host in others {
            rig.drain(host, &["--wait"]);
        }
        let mut trace = Trace::default();
        until("a replica is on the new host", || {
            let now = replicas(cloud);
            let host = named(cloud, name);
            let [online, trusted, free] = ["online", "trusted_ms", "free"].map(|f| &host[f]);
            trace.see(format!(
                "{now:?}, {name}: online {online}, trusted {trusted}, {free}"
            ));
            now.len() == 2 && now.iter().any(|(_, h)| h == name)
        });
        for host in others {
            rig.drain(host, &["--undo"]);
        }
        rig
    }

    fn drain(&self, host: &str, more: &[&str]) {
        let folder = self.cloud.data().join(crate::stage::role(host));
        let key = folder.join("host.key").display().to_string();
        let words = ["host", "drain", host, "--key", &key];
        self.cloud.good(&[&words, more].concat());
    }

    /// Starts an agent; the first word it writes goes to `cgroup`, if one is said: its number.
    pub fn start(&mut self, program: &Path, cgroup: Option<&Path>) {
        self.start_as(program, cgroup, &[]);
    }

    pub fn start_as(&mut self, program: &Path, cgroup: Option<&Path>, more: &[&str]) {
        let gateway = format!("http://{}", self.cloud.gateway());
        let path = self.cloud.data().join(format!("logs/{}.log", self.name));
        let mut log = std::fs::OpenOptions::new();
        let log = log.create(true).append(true).open(path).expect("a log");
        let mut command = Command::new(program);
        command
            .args(["host", "join", "--network", &gateway, "--name", self.name])
            .args(["--cpus", "1", "--memory", "1g", "--disk", "4g"])
            .args(["--uid-base", "910000000"])
            .args(more)
            .arg("--data")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("one more"))
            .stderr(log);
        let procs = cgroup.map(|c| c.join("cgroup.procs"));
        let procs = procs.map(|p| std::fs::OpenOptions::new().write(true).open(p));
        let procs = procs.map(|p| p.expect("a cgroup"));
        // SAFETY: async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                if let Some(procs) = &procs {
                    // 0 is whoever writes.
                    nix::unistd::write(procs, b"0")?;
                }
                Ok(())
            });
        }
        self.agent = Some(command.spawn().expect("runrig host join starts"));
    }

    /// Ends the agent as a service manager does; what runs here goes on.
    pub fn end(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            signal(agent.id(), libc::SIGTERM);
            agent.wait().expect("ended");
        }
    }

    /// How the agent has ended by itself, once it has.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().expect("it runs");
        agent.wait().expect("ended")
    }

    pub fn key(&self) -> String {
        self.data.join("host.key").display().to_string()
    }

    /// Of the site's replica here.
    pub fn row(&self) -> serde_json::Value {
        let rows = self.cloud.rows("web").into_iter();
        let mut here = rows.filter(|r| text(&r["host"]) == self.name);
        here.next().expect("a replica is here")
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.end();
            self.start_as(
                &PathBuf::from(env!("CARGO_BIN_EXE_runrig")),
                None,
                &["--stop-on-exit"],
            );
            let cloud = self.cloud;
            until("it is there to leave nothing behind", || {
                named(cloud, self.name)["online"] == true
            });
            self.end();
        }
    }
}
