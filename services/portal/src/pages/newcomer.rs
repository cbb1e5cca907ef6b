//! A machine that is to join: the one command, and what becomes of it, from records alone.
//!
//! The token's secret is made from the session's own key and a seed in the form, so that the form can be
//! sent again with its approval. It is in the command and kept nowhere here; the page that watches
//! knows the token's public id only.

use api::{AllocationView, HostView, TokenView};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::host::{Call, Joined};
use maud::{Markup, html};
use types::{AccountId, Amount, ReceiptId, SecretKey, ServiceSpec};
use words::{bytes, cores};

use super::explorer::now_of;
use super::{shown, slowly};
use crate::app::App;
use crate::approve::{Unsubmitted, now_ms};
use crate::index::query;
use crate::limits::Act;
use crate::people::{Login, Token};
use crate::ui::{self, Place, Tone, alert, cli, copy, credits, crumbs, field, icon, if_may, when};
use crate::web::{Form, Page, Right, Trouble, Visitor};

/// A command is good for so long.
const PERIOD_MS: u64 = 3_600_000;

fn secret_of(login: &Login, seed: &Token) -> SecretKey {
    login.secret_for("runrig-portal-host-token", seed)
}

/// As the ledger has it; so nothing of it means anything to a shell.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain)
}

/// One that is likely to be free.
fn proposed(handle: &str, own: usize) -> String {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let stem: String = handle.chars().filter(plain).take(30).collect();
    let stem = stem.trim_matches('-');
    match stem {
        "" => format!("machine-{}", own + 1),
        stem => format!("{stem}-{}", own + 1),
    }
}

fn form(visitor: &Visitor, name: &str, wrong: Option<&str>) -> Markup {
    let input = html! {
        input.in id="name" name="name" value=(name) maxlength="40" required autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby=(if wrong.is_some() { "name-error" } else { "name-hint" });
    };
    html! {
        form method="post" action="/hosts/new" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="seed" value=(Token::random().hex());
            (field("name", "Name of the machine", input, "Unique on the network: small letters, digits and -", wrong))
            button.btn.primary { (icon("terminal")) "Make the command" }
        }
    }
}

fn open_list(visitor: &Visitor, open: &[TokenView], now: u64) -> Markup {
    html! {
        section.card {
            header { div { h2 { "Commands that wait for their machine" } p.sub { "Their secrets are kept nowhere: who has lost one takes it back and makes another" } } }
            ul.feed { @for one in open {
                @let id = one.token.to_string();
                (ui::feed("clock", &format!("Token {}", words::brief(&id)), html! { "good for " (words::span(one.until_ms.saturating_sub(now))) " more · " a href=(format!("/hosts/new/{id}")) { "Watch" } }, Some(taking_back(visitor, &id))))
            } }
        }
    }
}

fn taking_back(visitor: &Visitor, token: &str) -> Markup {
    if visitor.lack(Right::Rule, "take it back").is_some() {
        return html! {};
    }
    html! {
        form.inline method="post" action="/hosts/uninvite" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="token" value=(token);
            button.btn.small.danger { "Take back" }
        }
    }
}

async fn page(app: &App, visitor: &Visitor, said: Option<&str>, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    let me = login.account();
    let params = app.client.params().await?;
    let open = app.client.tokens_of(me).await?;
    let all = app.client.hosts().await?;
    let own = all.iter().filter(|h| h.owner == me).count();
    let proposed = proposed(&login.person.handle, own);
    let name = said.map_or_else(|| proposed.clone(), str::to_string);
    let core_day = Amount(params.tariff.cpu.0 * 86_400);
    let gib_day = Amount(params.tariff.memory.0 * 86_400);
    let content = html! {
        (crumbs(&[("/hosts", "My hosts")]))
        div.pagehead { div { h1 { "Lend a machine" } p.sub { "One command; it checks the machine, offers it, and earns for what runs on it." } } }
        div.grid {
            div.s7.stack {
                section.card {
                    header { div { h2 { "Make the command" } p.sub { "With a token in it that lets one machine join for your account, once, within an hour" } } }
                    (if_may(visitor.lack(Right::Rule, "let a machine join"), || form(visitor, &name, wrong)))
                }
                section.card {
                    header { div { h2 { "How it works" } } }
                    ol.steps {
                        li { span.strong { "Run it on the machine" } span.dim { "It says what is missing and how to mend it; " code { "runrig doctor" } " says so beforehand. Add --cpus, --memory and --disk to lend only a part." } }
                        li { span.strong { "It joins" } span.dim { "Pay goes to your account. You see here what it offers, and what is still in its way." } }
                        li { span.strong { "Watch the first job arrive" } span.dim { "As soon as somebody deploys something that fits; then it is paid every " (words::span(params.report_interval_ms)) ", with a receipt." } }
                    }
                }
                @if !open.is_empty() { (open_list(visitor, &open, now_of(app))) }
            }
            div.s5.stack {
                section.card {
                    header { div { h2 { "What it needs" } } }
                    ul.feed {
                        (ui::feed("cpu", "Linux on amd64 or arm64, as root", html! { "kernel 5.15 or newer" }, None))
                        (ui::feed("memory-stick", "Control groups, version 1 or 2", html! { "limits and measures what runs" }, None))
                        (ui::feed("network", "A way to the gateway", html! { "others reach it directly, or through a relay" }, None))
                        (ui::feed("clock", "A clock that is right", html! { "within " (params.clock_skew_ms / 1000) " s of the network's" }, None))
                    }
                }
                section.card {
                    header { div { h2 { "What it earns" } p.sub { "For what is used, by the network's tariff" } } }
                    dl.facts {
                        dt { "A core that computes all day" } dd.strong { (credits(core_day)) " credits" }
                        dt { "A GiB of memory in use all day" } dd.strong { (credits(gib_day)) " credits" }
                        dt { "Paid" } dd { "every " (words::span(params.report_interval_ms)) ", with a receipt" }
                        @if !params.host_bond.is_zero() { dt { "Bond" } dd { (credits(params.host_bond)) " credits of the machine's own account; back to you when it leaves" } }
                    }
                }
            }
        }
        @let name = if is_name(&name) { &name } else { &proposed };
        (cli(&format!("runrig host invite --for 1h --name {name}")))
    };
    let mut response = ui::page(app, visitor, Place::Hosts, "Lend a machine", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /hosts/new`
pub async fn new(State(app): State<App>, visitor: Visitor) -> Page {
    page(&app, &visitor, None, None).await
}

/// `POST /hosts/new`: makes a token, and shows its command this once.
pub async fn make(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let name = form.text("name");
    if !is_name(name) {
        let why = "1 to 40 small letters, digits and hyphens";
        return page(&app, &visitor, Some(name), Some(why)).await;
    }
    let Some(seed) = Token::parse(form.text("seed")) else {
        let why = "The form was incomplete: send it once more";
        return page(&app, &visitor, Some(name), Some(why)).await;
    };
    let secret = secret_of(login, &seed);
    let token = AccountId::of(&secret.public());
    // The page was loaded again: it is made, or has been used, already.
    let mut open = app.client.token(token).await?;
    if open.is_none() {
        if joined_by(&app, login.account(), token).await?.is_some() {
            return Ok(Redirect::to(&format!("/hosts/new/{token}")).into_response());
        }
        let until_ms = now_ms(&app).saturating_add(PERIOD_MS);
        let call = ledger::Call::Host(Call::Invite { token, until_ms });
        match login.submit(&app, call).await {
            Ok(_) => {}
            Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
                let why = format!("{}. {}", problem.why, problem.next);
                return page(&app, &visitor, Some(name), Some(&why)).await;
            }
            Err(error) => return Err(error.into()),
        }
        open = app.client.token(token).await?.or(Some(TokenView {
            token,
            owner: login.account(),
            made_ms: now_ms(&app),
            until_ms,
        }));
    }
    let until_ms = open.map_or(0, |open| open.until_ms);
    let line = api::join_line(&app.gateway, name, &secret);
    let watch = format!("/hosts/new/{token}");
    let content = html! {
        (crumbs(&[("/hosts", "My hosts"), ("/hosts/new", "Lend a machine")]))
        div.pagehead { div { h1 { "Run this on the machine" } p.sub { "The first machine that runs it is yours, until " (words::utc(until_ms)) " UTC" } } }
        div.stack {
            section.card {
                div.row { code.code.wrap id="command" { (line) } (copy(&line, "the command")) }
                p.ink2 { "It is shown this once. Whoever has it joins with one machine for your account and does nothing else; once a machine has joined, it is worth nothing. To keep it out of the list of processes, leave " code { "--token …" } " away and put the token into " code { "RUNRIG_HOST_TOKEN" } ", or into a file of root's for " code { "--token-file" } "." }
                noscript { div.row { a.btn.primary href=(watch) { "Watch it" } } }
            }
            (live(&watch, progress(&app, login.account(), token).await?))
        }
        p.foot-note { "You may leave: " a href=(watch) { "this page watches on" } ", without the command." }
        (cli(&format!("runrig host invite --for 1h --name {name}")))
    };
    shown(&app, &visitor, Place::Hosts, "The command", content).await
}

/// `POST /hosts/uninvite`: no machine joins with that token any more.
pub async fn take_back(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let token: AccountId = form
        .text("token")
        .parse()
        .map_err(|_| Trouble::missing("There is no such token"))?;
    let call = ledger::Call::Host(Call::Uninvite { token });
    login.submit(&app, call).await?;
    Ok(Redirect::to("/hosts/new").into_response())
}

fn live(path: &str, now: Markup) -> Markup {
    html! { div.stack data-refresh=(path) data-every="2" { (now) } }
}

/// `GET /hosts/new/{token}`: the page, or what it reads again.
pub async fn watch(State(app): State<App>, visitor: Visitor, Path(token): Path<String>) -> Page {
    let me = visitor.login()?.account();
    let token: AccountId = token
        .parse()
        .map_err(|_| Trouble::missing("There is no such token"))?;
    let now = progress(&app, me, token).await?;
    if visitor.partial {
        return Ok(now.into_response());
    }
    let id = token.to_string();
    let content = html! {
        (crumbs(&[("/hosts", "My hosts"), ("/hosts/new", "Lend a machine")]))
        div.pagehead { div { h1 { "A machine joins" } p.sub { "With token " span.mono title=(id) { (words::brief(&id)) } ", by the records of the network" } } div.acts { a.btn href=(visitor.path) { (icon("rotate-cw")) "Look again" } } }
        (live(&format!("/hosts/new/{id}"), now))
        (cli("runrig events -f"))
    };
    shown(&app, &visitor, Place::Hosts, "A machine joins", content).await
}

/// The account's host that has joined with it.
async fn joined_by(
    app: &App,
    me: AccountId,
    token: AccountId,
) -> Result<Option<(HostView, Joined)>, Trouble> {
    let all = app.client.hosts().await?;
    let joined = all.into_iter().filter(|host| host.owner == me);
    let mut joined = joined.filter_map(|host| host.joined.map(|by| (host, by)));
    Ok(joined.find(|(_, by)| by.token == token))
}

/// What the records say of it. In the same words for what never was, what is over, and what is another's.
async fn progress(app: &App, me: AccountId, token: AccountId) -> Result<Markup, Trouble> {
    let now = now_of(app);
    if let Some((host, by)) = joined_by(app, me, token).await? {
        let seen = Seen::of(app, &host, &by).await?;
        let params = app.client.params().await?;
        // The ledger's time may be ahead of what is known of it here.
        let now = now.max(host.last_seen_ms);
        return Ok(html! {
            (steps(&host, &by, &seen, now))
            (requirements(app, &host, params.host_bond, now))
        });
    }
    let open = app.client.token(token).await?;
    Ok(match open.filter(|open| open.owner == me) {
        Some(open) => html! {
            section.card {
                ol.steps {
                    li { span.strong { "Waiting for the machine" } span.dim { "No machine has joined with it yet. It is good for " (words::span(open.until_ms.saturating_sub(now))) " more, until " (words::utc(open.until_ms)) " UTC. If the command ends with an error, that says what the machine lacks. " a href="/hosts/new" { "Take it back" } } }
                    li { span.strong { "First job" } }
                    li { span.strong { "It runs" } }
                    li { span.strong { "First payment" } }
                }
            }
        },
        None => alert(
            Tone::Warn,
            html! {
                p.strong { "No machine joins with this token any more" }
                p { "Its hour is over, it was taken back, the machine that joined with it has left or has another owner, or it was never made for this account. " a href="/hosts/new" { "Make another command" } "." }
            },
        ),
    })
}

/// What has become of a host since it joined.
struct Seen {
    /// The first that is there now, and what it is.
    job: Option<(AllocationView, String)>,
    runs: bool,
    /// When the first one ever was placed.
    placed_ms: Option<u64>,
    paid: Option<(ReceiptId, Amount, u64)>,
}

impl Seen {
    async fn of(app: &App, host: &HostView, by: &Joined) -> Result<Self, Trouble> {
        let mut placed = app.client.allocations_on(host.host).await?;
        placed.sort_by_key(|a| (a.placed_ms, a.allocation));
        let runs = placed
            .iter()
            .any(|a| a.status.state == types::RunState::Running);
        let job = match placed.into_iter().next() {
            Some(first) => {
                let of = app.client.deployment(first.deployment).await?;
                let what = of.spec.services.get(&first.service).map_or("", what_it_is);
                Some((first, what.to_string()))
            }
            None => None,
        };
        let (id, since) = (host.host.to_string(), by.joined_ms);
        let (first, paid) = app
            .index
            .ask(move |store| {
                Ok((
                    query::first_on(store, &id, "placement", since)?,
                    query::first_on(store, &id, "receipt", since)?,
                ))
            })
            .await?;
        let paid = paid.and_then(|e| Some((ReceiptId(e.receipt?), e.amount?, e.time_ms)));
        Ok(Self {
            placed_ms: first
                .map(|e| e.time_ms)
                .or(job.as_ref().map(|(a, _)| a.placed_ms)),
            job,
            runs,
            paid,
        })
    }
}

/// Of whom it is, a host's owner need not read here.
fn what_it_is(service: &ServiceSpec) -> &'static str {
    match service {
        s if s.build.is_some() => "a build of an image",
        s if !s.ports.is_empty() || !s.expose.is_empty() => "a service that answers requests",
        _ => "a service that works by itself",
    }
}

fn size(r: &types::Resources) -> String {
    format!(
        "{} cores, {} of memory, {} of disk",
        cores(r.cpu_millis.into()),
        bytes(r.memory_bytes.into()),
        bytes(r.disk_bytes.into())
    )
}

/// Why nothing has been placed on it yet.
fn nothing_yet(host: &HostView, now: u64) -> String {
    match host {
        h if !h.online => "The network does not hear it just now: nothing is placed on it until it is heard again.".into(),
        h if h.draining || h.cordoned => "It takes no new work: its owner has said so.".into(),
        h if h.closed => "It is outside its hours: nothing is placed on it until they begin.".into(),
        h if h.trusted_ms > now => format!(
            "It fell silent, and is on trial for {} more: new work comes after that.",
            words::span(h.trusted_ms - now)
        ),
        _ => "It may have work from now on, and nobody has deployed anything that was placed on it. New work goes to the host that fits it best; a newcomer without a name yet waits longer.".into(),
    }
}

fn steps(host: &HostView, by: &Joined, seen: &Seen, now: u64) -> Markup {
    let ran = seen.runs || seen.paid.is_some();
    html! {
        section.card {
            ol.steps {
                li.done {
                    span.strong { a href=(format!("/explorer/hosts/{}", host.host)) { (host.name) } " has joined" }
                    span.dim { (when(by.joined_ms, now)) " ago, with the token made at " (words::utc(by.made_ms)) " UTC. It offers " (size(&host.offer.capacity)) ", " (host.offer.architecture) "." }
                }
                li.done[seen.placed_ms.is_some()] {
                    span.strong { "First job" }
                    @match (&seen.job, seen.placed_ms) {
                        (Some((job, what)), since) => {
                            span.dim { "Placed " (when(since.unwrap_or(job.placed_ms), now)) " ago. Now there: " (what) ", " (size(&job.reserved)) ", since " (words::utc(job.placed_ms)) " UTC." }
                        }
                        (None, Some(since)) => { span.dim { "Placed " (when(since, now)) " ago, and gone again." } }
                        (None, None) => {
                            span.dim { (nothing_yet(host, now)) }
                            div.row { a.btn.small href="/jobs/new" { (icon("plus")) "Deploy something yourself" } }
                        }
                    }
                }
                li.done[ran] {
                    span.strong { "It runs" }
                    @if seen.runs { span.dim { "A replica runs on it." } }
                    @else if ran { span.dim { "It has run." } }
                    @else if let Some((job, _)) = &seen.job { span.dim { (ui::status(job).1) ": the image is fetched, then it starts." } }
                }
                li.done[seen.paid.is_some()] {
                    span.strong { "First payment" }
                    @if let Some((receipt, amount, at)) = &seen.paid {
                        span.dim { (credits(*amount)) " credits, " (when(*at, now)) " ago: " a href=(format!("/explorer/receipts/{receipt}")) { "receipt " (receipt) } ". " a href="/earnings" { "Earnings" } }
                    } @else if seen.runs { span.dim { "With its next report of use." } }
                }
            }
        }
    }
}

/// Nobody on another machine reaches such an address; where the gateway has one too, all are on one.
fn is_own_only(address: &str, gateway: &str) -> bool {
    let own = |url: &str| {
        let authority = url.split("://").last().unwrap_or("");
        let host = authority.rsplit_once(':').map_or(authority, |(h, _)| h);
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
    };
    own(address) && !own(gateway)
}

/// What the ledger says of what a host needs.
fn requirements(app: &App, host: &HostView, bond: Amount, now: u64) -> Markup {
    let line = |good: bool, what: &str, second: Markup| {
        let (class, picture) = match good {
            true => ("ok", "circle-check"),
            false => ("bad", "circle-x"),
        };
        html! { li { span.ic.(class) { (icon(picture)) } div.tx { span.wrap { (what) } span.second.wrap { (second) } } } }
    };
    let trial = host.trusted_ms > now;
    html! {
        section.card {
            header { div { h2 { "What it needs" } p.sub { "As far as the ledger knows it" } } }
            ul.feed {
                @if host.online { (line(true, "The network hears it", html! { "last " (when(host.last_seen_ms, now)) " ago" })) }
                @else { (line(false, "The network does not hear it", html! { "last " (when(host.last_seen_ms, now)) " ago. Does the agent run, and does it reach the gateway?" })) }
                @if is_own_only(&host.address, &app.gateway) {
                    (line(false, "Others do not reach it", html! { "Its address, " (host.address) ", means itself: logs, shells and requests do not get there. Start it with " code { "--listen 0.0.0.0:8730 --advertise http://ITS-IP:8730" } ", and let that port through." }))
                } @else if let Some(flag) = &host.flag {
                    (line(false, "Witnesses got no answer", html! { (flag.witnesses.len()) " of " (flag.drawn) ", " (when(flag.time_ms, now)) " ago: is " (host.address) " let through?" }))
                } @else { (line(true, "It says where others reach it", html! { (host.address) })) }
                @if host.bond < bond { (line(true, "Its bond lies on the ledger", html! { (credits(host.bond)) " credits; newcomers now bond " (credits(bond)) })) }
                @else { (line(true, "Its bond lies on the ledger", html! { (credits(host.bond)) " credits" })) }
                @if trial { (line(false, "On trial", html! { "for " (words::span(host.trusted_ms - now)) " more, as it fell silent" })) }
                @else if host.draining || host.cordoned { (line(false, "It takes no new work", html! { "as its owner has said" })) }
                @else { (line(host.online, if host.online { "It takes work" } else { "It takes no work" }, html! { (size(&host.free)) " free" })) }
                (line(true, if host.offer.builds { "It builds images, too" } else { "It builds no images" }, html! { @if host.offer.builds { "a builder is installed" } @else { "no builder is installed; it need not" } }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_the_ledger_takes() {
        for good in ["a", "rack-7", "7", &"x".repeat(40)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "Rack", "a b", "a;b", "$(x)", "ä", &"x".repeat(41)] {
            assert!(!is_name(bad), "{bad}");
        }
        for (handle, own, name) in [
            ("ada", 0, "ada-1"),
            ("Ada_L", 2, "da-3"),
            ("--", 0, "machine-1"),
        ] {
            assert_eq!(proposed(handle, own), name);
            assert!(is_name(name));
        }
    }

    #[test]
    fn an_address_of_its_own_is_seen_where_others_are_elsewhere() {
        let far = "http://203.0.113.9:8700";
        for own in [
            "http://127.0.0.1:8730",
            "http://[::1]:1",
            "http://0.0.0.0:5",
            "http://localhost:9",
        ] {
            assert!(is_own_only(own, far), "{own}");
            assert!(!is_own_only(own, "http://127.0.0.1:8700"), "{own}");
        }
        assert!(!is_own_only("http://203.0.113.10:8730", far));
        assert!(!is_own_only("http://barn.example:8730", far));
    }
}
