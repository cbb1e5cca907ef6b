//! A range of addresses of one's own among the host agents of a machine.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::NetError;

/// 10.64.0.0/16 to 10.127.0.0/16.
const FIRST: u8 = 64;
const COUNT: u8 = 64;
const CLAIMS: &str = "/run/runrig";

fn claim_path(second: u8) -> PathBuf {
    Path::new(CLAIMS).join(format!("pool-{second}"))
}

/// Is it an address that some agent may give to a container?
pub fn contains(address: Ipv4Addr) -> bool {
    let [a, b, _, _] = address.octets();
    a == 10 && (FIRST..FIRST + COUNT).contains(&b)
}

/// Does a route of somebody else lie in 10.`second`.0.0/16? One that holds all our ranges
/// does not count: ours are narrower and go first.
fn routed(table: &str, tag: &str, second: u8) -> bool {
    let ours = format!("r{tag}b");
    let range = u32::from(Ipv4Addr::new(10, second, 0, 0));
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> Option<u32> {
            let hex = u32::from_str_radix(fields.get(at)?, 16).ok()?;
            Some(u32::from_be_bytes(hex.to_le_bytes()))
        };
        let (Some(destination), Some(mask)) = (number(1), number(7)) else {
            return false;
        };
        let narrow = mask.count_ones() > 10;
        // The wider of both masks tells whether they overlap.
        let common = mask & 0xffff_0000;
        let bridge = fields.first().and_then(|name| name.strip_prefix(&ours));
        let own = bridge.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        // A closed-off range that an agent left behind has no interface.
        let left = fields.first() == Some(&"*");
        narrow && destination & common == range & common && !own && !left
    })
}

/// Held while claims and what belongs to them are looked at and changed.
pub struct Claims {
    _lock: std::fs::File,
}

impl Claims {
    pub fn open() -> Result<Self, NetError> {
        let failed = |why: String| {
            NetError::new(
                "look at the ranges of addresses of this machine's agents",
                why,
                "Run the host agent as root: it writes to /run/runrig",
            )
        };
        std::fs::create_dir_all(CLAIMS).map_err(|e| failed(format!("make {CLAIMS}: {e}")))?;
        let lock = std::fs::File::create(Path::new(CLAIMS).join("lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|e| failed(format!("lock {CLAIMS}: {e}")))?;
        Ok(Self { _lock: lock })
    }

    /// Has no agent whose state is still on the disk claimed `range`?
    pub fn is_free(&self, range: Ipv4Addr) -> bool {
        match std::fs::read_to_string(claim_path(range.octets()[1])) {
            Ok(state) => !Path::new(&state).exists(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// Claims a /16 for the agent whose state lies in `state`; the same one again after a
/// restart. A claim whose agent is gone from the disk is taken over.
pub fn claim(state: &Path, tag: &str) -> Result<Ipv4Addr, NetError> {
    let failed = |why: String| {
        NetError::new(
            "choose addresses for containers",
            why,
            "Free a range in 10.64.0.0/10, or remove old claims in /run/runrig",
        )
    };
    // Agents that start at once choose one after the other.
    let _claims = Claims::open()?;
    let mine = state.display().to_string();
    let start = tag
        .bytes()
        .fold(0u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b));
    let all = (0..COUNT).map(|n| FIRST + start.wrapping_add(n) % COUNT);
    let known = all
        .clone()
        .find(|second| std::fs::read_to_string(claim_path(*second)).is_ok_and(|c| c == mine));
    if let Some(second) = known {
        return Ok(Ipv4Addr::new(10, second, 0, 0));
    }
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    for second in all {
        if routed(&table, tag, second) {
            continue;
        }
        let path = claim_path(second);
        let gone = std::fs::read_to_string(&path).is_ok_and(|c| !Path::new(&c).exists());
        if gone {
            let _ = std::fs::remove_file(&path);
        }
        let fresh = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path);
        if let Ok(mut file) = fresh {
            std::io::Write::write_all(&mut file, mine.as_bytes())
                .map_err(|e| failed(e.to_string()))?;
            return Ok(Ipv4Addr::new(10, second, 0, 0));
        }
    }
    Err(failed("all 64 ranges are taken".into()))
}

pub fn release(range: Ipv4Addr) {
    // Nothing is lost if it is gone already.
    let _ = std::fs::remove_file(claim_path(range.octets()[1]));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\n\
        tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\n\
        rmnet0\t0000460A\t00000000\t0001\t0\t0\t0\t0000FEFF\n\
        rabcb3\t0003500A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
        rxyzb3\t0003510A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";

    #[test]
    fn ranges_of_others_are_left_to_them() {
        let taken = |second| routed(TABLE, "abc", second);
        assert!(!taken(64), "a route for all of 10/8 goes after ours");
        assert!(taken(70) && taken(71), "10.70.0.0/15");
        assert!(!taken(72));
        assert!(!taken(80), "our own bridge of a former run");
        assert!(taken(81), "another agent's");
    }

    #[test]
    fn ranges() {
        assert!(contains(Ipv4Addr::new(10, 64, 0, 2)) && contains(Ipv4Addr::new(10, 127, 9, 2)));
        assert!(!contains(Ipv4Addr::new(10, 63, 0, 2)) && !contains(Ipv4Addr::new(10, 128, 0, 2)));
        assert!(!contains(Ipv4Addr::new(169, 254, 169, 254)));
    }
}
