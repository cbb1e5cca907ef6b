//! A request taken apart, sent to one upstream after another until one answers.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONTENT_TYPE, COOKIE, HOST, TE, VIA};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::grpc;
use crate::http1::is_about_origin;
use crate::outgoing::{Outgoing, Reply};
use crate::page;
use crate::proxy::Gateway;
use crate::record::Record;
use crate::table::Replica;
use crate::upgrade::{Upgrade, strip_hop_by_hop};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whom a request is from, and how.
#[derive(Clone, Copy, Debug)]
pub struct From {
    pub client: IpAddr,
    pub is_secure: bool,
}

pub struct Sending {
    pub parts: Parts,
    path: PathAndQuery,
    pub body: Outgoing,
    upgrade: Option<Upgrade>,
    /// gRPC: goes on in HTTP/2, with trailers.
    is_grpc: bool,
}

pub enum SendError {
    /// No answer in time.
    Late,
    /// The client stopped sending.
    Stalled,
    Failed {
        why: String,
        /// It may be sent elsewhere.
        again: bool,
        /// No connection stood: nobody has seen it.
        unreached: bool,
    },
}

/// The innermost cause.
fn why(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl SendError {
    pub fn again(&self, sending: &Sending) -> bool {
        match self {
            Self::Late => sending.is_harmless() && sending.body.is_whole(),
            Self::Stalled => false,
            Self::Failed { again, .. } => *again,
        }
    }

    pub fn why(&self) -> String {
        match self {
            Self::Late => "no answer in time".into(),
            Self::Stalled => "the client stopped sending".into(),
            Self::Failed { why, .. } => why.clone(),
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Failed { .. } => StatusCode::BAD_GATEWAY,
        }
    }
}

/// gRPC proper; its variant for browsers is ordinary HTTP.
fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    version == Version::HTTP_2
        && kind
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| !rest.starts_with(b"-web"))
}

/// HTTP/2 may send one cookie after another; before it they are one header.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(|v| v.as_bytes())
        .collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

impl Sending {
    pub fn new(mut request: Request<Incoming>, from: From, via: &HeaderValue) -> Self {
        let upgrade = Upgrade::wanted(&mut request);
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        let is_grpc = is_grpc(parts.version, &parts.headers);
        let body = Outgoing::new(body, parts.version);
        parts.version = Version::HTTP_11;
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let headers = &mut parts.headers;
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(HOST, host);
        }
        strip_hop_by_hop(headers);
        join_cookies(headers);
        // What a stranger says about where it comes from is not passed on.
        let said: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_about_origin(name.as_str()))
            .cloned()
            .collect();
        for name in said {
            headers.remove(name);
        }
        if let Ok(address) = HeaderValue::from_str(&from.client.to_string()) {
            headers.insert(FORWARDED_FOR, address);
        }
        let scheme = if from.is_secure { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(host) = headers.get(HOST).cloned() {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.append(VIA, via.clone());
        if is_grpc {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(upgrade) = &upgrade {
            upgrade.ask(headers);
        }
        Self {
            parts,
            path,
            body,
            upgrade,
            is_grpc,
        }
    }

    /// Doing it twice does no harm.
    pub fn is_harmless(&self) -> bool {
        self.parts.method.is_idempotent()
    }

    /// To `upstream`; gRPC goes to `replica` by HTTP/2, if that is one.
    pub async fn send(
        &mut self,
        gateway: &Gateway,
        upstream: &Authority,
        replica: Option<(&Replica, u16)>,
        limit: Duration,
        is_last: bool,
    ) -> Result<Response<Incoming>, SendError> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = match is_last {
            true => std::mem::take(&mut self.parts.headers),
            false => self.parts.headers.clone(),
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.path_and_query = Some(self.path.clone());
        uri.authority = Some(upstream.clone());
        let body = self.body.clone();
        let answer = async {
            if let (true, Some((replica, port))) = (self.is_grpc, replica) {
                // The line has the host.
                let host = request.headers_mut().remove(HOST);
                let host = host.and_then(|h| Authority::try_from(h.as_bytes()).ok());
                uri.authority = host.or(uri.authority);
                *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
                return grpc::request(replica, port, request).await;
            }
            *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
            let answer = gateway.client.request(request).await;
            answer.map_err(|e| (e.is_connect(), why(&e)))
        };
        let mut answer = pin!(answer);
        let mut sent = body.pieces();
        loop {
            match tokio::time::timeout(limit, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(_)) if body.is_stalled() => return Err(SendError::Stalled),
                Ok(Err((is_connect, why))) => {
                    let harmless = self.parts.method.is_idempotent();
                    return Err(SendError::Failed {
                        why,
                        again: body.is_whole() && (is_connect || harmless),
                        unreached: is_connect,
                    });
                }
                // Time counts from the body's last piece: an upload takes as long as it takes.
                Err(_) if body.pieces() != sent => sent = body.pieces(),
                Err(_) => return Err(SendError::Late),
            }
        }
    }

    /// The upstream's answer for the client; `record` ends with it.
    pub fn finish(
        self,
        response: Response<Incoming>,
        record: Option<Box<Record>>,
    ) -> Response<Reply> {
        let mut response = response;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self.upgrade {
            Some(upgrade) if switches => {
                upgrade.join(&mut response, record);
                let (mut parts, _) = response.into_parts();
                parts.extensions.clear();
                Response::from_parts(parts, Reply::own(""))
            }
            _ if switches => page::problem(
                StatusCode::BAD_GATEWAY,
                "unavailable",
                "the service",
                "it changed the protocol unasked",
                "Correct the service.",
            ),
            _ => {
                let (mut parts, body) = response.into_parts();
                parts.extensions.clear();
                parts.version = Version::HTTP_11;
                strip_hop_by_hop(&mut parts.headers);
                Response::from_parts(parts, Reply::passed(body, record))
            }
        }
    }
}
