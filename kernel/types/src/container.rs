//! What a service says of the inside of its containers, beyond what it runs.
//!
//! Everything here has a harmless default, the empty one: a spec that says nothing of it gets
//! what every container gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// How a container's processes stand towards the kernel.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct ProcessSpec {
    /// Further groups of the process: names of the image, or numbers.
    pub groups: BTreeSet<String>,
    /// Taken from the usual set before `cap_add` gives: `NET_RAW`, or `ALL`.
    pub cap_drop: BTreeSet<String>,
    /// Of [`CAPABILITIES`].
    pub cap_add: BTreeSet<String>,
    /// Of [`is_sysctl`].
    pub sysctls: BTreeMap<String, String>,
    /// Of [`ULIMITS`]. A host gives at most what it has itself.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Size of /dev/shm; 0: 64 MiB.
    pub shm_bytes: u64,
    /// How much rather than others it is killed when memory runs out, up to 1000.
    pub oom_score_adj: u16,
    /// A small first process starts the command, passes signals on and reaps.
    #[serde(default)]
    pub init: bool,
    /// Standard input stays open, though nobody types.
    #[serde(default)]
    pub stdin_open: bool,
    /// Weight where its host is short of processors, in thousand and twenty-fourths of what its
    /// reservation gives; 0: all of it. Nobody weighs more than he reserved.
    #[serde(default)]
    pub cpu_shares: u16,
}

/// A soft and a hard limit; `None` is without limit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Ulimit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// What a container's name files say beyond its own name and the project's.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct NamesSpec {
    pub domainname: Option<String>,
    /// Lines of /etc/hosts.
    pub extra_hosts: BTreeMap<String, Vec<IpAddr>>,
    /// `search` and `options` of /etc/resolv.conf.
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
}

/// Commands that run in the container beside its own.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct HooksSpec {
    /// One after another as soon as the container runs; one that fails fails the start.
    pub post_start: Vec<HookSpec>,
    /// One after another before the container is asked to stop; not when it ends by itself.
    /// They share its grace period.
    pub pre_stop: Vec<HookSpec>,
}

/// The container's own user, variables and folder where nothing is said.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct HookSpec {
    pub command: Vec<String>,
    pub user: Option<String>,
    /// Over the container's own.
    pub environment: BTreeMap<String, String>,
    pub working_dir: Option<String>,
}

/// Capabilities that a service may have: those of every container, all but `SYS_PTRACE`
/// without asking. They reach no further than the container's own user namespace.
pub const CAPABILITIES: [&str; 15] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_PTRACE",
];

impl ProcessSpec {
    /// The capabilities that its processes may have, in order.
    pub fn capabilities(&self) -> impl Iterator<Item = &'static str> {
        let all = self.cap_drop.contains("ALL");
        CAPABILITIES.into_iter().filter(move |name| {
            let usual = *name != "SYS_PTRACE" && !all && !self.cap_drop.contains(*name);
            usual || self.cap_add.contains(*name)
        })
    }
}

/// Limits that a service may set, as Compose names them.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Kernel settings that belong to the container's own network or message queues and touch
/// nothing else.
pub fn is_sysctl(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "net.core.somaxconn",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_tw_reuse",
        "net.ipv6.conf.all.disable_ipv6",
    ];
    NAMES.contains(&name)
}

/// Numbers apart by blanks.
pub fn is_sysctl_value(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_digit() || b == b' ' || b == b'\t' || b == b'-' || b == b',';
    !value.is_empty() && value.len() <= 64 && value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_dropped_before_they_are_added() {
        let named = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
        for (drop, add, expected) in [
            (&[][..], &[][..], 14),
            (&["ALL"], &[], 0),
            (&["ALL"], &["CHOWN", "SYS_PTRACE"], 2),
            (&["NET_RAW", "MKNOD"], &[], 12),
            (&["CHOWN"], &["CHOWN"], 14),
            (&[], &["SYS_PTRACE", "SYS_ADMIN"], 15),
        ] {
            let process = ProcessSpec {
                cap_drop: named(drop),
                cap_add: named(add),
                ..ProcessSpec::default()
            };
            assert_eq!(
                process.capabilities().count(),
                expected,
                "-{drop:?} +{add:?}"
            );
        }
    }
}
