//! Who may talk to whom, as one nftables table per agent, replaced as a whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::NetError;

/// For one change of all rules.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// One network of this agent.
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

fn missing() -> NetError {
    NetError::new(
        "run nft",
        "the program is not installed; it keeps projects apart",
        "Install it: apt install nftables",
    )
}

pub async fn apply(script: &str) -> Result<(), NetError> {
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
