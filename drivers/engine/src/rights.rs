//! What a container's processes may do and use beyond what is the same for all: capabilities,
//! limits, settings of its own kernel namespaces.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde_json::{Map, Value, json};
use types::{ProcessSpec, Ulimit};

/// Capabilities by name and the kernel's number: all that a service may ask for.
const NUMBERS: [(&str, u8); 15] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("FSETID", 4),
    ("KILL", 5),
    ("SETGID", 6),
    ("SETUID", 7),
    ("SETPCAP", 8),
    ("NET_BIND_SERVICE", 10),
    ("NET_RAW", 13),
    ("SYS_CHROOT", 18),
    ("SYS_PTRACE", 19),
    ("MKNOD", 27),
    ("AUDIT_WRITE", 29),
    ("SETFCAP", 31),
];

/// Open files that one process may have, at most, unless less is asked for.
const FILES_MAX: u64 = 1 << 20;

/// What root in the container may do, as an OCI configuration names it.
pub fn names(process: &ProcessSpec) -> Vec<String> {
    let names = process.capabilities();
    names.map(|name| format!("CAP_{name}")).collect()
}

/// The same as the kernel has it.
pub fn mask(process: &ProcessSpec) -> u64 {
    let bit = |name| NUMBERS.iter().find(|(known, _)| *known == name);
    let bits = process.capabilities().filter_map(bit);
    bits.fold(0, |all, (_, bit)| all | 1 << bit)
}

fn kind(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// Name, kind, soft and hard: those asked for and that of open files, none above what this
/// process has itself.
pub fn limits(process: &ProcessSpec) -> Vec<(String, Resource, u64, u64)> {
    let files = Ulimit {
        soft: Some(FILES_MAX),
        hard: Some(FILES_MAX),
    };
    let usual = [("nofile".to_string(), files)];
    let asked = process.ulimits.iter().map(|(n, l)| (n.clone(), *l));
    let all: std::collections::BTreeMap<_, _> = usual.into_iter().chain(asked).collect();
    all.into_iter()
        .filter_map(|(name, limit)| {
            let kind = kind(&name)?;
            let most = getrlimit(kind).map_or(RLIM_INFINITY, |(_, hard)| hard);
            let hard = limit.hard.unwrap_or(RLIM_INFINITY).min(most);
            let soft = limit.soft.unwrap_or(RLIM_INFINITY).min(hard);
            Some((name, kind, soft, hard))
        })
        .collect()
}

/// As `process.rlimits` of an OCI configuration.
pub fn oci_limits(process: &ProcessSpec) -> Value {
    limits(process)
        .into_iter()
        .map(|(name, _, soft, hard)| {
            let name = format!("RLIMIT_{}", name.to_ascii_uppercase());
            json!({ "type": name, "soft": soft, "hard": hard })
        })
        .collect()
}

/// Settings of the container's network are written from outside, in its namespace: it does
/// not own that. The others are the runtime's to write: `linux.sysctl`.
pub fn oci_settings(process: &ProcessSpec) -> Value {
    let own = process.sysctls.iter();
    let own = own.filter(|(name, _)| !name.starts_with("net."));
    let own: Map<String, Value> = own.map(|(k, v)| (k.clone(), json!(v))).collect();
    Value::Object(own)
}

/// Writes those of the network namespace that this process is in.
pub fn write_network_settings(process: &ProcessSpec) -> Result<(), String> {
    for (name, value) in &process.sysctls {
        if name.starts_with("net.") && types::is_sysctl(name) {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            std::fs::write(&path, value).map_err(|e| format!("set {name} to {value}: {e}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_its_number() {
        assert_eq!(mask(&ProcessSpec::default()), 0xa804_25fb);
        for name in types::CAPABILITIES {
            assert!(NUMBERS.iter().any(|(known, _)| *known == name), "{name}");
        }
        for name in types::ULIMITS {
            assert!(kind(name).is_some(), "{name}");
        }
    }

    #[test]
    fn no_limit_is_above_the_hosts_own() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
        let asked = |soft, hard| ProcessSpec {
            ulimits: [("nofile".to_string(), Ulimit { soft, hard })].into(),
            ..ProcessSpec::default()
        };
        let found = |process: &ProcessSpec| {
            let all = limits(process);
            assert_eq!(all.len(), 1);
            (all[0].2, all[0].3)
        };
        assert_eq!(found(&asked(Some(5), Some(9))), (5, 9));
        assert_eq!(found(&asked(None, None)), (most, most));
        let usual = most.min(FILES_MAX);
        assert_eq!(found(&ProcessSpec::default()), (usual, usual));
    }
}
