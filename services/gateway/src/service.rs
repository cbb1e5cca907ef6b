//! A request to a service the general way: choose a replica, send, choose another if that fails.

use std::sync::Arc;
use std::time::Instant;

use api::{Access, now_ms};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use types::AllocationId;

use crate::limits::{ANSWER_TIME, ATTEMPTS_MAX, STARTING_PAUSE};
use crate::load::Outcome;
use crate::outgoing::Reply;
use crate::page;
use crate::proxy::Gateway;
use crate::record::Record;
use crate::sending::{From, SendError, Sending};
use crate::table::{Service, uptime_ms};
use crate::tally::shown;
use crate::wake;

pub async fn to_service(
    gateway: &Gateway,
    from: From,
    mut service: Arc<Service>,
    request: Request<Incoming>,
) -> Response<Reply> {
    let started = Instant::now();
    if service.scale.is_some() && service.replicas.is_empty() && !service.frozen {
        match wake::wait(gateway, &service).await {
            Ok(awake) => service = awake,
            Err(why) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return page::page(request.headers(), status, &service.domain, &why);
            }
        }
    }
    if service.frozen || service.replicas.is_empty() {
        return page::absent(request.headers(), &service);
    }
    let Some(port) = service.http_port else {
        return page::page(
            request.headers(),
            StatusCode::BAD_GATEWAY,
            &service.domain,
            "it neither publishes nor exposes a TCP port that requests could go to",
        );
    };
    service.tally.budget.earn();
    let accept = request.headers().get(header::ACCEPT).cloned();
    let mut access = begun(&request, from);
    let mut sending = Sending::new(request, from, &gateway.via);
    let mut tried: Vec<AllocationId> = Vec::new();
    let record = |service: &Arc<Service>, access: &Access, sending: &Sending, held| {
        Box::new(Record {
            service: service.clone(),
            access: access.clone(),
            started,
            body: sending.body.clone(),
            _held: held,
        })
    };
    let mut failure = None;
    while tried.len() < ATTEMPTS_MAX {
        let current = service.clone();
        let Some((replica, upstream)) = current
            .choose(&tried)
            .and_then(|r| Some((r, r.http.as_ref()?)))
        else {
            break;
        };
        if !tried.is_empty() {
            if !service.tally.budget.spend() {
                break;
            }
            access.retries += 1;
        }
        tried.push(replica.allocation);
        access.allocation = Some(replica.allocation);
        let held = replica.begin();
        let asked = Instant::now();
        let starting = replica.load.is_starting(uptime_ms());
        let is_last = tried.len() >= ATTEMPTS_MAX && !starting;
        let sent = sending
            .send(
                gateway,
                upstream,
                Some((replica, port)),
                ANSWER_TIME,
                is_last,
            )
            .await;
        match sent {
            Ok(response) => {
                let status = response.status();
                replica.load.tell(match status.as_u16() {
                    502..=504 => Outcome::Unwell,
                    _ => Outcome::Answered(asked.elapsed()),
                });
                let may_again = status == StatusCode::SERVICE_UNAVAILABLE
                    && !is_last
                    && sending.is_harmless()
                    && sending.body.is_whole()
                    && current.choose(&tried).is_some();
                if may_again {
                    continue;
                }
                access.status = status.as_u16();
                let record = record(&service, &access, &sending, Some(held));
                return sending.finish(response, Some(record));
            }
            Err(SendError::Failed {
                again: true,
                unreached: true,
                ..
            }) if starting && current.choose(&tried).is_none() => {
                // It listens in a moment.
                tried.pop();
                tokio::time::sleep(STARTING_PAUSE).await;
                if let Some(newer) = gateway.renewed(&service) {
                    service = newer;
                }
            }
            Err(error) => {
                if !matches!(error, SendError::Stalled) {
                    replica.load.tell(Outcome::Failed);
                }
                tracing::debug!(
                    service = %service.domain, allocation = %replica.allocation,
                    why = error.why(), "a replica did not answer"
                );
                // A slow replica is not the reason to make a second one slow.
                let ends = is_last || matches!(error, SendError::Late) || !error.again(&sending);
                failure = Some(error);
                if ends {
                    break;
                }
                if let Some(newer) = gateway.renewed(&service) {
                    service = newer;
                }
            }
        }
    }
    let mut headers = HeaderMap::new();
    headers.extend(accept.map(|a: HeaderValue| (header::ACCEPT, a)));
    let (status, why) = match (&failure, tried.last()) {
        (Some(error @ SendError::Stalled), _) => (error.status(), error.why()),
        (Some(error), Some(last)) => (
            error.status(),
            format!("replica {last} failed: {}", error.why()),
        ),
        _ => return page::absent(&headers, &service),
    };
    access.status = status.as_u16();
    drop(record(&service, &access, &sending, None));
    page::page(&headers, status, &service.domain, &why)
}

fn begun(request: &Request<Incoming>, from: From) -> Access {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    Access {
        sequence: 0,
        at_ms: now_ms(),
        client: from.client,
        protocol: match request.version() {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .into(),
        method: request
            .method()
            .as_str()
            .chars()
            .take(32)
            .collect::<String>()
            .into(),
        path: shown(path.as_bytes()),
        // Until there is an answer: the client may leave before.
        status: 499,
        received: 0,
        sent: 0,
        duration_us: 0,
        allocation: None,
        retries: 0,
    }
}
