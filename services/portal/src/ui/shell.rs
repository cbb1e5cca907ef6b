//! The frame of every page: navigation, search, chain height, balance, theme, account.

use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::{icon, stale};
use crate::app::App;
use crate::index::query;
use crate::people::{Kind, Look};
use crate::web::{Visitor, url};

/// Which entry of the navigation a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Overview,
    Jobs,
    Analytics,
    Hosts,
    Earnings,
    Wallet,
    Bills,
    Explorer,
    Blocks,
    Transactions,
    NetworkHosts,
    Network,
    Operate,
    Incidents,
    Audit,
    Docs,
    Settings,
    Space,
    /// In no menu.
    Nowhere,
}

struct Entry(Place, &'static str, &'static str, &'static str);

const OVERVIEW: Entry = Entry(Place::Overview, "/", "layout-dashboard", "Overview");
const BUILD: [Entry; 2] = [
    Entry(Place::Jobs, "/jobs", "rocket", "Jobs"),
    Entry(Place::Analytics, "/analytics", "chart-area", "Analytics"),
];
const EARN: [Entry; 2] = [
    Entry(Place::Hosts, "/hosts", "server", "My hosts"),
    Entry(Place::Earnings, "/earnings", "hand-coins", "Earnings"),
];
const MONEY: [Entry; 2] = [
    Entry(Place::Wallet, "/wallet", "wallet", "Wallet"),
    Entry(Place::Bills, "/bills", "receipt-text", "Bills"),
];
/// One entry of the menu each, and parts above the pages.
const EXPLORER: Entry = Entry(Place::Explorer, "/explorer", "blocks", "Explorer");
const EXPLORE: [Entry; 5] = [
    Entry(Place::Explorer, "/explorer", "blocks", "Latest"),
    Entry(Place::Blocks, "/explorer/blocks", "box", "Blocks"),
    Entry(
        Place::Transactions,
        "/explorer/transactions",
        "arrow-left-right",
        "Transactions",
    ),
    Entry(Place::NetworkHosts, "/explorer/hosts", "server", "Hosts"),
    Entry(
        Place::Network,
        "/explorer/network",
        "network",
        "Network and prices",
    ),
];

const OPERATION: Entry = Entry(Place::Operate, "/operate", "gauge", "Operation");
const OPERATE: [Entry; 3] = [
    Entry(Place::Operate, "/operate", "gauge", "Network"),
    Entry(
        Place::Incidents,
        "/operate/incidents",
        "triangle-alert",
        "Incidents",
    ),
    Entry(Place::Audit, "/operate/audit", "scroll-text", "Audit log"),
];
const DOCS: Entry = Entry(Place::Docs, "/docs", "book-open", "How to");
const SETTINGS: Entry = Entry(Place::Settings, "/settings", "settings", "Settings");

/// Which groups an account has used: of the others an invitation stands in the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    build: bool,
    earn: bool,
}

/// What is not known counts as used.
async fn used(app: &App, visitor: &Visitor) -> Used {
    let all = Used {
        build: true,
        earn: true,
    };
    let Some(login) = &visitor.login else {
        return all;
    };
    let account = login.account();
    match app.index.ask(move |c| query::uses(c, &account)).await {
        Ok((build, earn)) => Used { build, earn },
        Err(_) => all,
    }
}

/// Every address of the menus: each must be a page.
#[cfg(test)]
pub fn menu() -> impl Iterator<Item = &'static str> {
    BUILD
        .iter()
        .chain(&EARN)
        .chain(&MONEY)
        .chain(&EXPLORE)
        .chain(&OPERATE)
        .chain([&OVERVIEW, &EXPLORER, &OPERATION, &DOCS, &SETTINGS])
        .map(|e| e.1)
        .chain(["/jobs/new", "/hosts/new"])
}

/// `first`: an entry that is always there; `else_`: where nothing of the group was used yet, where it
/// begins.
fn group(
    title: &str,
    first: Option<&Entry>,
    entries: &[Entry],
    else_: Option<&Entry>,
    at: Place,
) -> Markup {
    let here = entries.iter().any(|entry| entry.0 == at);
    html! {
        h2 { (title) }
        ul {
            @if let Some(first) = first { (item(first, at)) }
            @match else_.filter(|_| !here) {
                Some(begin) => { (item(begin, at)) }
                None => { @for entry in entries { (item(entry, at)) } }
            }
        }
    }
}

/// The entry of a group whose parts stand above its pages.
fn whole(entry: &Entry, parts: &[Entry], at: Place) -> Markup {
    let within = parts.iter().any(|part| part.0 == at);
    item(entry, if within { entry.0 } else { at })
}

/// The parts of what a page belongs to.
fn parts(at: Place) -> Markup {
    let all = [
        ("the explorer", EXPLORE.as_slice()),
        ("operation", &OPERATE),
    ];
    let of = all
        .into_iter()
        .find(|(_, parts)| parts.iter().any(|part| part.0 == at));
    html! {
        @if let Some((of, parts)) = of {
            nav.parts aria-label=(format!("Parts of {of}")) {
                @for Entry(place, href, _, label) in parts { a href=(href) aria-current=[(*place == at).then_some("page")] { (label) } }
            }
        }
    }
}

fn item(Entry(place, href, picture, label): &Entry, at: Place) -> Markup {
    html! {
        li {
            a href=(href) aria-current=[(*place == at).then_some("page")] { (icon(picture)) (label) }
        }
    }
}

pub fn logo() -> Markup {
    html! {
        svg viewBox="0 0 26 26" aria-hidden="true" {
            rect.b width="26" height="26" rx="7" {}
            g.s { path d="M6 8.2c4.6 0 4.6 3.2 9.2 3.2H20" {} path d="M6 13c4.6 0 4.6 3.2 9.2 3.2H20" opacity=".75" {} path d="M6 17.8c4.6 0 4.6 3.2 9.2 3.2" opacity=".5" {} }
        }
    }
}

/// The first letters of a name.
pub fn initials(name: &str) -> String {
    let mut words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty());
    let first = words.next().and_then(|w| w.chars().next());
    let second = words
        .next()
        .and_then(|w| w.chars().next())
        .or_else(|| name.chars().filter(|c| c.is_alphanumeric()).nth(1));
    first
        .into_iter()
        .chain(second)
        .flat_map(char::to_uppercase)
        .collect()
}

fn nav(visitor: &Visitor, network: &str, used: Used, at: Place) -> Markup {
    let job = Entry(Place::Nowhere, "/jobs/new", "plus", "Create a job");
    let host = Entry(Place::Nowhere, "/hosts/new", "plus", "Lend a machine");
    html! {
        nav.nav id="nav" aria-label="Main" {
            a.iconbtn.close href="#" aria-label="Close the menu" { (icon("x")) }
            @if let Some(look) = visitor.login.as_ref().and_then(|l| l.look()) {
                a.brand href="/" { span.disc.solid aria-hidden="true" { (initials(&look.name)) } span.clip { (look.name) } }
            } @else {
                a.brand href="/" { (logo()) "Runrig" }
            }
            @if let Some(login) = &visitor.login {
                (who(visitor, login))
                @if let Some(look) = login.look() {
                    h2 { "Organisation" }
                    ul { li { a href=(format!("/o/{}", look.handle)) aria-current=[(at == Place::Space).then_some("page")] { (icon("building-2")) "Space" } } }
                }
                (group("Build", Some(&OVERVIEW), &BUILD, (!used.build).then_some(&job), at))
                (group("Earn", None, &EARN, (!used.earn).then_some(&host), at))
                (group("Money", None, &MONEY, None, at))
            } @else {
                div.who {
                    span.disc aria-hidden="true" { (icon("globe")) }
                    div.clip { div.strong.clip { (network) } div.dim { "Open to everyone" } }
                }
            }
            h2 { "Network" }
            ul {
                (whole(&EXPLORER, &EXPLORE, at))
                (whole(&OPERATION, &OPERATE, at))
            }
            ul.foot {
                (item(&DOCS, at))
                @if visitor.login.is_some() {
                    (item(&SETTINGS, at))
                } @else {
                    (item(&Entry(Place::Nowhere, "/login", "key-round", "Log in"), Place::Overview))
                    (item(&Entry(Place::Nowhere, "/signup", "user", "Create an account"), Place::Overview))
                }
            }
        }
    }
}

/// Whose pages these are, and whose they could be.
fn who(visitor: &Visitor, login: &crate::people::Login) -> Markup {
    let own = login.person.account;
    let shown = html! {
        span.disc aria-hidden="true" { (initials(login.title())) }
        div.clip {
            div.strong.clip { (login.title()) }
            div.dim.clip {
                @match (&login.acting, login.person.kind) {
                    (Some(_), _) => { "Through @" (login.person.handle) }
                    (None, Kind::Company) => { "Company · @" (login.person.handle) }
                    (None, Kind::Personal) => { "Personal" }
                }
            }
        }
    };
    let choice = |account: types::AccountId, title: &str| {
        html! {
            form method="post" action="/workspace" {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="account" value=(account);
                button aria-current=[(account == login.account()).then_some("true")] { span.disc aria-hidden="true" { (initials(title)) } span.clip { (title) } }
            }
        }
    };
    html! {
        @if login.workspaces.is_empty() { div.who { (shown) } }
        @else {
            details.pop.switch {
                summary.who { span.sr { "Acting for " } (shown) span.sr { ": change" } (icon("chevrons-up-down")) }
                div.sheet {
                    (choice(own, login.person.title()))
                    @for workspace in &login.workspaces { (choice(workspace.account, &workspace.title)) }
                }
            }
        }
    }
}

fn theme(visitor: &Visitor) -> Markup {
    html! {
        form.theme.inline method="post" action="/theme" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="back" value=(visitor.path);
            button.iconbtn name="theme" value="other" aria-label="Light or dark" {
                span.moon { (icon("moon")) } span.sun { (icon("sun")) }
            }
        }
    }
}

/// Where an organisation's stylesheet is; another address for another colour.
fn sheet(look: &Look) -> String {
    let colour = look.colour.to_string();
    format!(
        "/o/{}/style.css?c={}",
        look.handle,
        colour.trim_start_matches('#')
    )
}

/// Everything before the body's content. `live`: the page follows the chain.
fn frame(visitor: &Visitor, look: Option<&Look>, title: &str, live: bool, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[visitor.theme.map(|t| t.name())] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="description" content="Runrig: run containers on a cloud whose ledger places, meters and pays them.";
                title { (title) " · Runrig" }
                link rel="preload" href=(url("geist.woff2")) as="font" type="font/woff2" crossorigin;
                link rel="stylesheet" href=(url("portal.css"));
                @if let Some(look) = look { link rel="stylesheet" href=(sheet(look)); }
                link rel="icon" href=(url("logo.svg")) type="image/svg+xml";
                script defer src=(url("portal.js")) {}
            }
            body data-live=[live.then_some("/live")] data-worker=[live.then_some(url("live.js"))] {
                (body)
            }
        }
    }
}

/// A page in the frame with navigation, in the colour of the organisation whose pages these are.
pub async fn page(
    app: &App,
    visitor: &Visitor,
    at: Place,
    title: &str,
    content: Markup,
) -> Response {
    let look = visitor.login.as_ref().and_then(|login| login.look());
    page_of(app, visitor, look, at, title, content).await
}

/// The same, in the colour of another: whoever looks at its space.
pub async fn page_of(
    app: &App,
    visitor: &Visitor,
    look: Option<&Look>,
    at: Place,
    title: &str,
    content: Markup,
) -> Response {
    let balance = match &visitor.login {
        Some(login) => app.client.account(login.account()).await.ok(),
        None => None,
    };
    let tick = *app.tick.borrow();
    let moves = ["data-refresh=", "data-stream="];
    let moves = moves.iter().any(|part| content.0.contains(part));
    let body = html! {
        a.skip href="#content" { "Skip to content" }
        div.shell {
            (nav(visitor, app.network_name(), used(app, visitor).await, at))
            div.main {
                header.top {
                    a.iconbtn.menu href="#nav" aria-label="Open the menu" { (icon("menu")) }
                    form.search action="/explorer/search" role="search" aria-label="Search everything" {
                        (icon("search"))
                        label.sr for="search" { "Search blocks, transactions, accounts, hosts and receipts" }
                        input id="search" name="q" type="search" placeholder="Search or jump to…" autocomplete="off" maxlength="100";
                        kbd aria-hidden="true" { "Ctrl K" }
                    }
                    div.chips {
                        a class={ "chip block" @if tick.stale { " stale" } } href="/explorer" title="The latest block" {
                            span.pulse aria-hidden="true" {}
                            span.word { "Block" }
                            b data-live="height" { (words::grouped(tick.height.into())) }
                        }
                        @if let Some(balance) = balance {
                            a.chip.balance href="/wallet" title=(format!("{} credits", balance.balance)) {
                                (icon("wallet")) b { (words::credits(balance.balance)) } span.unit { "credits" }
                            }
                        }
                        (theme(visitor))
                        @if let Some(login) = &visitor.login { (account(visitor, login)) }
                        @else { a.btn.small.primary href="/login" { "Log in" } }
                    }
                }
                main id="content" tabindex="-1" { (parts(at)) @if moves { (stale(tick.stale.then_some(tick.time_ms))) } (content) }
            }
        }
    };
    frame(visitor, look, title, true, body).into_response()
}

fn account(visitor: &Visitor, login: &crate::people::Login) -> Markup {
    html! {
        details.pop {
            summary { span.disc.round { (initials(login.person.title())) } " " span.sr { "Your account" } }
            div.sheet {
                div.head { div.strong.clip { (login.person.title()) } div.dim.clip { (login.person.email) } }
                a href="/settings" { (icon("settings")) "Settings and sessions" }
                a href=(format!("/explorer/accounts/{}", login.account())) { (icon("blocks")) "Your account on the ledger" }
                form method="post" action="/logout" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    button { (icon("log-out")) "Log out" }
                }
            }
        }
    }
}

/// A page without navigation: sign-up, login.
pub fn stand(visitor: &Visitor, title: &str, content: Markup) -> Response {
    let body = html! {
        a.skip href="#content" { "Skip to content" }
        div.stand {
            header {
                a.brand href="/explorer" { (logo()) "Runrig" }
                nav aria-label="Main" {
                    a.btn.small href="/explorer" { (icon("blocks")) "Explorer" }
                    (theme(visitor))
                }
            }
            main.auth id="content" tabindex="-1" { (content) }
        }
    };
    frame(visitor, None, title, false, body).into_response()
}
