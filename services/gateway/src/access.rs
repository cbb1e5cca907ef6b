//! The last requests of a deployment's services, for its owner and whom he lets see.

use std::sync::Arc;

use api::{AccessLog, Problem, RequestAuth, ServiceAccess};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use ledger::account::Role;
use types::DeploymentId;

use crate::limits::{ACCESS_MAX, ACCESS_WAIT};
use crate::outgoing::Reply;
use crate::page;
use crate::proxy::Gateway;
use crate::table::Service;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    service: Option<String>,
    /// Last requests; with `from`, first ones.
    tail: Option<usize>,
    from: Option<u64>,
    wait_ms: Option<u64>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{name} is to be a number"))
            };
            match name {
                "service" => asked.service = Some(value.to_string()),
                "tail" => asked.tail = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
                "from" => asked.from = Some(number()?),
                "wait_ms" => asked.wait_ms = Some(number()?),
                _ => return Err(format!("{name} is not a parameter")),
            }
        }
        if asked.service.is_none() && (asked.from.is_some() || asked.wait_ms.is_some()) {
            return Err("from and wait_ms are of one service: name it".into());
        }
        Ok(asked)
    }
}

fn refused(status: StatusCode, kind: &str, id: &str, why: String, next: &str) -> Response<Reply> {
    let problem = Problem {
        kind: kind.into(),
        what: format!("requests of {}", id.chars().take(40).collect::<String>()),
        why,
        next: next.into(),
    };
    page::json(status, &problem)
}

/// `id` as it stands in the path.
pub async fn answer(gateway: &Gateway, id: &str, request: &Request<Incoming>) -> Response<Reply> {
    let unknown = || {
        refused(
            StatusCode::NOT_FOUND,
            "not_found",
            id,
            "this gateway has no route to such a deployment".into(),
            "See `runrig ps`; each gateway knows the requests that it has served.",
        )
    };
    let Ok(deployment) = id.parse::<DeploymentId>() else {
        return unknown();
    };
    let services: Vec<Arc<Service>> = gateway
        .table
        .load()
        .services_of(deployment)
        .cloned()
        .collect();
    let Some(first) = services.first() else {
        return unknown();
    };
    let header = request.headers().get(RequestAuth::HEADER);
    let header = header.and_then(|v| v.to_str().ok());
    let path = request.uri().path_and_query().map_or("", |p| p.as_str());
    let caller = RequestAuth::caller(header, request.method().as_str(), path, api::now_ms());
    let next = "Choose the owner's context with `runrig context use`.";
    let caller = match caller {
        Err(error) => {
            let why = error.to_string();
            return refused(StatusCode::UNAUTHORIZED, "login", id, why, next);
        }
        Ok(caller) => caller,
    };
    let may = gateway
        .grants
        .may(caller, first.owner, Role::Viewer, api::now_ms());
    match may.await {
        Ok(true) => {}
        Ok(false) => {
            let why = "it belongs to another account".into();
            return refused(StatusCode::FORBIDDEN, "forbidden", id, why, next);
        }
        Err(error) => {
            let why = format!("the ledger was not asked for your role: {error}");
            let next = "Try again in a moment.";
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                id,
                why,
                next,
            );
        }
    }
    let asked = match Asked::parse(request.uri().query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => {
            let next = "Ask for service, tail, from and wait_ms.";
            return refused(StatusCode::BAD_REQUEST, "invalid", id, why, next);
        }
    };
    let wanted = |service: &&Arc<Service>| {
        asked
            .service
            .as_ref()
            .is_none_or(|name| *name == service.name)
    };
    if let (Some(wait_ms), Some(service)) = (asked.wait_ms, services.iter().find(wanted)) {
        let limit = std::time::Duration::from_millis(wait_ms).min(ACCESS_WAIT);
        service.tally.wait(asked.from.unwrap_or(0), limit).await;
    }
    let count = asked.tail.unwrap_or(ACCESS_MAX).min(ACCESS_MAX);
    let services = services
        .iter()
        .filter(wanted)
        .map(|service| ServiceAccess {
            service: service.name.clone(),
            requests: service.tally.recent(asked.from, count),
        })
        .collect();
    page::json(StatusCode::OK, &AccessLog { services })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_or_refused() {
        for (query, asked) in [
            ("", Some(Asked::default())),
            (
                "service=web&tail=5&from=7&wait_ms=100",
                Some(Asked {
                    service: Some("web".into()),
                    tail: Some(5),
                    from: Some(7),
                    wait_ms: Some(100),
                }),
            ),
            ("tail=", None),
            ("tail=-1", None),
            ("from=1", None),
            ("wait_ms=1", None),
            ("follow=true", None),
        ] {
            assert_eq!(Asked::parse(query).ok(), asked, "{query}");
        }
    }
}
