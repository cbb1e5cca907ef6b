//! How a service's processes stand towards the kernel: capabilities, limits, groups, and
//! kernel settings, each within what other people's machines can grant.

use std::collections::{BTreeMap, BTreeSet};

use types::{CAPABILITIES, ProcessSpec, ULIMITS, Ulimit, is_sysctl, is_sysctl_value};

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;
use crate::value;

const GROUPS_MAX: usize = 32;
const SHM_MAX: u64 = 64 << 30;

impl Reader {
    /// Takes `field` if it is one of these keys.
    pub fn process(&mut self, key: &str, field: &Field<'_>, process: &mut ProcessSpec) -> bool {
        match key {
            "cap_add" => process.cap_add = self.cap_add(field),
            "cap_drop" => process.cap_drop = self.cap_drop(field),
            "init" => process.init = self.boolean(field).unwrap_or_default(),
            "stdin_open" => process.stdin_open = self.boolean(field).unwrap_or_default(),
            "group_add" => process.groups = self.groups(field),
            "sysctls" => process.sysctls = self.sysctls(field),
            "ulimits" => process.ulimits = self.ulimits(field),
            "shm_size" => {
                let bytes = self.parsed(field, value::bytes, "128m");
                let within = bytes.filter(|b| (1..=SHM_MAX).contains(b));
                if bytes.is_some() && within.is_none() {
                    let why = "it is above 0 and at most 64 GiB; what lies there counts as memory";
                    self.wrong_at(field, "the size is out of bounds", why, "change it");
                }
                process.shm_bytes = within.unwrap_or_default();
            }
            "cpu_shares" => {
                let shares = self.whole_number(field, "512").unwrap_or_default();
                if shares > 1_024 {
                    self.warn_at(
                        field,
                        "cpu_shares above 1024 are 1024",
                        "no replica weighs more than what it reserves",
                        "set cpus: to what it needs",
                    );
                }
                process.cpu_shares = shares.min(1_024) as u16;
            }
            "oom_score_adj" => {
                let parse = |t: &str| t.parse::<u16>().ok().filter(|n| *n <= 1_000);
                let example = "500 (0 to 1000: nobody is spared at the cost of others)";
                process.oom_score_adj = self.parsed(field, parse, example).unwrap_or_default();
            }
            _ => return false,
        }
        true
    }

    /// Upper case, without `CAP_`.
    fn capabilities(&mut self, field: &Field<'_>) -> Vec<(Field<'static>, String)> {
        let mut named = Vec::new();
        for item in self.list(field) {
            if let Some(text) = self.text(&item) {
                let name = text.to_ascii_uppercase();
                let name = name.strip_prefix("CAP_").unwrap_or(&name).to_string();
                named.push((item.detached(), name));
            }
        }
        named
    }

    fn cap_drop(&mut self, field: &Field<'_>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (item, name) in self.capabilities(field) {
            let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
                let what = format!("\"{}\" is no capability", shown(&name));
                self.wrong_at(&item, what, "", "write for example NET_RAW or ALL");
            } else if name == "ALL" || CAPABILITIES.contains(&name.as_str()) {
                names.insert(name);
            }
            // Others nobody has to begin with.
        }
        names
    }

    fn cap_add(&mut self, field: &Field<'_>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (item, name) in self.capabilities(field) {
            if CAPABILITIES.contains(&name.as_str()) {
                names.insert(name);
            } else if matches!(name.as_str(), "SYS_NICE" | "IPC_LOCK" | "SYS_RESOURCE") {
                self.warn_at(
                    &item,
                    format!("{name} has no effect"),
                    "it works only where a program owns the machine; most do without",
                    "remove it",
                );
            } else {
                self.wrong_at(
                    &item,
                    format!("the capability {} is not given", shown(&name)),
                    "it reaches the machine, which belongs to somebody else",
                    &format!("remove it; given are {}", CAPABILITIES.join(", ")),
                );
            }
        }
        names
    }

    fn groups(&mut self, field: &Field<'_>) -> BTreeSet<String> {
        let mut groups = BTreeSet::new();
        for item in self.list(field).iter().take(GROUPS_MAX) {
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
            let parse = |t: &str| {
                let good = !t.is_empty() && t.len() <= 64 && t.chars().all(plain);
                good.then(|| t.to_string())
            };
            groups.extend(self.parsed(item, parse, "audio or 1000"));
        }
        groups
    }

    fn sysctls(&mut self, field: &Field<'_>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        for (name, (value, at)) in self.pairs(field) {
            let path = format!("{}.{}", field.path, shown(&name));
            let value = value.unwrap_or_default();
            if !is_sysctl(&name) {
                self.wrong(
                    at,
                    &path,
                    format!("the kernel setting {} is not given", shown(&name)),
                    "it is the machine's, or could disturb others on it",
                    "remove it; docs/compose.md lists those that are given",
                );
            } else if !is_sysctl_value(&value) {
                let what = format!("\"{}\" is no value", shown(&value));
                self.wrong(at, &path, what, "numbers are needed", "correct it");
            } else {
                settings.insert(name, value);
            }
        }
        settings
    }

    fn ulimits(&mut self, field: &Field<'_>) -> BTreeMap<String, Ulimit> {
        let mut limits = BTreeMap::new();
        for (name, inner) in self.map_or_null(field) {
            if !ULIMITS.contains(&name) {
                self.unknown(&inner, name, &ULIMITS.join(", "));
                continue;
            }
            let (mut soft, mut hard) = (None, None);
            if inner.is_map() {
                for (key, inner) in self.map(&inner) {
                    match key {
                        "soft" => soft = self.limit(&inner),
                        "hard" => hard = self.limit(&inner),
                        _ => self.unknown(&inner, key, "soft, hard"),
                    }
                }
            } else {
                soft = self.limit(&inner);
                hard = soft;
            }
            let (Some(soft), Some(hard)) = (soft, hard) else {
                let next = "write a number, or { soft: 1024, hard: 4096 }";
                self.wrong_at(&inner, "soft and hard are both needed", "", next);
                continue;
            };
            let above = match (soft, hard) {
                (Some(soft), Some(hard)) => soft > hard,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if above {
                self.wrong_at(&inner, "soft is above hard", "", "raise hard");
            }
            limits.insert(name.to_string(), Ulimit { soft, hard });
        }
        limits
    }

    /// A number; -1 is no limit.
    fn limit(&mut self, field: &Field<'_>) -> Option<Option<u64>> {
        let parse = |text: &str| match text {
            "-1" | "unlimited" => Some(None),
            _ => text.parse().ok().map(Some),
        };
        self.parsed(field, parse, "65536, or -1 for no limit")
    }
}
