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

/// Does a route of somebody else lie in 10.`second`.0.0/16?
fn routed(second: u8) -> bool {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next().unwrap_or_default();
        let destination = fields
            .next()
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .map(|n| Ipv4Addr::from(n.to_le_bytes()).octets());
        destination.is_some_and(|d| d[0] == 10 && d[1] == second) && !name.starts_with('r')
    })
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
    std::fs::create_dir_all(CLAIMS).map_err(|e| failed(format!("make {CLAIMS}: {e}")))?;
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
    for second in all {
        if routed(second) {
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
