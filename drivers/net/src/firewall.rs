//! Who may talk to whom, as one nftables table per agent, replaced as a whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::NetError;

/// For one change of all rules.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// One network of this agent.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    pub bridge: String,
    pub number: u8,
    /// Of its /24.
    pub subnet: Ipv4Addr,
    /// The bridge's address: answers names, and nothing else.
    pub gateway: Ipv4Addr,
    pub internal: bool,
    /// The same network's containers on other agents of this machine.
    pub peers: BTreeSet<Ipv4Addr>,
}

/// The rules as `nft -f` reads them.
pub fn script(tag: &str, zones: &[Zone]) -> String {
    let table = format!("inet runrig_{tag}");
    let mut text = format!("table {table}\ndelete table {table}\ntable {table} {{\n");
    let mut raw = String::new();
    let mut forward = String::new();
    let mut input = String::new();
    let mut nat = String::new();
    for zone in zones {
        let (bridge, n, subnet) = (&zone.bridge, zone.number, zone.subnet);
        let gateway = zone.gateway;
        let peers: Vec<String> = zone.peers.iter().map(Ipv4Addr::to_string).collect();
        let elements = if peers.is_empty() {
            String::new()
        } else {
            format!("elements = {{ {} }}", peers.join(", "))
        };
        let _ = writeln!(text, "set peers_{n} {{ type ipv4_addr\n{elements}\n}}");
        // A container speaks for its network only, and IPv6 has no rules to pass by.
        let _ = writeln!(
            raw,
            "iifname \"{bridge}\" ip saddr != {subnet}/24 drop\n\
             iifname \"{bridge}\" meta nfproto ipv6 drop"
        );
        let _ = writeln!(
            forward,
            "iifname \"{bridge}\" oifname \"{bridge}\" accept\n\
             iifname \"{bridge}\" ip daddr @peers_{n} accept\n\
             oifname \"{bridge}\" ip saddr @peers_{n} accept\n\
             oifname \"{bridge}\" ct state established,related accept\n\
             oifname \"{bridge}\" drop\n\
             iifname \"{bridge}\" ip daddr @private drop"
        );
        let last = if zone.internal { "drop" } else { "accept" };
        let _ = writeln!(forward, "iifname \"{bridge}\" {last}");
        let _ = writeln!(
            input,
            "iifname \"{bridge}\" ct state established,related accept\n\
             iifname \"{bridge}\" ip daddr {gateway} udp dport 53 accept\n\
             iifname \"{bridge}\" ip daddr {gateway} tcp dport 53 accept\n\
             iifname \"{bridge}\" drop"
        );
        let _ = writeln!(
            nat,
            "ip saddr {subnet}/24 ip daddr @peers_{n} accept\n\
             ip saddr {subnet}/24 oifname != \"{bridge}\" masquerade"
        );
    }
    let _ = write!(
        text,
        "set private {{ type ipv4_addr\nflags interval\nelements = {{ 10.0.0.0/8, 172.16.0.0/12, \
         192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16 }}\n}}\n\
         chain raw {{ type filter hook prerouting priority -300\n{raw}}}\n\
         chain forward {{ type filter hook forward priority 0\n{forward}}}\n\
         chain input {{ type filter hook input priority 0\n{input}}}\n\
         chain nat {{ type nat hook postrouting priority 100\n{nat}}}\n}}\n"
    );
    text
}

/// What makes the rules of `before` those of `after` where nothing but peers came and went;
/// empty if none did. `None`: the table is to be replaced.
pub fn change(tag: &str, before: &[Zone], after: &[Zone]) -> Option<String> {
    let bare = |zone: &Zone| Zone {
        peers: BTreeSet::new(),
        ..zone.clone()
    };
    if !before.iter().map(bare).eq(after.iter().map(bare)) {
        return None;
    }
    let mut text = String::new();
    for (old, new) in before.iter().zip(after) {
        let gone = ("delete", old.peers.difference(&new.peers));
        let come = ("add", new.peers.difference(&old.peers));
        for (verb, peers) in [gone, come] {
            let peers: Vec<String> = peers.map(Ipv4Addr::to_string).collect();
            if !peers.is_empty() {
                let (n, peers) = (new.number, peers.join(", "));
                let _ = writeln!(
                    text,
                    "{verb} element inet runrig_{tag} peers_{n} {{ {peers} }}"
                );
            }
        }
    }
    Some(text)
}

fn missing() -> NetError {
    NetError::new(
        "run nft",
        "the program is not installed; it keeps projects apart",
        "Install it: apt install nftables",
    )
}

/// A script that waits for its turn, and the machine's network it is for.
struct Waiting {
    network: Option<PathBuf>,
    script: String,
    done: oneshot::Sender<Result<(), NetError>>,
}

static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Applies `script` as a whole or not at all.
///
/// What several agents of this process want at the same time goes into one run of nft: with
/// many of them and many peers those runs would be most of what the machine does.
pub async fn apply(script: &str) -> Result<(), NetError> {
    let network = std::fs::read_link("/proc/thread-self/ns/net").ok();
    let (done, mut result) = oneshot::channel();
    lock(&WAITING).push(Waiting {
        network: network.clone(),
        script: script.into(),
        done,
    });
    let _turn = TURN.lock().await;
    // Whoever had the turn before may have done it.
    if let Ok(result) = result.try_recv() {
        return result;
    }
    let batch: Vec<Waiting> = lock(&WAITING)
        .extract_if(.., |w| w.network == network)
        .collect();
    let together: Vec<&str> = batch.iter().map(|w| w.script.as_str()).collect();
    let outcome = run(&together.concat()).await;
    let alone = batch.len() == 1 || outcome.is_ok();
    for waiting in batch {
        // One that is refused takes no other along.
        let outcome = match alone {
            true => outcome.clone(),
            false => run(&waiting.script).await,
        };
        // Its agent may have ended meanwhile.
        let _ = waiting.done.send(outcome);
    }
    result.await.unwrap_or_else(|error| {
        Err(NetError::new(
            "set firewall rules",
            error,
            "Restart the host agent",
        ))
    })
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(script: &str) -> Result<(), NetError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => NetError::new("run nft", error, "Restart the host agent"),
        })?;
    let talk = async {
        if let Some(mut stdin) = child.stdin.take() {
            // What nft did not read it complains about itself.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(LIMIT, talk).await {
        Ok(output) => output.map_err(|e| NetError::new("run nft", e, "Restart the host agent"))?,
        Err(_) => {
            return Err(NetError::new(
                "set firewall rules",
                format!("nft did not end within {} s", LIMIT.as_secs()),
                "Look whether another program holds the firewall, then restart the host agent",
            ));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NetError::new(
        "set firewall rules",
        said.lines().next().unwrap_or("nft gave no reason"),
        "The kernel needs nf_tables with nat and ct",
    ))
}

pub async fn remove(tag: &str) -> Result<(), NetError> {
    apply(&format!(
        "table inet runrig_{tag}\ndelete table inet runrig_{tag}\n"
    ))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(number: u8, peers: &[u8]) -> Zone {
        Zone {
            bridge: format!("b{number}"),
            number,
            subnet: Ipv4Addr::new(10, 200, number, 0),
            gateway: Ipv4Addr::new(10, 200, number, 1),
            internal: false,
            peers: peers
                .iter()
                .map(|n| Ipv4Addr::new(10, 201, 1, *n))
                .collect(),
        }
    }

    fn listed(tag: &str) -> String {
        let list = ["list", "set", "inet", &format!("runrig_{tag}"), "peers_1"];
        let output = std::process::Command::new("nft").args(list).output();
        String::from_utf8_lossy(&output.expect("nft runs").stdout).into_owned()
    }

    #[test]
    fn who_asks_together_is_answered_alone() {
        // This thread's only, and that of what it starts.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("runs as root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let (before, after) = ([zone(1, &[2, 3])], [zone(1, &[3, 4])]);
            let (one, other) = (script("aaaa", &before), script("bbbb", &before));
            let (one, wrong, other) = tokio::join!(apply(&one), apply("nonsense"), apply(&other));
            assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
            assert!(wrong.is_err());
            let moved = change("aaaa", &before, &after).expect("no more than peers");
            apply(&moved).await.expect("taken");
            assert!(
                listed("aaaa").contains("10.201.1.3, 10.201.1.4"),
                "{}",
                listed("aaaa")
            );
            assert!(listed("bbbb").contains("10.201.1.2, 10.201.1.3"));
            remove("aaaa").await.expect("taken");
            apply(&moved).await.expect_err("its table is gone");
        });
    }

    #[test]
    fn only_what_comes_and_goes_is_told_while_networks_stay() {
        let before = [zone(1, &[2, 3]), zone(2, &[9])];
        let told = |after: &[Zone]| change("abcd", &before, after);
        assert_eq!(told(&before), Some(String::new()));
        let moved = "delete element inet runrig_abcd peers_1 { 10.201.1.2 }\n\
            add element inet runrig_abcd peers_1 { 10.201.1.4, 10.201.1.5 }\n";
        let after = [zone(1, &[3, 4, 5]), zone(2, &[9])];
        assert_eq!(told(&after), Some(moved.to_string()));
        assert_eq!(told(&before[..1]), None, "a network is gone");
        let closed = Zone {
            internal: true,
            ..before[1].clone()
        };
        assert_eq!(told(&[before[0].clone(), closed]), None, "another network");
    }
}
