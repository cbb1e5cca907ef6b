//! `post_start` and `pre_stop`: commands beside the service's own.

use types::HookSpec;

use crate::field::Field;
use crate::reader::Reader;

const HOOKS_MAX: usize = 8;

impl Reader {
    pub fn hooks(&mut self, field: &Field<'_>) -> Vec<HookSpec> {
        let items = self.list(field);
        if items.len() > HOOKS_MAX {
            let what = format!("{} commands", items.len());
            let why = format!("at most {HOOKS_MAX} are run");
            self.wrong_at(field, what, &why, "put them into a script");
        }
        let hooks = items.iter().take(HOOKS_MAX);
        hooks.filter_map(|item| self.hook(item)).collect()
    }

    fn hook(&mut self, item: &Field<'_>) -> Option<HookSpec> {
        let mut hook = HookSpec::default();
        for (key, inner) in self.map(item) {
            match key {
                "command" => hook.command = self.command_line(&inner).unwrap_or_default(),
                "user" => hook.user = self.user(&inner),
                "working_dir" => hook.working_dir = self.working_dir(&inner),
                "environment" => hook.environment = self.own_environment(&inner),
                "privileged" => {
                    if self.boolean(&inner) == Some(true) {
                        let why = "every container runs under one restricted profile";
                        self.wrong_at(&inner, "privileged is not supported", why, "remove it");
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => self.unknown(
                    &inner,
                    key,
                    "command, user, working_dir, environment, privileged",
                ),
            }
        }
        if hook.command.is_empty() && !self.is_full() {
            let next = "add command: [\"/bin/sh\", \"-c\", \"…\"]";
            self.wrong_at(item, "there is no command", "", next);
            return None;
        }
        Some(hook)
    }
}
