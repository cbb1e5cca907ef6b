//! The way in and out of every route.
//!
//! In: who asks, from his cookies; whether the route is for him; of a form, whether it was made
//! for him and comes from this site. Out: errors as pages, compression, and with every answer the
//! content policy and its kin.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::assets::{accepts_gzip, gzip};
use super::form::{BYTES_MAX, Form};
use super::right::Right;
use super::trouble::{Said, Trouble};
use super::visitor::{Asking, Theme, Visitor, cookie};
use super::whence;
use crate::app::App;
use crate::approve::{Approval, Ask};
use crate::people::Token;
use crate::ui;

/// Cookies' names.
pub const SESSION: &str = "runrig_session";
pub const STRANGER: &str = "runrig_guest";
pub const DEVICE: &str = "runrig_device";
pub const THEME: &str = "runrig_theme";

macro_rules! policy {
    ($more:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'",
            $more,
            "; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
             worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        )
    };
}

const POLICY: &str = policy!("");
const POLICY_OF_PROGRAMS: &str = policy!(" 'wasm-unsafe-eval'");

/// Of an answer: a page that loads a program of this site for WebAssembly.
#[derive(Clone, Copy)]
pub struct Programs;

/// Pages smaller than this are sent as they are.
const COMPRESSED_MIN: usize = 1_000;
/// Answers that are held in memory are never larger.
const PAGE_MAX: usize = 16 << 20;
/// What a command asks is never larger.
const PROGRAM_MAX: usize = 4 << 10;

/// Who a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Anyone,
    /// Not those who are logged in already: they go to their overview.
    Stranger,
    Member,
    /// A command: no session counts, so nothing is to be forged; answered in JSON.
    Program,
}

/// Over HTTPS only, no other host of the domain can set it.
fn cookie_name(app: &App, name: &'static str) -> Cow<'static, str> {
    match app.secure {
        true => format!("__Host-{name}").into(),
        false => name.into(),
    }
}

/// A cookie that scripts cannot read and other sites do not send.
pub fn set_cookie(app: &App, name: &'static str, value: &str, max_age_s: u64) -> HeaderValue {
    let name = cookie_name(app, name);
    let secure = if app.secure { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

async fn asking(app: &App, headers: &HeaderMap, address: IpAddr, path: String) -> (Asking, bool) {
    let cookie = |name| cookie(headers, &cookie_name(app, name));
    let token = |name| cookie(name).and_then(Token::parse);
    let session = token(SESSION);
    let login = match &session {
        Some(session) => match app.people.login(session).await {
            Ok(login) => login,
            Err(error) => {
                tracing::error!("{error:#}");
                None
            }
        },
        None => None,
    };
    let stranger = token(STRANGER);
    let fresh = login.is_none() && stranger.is_none();
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    let token = match (&login, session, stranger) {
        (Some(_), Some(session), _) => session,
        (_, _, Some(stranger)) => stranger,
        _ => Token::random(),
    };
    let asking = Asking {
        login,
        theme: cookie(THEME).and_then(Theme::parse),
        token,
        path,
        address,
        host: text("host").unwrap_or("").to_string(),
        browser: text(header::USER_AGENT.as_str()).unwrap_or("").to_string(),
        device: cookie(DEVICE).and_then(Token::parse),
        partial: text("hx-request") == Some("true"),
    };
    (asking, fresh)
}

/// Whether another site had the browser send this.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let host = text("host").unwrap_or("");
    match text("origin") {
        Some(origin) => origin.split_once("://").map(|(_, rest)| rest) != Some(host),
        None => false,
    }
}

pub async fn guard(
    State((app, who, right)): State<(App, Who, Right)>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |c| c.0.ip());
    let address = whence::client(peer, request.headers(), &app.trusted_proxies);
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |p| p.as_str())
        .to_string();
    let headers = request.headers().clone();
    let (mut asking, fresh) = asking(&app, &headers, address, path).await;
    if who == Who::Program {
        asking.login = None;
        let visitor = Visitor(Arc::new(asking));
        return finish(told(serve(&visitor, request, next).await), false).await;
    }
    let visitor = Visitor(Arc::new(asking));
    let zipped = accepts_gzip(request.headers());
    let response = admit(&app, &visitor, (who, right), request, next).await;
    let mut response = dress(&app, &visitor, response).await;
    if fresh {
        let value = set_cookie(&app, STRANGER, &visitor.token.hex(), 86_400);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    finish(response, zipped).await
}

/// A command's request: small.
async fn serve(visitor: &Visitor, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, PROGRAM_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut request = Request::from_parts(parts, Body::from(bytes));
    request.extensions_mut().insert(visitor.clone());
    next.run(request).await
}

/// Trouble as the API says it.
fn told(response: Response) -> Response {
    let Some(said) = response.extensions().get::<Said>().cloned() else {
        return response;
    };
    let status = response.status();
    let kind = match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::TOO_MANY_REQUESTS => "unavailable",
        status if status.is_server_error() => "unavailable",
        _ => "invalid",
    };
    let problem = api::Problem {
        kind: kind.into(),
        what: said.what,
        why: said.why,
        next: said.next,
    };
    (status, axum::Json(problem)).into_response()
}

async fn admit(
    app: &App,
    visitor: &Visitor,
    (who, right): (Who, Right),
    request: Request,
    next: Next,
) -> Response {
    let writes = request.method() == Method::POST;
    match (who, &visitor.login) {
        (Who::Member, None) => {
            if writes || visitor.partial {
                return Trouble::new(
                    StatusCode::UNAUTHORIZED,
                    "Log in first",
                    "Your session has ended, or you were not logged in.",
                    "Log in and do it again; nothing was changed.",
                )
                .into_response();
            }
            let to = format!("/login?next={}", escaped(&visitor.path));
            return Redirect::to(&to).into_response();
        }
        (Who::Stranger, Some(_)) => return Redirect::to("/").into_response(),
        _ => {}
    }
    let mut request = request;
    if writes {
        let refuse = |why: &str| {
            Trouble::new(
                StatusCode::FORBIDDEN,
                "This form cannot be taken",
                why,
                "Go back, load the page again and send it once more.",
            )
            .into_response()
        };
        if is_foreign(request.headers()) {
            return refuse("It was sent from another site.");
        }
        let (parts, body) = request.into_parts();
        let Ok(bytes) = to_bytes(body, BYTES_MAX).await else {
            return Trouble::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That is too much",
                "A form has at most 512 KiB.",
                "Shorten it, or use the command line.",
            )
            .into_response();
        };
        let form = Form::read(&bytes);
        if !visitor.owns(form.text("csrf")) {
            return refuse("It was made for another session, or before you logged in.");
        }
        if let Some(refused) = lacks(app, visitor, who, right).await {
            return refused;
        }
        if let (Some(login), Some(approval)) = (&visitor.login, Approval::read(&form)) {
            let _ = login.approval.set(approval);
        }
        request = Request::from_parts(parts, Body::from(bytes));
        request.extensions_mut().insert(visitor.clone());
        let mut response = next.run(request).await;
        if response.extensions().get::<Ask>().is_some() {
            // The same form, to be sent again.
            response.extensions_mut().insert(form);
        }
        return response;
    }
    if request.headers().contains_key(header::UPGRADE) && is_foreign(request.headers()) {
        return Trouble::new(
            StatusCode::FORBIDDEN,
            "This is not for other sites",
            "A page of another site asked for it in your name.",
            "Open it from this portal.",
        )
        .into_response();
    }
    if let Some(refused) = lacks(app, visitor, who, right).await {
        return refused;
    }
    if let Some(login) = &visitor.login
        && let Err(error) = super::right::role(app, login).await
    {
        tracing::warn!("roles are not known just now: {error}");
    }
    request.extensions_mut().insert(visitor.clone());
    next.run(request).await
}

/// What whoever is logged in hears, if he acts for an account in a role that is not enough.
async fn lacks(app: &App, visitor: &Visitor, who: Who, right: Right) -> Option<Response> {
    let login = visitor.login.as_ref().filter(|_| who == Who::Member)?;
    let refused = super::right::check(app, login, right).await.err()?;
    Some(refused.into_response())
}

/// A path as the value of a query.
pub fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes().take(500) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What was refused before any page saw it: a part of the address or of the query that is of the
/// wrong kind, an act that this address does not do.
fn unread(status: StatusCode) -> Option<Said> {
    let said = |what: &str, why: &str| {
        Some(Said {
            what: what.into(),
            why: why.into(),
            next: "Go back, or search for it above.".into(),
        })
    };
    match status {
        StatusCode::BAD_REQUEST => said(
            "This address cannot be read",
            "A part of it, or of what stands behind its question mark, is of another kind.",
        ),
        StatusCode::METHOD_NOT_ALLOWED => said(
            "Nothing is done here in this way",
            "The address is one of a page, or one of a form only.",
        ),
        _ => None,
    }
}

/// Trouble becomes a page, or a part of one.
async fn dress(app: &App, visitor: &Visitor, response: Response) -> Response {
    let parts = response.extensions();
    if let (Some(ask), Some(form)) = (parts.get::<Ask>(), parts.get::<Form>()) {
        let body = ui::approval(visitor, ask, form);
        return ui::page(app, visitor, ui::Place::Nowhere, "Approve it", body).await;
    }
    let status = response.status();
    let Some(said) = response
        .extensions()
        .get::<Said>()
        .cloned()
        .or(unread(status))
    else {
        return response;
    };
    let body = ui::trouble(&said.what, &said.why, &said.next);
    let mut dressed = if visitor.partial {
        body.into_response()
    } else {
        let mut dressed = ui::page(app, visitor, ui::Place::Nowhere, &said.what, body).await;
        for value in response.headers().get_all(header::SET_COOKIE) {
            dressed
                .headers_mut()
                .append(header::SET_COOKIE, value.clone());
        }
        dressed
    };
    *dressed.status_mut() = status;
    dressed
}

/// What browsers are told with every answer of this site, whatever it is and whoever made it.
pub async fn sealed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = match response.extensions().get::<Programs>() {
        Some(Programs) => POLICY_OF_PROGRAMS,
        None => POLICY,
    };
    let headers = response.headers_mut();
    let value = HeaderValue::from_static;
    headers.insert(header::CONTENT_SECURITY_POLICY, value(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, value("DENY"));
    headers.insert(header::REFERRER_POLICY, value("same-origin"));
    headers.insert(
        "permissions-policy",
        value("camera=(), geolocation=(), microphone=()"),
    );
    headers.insert("cross-origin-opener-policy", value("same-origin"));
    headers.insert("cross-origin-resource-policy", value("same-origin"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(value("no-store"));
    response
}

/// Pages are compressed for who understands it.
async fn finish(response: Response, zipped: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    let headers = &parts.headers;
    let value = HeaderValue::from_static;
    let html = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.starts_with("text/html"));
    if !html || !zipped {
        return Response::from_parts(parts, body);
    }
    let bytes = match to_bytes(body, PAGE_MAX).await {
        Ok(bytes) => bytes,
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if bytes.len() < COMPRESSED_MIN {
        return Response::from_parts(parts, Body::from(bytes));
    }
    let zipped = gzip(&bytes, 5);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_ENCODING, value("gzip"));
    parts.headers.insert(header::VARY, value("accept-encoding"));
    Response::from_parts(parts, Body::from(zipped))
}
