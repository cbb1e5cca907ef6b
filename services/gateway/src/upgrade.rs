//! Headers that end at each hop, and connections that become something else (WebSocket).

use http::header::{
    CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::client::Counted;
use crate::record::Record;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// A client's wish to speak another protocol.
pub struct Upgrade {
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Upgrade {
    /// HTTP/2 is not offered: it would hide further requests from the gateway.
    pub fn wanted(request: &mut Request<Incoming>) -> Option<Self> {
        let protocol = request.headers().get(UPGRADE)?.clone();
        let is_http = protocol
            .as_bytes()
            .get(..2)
            .is_some_and(|p| p.eq_ignore_ascii_case(b"h2"));
        if is_http || !names_upgrade(request.headers()) {
            return None;
        }
        Some(Self {
            client: hyper::upgrade::on(request),
            protocol,
        })
    }

    /// Says it to the upstream in its turn.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Joins both ends once the client has read `response` (a 101).
    pub fn join(self, response: &mut Response<Incoming>, record: Option<Box<Record>>) {
        let upstream = hyper::upgrade::on(response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(upstream)) = (self.client.await, upstream.await) {
                let (mut client, mut upstream) =
                    (Counted::new(TokioIo::new(client)), TokioIo::new(upstream));
                sdk::splice(&mut client, &mut upstream).await;
                if let Some(mut record) = record {
                    record.access.received += client.read;
                    record.access.sent += client.written;
                }
            }
        });
    }
}

/// Removes what concerns one connection only (RFC 9110, section 7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        EXPECT,
    ] {
        headers.remove(name);
    }
}
