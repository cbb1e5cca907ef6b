//! What may be asked here: the validator's part of the table in `api`.

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};

use crate::answer::Refused;
use crate::http::{self, App};
use crate::{
    chain_api, clock_api, jobs, lots_api, lottery_api, member_api, metrics, money_api, record_api,
    secret_api, vote_api, witness_api,
};

fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/healthz", get(|| async { "ok\n" })),
        ("/metrics", get(metrics::metrics)),
        ("/openapi.json", get(|| async { Json(api::openapi()) })),
        ("/v1/status", get(http::status)),
        ("/v1/network", get(http::network)),
        ("/v1/params", get(http::params)),
        ("/v1/supply", get(money_api::supply)),
        ("/v1/blocks/{height}", get(chain_api::block)),
        ("/v1/follow/{height}", get(chain_api::passed)),
        ("/v1/lots/{epoch}", get(lots_api::drawing)),
        ("/v1/proposals", get(vote_api::proposals)),
        ("/v1/proposals/{id}", get(vote_api::proposal)),
        ("/v1/lotteries", get(lottery_api::lotteries)),
        ("/v1/lotteries/{id}", get(lottery_api::lottery)),
        ("/v1/lotteries/{id}/export", get(lottery_api::export)),
        ("/v1/duties/{epoch}", get(clock_api::duties)),
        ("/v1/when/{what}", get(clock_api::when)),
        ("/v1/validators", get(member_api::members)),
        ("/v1/validators/doubles", get(member_api::doubles)),
        ("/v1/queue", get(metrics::queue)),
        ("/v1/turns", get(chain_api::turns)),
        ("/v1/witness/{key}", get(witness_api::look)),
        ("/v1/witness/{key}/{lot}", get(witness_api::targets)),
        ("/v1/sync", get(member_api::offer)),
        ("/v1/sync/{height}/{number}", get(member_api::piece)),
        ("/v1/records/{table}", get(record_api::records)),
        ("/v1/accounts/{id}", get(http::account)),
        ("/v1/accounts/{id}/limit", get(http::limit)),
        ("/v1/accounts/{id}/tokens", get(http::tokens_of)),
        ("/v1/tokens/{id}", get(http::token)),
        ("/v1/hosts", get(http::hosts)),
        ("/v1/hosts/{id}", get(http::host)),
        ("/v1/hosts/{id}/plan", get(http::plan)),
        ("/v1/jobs", get(jobs::jobs)),
        ("/v1/jobs/use", get(jobs::use_of)),
        ("/v1/deployments", get(http::deployments)),
        ("/v1/deployments/{id}", get(http::deployment)),
        ("/v1/deployments/{id}/releases", get(http::releases)),
        ("/v1/allocations", get(http::allocations)),
        ("/v1/allocations/{id}", get(http::allocation)),
        ("/v1/allocations/{id}/why", get(http::why)),
        ("/v1/allocations/{id}/keepers", get(http::keepers)),
        ("/v1/allocations/{id}/secrets", get(secret_api::shares)),
        ("/v1/routes", get(http::routes)),
        ("/v1/ports", get(http::ports)),
        ("/v1/quote", post(money_api::quote)),
        ("/v1/transactions", post(chain_api::submit)),
        ("/v1/transactions/batch", post(chain_api::submit_many)),
        ("/v1/transactions/{id}", get(chain_api::transaction)),
        ("/v1/events", get(chain_api::events)),
        ("/v1/bill", get(money_api::bill)),
        ("/v1/receipts/{id}", get(money_api::receipt)),
        ("/v1/receipts/{id}/proof", get(money_api::receipt_proof)),
    ]
}

/// Whoever asks several validators can tell one that has fallen behind.
async fn with_head(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let head = app.handle.head();
    let head = api::Head {
        height: head.header.height,
        time_ms: head.header.time_ms,
    };
    if let Ok(value) = HeaderValue::try_from(head.to_string()) {
        response.headers_mut().insert(api::Head::HEADER, value);
    }
    response
}

pub fn router(app: App) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handler)| {
            router.route(path, handler)
        })
        .fallback(|| async { Refused::not_found("this path", "See /openapi.json.") })
        .method_not_allowed_fallback(|| async {
            let code = StatusCode::METHOD_NOT_ALLOWED;
            let why = "it is not asked for by this method";
            Refused::new(code, "invalid", "this path", why, "See /openapi.json.")
        })
        .layer(from_fn_with_state(app.clone(), with_head))
        .layer(DefaultBodyLimit::max(api::BODY_BYTES_MAX))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_routed_is_what_is_told() {
        let mut paths: Vec<&str> = routes().into_iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        assert_eq!(paths, api::paths_of(api::Role::Validator));
    }
}
