//! Where services are reached: published ports, and names through the gateway.

use api::DeploymentView;
use serde::Serialize;
use types::Protocol;

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub service: String,
    pub url: String,
    pub port: u16,
    /// In the container.
    pub target: u16,
}

/// Host and port of a gateway's URL.
pub fn gateway_of(url: &str) -> (&str, u16) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    (host, port.parse().unwrap_or(80))
}

/// Published ports first, then names.
pub fn endpoints(view: &DeploymentView, gateway: &str) -> Vec<Endpoint> {
    let (host, gateway_port) = gateway_of(gateway);
    let services = view.spec.services.iter();
    let endpoint = |service: &String, url: String, port: u16, target: u16| Endpoint {
        service: service.clone(),
        url,
        port,
        target,
    };
    let published = services.clone().flat_map(|(name, service)| {
        service.ports.iter().filter_map(move |p| {
            let port = p.published?;
            let scheme = match p.protocol {
                Protocol::Udp => "udp",
                Protocol::Tcp => "http",
            };
            let url = format!("{scheme}://{host}:{port}");
            Some(endpoint(name, url, port, p.target))
        })
    });
    let named = services.filter_map(|(name, service)| {
        let tcp = service.ports.iter().find(|p| p.protocol == Protocol::Tcp);
        let target = tcp.map(|p| p.target).or(service.expose.first().copied())?;
        let part = name.replace(['_', '.'], "-").to_lowercase();
        let url = format!("http://{part}.{}.localhost:{gateway_port}", view.label);
        Some(endpoint(name, url, gateway_port, target))
    });
    published.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::deployment;

    #[test]
    fn endpoints_have_a_url_and_a_port() {
        let view = deployment(1, "shop", &["web_front"], 1);
        let all = endpoints(&view, "http://127.0.0.1:8700");
        let urls: Vec<&str> = all.iter().map(|e| e.url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "http://127.0.0.1:8080",
                "http://web-front.shop.localhost:8700"
            ]
        );
        let value = serde_json::to_value(&all[0]).expect("json");
        assert_eq!(value["service"], "web_front");
        assert_eq!(value["port"], 8080);
    }
}
