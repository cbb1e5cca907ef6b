//! Which of an image's variants runs on this machine.

use serde_json::Value;
use types::Digest;

/// This machine's, as an OCI image index and an offer name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Lower is better; `None`: it does not run here.
fn rank(variant: &str) -> Option<u32> {
    match (architecture(), variant) {
        (_, "") => Some(0),
        ("amd64", "v1") | ("arm64", "v8") => Some(1),
        #[cfg(target_arch = "x86_64")]
        ("amd64", "v2") => std::arch::is_x86_feature_detected!("sse4.2").then_some(2),
        #[cfg(target_arch = "x86_64")]
        ("amd64", "v3") => (std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("fma"))
        .then_some(3),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// `linux/arm/v7`.
fn shown(platform: &Value) -> String {
    let parts = ["os", "architecture", "variant"].map(|key| text(platform, key));
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("/").chars().take(60).collect()
}

/// The manifest of an index that suits this machine best.
///
/// Errors: none does; names those that there are.
pub fn choose(index: &Value) -> Result<Digest, String> {
    let entries = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    let fitting = entries.iter().filter_map(|entry| {
        let platform = &entry["platform"];
        let fits =
            text(platform, "os") == "linux" && text(platform, "architecture") == architecture();
        let rank = fits.then(|| rank(text(platform, "variant"))).flatten()?;
        Some((rank, crate::reference::digest(text(entry, "digest"))?))
    });
    if let Some((_, digest)) = fitting.min_by_key(|(rank, _)| *rank) {
        return Ok(digest);
    }
    // One that does not say may fit: its config tells.
    let unsaid = entries
        .iter()
        .find(|entry| !entry["platform"].is_object())
        .and_then(|entry| crate::reference::digest(text(entry, "digest")));
    unsaid.ok_or_else(|| {
        let mut there: Vec<String> = entries
            .iter()
            .map(|entry| shown(&entry["platform"]))
            .filter(|p| !p.is_empty() && p != "unknown/unknown")
            .collect();
        there.sort();
        there.dedup();
        there.truncate(20);
        format!(
            "it is not made for linux/{}, only for {}. Build it for this platform too, or place it on hosts of that kind",
            architecture(),
            if there.is_empty() { "none".into() } else { there.join(", ") }
        )
    })
}

/// Whether a config is of an image for this machine.
pub fn fits(config: &Value) -> Result<(), String> {
    let (os, cpu) = (text(config, "os"), text(config, "architecture"));
    if matches!(os, "" | "linux") && (cpu.is_empty() || cpu == architecture()) {
        return Ok(());
    }
    Err(format!(
        "it is made for {}, but this host is linux/{}",
        shown(config),
        architecture()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_best_fitting_variant_is_chosen() {
        let digest = |n: u8| Digest([n; 32]);
        let entry = |n: u8, os: &str, cpu: &str, variant: &str| json!({ "digest": digest(n), "platform": { "os": os, "architecture": cpu, "variant": variant } });
        let own = architecture();
        let other = if own == "amd64" { "arm64" } else { "amd64" };
        let index = |entries: Vec<Value>| json!({ "manifests": entries });
        let attestation = entry(9, "unknown", "unknown", "");
        assert_eq!(
            choose(&index(vec![
                attestation.clone(),
                entry(1, "linux", other, ""),
                entry(2, "windows", own, ""),
                entry(3, "linux", own, if own == "amd64" { "v1" } else { "v8" }),
                entry(4, "linux", own, ""),
            ])),
            Ok(digest(4))
        );
        assert_eq!(
            choose(&index(vec![json!({ "digest": digest(5) })])),
            Ok(digest(5))
        );
        let error = choose(&index(vec![
            attestation,
            entry(1, "linux", other, "v9"),
            entry(2, "windows", own, ""),
        ]))
        .expect_err("none");
        assert!(
            error.contains(&format!("linux/{other}/v9, windows/{own}. "))
                && !error.contains("unknown"),
            "{error}"
        );
        assert!(choose(&json!({})).is_err());
        assert!(fits(&json!({ "os": "linux", "architecture": own })).is_ok());
        assert!(fits(&json!({})).is_ok());
        assert!(fits(&json!({ "os": "linux", "architecture": other })).is_err());
        assert!(fits(&json!({ "os": "windows", "architecture": own })).is_err());
    }
}
