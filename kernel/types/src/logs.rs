//! What becomes of what a project's replicas print.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// Of a whole project; a change of it replaces no replica.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(default)]
pub struct LogPolicy {
    /// Kept on each host, in bytes; the host's own figure if not said, and never more than that.
    pub bytes_max: Option<u64>,
    /// Kept so long, in milliseconds; the host's own figure if not said.
    pub age_ms_max: Option<u64>,
    /// Who may read besides the owner.
    pub readers: Vec<PublicKey>,
    pub exports: Vec<LogExport>,
    /// No copy is kept on a second host.
    pub alone: bool,
    /// Keys to which that copy is sealed, besides the readers': `runrig up` names the one that
    /// deploys. They open nothing but copies: what they may ask of hosts their roles say.
    pub copy_to: Vec<PublicKey>,
}

impl LogPolicy {
    pub const READERS_MAX: usize = 16;
    pub const EXPORTS_MAX: usize = 4;
    pub const COPY_TO_MAX: usize = 4;
    pub const URL_MAX: usize = 512;
}

/// A receiver to which hosts send what replicas print or use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct LogExport {
    pub kind: ExportKind,
    /// `http://` or `https://`, without a user or a password: the ledger is read by all.
    pub url: String,
}

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ExportKind {
    /// Grafana Loki's push API.
    Loki,
    /// OpenTelemetry over HTTP, in JSON: lines.
    Otlp,
    /// The same for what replicas use.
    Metrics,
}

impl LogExport {
    /// Why it cannot be taken, if so.
    pub fn fault(&self) -> Option<&'static str> {
        let rest = self
            .url
            .strip_prefix("http://")
            .or_else(|| self.url.strip_prefix("https://"));
        let Some(rest) = rest else {
            return Some("a receiver is an http:// or https:// address");
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || self.url.len() > LogPolicy::URL_MAX {
            return Some("a receiver's address names a host and has at most 512 bytes");
        }
        if authority.contains('@') {
            return Some("a receiver's address is public: a password does not belong into it");
        }
        if !self.url.bytes().all(|b| b.is_ascii_graphic()) {
            return Some("a receiver's address is plain ASCII without spaces");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_addresses_without_secrets() {
        let with = |url: &str| LogExport {
            kind: ExportKind::Loki,
            url: url.into(),
        };
        for (export, good) in [
            (with("http://loki:3100/loki/api/v1/push"), true),
            (with("https://logs.example/otlp"), true),
            (with("ftp://logs.example"), false),
            (with("https://"), false),
            (with("https://me:secret@logs.example/"), false),
            (with("https://logs.example/a b"), false),
        ] {
            assert_eq!(export.fault().is_none(), good, "{export:?}");
        }
    }
}
