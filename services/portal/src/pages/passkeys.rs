//! Passkeys: log in with one, let a browser act within limits, have several, and what sign-up needs
//! of them.
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
use ledger::account::{Call, Role};
use maud::{Markup, html};
use serde::Deserialize;
use types::{AccountId, AccountKey, Assertion, Digest, PasskeyKey};

use super::auth::{Next, YEAR_S, anew, enter, local, log_in_page};
use super::explorer::now_of;
use super::{shown, slowly};
use crate::app::App;
use crate::approve::{
    Approval, PASS_LEFT_MS, PASS_LIMIT, PASS_MS, Unsubmitted, assertion, challenge, now_ms, pass,
    signs,
};
use crate::limits::Act;
use crate::people::{KeptPasskey, Login, PASSKEYS_MAX, Passkey, Token};
use crate::ui::{
    self, Place, Tone, alert, badge, cli, crumbs, field, icon, passkey_fields, passkey_script, when,
};
use crate::web::{DEVICE, Form, Page, Trouble, Visitor, set_cookie};

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
    // One that was lost may have been taken back elsewhere: by the command line, by another portal.
    let view = app.client.account(person.account).await?;
    if !signs(&view, passkey.account(), now_ms(&app)) {
        return refused("That passkey was taken back: it signs for the account no more.");
    }
    app.people.note_use(&passkey).await?;
    let device = visitor.device.clone().unwrap_or_else(Token::random);
    let key = app.people.browser_key(&device, passkey.account());
    let soon = now_ms(&app) + PASS_LEFT_MS;
    let grant = view.grants.get(&AccountId::of(&key.public()));
    let next = match grant.is_some_and(|grant| grant.is_good(soon)) {
        false => format!("/settings/browser?next={}", crate::web::escaped(&next)),
        true => next,
    };
    enter(&app, &visitor, &person, &key, device, &next).await
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
    let asked = challenge(&app, key, call).await?;
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

/// Of a label on the ledger.
const NAME_BYTES_MAX: usize = 60;

/// Errors: the account's keys are no passkeys, or these pages are another's.
fn own(login: &Login) -> Result<(), Trouble> {
    let refused = |what: &str, why: &str, next: &str| {
        Err(Trouble::new(StatusCode::CONFLICT, what, why, next))
    };
    if !login.person.has_passkey() {
        return refused(
            "This account has no passkeys",
            "Its key is sealed by your password.",
            "Keep the recovery file of your settings; a passkey is chosen at sign-up.",
        );
    }
    if login.acting.is_some() {
        return refused(
            "Act for yourself first",
            "Passkeys are of your own account.",
            "Choose your own account above the menu, then try again.",
        );
    }
    Ok(())
}

fn row(visitor: &Visitor, one: &KeptPasskey, good: bool, last: bool, now: u64) -> Markup {
    html! {
        tr {
            td.wrap { span.strong { (one.name()) } span.second { "of " (words::day(one.created_ms)) } }
            td data-l="Last used" { @if one.used_ms == 0 { span.dim { "not yet" } } @else { span { (when(one.used_ms, now)) " ago" } } }
            td data-l="On the ledger" { @if good { (badge(Tone::Ok, "Signs")) } @else { (badge(Tone::Warn, "Taken back")) } }
            td {
                @if last { span.dim { "the only way in" } }
                @else {
                    form.inline method="post" action="/settings/passkeys" {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        input type="hidden" name="act" value="remove";
                        input type="hidden" name="passkey" value=(one.passkey.credential);
                        button.btn.small.danger aria-label=(format!("Remove {}", one.name())) { "Remove" }
                    }
                }
            }
        }
    }
}

async fn page(app: &App, visitor: &Visitor, said: &Form, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    own(login)?;
    let kept = app.people.passkeys(login.person.id).await?;
    let view = app.client.account(login.person.account).await?;
    let now = now_of(app);
    let is_good = |one: &KeptPasskey| signs(&view, one.passkey.account(), now_ms(app));
    let good = kept.iter().filter(|one| is_good(one)).count();
    let known: Vec<&str> = kept.iter().map(|k| k.passkey.credential.as_str()).collect();
    let content = html! {
        (crumbs(&[("/settings", "Settings")]))
        div.pagehead { div { h1 { "Passkeys" } p.sub { "Each logs in, and signs all that the account may; by the ledger at block " (words::grouped(view.height.into())) } } }
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { (wrong) } })) }
        @if good == 1 { (alert(Tone::Info, html! { p.strong { "You have one way in" } p { "If that device is lost, so is the account. Add a second passkey, on another device." } })) }
        div.grid {
            section.card.flush.s8 {
                header { div { h2 { "Yours" } p.sub { "The one that was used last first" } } }
                div.tablewrap { table.cards {
                    thead { tr { th { "Name" } th { "Last used" } th { "On the ledger" } th { span.sr { "Remove it" } } } }
                    tbody { @for one in &kept { (row(visitor, one, is_good(one), good <= 1 && is_good(one), now)) } }
                } }
                p.foot-note.in-card { "Lost a device? Log in with another passkey and remove the lost one: another of yours signs it, the lost one logs in and signs no more, and all other sessions end. What its browser might spend by itself stands under " a href="/members" { "Keys and members" } ", to be taken back." }
            }
            section.card.s4 {
                header { div { h2 { "Add one" } p.sub { "Of this device, a phone, a security key" } } }
                @if kept.len() >= PASSKEYS_MAX { p.ink2 { (PASSKEYS_MAX) " are the most. Remove one first." } }
                @else {
                    form method="post" action="/settings/passkeys" {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        input type="hidden" name="act" value="add";
                        input type="hidden" name="passkey_id" disabled;
                        input type="hidden" name="passkey_point" disabled;
                        (field("name", "Name", html! { input.in id="name" name="name" value=(said.text("name")) maxlength="60" required autocomplete="off" aria-describedby="name-hint"; }, "Where it is; public, on the ledger", None))
                        div.with-passkey hidden {
                            button.btn.primary type="button" data-passkey="add" data-handle=(login.person.handle) data-known=(known.join(" ")) { (icon("plus")) "Add a passkey" }
                            p.hint { "Your browser makes it; then one that you have signs that it may act." }
                        }
                        p.passkey-said.err role="alert" {}
                        noscript { p { "A passkey is made by a script of this page: allow scripts." } }
                    }
                    (passkey_script())
                }
            }
        }
        (cli("runrig account keys ls"))
    };
    let mut response = ui::page(app, visitor, Place::Settings, "Passkeys", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /settings/passkeys`
pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    page(&app, &visitor, &Form::default(), None).await
}

/// `POST /settings/passkeys`: `act` is `add` or `remove`; both are signed by a passkey that stays.
pub async fn change(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    own(login)?;
    let done = match form.text("act") {
        "add" => add(&app, login, &form).await?,
        "remove" => remove(&app, login, &form).await?,
        _ => Err("Choose what is to be done.".to_string()),
    };
    match done {
        Ok(()) => anew(&app, login, "/settings/passkeys").await,
        Err(wrong) => page(&app, &visitor, &form, Some(&wrong)).await,
    }
}

/// The ledger's word, if it was one; else what is the matter.
async fn signed(app: &App, login: &Login, call: Call) -> Result<Result<(), String>, Trouble> {
    match login.submit(app, ledger::Call::Account(call)).await {
        Ok(_) => Ok(Ok(())),
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            Ok(Err(format!("{}. {}", problem.why, problem.next)))
        }
        Err(error) => Err(error.into()),
    }
}

async fn add(app: &App, login: &Login, form: &Form) -> Result<Result<(), String>, Trouble> {
    let name = form.text("name");
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let why = format!("A name is one line of at most {NAME_BYTES_MAX} bytes.");
        return Ok(Err(why));
    }
    let made = point(form).and_then(|key| Passkey::new(form.text("passkey_id"), key));
    let Some(passkey) = made else {
        return Ok(Err("The browser's answer cannot be read.".into()));
    };
    let kept = app.people.passkeys(login.person.id).await?;
    if kept.len() >= PASSKEYS_MAX {
        return Ok(Err(format!("{PASSKEYS_MAX} are the most.")));
    }
    if !app.people.is_new(&passkey).await? {
        return Ok(Err("This portal knows that passkey already.".into()));
    }
    let call = Call::Grant {
        to: passkey.account(),
        role: Role::Owner,
        limit: None,
        expires_ms: None,
        label: name.to_string(),
    };
    if let Err(wrong) = signed(app, login, call).await? {
        return Ok(Err(wrong));
    }
    let added = app.people.add_passkey(login.person.id, passkey, name);
    if !added.await? {
        let why =
            "The ledger knows it now, this portal does not: revoke it under Keys and members.";
        return Ok(Err(why.into()));
    }
    Ok(Ok(()))
}

async fn remove(app: &App, login: &Login, form: &Form) -> Result<Result<(), String>, Trouble> {
    let kept = app.people.passkeys(login.person.id).await?;
    let found = kept
        .iter()
        .find(|k| k.passkey.credential == form.text("passkey"));
    let Some(lost) = found else {
        return Ok(Err("You have no such passkey.".into()));
    };
    let view = app.client.account(login.person.account).await?;
    let is_good = |one: &KeptPasskey| signs(&view, one.passkey.account(), now_ms(app));
    if is_good(lost) {
        if !kept
            .iter()
            .any(|one| one.passkey != lost.passkey && is_good(one))
        {
            let why = "It is your only way in. Add another passkey first.";
            return Ok(Err(why.into()));
        }
        let call = Call::Revoke {
            from: lost.passkey.account(),
        };
        if let Err(wrong) = signed(app, login, call).await? {
            return Ok(Err(wrong));
        }
    }
    app.people.drop_passkey(login, &lost.passkey).await?;
    Ok(Ok(()))
}
