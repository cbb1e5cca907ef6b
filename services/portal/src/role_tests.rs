//! Every page, part and act × every role of a company, a colleague that it let go, and nobody: one
//! table. The ledger here knows the company's grants and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode as Status;
use axum::routing::get;
use axum::{Json, Router};
use ledger::account::{Grant, Role};
use reqwest::StatusCode;
use types::{AccountId, Amount};

use crate::people::{Kind, NewPerson, Person, Token};
use crate::routes;
use crate::tests::{Site, filled, served, to};
use crate::web::Who;

pub(crate) type Grants = Arc<Mutex<BTreeMap<AccountId, Grant>>>;

async fn account(
    State(grants): State<Grants>,
    Path(account): Path<AccountId>,
) -> Result<Json<api::AccountView>, Status> {
    Ok(Json(api::AccountView {
        account,
        balance: Amount::ZERO,
        spendable: Amount::ZERO,
        held: Amount::ZERO,
        nonce: 0,
        height: 1,
        gift: Amount::ZERO,
        grants: grants.lock().expect("unpoisoned").clone(),
        retired: false,
    }))
}

/// A ledger that answers what accounts let act; its URL.
pub(crate) async fn ledger_of(grants: Grants) -> String {
    let router = Router::new()
        .route("/v1/accounts/{id}", get(account))
        .fallback(|| async { Status::SERVICE_UNAVAILABLE })
        .with_state(grants);
    served(router).await
}

pub(crate) async fn person(site: &Site, handle: &str, kind: Kind) -> (Person, Token) {
    let company = (kind == Kind::Company).then(|| handle.to_string());
    let new = NewPerson {
        kind,
        handle: handle.into(),
        email: format!("{handle}@example.org"),
        company_name: company.clone(),
        company_address: company,
    };
    let people = &site.app.people;
    let signed_up = people.sign_up(new, "four plain words here").await;
    let (person, keys) = signed_up.expect("stored").expect("free");
    let token = people.begin(&person, &keys.web, "", "::1").await;
    (person, token.expect("begun"))
}

/// The session's key may act for its account.
pub(crate) async fn let_session(site: &Site, grants: &Grants, token: &Token) {
    let login = site.app.people.login(token).await;
    let key = login.expect("read").expect("logged in").key;
    let mut given = grants.lock().expect("unpoisoned");
    given.insert(AccountId::of(&key.public()), grant(Role::Owner));
}

pub(crate) fn grant(role: Role) -> Grant {
    Grant {
        role,
        limit: None,
        expires_ms: None,
        label: String::new(),
        since_ms: 0,
        spent: Amount::ZERO,
        counted_ms: 0,
    }
}

/// What takes more than to be let act at all, as it is promised: everything else is for every role.
const PROMISED: [(&str, &str, &[Role]); 27] = {
    const DEPLOY: &[Role] = &[Role::Owner, Role::Admin, Role::Developer];
    const PAY: &[Role] = &[Role::Owner, Role::Admin, Role::Billing];
    const RULE: &[Role] = &[Role::Owner, Role::Admin];
    [
        ("GET", "/jobs/new", DEPLOY),
        ("POST", "/jobs/new", DEPLOY),
        ("POST", "/jobs/{name}/act", DEPLOY),
        ("POST", "/jobs/{name}/compose", DEPLOY),
        ("POST", "/jobs/{name}/scale", DEPLOY),
        ("GET", "/jobs/{name}/shell", DEPLOY),
        ("GET", "/jobs/{name}/shell/{id}", DEPLOY),
        ("POST", "/hosts/new", RULE),
        ("POST", "/hosts/uninvite", RULE),
        ("POST", "/hosts/{id}/price", RULE),
        ("POST", "/hosts/{id}/allotment", RULE),
        ("POST", "/hosts/{id}/drain", RULE),
        ("POST", "/hosts/{id}/hours", RULE),
        ("POST", "/wallet/send", PAY),
        ("POST", "/wallet/topup", PAY),
        ("POST", "/bills/limits", PAY),
        ("POST", "/settings/keys", RULE),
        ("GET", "/settings/space", RULE),
        ("POST", "/settings/space", RULE),
        ("POST", "/members", RULE),
        ("POST", "/members/role", RULE),
        ("POST", "/members/revoke", RULE),
        ("POST", "/members/invite", RULE),
        ("POST", "/members/uninvite", RULE),
        ("GET", "/device", RULE),
        ("POST", "/device", RULE),
        // Reads as a developer's page, and is everybody's: a log is to be looked at.
        ("GET", "/jobs/{name}/logs", &Role::ALL),
    ]
};

/// What is one's own is there for whomever one acts.
const OWN: [&str; 10] = [
    "/settings",
    "/settings/password",
    "/settings/factor",
    "/settings/browser",
    "/settings/passkeys",
    "/settings/own-key",
    "/settings/sessions",
    "/settings/recovery",
    "/invitation/{token}",
    "/workspace",
];

#[tokio::test]
async fn every_route_is_for_the_roles_that_it_was_promised_to() {
    let grants = Grants::default();
    let site = Site::on(ledger_of(grants.clone()).await).await;
    let (company, _) = person(&site, "acme", Kind::Company).await;
    let mut visitors = Vec::new();
    for role in Role::ALL.into_iter().map(Some).chain([None]) {
        let handle = role.map_or("former", Role::name);
        let (one, token) = person(&site, handle, Kind::Personal).await;
        if let Some(role) = role {
            grants
                .lock()
                .expect("unpoisoned")
                .insert(one.account, grant(role));
        }
        let_session(&site, &grants, &token).await;
        let cookie = format!("runrig_session={}", token.hex());
        let login = site.app.people.login(&token).await;
        let session = login.expect("read").expect("logged in").session;
        let form = site.form_token("/settings", &cookie).await;
        visitors.push((role, handle, one, session, cookie, form));
    }
    for route in routes::table() {
        // Ends the session; the other is everybody's, and has no end.
        if matches!(route.path, "/logout" | "/live") || route.who == Who::Program {
            continue;
        }
        let path = filled(route.path);
        let promised = PROMISED
            .iter()
            .find(|(method, path, _)| (*method, *path) == (route.method, route.path));
        for (role, handle, one, session, cookie, form) in &visitors {
            let case = format!("{} {path} by {handle}", route.method);
            let people = &site.app.people;
            let noted = people.note_member(company.account, one.account, true);
            noted.await.expect("noted");
            let acting = people.act_for(session, Some(company.account));
            acting.await.expect("noted");
            let response = match route.method {
                "GET" => site.get(&path, cookie).await,
                _ => {
                    let form = format!("csrf={form}&session=none");
                    site.post(&path, cookie, &form).await
                }
            };
            let status = response.status();
            let text = match status {
                StatusCode::FORBIDDEN => response.text().await.expect("a page"),
                _ => String::new(),
            };
            let role_lacks = text.contains("Your role does not do this");
            let let_go = text.contains("You act no more for this account");
            let own = route.who != Who::Member || OWN.contains(&route.path);
            match role {
                None => assert_eq!(let_go, !own, "{case}: {status}"),
                Some(role) => {
                    let may = promised.is_none_or(|(_, _, roles)| roles.contains(role));
                    assert_eq!(role_lacks, !may, "{case}: {status}");
                    assert!(!let_go, "{case}");
                }
            }
        }
        if route.who == Who::Member {
            let response = match route.method {
                "GET" => site.get(&path, "").await,
                _ => site.post(&path, "", "").await,
            };
            let shut = response.status() == StatusCode::UNAUTHORIZED
                || to(&response).starts_with("/login?next=");
            assert!(shut, "{} {path} by nobody", route.method);
        }
    }
}

#[tokio::test]
async fn an_invitation_is_for_whom_it_was_made_and_is_answered_once() {
    let site = Site::on(ledger_of(Grants::default()).await).await;
    let (company, company_token) = person(&site, "acme", Kind::Company).await;
    let (emil, emil_token) = person(&site, "emil", Kind::Personal).await;
    let (_, eve_token) = person(&site, "eve", Kind::Personal).await;
    let cookie = |token: &Token| format!("runrig_session={}", token.hex());
    let (acme, emil_cookie, eve) = (
        cookie(&company_token),
        cookie(&emil_token),
        cookie(&eve_token),
    );
    let form = site.form_token("/settings", &acme).await;
    let invite = format!("csrf={form}&handle=emil&role=developer&limit=5&days=30");
    let page = site.post("/members/invite", &acme, &invite).await;
    let page = page.text().await.expect("a page");
    let (_, rest) = page.split_once("/invitation/").expect("a link");
    let path = format!("/invitation/{}", &rest[..64]);
    // Another is told the same as of none.
    let others = site.get(&path, &eve).await;
    assert_eq!(others.status(), StatusCode::NOT_FOUND);
    let none = format!("/invitation/{}", Token::random().hex());
    assert_eq!(
        site.get(&none, &emil_cookie).await.status(),
        StatusCode::NOT_FOUND
    );
    let page = site.get(&path, &emil_cookie).await;
    assert_eq!(page.status(), StatusCode::OK);
    let text = page.text().await.expect("a page");
    assert!(
        text.contains("acme") && text.contains("developer"),
        "{text}"
    );
    let form = site.form_token(&path, &emil_cookie).await;
    let yes = format!("csrf={form}&act=accept");
    site.post(&path, &emil_cookie, &yes).await;
    let again = site.post(&path, &emil_cookie, &yes).await;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    let people = &site.app.people;
    let out = people.invitations_of(company.account).await.expect("read");
    assert_eq!(out[0].accepted, Some((emil.account, "emil".to_string())));
    // Nobody withdraws another's.
    people
        .drop_invitation(emil.account, &out[0].id)
        .await
        .expect("nothing");
    let out = people.invitations_of(company.account).await.expect("read");
    assert_eq!(out.len(), 1);
    let form = site.form_token("/settings", &acme).await;
    let withdraw = format!("csrf={form}&invitation={}", out[0].id);
    site.post("/members/uninvite", &acme, &withdraw).await;
    let out = people.invitations_of(company.account).await.expect("read");
    assert!(out.is_empty());
    // What could not be signed is not offered.
    let bad = format!("csrf={form}&handle=emil&role=king");
    let page = site.post("/members/invite", &acme, &bad).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
}
