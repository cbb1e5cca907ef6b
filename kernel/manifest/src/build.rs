//! `build`: checked, and left to a builder elsewhere.

use crate::field::Field;
use crate::reader::Reader;

const KEYS: [&str; 25] = [
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

impl Reader {
    /// A folder, or a mapping that says how.
    pub fn build(&mut self, field: &Field<'_>) {
        if !field.is_map() {
            self.text(field);
            return;
        }
        for (key, inner) in self.map(field) {
            match key {
                "context" | "dockerfile" | "dockerfile_inline" | "target" | "network" => {
                    self.text(&inner);
                }
                "args" | "labels" | "additional_contexts" => {
                    self.pairs(&inner);
                }
                "no_cache" | "pull" | "privileged" => {
                    self.boolean(&inner);
                }
                _ if KEYS.contains(&key) || key.starts_with("x-") => {}
                _ => self.unknown(&inner, key, &KEYS.join(", ")),
            }
        }
    }
}
