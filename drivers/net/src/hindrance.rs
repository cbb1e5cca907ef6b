//! What of the machine's own rules stands in the containers' way out.

use serde_json::Value;
use tokio::process::Command;

use crate::NetError;

/// For one question to `nft`.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Firewalls of others here that drop what containers send to the outside or get from there.
///
/// A packet must pass every table: ours cannot let through what another drops. Containers
/// run and are reached by the gateway all the same, so this is told and nothing is refused.
pub async fn hindrances() -> Vec<NetError> {
    let asked = Command::new("nft")
        .args(["-j", "list", "chains"])
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(output)) => {
            let chains = serde_json::from_slice(&output.stdout).unwrap_or_default();
            dropping(&chains)
        }
        _ => Vec::new(),
    }
}

fn dropping(chains: &Value) -> Vec<NetError> {
    let all = || {
        let items = chains["nftables"].as_array().into_iter().flatten();
        items.map(|item| &item["chain"])
    };
    let docker = all().any(|c| c["name"] == "DOCKER-USER");
    let drops = all().filter(|c| {
        let ours = c["table"]
            .as_str()
            .is_some_and(|t| t.starts_with("runrig_"));
        let family = matches!(c["family"].as_str(), Some("ip" | "inet"));
        c["hook"] == "forward" && c["policy"] == "drop" && family && !ours
    });
    drops
        .map(|chain| {
            let text = |key: &str| chain[key].as_str().unwrap_or_default();
            let (family, table, name) = (text("family"), text("table"), text("name"));
            let next = if docker && (table, name) == ("filter", "FORWARD") {
                "Let containers through: iptables -I DOCKER-USER -i r+ -j ACCEPT && iptables -I DOCKER-USER -o r+ -j ACCEPT".to_string()
            } else {
                format!(
                    "Let containers through: nft insert rule {family} {table} {name} iifname 'r*' accept && nft insert rule {family} {table} {name} oifname 'r*' accept"
                )
            };
            NetError::new(
                "containers do not reach the outside",
                format!("chain {name} of table {family} {table} drops what is forwarded"),
                &next,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn others_rules() {
        let chain = |family: &str, table: &str, name: &str, hook: Option<&str>, policy: &str| {
            let mut chain = json!({ "family": family, "table": table, "name": name });
            if let Some(hook) = hook {
                chain["hook"] = json!(hook);
                chain["policy"] = json!(policy);
            }
            json!({ "chain": chain })
        };
        let told = |chains: &[Value]| dropping(&json!({ "nftables": chains }));
        let forward = chain("ip", "filter", "FORWARD", Some("forward"), "drop");
        let found = told(&[
            json!({ "metainfo": {} }),
            forward.clone(),
            chain("ip", "filter", "DOCKER-USER", None, ""),
            chain("ip", "filter", "INPUT", Some("input"), "drop"),
            chain("ip6", "filter", "FORWARD", Some("forward"), "drop"),
            chain("inet", "runrig_ab", "forward", Some("forward"), "drop"),
            chain("inet", "firewalld", "fine", Some("forward"), "accept"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].next.contains("DOCKER-USER"), "{}", found[0]);
        let found = told(&[forward]);
        assert!(
            found[0].next.contains("nft insert rule ip filter FORWARD"),
            "{}",
            found[0]
        );
        assert!(dropping(&Value::Null).is_empty());
    }
}
