//! Every route, and who it is for: the one table that the router is made of and that the test
//! of who may do what goes through.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::live;
use crate::pages::{
    account, analytics, auth, compose, deploy, device, docs, drawn, earn, explorer, hosts, hours,
    invitations, job, jobs, jobs_overview, keys, lend, limit, measured, members, metrics, money,
    network, newcomer, operate, overview, passkeys, payouts, proof, requests, scale, search, shell,
    space, variables,
};
use crate::web::{self, Right, Who};

pub struct Route {
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "the handler knows it; tests go by it")
    )]
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
    pub right: Right,
    handler: MethodRouter<App>,
}

/// In the order of the menus.
pub fn table() -> Vec<Route> {
    let route = |method, path, who, right, handler| Route {
        method,
        path,
        who,
        right,
        handler,
    };
    let open = |path, handler| route("GET", path, Who::Anyone, Right::Own, handler);
    let knock = |method, path, handler| route(method, path, Who::Stranger, Right::Own, handler);
    let tell = |path, handler| route("POST", path, Who::Program, Right::Own, handler);
    let see = |path, handler| route("GET", path, Who::Member, Right::Look, handler);
    // For whom more than a look is needed: its form too.
    let fill = |path, right, handler| route("GET", path, Who::Member, right, handler);
    let act = |path, right, handler| route("POST", path, Who::Member, right, handler);
    vec![
        open("/", get(overview::overview)),
        see("/live/use", get(live::usage)),
        see("/jobs", get(jobs::list)),
        see("/parts/jobs", get(jobs::rows)),
        see("/jobs/overview", get(jobs_overview::page)),
        see("/parts/jobs/{name}", get(job::now)),
        fill("/jobs/new", Right::Deploy, get(deploy::form)),
        act("/jobs/new", Right::Deploy, post(deploy::submit)),
        see("/jobs/{name}", get(job::overview)),
        see("/jobs/{name}/logs", get(job::logs)),
        see("/jobs/{name}/logs/stream", get(live::logs)),
        fill("/jobs/{name}/shell", Right::Deploy, get(shell::page)),
        fill(
            "/jobs/{name}/shell/{id}",
            Right::Deploy,
            get(shell::connect),
        ),
        see("/jobs/{name}/releases", get(job::releases)),
        see("/jobs/{name}/events", get(job::events)),
        see("/jobs/{name}/receipts", get(job::receipts)),
        see("/jobs/{name}/metrics", get(metrics::page)),
        see("/jobs/{name}/metrics.csv", get(metrics::csv)),
        see("/jobs/{name}/variables", get(variables::page)),
        see("/jobs/{name}/network", get(network::page)),
        act("/jobs/{name}/act", Right::Deploy, post(job::act)),
        see("/jobs/{name}/compose", get(compose::form)),
        act("/jobs/{name}/compose", Right::Deploy, post(compose::submit)),
        see("/jobs/{name}/scale", get(scale::form)),
        act("/jobs/{name}/scale", Right::Deploy, post(scale::submit)),
        see("/analytics", get(analytics::analytics)),
        see("/analytics.csv", get(analytics::csv)),
        see("/analytics/requests", get(requests::requests)),
        see("/analytics/requests.csv", get(requests::requests_csv)),
        see("/analytics/use", get(measured::usage)),
        see("/analytics/use.csv", get(measured::usage_csv)),
        see("/hosts", get(earn::hosts)),
        see("/parts/hosts", get(earn::rows)),
        see("/parts/hosts/now", get(earn::now)),
        see("/hosts/new", get(newcomer::new)),
        act("/hosts/new", Right::Rule, post(newcomer::make)),
        act("/hosts/uninvite", Right::Rule, post(newcomer::take_back)),
        see("/hosts/new/{token}", get(newcomer::watch)),
        act("/hosts/{id}/price", Right::Rule, post(lend::price)),
        act("/hosts/{id}/drain", Right::Rule, post(lend::drain)),
        act("/hosts/{id}/allotment", Right::Rule, post(lend::allotment)),
        act("/hosts/{id}/hours", Right::Rule, post(hours::set)),
        see("/earnings", get(earn::earnings)),
        see("/earnings/payouts", get(payouts::page)),
        see("/earnings/payouts.csv", get(payouts::csv)),
        see("/wallet", get(money::wallet)),
        act("/wallet/send", Right::Pay, post(money::send)),
        act("/wallet/topup", Right::Pay, post(money::topup)),
        see("/bills", get(money::bills)),
        see("/bills.csv", get(money::csv)),
        see("/bills/limits", get(limit::page)),
        act("/bills/limits", Right::Pay, post(limit::set)),
        fill("/settings", Right::Own, get(account::settings)),
        act("/settings/factor", Right::Own, post(account::factor)),
        act("/settings/password", Right::Own, post(account::password)),
        see("/settings/keys", get(keys::list)),
        act("/settings/keys", Right::Rule, post(keys::make)),
        fill("/settings/space", Right::Rule, get(space::settings::page)),
        act("/settings/space", Right::Rule, post(space::settings::save)),
        see("/members", get(members::list)),
        act("/members", Right::Rule, post(members::add)),
        act("/members/role", Right::Rule, post(members::change)),
        act("/members/revoke", Right::Rule, post(members::revoke)),
        act("/members/invite", Right::Rule, post(invitations::invite)),
        act(
            "/members/uninvite",
            Right::Rule,
            post(invitations::withdraw),
        ),
        fill("/invitation/{token}", Right::Own, get(invitations::page)),
        act("/invitation/{token}", Right::Own, post(invitations::answer)),
        act("/workspace", Right::Own, post(members::switch)),
        act(
            "/settings/sessions",
            Right::Own,
            post(account::end_sessions),
        ),
        act("/settings/recovery", Right::Own, post(account::recovery)),
        act("/logout", Right::Own, post(auth::log_out)),
        knock("GET", "/signup", get(auth::sign_up_form)),
        knock("POST", "/signup", post(auth::sign_up)),
        knock("GET", "/login", get(auth::log_in_form)),
        knock("POST", "/login", post(auth::log_in)),
        knock("POST", "/login/passkey", post(passkeys::log_in)),
        knock("POST", "/passkey/prepare", post(passkeys::prepare)),
        fill("/settings/browser", Right::Own, get(passkeys::browser)),
        act("/settings/browser", Right::Own, post(passkeys::let_act)),
        fill("/settings/passkeys", Right::Own, get(passkeys::list)),
        act("/settings/passkeys", Right::Own, post(passkeys::change)),
        act("/settings/own-key", Right::Own, post(account::forget_own)),
        fill("/device", Right::Rule, get(device::page)),
        act("/device", Right::Rule, post(device::act)),
        tell("/device/ask", post(device::ask)),
        tell("/device/poll", post(device::poll)),
        route("POST", "/theme", Who::Anyone, Right::Own, post(auth::theme)),
        open("/live", get(live::height)),
        open("/o/{handle}", get(space::home)),
        open("/o/{handle}/style.css", get(space::style)),
        open("/o/{handle}/books", get(space::books::page)),
        open("/o/{handle}/books.csv", get(space::books::csv)),
        open("/explorer", get(explorer::home)),
        open("/explorer/latest", get(explorer::latest)),
        open("/explorer/search", get(search::search)),
        open("/explorer/blocks", get(explorer::blocks)),
        open("/explorer/blocks/{height}", get(explorer::block)),
        open("/explorer/transactions", get(explorer::transactions)),
        open("/explorer/transactions/{id}", get(explorer::transaction)),
        open("/explorer/accounts/{id}", get(explorer::account)),
        open("/explorer/hosts", get(hosts::list)),
        open("/explorer/hosts/{id}", get(hosts::one)),
        open("/explorer/receipts/{id}", get(explorer::receipt)),
        open("/explorer/proofs/receipts/{id}", get(proof::receipt)),
        open(
            "/explorer/proofs/transactions/{id}",
            get(proof::transaction),
        ),
        open("/explorer/proofs/blocks/{height}", get(proof::block)),
        open("/explorer/proofs/accounts/{id}", get(proof::account)),
        open("/explorer/proofs/hosts/{id}", get(proof::host)),
        open("/explorer/network", get(explorer::network)),
        open("/explorer/lots", get(drawn::lots)),
        open("/explorer/lots/{epoch}", get(drawn::epoch)),
        open("/explorer/votes", get(drawn::votes)),
        open("/explorer/votes/{id}", get(drawn::proposal)),
        open("/explorer/lotteries", get(drawn::lotteries)),
        open("/explorer/lotteries/{id}", get(drawn::round)),
        open("/docs", get(docs::list)),
        open("/docs/{name}", get(docs::one)),
        open("/operate", get(operate::network::network)),
        open("/operate/queue", get(operate::queue::queue)),
        open("/operate/queue/now", get(operate::queue::now)),
        open("/operate/placements", get(operate::placements::placements)),
        open("/operate/incidents", get(operate::incidents::incidents)),
        open("/operate/audit", get(operate::audit::audit)),
        open("/operate/audit.csv", get(operate::audit::csv)),
    ]
}

pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in table() {
        let layer = from_fn_with_state((app.clone(), route.who, route.right), web::guard);
        router = router.route(route.path, route.handler.layer(layer));
    }
    let lost = from_fn_with_state((app.clone(), Who::Anyone, Right::Own), web::guard);
    router
        .fallback_service(
            Router::new()
                .fallback(crate::pages::lost)
                .layer(lost)
                .with_state(app.clone()),
        )
        .route("/a/{name}", get(web::asset))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(from_fn(web::sealed))
        .with_state(app)
}
