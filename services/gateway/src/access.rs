//! The last requests of a deployment's services, for its owner and whom he lets see.

use std::sync::Arc;

use api::{AccessLog, Problem, RequestAuth, ServiceAccess};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use ledger::account::Role;
use types::{AccountId, DeploymentId};

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

pub fn refused(
    status: StatusCode,
    kind: &str,
    id: &str,
    why: String,
    next: &str,
) -> Response<Reply> {
    let problem = Problem {
        kind: kind.into(),
        what: format!("requests of {}", id.chars().take(40).collect::<String>()),
        why,
        next: next.into(),
    };
    page::json(status, &problem)
}

/// The services of deployment `id`, as it stands in the path, if its owner asks or whom he lets
/// see.
pub async fn owned(
    gateway: &Gateway,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Vec<Arc<Service>>, Box<Response<Reply>>> {
    let unknown = || {
        let why = "this gateway has no route to such a deployment".into();
        let next = "See `runrig ps`; each gateway knows the requests that it has served.";
        Box::new(refused(StatusCode::NOT_FOUND, "not_found", id, why, next))
    };
    let deployment = id.parse::<DeploymentId>().map_err(|_| unknown())?;
    let services: Vec<Arc<Service>> = {
        let table = gateway.table.load();
        table.services_of(deployment).cloned().collect()
    };
    let first = services.first().ok_or_else(unknown)?;
    may_see(gateway, id, first.owner, request).await?;
    Ok(services)
}

/// Errors: who asks is not `owner`, nor one whom he lets see, or nobody knows; `id` is what he named.
pub async fn may_see(
    gateway: &Gateway,
    id: &str,
    owner: AccountId,
    request: &Request<Incoming>,
) -> Result<(), Box<Response<Reply>>> {
    let header = request.headers().get(RequestAuth::HEADER);
    let header = header.and_then(|v| v.to_str().ok());
    let path = request.uri().path_and_query().map_or("", |p| p.as_str());
    let caller = RequestAuth::caller(header, request.method().as_str(), path, api::now_ms());
    let next = "Choose the owner's context with `runrig context use`.";
    let refused = |code, kind, why, next| Box::new(refused(code, kind, id, why, next));
    let caller = caller
        .map_err(|error| refused(StatusCode::UNAUTHORIZED, "login", error.to_string(), next))?;
    let may = gateway
        .grants
        .may(caller, owner, Role::Viewer, api::now_ms());
    match may.await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let why = "it belongs to another account".into();
            Err(refused(StatusCode::FORBIDDEN, "forbidden", why, next))
        }
        Err(error) => {
            let why = format!("the ledger was not asked for your role: {error}");
            let next = "Try again in a moment.";
            Err(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                why,
                next,
            ))
        }
    }
}

/// `id` as it stands in the path.
pub async fn answer(gateway: &Gateway, id: &str, request: &Request<Incoming>) -> Response<Reply> {
    let services = match owned(gateway, id, request).await {
        Ok(services) => services,
        Err(response) => return *response,
    };
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
