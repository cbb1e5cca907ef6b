//! `healthcheck`.

use types::HealthCheck;

use crate::field::Field;
use crate::reader::Reader;
use crate::value;

impl Reader {
    pub fn healthcheck(&mut self, field: &Field<'_>) -> Option<HealthCheck> {
        let (mut test, mut disabled, mut said) = (None, false, false);
        let mut check = HealthCheck::default();
        for (key, inner) in self.map_or_null(field) {
            let duration = match key {
                "test" => {
                    test = Some(self.health_test(&inner));
                    continue;
                }
                "disable" => {
                    disabled = self.boolean(&inner).unwrap_or_default();
                    continue;
                }
                "retries" => {
                    said = true;
                    // 0 is as if it were not said, as engines have it.
                    if let Some(retries) = self.whole_number(&inner, "3").filter(|n| *n > 0) {
                        check.retries = retries;
                    }
                    continue;
                }
                "interval" => &mut check.interval_ms,
                "timeout" => &mut check.timeout_ms,
                "start_period" => &mut check.start_period_ms,
                "start_interval" => &mut check.start_interval_ms,
                _ => {
                    if !key.starts_with("x-") {
                        self.unknown(
                            &inner,
                            key,
                            "test, disable, interval, timeout, retries, start_period, start_interval",
                        );
                    }
                    continue;
                }
            };
            said = true;
            if let Some(ms) = self.parsed(&inner, value::duration_ms, "1m30s") {
                if ms == 0 && key != "start_period" {
                    continue;
                }
                if ms < 100 && key != "start_period" {
                    self.wrong_at(
                        &inner,
                        "the time is too short",
                        "a check takes at least 100 ms",
                        "write 100ms or more",
                    );
                } else {
                    *duration = ms;
                }
            }
        }
        match test {
            _ if disabled => Some(HealthCheck::off()),
            // The image's own, if it has one.
            None if !said => None,
            None => {
                self.wrong_at(
                    field,
                    "test is missing",
                    "an image's own check is taken as it is, with its own times",
                    "add test: [\"CMD\", …], or remove healthcheck:",
                );
                None
            }
            Some(test) => {
                check.test = test?;
                Some(check)
            }
        }
    }

    fn health_test(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        let shell = |text: String| vec!["/bin/sh".to_string(), "-c".to_string(), text];
        if !field.is_list() {
            return self.text(field).map(shell);
        }
        let mut words = self.texts(field).into_iter();
        let kind = words.next();
        let rest: Vec<String> = words.collect();
        match (kind.as_deref(), rest.len()) {
            (Some("NONE"), 0) => Some(Vec::new()),
            (Some("CMD"), 1..) => Some(rest),
            (Some("CMD-SHELL"), 1) => rest.into_iter().next().map(shell),
            _ => {
                self.wrong_at(
                    field,
                    "the test cannot be read",
                    "a list begins with CMD, CMD-SHELL or NONE",
                    "write for example [\"CMD\", \"curl\", \"-f\", \"http://localhost\"]",
                );
                None
            }
        }
    }
}
