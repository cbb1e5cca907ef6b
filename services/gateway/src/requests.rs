//! How many requests each replica of a deployment answers, and how well, for its owner and whom he lets see: what this
//! gateway has seen, and nothing else.

use api::{PastStep, RequestFigures, RequestsPast};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use types::AccountId;

use crate::access;
use crate::outgoing::Reply;
use crate::page;
use crate::past;
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

/// Which steps, from when until when.
fn asked(query: &str) -> Result<(PastStep, (u64, u64)), String> {
    let mut by = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        match pair {
            "by=hour" => by = Some(PastStep::Hour),
            "by=day" => by = Some(PastStep::Day),
            _ if pair.starts_with("by=") => return Err("by is to be hour or day".into()),
            _ => rest.push(pair),
        }
    }
    let by = by.ok_or("it is not said by what: hour or day")?;
    Ok((by, span(&rest.join("&"))?.unwrap_or((0, u64::MAX))))
}

/// Of all services of the account with `id`, as it stands in the path.
pub async fn past(gateway: &Gateway, id: &str, request: &Request<Incoming>) -> Response<Reply> {
    let invalid = |why: String| {
        let next = "Ask for by=hour or by=day, since_ms and until_ms, of the id of an account.";
        access::refused(StatusCode::BAD_REQUEST, "invalid", id, why, next)
    };
    let Ok(owner) = id.parse::<AccountId>() else {
        return invalid("it is not the id of an account".into());
    };
    if let Err(response) = access::may_see(gateway, id, owner, request).await {
        return *response;
    }
    let (by, span) = match asked(request.uri().query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => return invalid(why),
    };
    let Some(past) = gateway.past.clone() else {
        return page::json(StatusCode::OK, &RequestsPast::default());
    };
    past::freshen(gateway, &past).await;
    let read = tokio::task::spawn_blocking(move || past.of(&owner, by, span)).await;
    match read {
        Ok(Ok(told)) => page::json(StatusCode::OK, &told),
        failed => {
            let why = match failed {
                Ok(Err(error)) => format!("what was kept cannot be read: {error:#}"),
                _ => "it broke off".into(),
            };
            let next = "Look at the gateway's disk and log.";
            access::refused(StatusCode::INTERNAL_SERVER_ERROR, "broken", id, why, next)
        }
    }
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
    fn the_past_is_asked_for_by_hours_or_days() {
        for (query, found) in [
            ("by=day", Some((PastStep::Day, (0, u64::MAX)))),
            ("since_ms=5&by=hour", Some((PastStep::Hour, (5, u64::MAX)))),
            (
                "by=hour&until_ms=9&since_ms=5",
                Some((PastStep::Hour, (5, 9))),
            ),
            ("", None),
            ("by=week", None),
            ("by=day&since=1", None),
        ] {
            assert_eq!(asked(query).ok(), found, "{query}");
        }
    }

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
