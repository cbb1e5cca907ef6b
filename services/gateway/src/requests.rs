//! How many requests each replica of a deployment answers, and how well, for its owner and whom he lets see: what this
//! gateway has seen, and nothing else.

use api::RequestFigures;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::access;
use crate::outgoing::Reply;
use crate::page;
use crate::proxy::Gateway;
use crate::served::Of;

/// From when until when of the history, in milliseconds since 1970.
fn span(query: &str) -> Result<Option<(u64, u64)>, String> {
    let mut span = None;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = value
            .parse::<u64>()
            .map_err(|_| format!("{name} is to be a number"))?;
        let (since, until) = span.unwrap_or((0, u64::MAX));
        span = match name {
            "since_ms" => Some((number, until)),
            "until_ms" => Some((since, number)),
            _ => return Err(format!("{name} is not a parameter")),
        };
    }
    Ok(span)
}

/// `id` as it stands in the path.
pub async fn answer(gateway: &Gateway, id: &str, request: &Request<Incoming>) -> Response<Reply> {
    let services = match access::owned(gateway, id, request).await {
        Ok(services) => services,
        Err(response) => return *response,
    };
    let span = match span(request.uri().query().unwrap_or_default()) {
        Ok(span) => span,
        Err(why) => {
            let next = "Ask for since_ms and until_ms.";
            return access::refused(StatusCode::BAD_REQUEST, "invalid", id, why, next);
        }
    };
    let now_ms = api::now_ms();
    let mut figures = RequestFigures::default();
    for service in services.iter().filter(|s| s.http_port.is_some()) {
        let of = |allocation| Of {
            allocation,
            service: &service.name,
            since_ms: service.tally.since_ms,
        };
        service.tally.replicas(|counted| {
            for replica in &service.replicas {
                let id = replica.allocation;
                figures.now.extend(of(id).now(counted.get(&id), now_ms));
            }
            let Some(span) = span else { return };
            for (id, served) in counted {
                figures
                    .history
                    .extend(of(*id).history(served, span, now_ms));
            }
        });
    }
    page::json(StatusCode::OK, &figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_or_refused() {
        for (query, found) in [
            ("", Some(None)),
            ("since_ms=5", Some(Some((5, u64::MAX)))),
            ("until_ms=9&since_ms=5", Some(Some((5, 9)))),
            ("since_ms=", None),
            ("since=1", None),
        ] {
            assert_eq!(span(query).ok(), found, "{query}");
        }
    }
}
