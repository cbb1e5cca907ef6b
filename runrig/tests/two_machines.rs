//! A project whose services run on machines that share nothing but a network: two hosts in
//! network namespaces of their own join a cloud, and find each other's services by name.
//! Runs as root; needs ip (iproute2), nft and /dev/net/tun.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fixtures::{Cloud, busybox, free_ports, signal, until};

/// A network namespace with a name, until dropped.
struct Machine {
    name: String,
    agent: Option<Child>,
}

fn ip(line: &str) {
    let done = Command::new("ip").args(line.split(' ')).output();
    let done = done.expect("ip (iproute2) runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {line}: {said}");
}

impl Machine {
    fn new(name: &str) -> Self {
        let name = format!("rj{}-{name}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self { name, agent: None }
    }

    /// Offers itself to the cloud at `gateway`, which reaches it at `own`; other hosts reach
    /// it at `side`.
    fn join(&mut self, folder: &Path, region: &str, gateway: &str, own: &str, side: &str) {
        let uid_base = if region == "east" {
            900_000_000
        } else {
            900_065_536
        };
        let space = std::fs::File::open(Path::new("/run/netns").join(&self.name)).expect("there");
        let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
        command
            .args(["host", "join", "--network", gateway, "--name", region])
            .args(["--region", region, "--listen", "0.0.0.0:8730"])
            .args(["--advertise", &format!("http://{own}:8730")])
            .args(["--mesh-advertise", &format!("{side}:8730")])
            .args(["--cpus", "1", "--memory", "512m", "--disk", "1g"])
            .args(["--uid-base", &format!("{uid_base}"), "--stop-on-exit"])
            .arg("--data")
            .arg(folder.join(region))
            .stdin(Stdio::null());
        // SAFETY: async-signal-safe calls between fork and exec. An agent whose test is
        // killed ends too.
        unsafe {
            command.pre_exec(move || {
                nix::sched::setns(&space, nix::sched::CloneFlags::CLONE_NEWNET)?;
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        self.agent = Some(command.spawn().expect("runrig host join starts"));
    }

    fn end(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            signal(agent.id(), libc::SIGTERM);
            let _ = agent.wait();
        }
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("killed");
            let _ = agent.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Connections to `listen` go on to `target`.
fn forward(listen: String, target: String) {
    let listener = TcpListener::bind(&listen).expect("bound");
    std::thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            let Ok(outside) = TcpStream::connect(&target) else {
                continue;
            };
            let pairs = [
                (inside.try_clone(), outside.try_clone()),
                (Ok(outside), Ok(inside)),
            ];
            for pair in pairs {
                let (Ok(mut from), Ok(mut to)) = pair else {
                    continue;
                };
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

const COMPOSE: &str = r#"
name: far
services:
  web:
    image: busybox
    hostname: served-from-east
    command: ["sh", "-c", "hostname > /tmp/name; httpd -f -p 8080 -h /tmp"]
    deploy:
      placement: { constraints: ["node.labels.region == east"] }
  client:
    image: busybox
    command: ["sh", "-c", "while :; do sleep 1; done"]
    depends_on: [web]
    deploy:
      placement: { constraints: ["node.labels.region == west"] }
"#;

#[test]
fn services_on_two_machines_find_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&busybox());
    let (mut east, mut west) = (Machine::new("east"), Machine::new("west"));
    // From here to each, and between them.
    let net = std::process::id() % 250;
    for (n, machine) in [(0, &east), (4, &west)] {
        let end = format!("rj{}{n}", std::process::id());
        let name = &machine.name;
        ip(&format!(
            "link add {end} type veth peer name hub netns {name}"
        ));
        ip(&format!("addr add 198.18.{net}.{}/30 dev {end}", n + 1));
        ip(&format!("link set {end} up"));
        ip(&format!(
            "-n {name} addr add 198.18.{net}.{}/30 dev hub",
            n + 2
        ));
        ip(&format!("-n {name} link set hub up"));
        forward(format!("198.18.{net}.{}:8700", n + 1), cloud.gateway());
    }
    let (one, two) = (&east.name, &west.name);
    ip(&format!(
        "-n {one} link add side type veth peer name side netns {two}"
    ));
    for (name, address) in [(one, "192.0.2.1"), (two, "192.0.2.2")] {
        ip(&format!("-n {name} addr add {address}/24 dev side"));
        ip(&format!("-n {name} link set side up"));
    }
    let at = |n: u32| format!("198.18.{net}.{n}");
    let gateway = |n: u32| format!("http://{}:8700", at(n));
    east.join(folder.path(), "east", &gateway(1), &at(2), "192.0.2.1");
    west.join(folder.path(), "west", &gateway(5), &at(6), "192.0.2.2");
    until("both hosts are there", || {
        let hosts = cloud.json(&["host", "ls"]);
        hosts.as_array().is_some_and(|all| all.len() == 5)
    });

    cloud.up(COMPOSE);
    let (web, client) = (&cloud.rows("web")[0], &cloud.rows("client")[0]);
    assert_ne!(web["host"], client["host"], "{web} {client}");
    let ask = || {
        let line = "printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc -w 5 web 8080 | tail -n 1";
        cloud.run(&["exec", "client", "--", "sh", "-c", line])
    };
    until("answered from the other machine", || {
        let (code, out, _) = ask();
        code == 0 && out.trim() == "served-from-east"
    });
    // A port that nobody listens on is refused, at once.
    let line = ["exec", "client", "--", "nc", "-w", "20", "web", "81"];
    let (code, _, said) = cloud.run(&line);
    assert!(code != 0 && said.contains("refused"), "{said}");

    // The other machine's agent is killed and comes again.
    east.kill();
    east.join(folder.path(), "east", &gateway(1), &at(2), "192.0.2.1");
    until("answered again", || {
        let (code, out, _) = ask();
        code == 0 && out.trim() == "served-from-east"
    });
    cloud.good(&["down", "far"]);
}
