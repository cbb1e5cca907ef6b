//! Values with their types, for who prints them.

use std::collections::BTreeMap;

use crate::export::{quoted, quoted_key};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Plain>),
    Map(BTreeMap<String, Plain>),
}

/// Keys whose values are true or false where they can be.
const SWITCHES: [&str; 20] = [
    "attach",
    "attachable",
    "create_host_path",
    "disable",
    "enable_ipv4",
    "enable_ipv6",
    "external",
    "init",
    "internal",
    "no_cache",
    "nocopy",
    "oom_kill_disable",
    "privileged",
    "pull",
    "read_only",
    "required",
    "restart",
    "stdin_open",
    "tty",
    "use_api_socket",
];
/// Keys whose values are whole numbers where they can be.
const NUMBERS: [&str; 20] = [
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "hard",
    "max_attempts",
    "max_replicas_per_node",
    "mem_swappiness",
    "oom_score_adj",
    "parallelism",
    "pids",
    "pids_limit",
    "priority",
    "published",
    "replicas",
    "retries",
    "scale",
    "soft",
    "target",
];

impl Plain {
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.get(key),
            _ => None,
        }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_string())
    }

    pub(crate) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }

    pub(crate) fn pairs(pairs: BTreeMap<String, String>) -> Self {
        let pairs = pairs.into_iter();
        Self::Map(pairs.map(|(key, text)| (key, Self::Text(text))).collect())
    }

    /// A single value under `key`, which stands under `above`: of the type that other programs
    /// want there.
    pub(crate) fn typed(text: &str, key: &str, above: &str) -> Self {
        let number = || {
            let plain = text == "0" || !text.trim_start_matches('-').starts_with('0');
            text.parse().ok().filter(|_| plain).map(Self::Number)
        };
        let typed = match text {
            "true" | "false" if SWITCHES.contains(&key) => Some(Self::Bool(text == "true")),
            _ if NUMBERS.contains(&key) || above == "ulimits" => number(),
            _ => None,
        };
        typed.unwrap_or_else(|| Self::text(text))
    }

    /// As a file; dollars are doubled, so that reading it fills nothing in.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0, false);
        out
    }

    /// `begun`: the first line of an item, after its dash.
    fn write(&self, out: &mut String, depth: usize, begun: bool) {
        let indent = |out: &mut String, first: bool| {
            if !(first && begun) {
                out.push_str(&"  ".repeat(depth));
            }
        };
        match self {
            Self::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    indent(out, index == 0);
                    out.push_str(&quoted_key(key));
                    out.push(':');
                    value.after(out, depth);
                }
            }
            Self::List(items) => {
                for item in items {
                    out.push_str(&"  ".repeat(depth));
                    out.push('-');
                    match item {
                        Self::Map(entries) if !entries.is_empty() => {
                            out.push(' ');
                            item.write(out, depth + 1, true);
                        }
                        _ => item.after(out, depth),
                    }
                }
            }
            _ => self.after(out, depth),
        }
    }

    /// What stands after a key or a dash.
    fn after(&self, out: &mut String, depth: usize) {
        let single = match self {
            Self::Null => String::new(),
            Self::Bool(yes) => format!(" {yes}"),
            Self::Number(number) => format!(" {number}"),
            Self::Text(text) => format!(" {}", quoted(text)),
            Self::List(items) if items.is_empty() => " []".into(),
            Self::Map(entries) if entries.is_empty() => " {}".into(),
            Self::List(_) | Self::Map(_) => {
                out.push('\n');
                return self.write(out, depth + 1, false);
            }
        };
        out.push_str(&single);
        out.push('\n');
    }
}
