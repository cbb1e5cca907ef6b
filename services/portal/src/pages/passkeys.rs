//! Passkeys: log in with one, let a browser act within limits, and what sign-up needs of them.
//!
//! At a login the browser signs a challenge of this site; at sign-up it signs the transaction
//! that lets its own session act, which proves as much. The account's key never comes here.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ledger::Transaction;
use ledger::account::Call;
use maud::{Markup, html};
use serde::Deserialize;
use types::{AccountId, AccountKey, Assertion, Digest, PasskeyKey};

use super::auth::{Next, YEAR_S, enter, local, log_in_page};
use super::{shown, slowly};
use crate::app::App;
use crate::approve::{
    Approval, PASS_LEFT_MS, PASS_LIMIT, PASS_MS, assertion, challenge, now_ms, pass,
};
use crate::limits::Act;
use crate::people::{Passkey, Token};
use crate::ui::{Place, icon, passkey_fields, passkey_script};
use crate::web::{DEVICE, Form, Page, Trouble, Visitor, set_cookie};
use crate::words;

/// A challenge of the login page is good for so long.
const GOOD_MS: u64 = 15 * 60_000;

/// What a browser signs to log in: made for one visitor, good for a while.
fn login_challenge(visitor: &Visitor, at_ms: u64) -> Digest {
    Digest::of_value("runrig-portal-login", &(visitor.token.0, at_ms))
}

/// Whether the browser made it for a page of this site.
fn is_ours(assertion: &Assertion, visitor: &Visitor) -> bool {
    #[derive(Deserialize)]
    struct Client {
        origin: String,
    }
    let client: Option<Client> = serde_json::from_slice(&assertion.client).ok();
    let name = client.as_ref().and_then(|c| c.origin.split_once("://"));
    name.is_some_and(|(_, host)| host == visitor.host)
}

fn wrong(why: &str) -> Trouble {
    let next = "Load the page again and try once more.";
    Trouble::new(
        StatusCode::UNAUTHORIZED,
        "The passkey was not taken",
        why,
        next,
    )
}

/// The form of the login page.
pub fn log_in_form(visitor: &Visitor, next: &str) -> Markup {
    let at_ms = api::now_ms();
    let challenge = BASE64URL.encode(login_challenge(visitor, at_ms).0);
    html! {
        form.with-passkey hidden method="post" action="/login/passkey" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="next" value=(local(next));
            input type="hidden" name="at" value=(at_ms);
            input type="hidden" name="passkey_id" disabled;
            button.btn.primary.wide type="button" data-passkey="login" data-challenge=(challenge) { (icon("key-round")) "Log in with a passkey" }
            (passkey_fields())
            p.or { span { "or with a password" } }
        }
        (passkey_script())
    }
}

/// `POST /login/passkey`
pub async fn log_in(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    slowly(&app, Act::Knock, &visitor.whence())?;
    let next = local(form.text("next")).to_string();
    let refused = |why: &str| {
        let status = StatusCode::UNAUTHORIZED;
        Ok(log_in_page(&visitor, "", &next, Some(why), status))
    };
    let at_ms: u64 = form.text("at").parse().unwrap_or(0);
    if api::now_ms().abs_diff(at_ms) > GOOD_MS {
        return refused("The page was open for too long. Try once more.");
    }
    let challenge = login_challenge(&visitor, at_ms);
    let found = app.people.of_passkey(form.text("passkey_id")).await?;
    let signed = assertion(&form).filter(|a| is_ours(a, &visitor));
    // Who is not known, and who signed something else, hear the same.
    let Some((person, passkey)) = found.zip(signed).and_then(|((person, passkey), signed)| {
        let good = passkey.key.verify(&challenge, &signed).is_ok();
        good.then_some((person, passkey))
    }) else {
        return refused("This portal does not know that passkey, or it was not signed for it.");
    };
    if !app.people.once(challenge, api::now_ms() + GOOD_MS) {
        return refused("That was used already. Try once more.");
    }
    let device = visitor.device.clone().unwrap_or_else(Token::random);
    let key = app.people.browser_key(&device, passkey.account());
    let next = match is_let(&app, person.account, AccountId::of(&key.public())).await {
        false => format!("/settings/browser?next={}", crate::web::escaped(&next)),
        true => next,
    };
    enter(&app, &visitor, &person, &key, device, &next).await
}

/// Whether a browser's key may act for a while yet. If the ledger does not answer, it is said at
/// the first act.
async fn is_let(app: &App, account: AccountId, browser: AccountId) -> bool {
    let Ok(view) = app.client.account(account).await else {
        return true;
    };
    let soon = now_ms(app) + PASS_LEFT_MS;
    view.grants.get(&browser).is_some_and(|g| g.is_good(soon))
}

fn point(form: &Form) -> Option<PasskeyKey> {
    let point = BASE64URL.decode(form.text("passkey_point")).ok()?;
    PasskeyKey::from_point(&point).ok()
}

/// `POST /passkey/prepare`: what a new passkey is to sign, so that this browser's sessions act
/// for its account.
pub async fn prepare(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    slowly(&app, Act::Knock, &visitor.whence())?;
    let key = point(&form).ok_or_else(|| wrong("It is no key of the kind P-256."))?;
    let key = AccountKey::Passkey(key);
    let device = visitor.device.clone().unwrap_or_else(Token::random);
    let browser = app.people.browser_key(&device, key.account());
    let call = pass(AccountId::of(&browser.public()), now_ms(&app), "browser");
    let asked = challenge(&app, key, &[], call, String::new()).await?;
    let mut response = Json(asked).into_response();
    let cookie = set_cookie(&app, DEVICE, &device.hex(), YEAR_S);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A passkey that somebody signs up with, and its first transaction.
pub struct New {
    pub passkey: Passkey,
    pub first: Transaction,
    pub device: Token,
}

/// What [`prepare`] asked for, signed. Errors: it is not that.
pub fn new(app: &App, visitor: &Visitor, form: &Form) -> Result<New, Trouble> {
    let Some(Approval::Passkey(signed)) = Approval::read(form) else {
        return Err(wrong("The browser's answer cannot be read."));
    };
    let AccountKey::Passkey(key) = signed.body.key else {
        return Err(wrong("It is no key of the kind P-256."));
    };
    let digest = signed.body.signed_digest();
    if signed.body.key.verify(&digest, &signed.signature).is_err() {
        return Err(wrong("Its signature does not fit."));
    }
    let passkey = Passkey::new(form.text("passkey_id"), key);
    let passkey = passkey.ok_or_else(|| wrong("The browser's answer cannot be read."))?;
    let device = visitor.device.clone();
    let device = device.ok_or_else(|| wrong("The browser keeps no cookies of this site."))?;
    let browser = app.people.browser_key(&device, passkey.account());
    let browser = AccountId::of(&browser.public());
    let asked = matches!(&signed.body.call, ledger::Call::Account(Call::Grant { to, .. }) if *to == browser);
    if !asked || !signed.body.on_behalf.is_empty() {
        return Err(wrong("It signed something else."));
    }
    Ok(New {
        passkey,
        first: *signed,
        device,
    })
}

/// `GET /settings/browser`: lets this browser act for a passkey's account.
pub async fn browser(State(app): State<App>, visitor: Visitor, Query(query): Query<Next>) -> Page {
    let login = visitor.login()?;
    let next = query.next.unwrap_or_else(|| "/".into());
    // A password lets its sessions act by itself, at each login.
    if !login.person.has_passkey() {
        return Ok(Redirect::to("/settings").into_response());
    }
    let days = PASS_MS / 86_400_000;
    let content = html! {
        div.approve {
            section.card {
                h1 { "Let this browser act for you" }
                p.lead { "Your passkey then signs only what is large or says who else may act." }
                dl.facts {
                    dt { "May spend" } dd { (words::credits(PASS_LIMIT)) " credits in 30 days" }
                    dt { "Ends" } dd { "after " (days) " days, or when you revoke it" }
                    dt { "Account" } dd { (login.person.title()) }
                }
                form method="post" action="/settings/browser" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    input type="hidden" name="next" value=(local(&next));
                    button.btn.primary.wide { (icon("shield-check")) "Let it act" }
                }
                p.alt { a href=(local(&next)) { "Not now: sign each act" } }
            }
        }
    };
    shown(&app, &visitor, Place::Settings, "This browser", content).await
}

/// `POST /settings/browser`
pub async fn let_act(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    if login.acting.is_some() {
        return Err(Trouble::new(
            StatusCode::CONFLICT,
            "Act for yourself first",
            "A browser acts for your own account, and through it for others.",
            "Choose your own account above the menu, then try again.",
        ));
    }
    let browser = AccountId::of(&login.key.public());
    login
        .submit(&app, pass(browser, now_ms(&app), "browser"))
        .await?;
    Ok(Redirect::to(local(form.text("next"))).into_response())
}
