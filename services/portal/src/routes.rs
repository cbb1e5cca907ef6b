//! Every route, and who it is for: the one table that the router is made of and that the test
//! of who may do what goes through.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::live;
use crate::pages::{
    account, analytics, auth, deploy, device, earn, explorer, hosts, job, jobs, keys, members,
    money, overview, passkeys,
};
use crate::web::{self, Who};

pub struct Route {
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "the handler knows it; tests go by it")
    )]
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
    handler: MethodRouter<App>,
}

/// In the order of the menus.
pub fn table() -> Vec<Route> {
    let route = |method, path, who, handler| Route {
        method,
        path,
        who,
        handler,
    };
    let open = |path, handler| route("GET", path, Who::Anyone, handler);
    let own = |path, handler| route("GET", path, Who::Member, handler);
    let act = |path, handler| route("POST", path, Who::Member, handler);
    let knock = |method, path, handler| route(method, path, Who::Stranger, handler);
    vec![
        open("/", get(overview::overview)),
        own("/live/use", get(live::usage)),
        own("/jobs", get(jobs::list)),
        own("/jobs/new", get(deploy::form)),
        act("/jobs/new", post(deploy::submit)),
        own("/jobs/{name}", get(job::overview)),
        own("/jobs/{name}/logs", get(job::logs)),
        own("/jobs/{name}/logs/stream", get(live::logs)),
        own("/jobs/{name}/releases", get(job::releases)),
        own("/jobs/{name}/events", get(job::events)),
        own("/jobs/{name}/receipts", get(job::receipts)),
        act("/jobs/{name}/act", post(job::act)),
        own("/analytics", get(analytics::analytics)),
        own("/analytics.csv", get(analytics::csv)),
        own("/hosts", get(earn::hosts)),
        own("/hosts/new", get(earn::new)),
        own("/earnings", get(earn::earnings)),
        own("/wallet", get(money::wallet)),
        act("/wallet/send", post(money::send)),
        act("/wallet/topup", post(money::topup)),
        own("/bills", get(money::bills)),
        own("/bills.csv", get(money::csv)),
        own("/settings", get(account::settings)),
        act("/settings/factor", post(account::factor)),
        own("/settings/keys", get(keys::list)),
        act("/settings/keys", post(keys::make)),
        own("/members", get(members::list)),
        act("/members", post(members::add)),
        act("/members/revoke", post(members::revoke)),
        act("/workspace", post(members::switch)),
        act("/settings/sessions", post(account::end_sessions)),
        act("/settings/recovery", post(account::recovery)),
        act("/logout", post(auth::log_out)),
        knock("GET", "/signup", get(auth::sign_up_form)),
        knock("POST", "/signup", post(auth::sign_up)),
        knock("GET", "/login", get(auth::log_in_form)),
        knock("POST", "/login", post(auth::log_in)),
        knock("POST", "/login/passkey", post(passkeys::log_in)),
        knock("POST", "/passkey/prepare", post(passkeys::prepare)),
        own("/settings/browser", get(passkeys::browser)),
        act("/settings/browser", post(passkeys::let_act)),
        act("/settings/own-key", post(account::forget_own)),
        own("/device", get(device::page)),
        act("/device", post(device::act)),
        route("POST", "/device/ask", Who::Program, post(device::ask)),
        route("POST", "/device/poll", Who::Program, post(device::poll)),
        route("POST", "/theme", Who::Anyone, post(auth::theme)),
        open("/live", get(live::height)),
        open("/explorer", get(explorer::home)),
        open("/explorer/latest", get(explorer::latest)),
        open("/explorer/search", get(explorer::search)),
        open("/explorer/blocks", get(explorer::blocks)),
        open("/explorer/blocks/{height}", get(explorer::block)),
        open("/explorer/transactions", get(explorer::transactions)),
        open("/explorer/transactions/{id}", get(explorer::transaction)),
        open("/explorer/accounts/{id}", get(explorer::account)),
        open("/explorer/hosts", get(hosts::list)),
        open("/explorer/hosts/{id}", get(hosts::one)),
        open("/explorer/receipts/{id}", get(explorer::receipt)),
        open("/explorer/network", get(explorer::network)),
    ]
}

pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in table() {
        let layer = from_fn_with_state((app.clone(), route.who), web::guard);
        router = router.route(route.path, route.handler.layer(layer));
    }
    let lost = from_fn_with_state((app.clone(), Who::Anyone), web::guard);
    router
        .fallback_service(
            Router::new()
                .fallback(crate::pages::lost)
                .layer(lost)
                .with_state(app.clone()),
        )
        .route("/a/{name}", get(web::asset))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(app)
}
