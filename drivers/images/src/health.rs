//! The health check that an image brings along.

use serde_json::Value;

/// Longest of a check's command, in words and bytes; a longer one is no check.
const TEST_WORDS_MAX: usize = 100;
const TEST_BYTES_MAX: usize = 16 << 10;

/// As Docker writes it: times in nanoseconds, 0 for the usual one.
pub fn check(config: &Value) -> Option<types::HealthCheck> {
    let check = &config["Healthcheck"];
    let texts = |value: &Value| -> Option<Vec<String>> {
        let words = value
            .as_array()?
            .iter()
            .map(|v| v.as_str().map(String::from));
        words.collect()
    };
    let words = texts(&check["Test"])?;
    let bytes: usize = words.iter().map(String::len).sum();
    if words.len() > TEST_WORDS_MAX || bytes > TEST_BYTES_MAX {
        return None;
    }
    let test = match words.split_first()? {
        (kind, rest) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
        (kind, [line]) if kind == "CMD-SHELL" => {
            let shell = texts(&config["Shell"]).filter(|s| !s.is_empty());
            let mut shell = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            shell.push(line.clone());
            shell
        }
        _ => return None,
    };
    let usual = types::HealthCheck::default();
    let millis = |key: &str, usual: u32| match check[key].as_u64() {
        None | Some(0) => usual,
        Some(nanos) => u32::try_from(nanos / 1_000_000)
            .unwrap_or(u32::MAX)
            .max(100),
    };
    Some(types::HealthCheck {
        test,
        interval_ms: millis("Interval", usual.interval_ms),
        timeout_ms: millis("Timeout", usual.timeout_ms),
        start_period_ms: millis("StartPeriod", usual.start_period_ms),
        start_interval_ms: millis("StartInterval", usual.start_interval_ms),
        retries: match check["Retries"].as_u64() {
            None | Some(0) => usual.retries,
            Some(retries) => u32::try_from(retries).unwrap_or(u32::MAX),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::HealthCheck;

    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let of = |test: Value| check(&json!({ "Healthcheck": { "Test": test } }));
        let tests = |test: &[&str]| {
            Some(HealthCheck {
                test: test.iter().map(|t| t.to_string()).collect(),
                ..HealthCheck::default()
            })
        };
        for (test, expected) in [
            (json!(["CMD", "a", "b"]), tests(&["a", "b"])),
            (
                json!(["CMD-SHELL", "a b"]),
                tests(&["/bin/sh", "-c", "a b"]),
            ),
            (json!(["NONE"]), None),
            (json!([]), None),
            (json!(["CMD"]), None),
            (json!(["CMD", 7]), None),
            (json!("CMD a"), None),
            (json!(["CMD", "x".repeat(TEST_BYTES_MAX + 1)]), None),
            (json!(vec!["CMD"; TEST_WORDS_MAX + 1]), None),
        ] {
            assert_eq!(of(test.clone()), expected, "{test}");
        }
        assert_eq!(check(&json!({})), None);
        let all = check(&json!({
            "Shell": ["/bin/ash", "-ec"],
            "Healthcheck": {
                "Test": ["CMD-SHELL", "a"], "Interval": 5_000_000_000u64, "Timeout": 1,
                "StartPeriod": u64::MAX, "Retries": 7,
            },
        }))
        .expect("a check");
        assert_eq!(all.test, ["/bin/ash", "-ec", "a"]);
        assert_eq!(
            (all.interval_ms, all.timeout_ms, all.retries),
            (5_000, 100, 7)
        );
        assert_eq!(
            (all.start_period_ms, all.start_interval_ms),
            (u32::MAX, 5_000)
        );
    }
}
