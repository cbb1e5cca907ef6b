//! Keys that leave no choice here: what is done anyway may be said, other values are refused,
//! and what could only be ignored is told.

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;

const HOST: &str = "containers share nothing with the machine that they run on";
const NETWORKS: &str = "remove it and use networks:, ports: and expose:";
const RESTRICTED: &str = "every container runs under one restricted profile";

/// Keys without effect: why, and what to do.
fn idle(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "log_driver" | "log_opt" => (
            "logs are kept by the host",
            "remove it and read them with `runrig logs`",
        ),
        "develop" => (
            "nothing is watched: a change reaches the network with the next `runrig up`",
            "leave it for Compose, or remove it",
        ),
        "attach" => ("`runrig logs -f` attaches", "remove it"),
        "dns" => (
            "names come from the project's own resolver, which asks the host's",
            "remove it",
        ),
        "memswap_limit" | "mem_swappiness" => (
            "replicas do not swap",
            "remove it and set mem_limit: to what the service needs",
        ),
        _ => return None,
    })
}

impl Reader {
    /// Takes `field` if it is one of these keys.
    pub fn fixed(&mut self, key: &str, field: &Field<'_>) -> bool {
        if let Some((why, next)) = idle(key) {
            self.warn_at(field, format!("{key} has no effect"), why, next);
            return true;
        }
        match key {
            "oom_kill_disable" | "privileged" | "use_api_socket" => {
                self.switch(key, field);
            }
            "ipc" => self.only(field, &["private", "shareable"], HOST, "remove it"),
            "cgroup" => self.only(field, &["private"], HOST, "remove it"),
            "isolation" => self.only(field, &["default"], RESTRICTED, "remove it"),
            "security_opt" => {
                for item in self.list(field) {
                    self.security_option(&item);
                }
            }
            _ => return false,
        }
        true
    }

    fn switch(&mut self, key: &str, field: &Field<'_>) {
        if self.boolean(field) != Some(true) {
            return;
        }
        match key {
            "oom_kill_disable" => {
                let why = "a replica that needs more than it reserves is killed";
                self.wrong_at(
                    field,
                    format!("{key} is not supported"),
                    why,
                    "raise mem_limit:",
                );
            }
            _ => {
                let next =
                    "remove it; a program that needs it cannot run on other people's machines";
                self.wrong_at(field, format!("{key} is not supported"), RESTRICTED, next);
            }
        }
    }

    /// Whether it has no network at all.
    pub fn network_mode(&mut self, field: &Field<'_>) -> bool {
        let is_none = field.node.text() == Some("none");
        if !is_none {
            self.only(field, &["bridge", "default"], HOST, NETWORKS);
        }
        is_none
    }

    fn only(&mut self, field: &Field<'_>, allowed: &[&str], why: &str, next: &str) {
        let Some(text) = self.text(field) else { return };
        if !allowed.contains(&text.as_str()) {
            self.wrong_at(
                field,
                format!("\"{}\" is not supported", shown(&text)),
                why,
                next,
            );
        }
    }

    fn security_option(&mut self, item: &Field<'_>) {
        let Some(text) = self.text(item) else { return };
        match text.replace('=', ":").as_str() {
            "no-new-privileges" | "no-new-privileges:true" => {}
            label if label.starts_with("label:") || label.starts_with("apparmor:") => {
                let what = format!("{} has no effect", shown(label));
                self.warn_at(item, what, RESTRICTED, "remove it");
            }
            _ => self.wrong_at(
                item,
                format!("{} is not supported", shown(&text)),
                RESTRICTED,
                "remove it; no-new-privileges is always on",
            ),
        }
    }
}
