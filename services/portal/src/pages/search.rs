//! One search for everything: what is meant, where that is one thing; else what there is of that name.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use types::{AccountId, DeploymentId};
use words::{Names, brief};

use super::auth::is_handle;
use super::explorer::{happenings, now_of};
use super::shown;
use crate::app::App;
use crate::index::EventFilter;
use crate::index::lent::{self, Run};
use crate::index::query::{self, Deployed};
use crate::ui::{Place, cli, empty, icon, when};
use crate::web::{Page, Visitor, escaped};

/// Of what happened to a deployment.
const EVENTS: usize = 20;

#[derive(Deserialize)]
pub struct Search {
    q: Option<String>,
}

/// `GET /explorer/search`: to what was meant, if it is one thing.
pub async fn search(
    State(app): State<App>,
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Page {
    let text: String = search
        .q
        .unwrap_or_default()
        .trim()
        .chars()
        .take(100)
        .collect();
    let to = |path: String| Ok(Redirect::to(&path).into_response());
    let plain: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '\u{202f}' | ',' | '#'))
        .collect();
    if let Ok(height) = plain.parse::<u64>() {
        return to(format!("/explorer/blocks/{height}"));
    }
    if let Some(number) = text.strip_prefix("r-").and_then(|n| n.parse::<u64>().ok()) {
        return to(format!("/explorer/receipts/r-{number}"));
    }
    for (letter, pages) in [("l-", "lotteries"), ("p-", "votes")] {
        if let Some(number) = text
            .strip_prefix(letter)
            .and_then(|n| n.parse::<u64>().ok())
        {
            return to(format!("/explorer/{pages}/{letter}{number}"));
        }
    }
    let hex: &str = text.strip_prefix("sha256:").unwrap_or(&text);
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let digest = hex.to_lowercase();
        let of = digest.clone();
        return match app.index.ask(move |c| query::height_of(c, &of)).await? {
            Some(height) => to(format!("/explorer/blocks/{height}")),
            None => to(format!("/explorer/transactions/{digest}")),
        };
    }
    let of = text.clone();
    let hosts = match text.is_empty() {
        true => Vec::new(),
        false => app.index.ask(move |c| query::named(c, &of)).await?,
    };
    if let [(name, id)] = hosts.as_slice()
        && (*name == text || *id == text)
    {
        return to(format!("/explorer/hosts/{id}"));
    }
    if text.len() == 40 && text.parse::<AccountId>().is_ok() {
        return to(format!("/explorer/accounts/{text}"));
    }
    if let Some(login) = &visitor.login
        && !text.is_empty()
    {
        if let Ok(own) = super::jobs::own_deployment(&app, login, &text).await {
            return to(format!("/jobs/{}", own.project));
        }
        if text.strip_prefix('@') == Some(&login.person.handle) {
            return to(format!("/explorer/accounts/{}", login.person.account));
        }
    }
    let handle = text.strip_prefix('@').unwrap_or(&text).to_lowercase();
    // Of people nothing is told here but what they opened to everyone.
    let space = match is_handle(&handle) {
        true => app.people.space(&handle).await?,
        false => None,
    };
    if space.is_some() && hosts.is_empty() {
        return to(format!("/o/{handle}"));
    }
    let number = |letter: &str| text.strip_prefix(letter)?.parse::<u64>().ok();
    let (job, run) = (number("d-"), number("a-"));
    let (deployed, run, names, events) = app
        .index
        .ask(move |c| {
            let run = match run {
                Some(number) => lent::run(c, number)?,
                None => None,
            };
            let id = job
                .map(DeploymentId)
                .or(run.as_ref().map(|run| run.deployment));
            let Some(id) = id else {
                return Ok((None, run, query::names(c)?, Vec::new()));
            };
            let filter = EventFilter {
                deployment: Some(id),
                ..EventFilter::default()
            };
            let events = query::events(c, &filter, EVENTS)?;
            Ok((query::deployed(c, id)?, run, query::names(c)?, events))
        })
        .await?;
    if let Some(login) = visitor.login.as_ref().filter(|_| run.is_some())
        && let Some(of) = deployed
            .as_ref()
            .filter(|of| of.owner == login.account().to_string())
    {
        return to(format!("/jobs/{}", of.project));
    }
    let key = text.to_lowercase();
    if key.len() >= 6 && key.bytes().all(|b| b.is_ascii_hexdigit()) {
        let status = app.client.status().await?;
        if status.validators.iter().any(|v| v.key.starts_with(&key)) {
            return to("/explorer/network".into());
        }
    }
    let content = html! {
        div.pagehead { div { h1 { "Search" } @if !text.is_empty() { p.sub.wrap { "for “" (text) "”" } } } }
        div.card {
            @if hosts.is_empty() && deployed.is_none() {
                (empty("search", "Nothing has this name", "Try a block's height, a transaction's or an account's id, a receipt such as r-12, a deployment such as d-3, a replica such as a-7, a validator's key, the beginning of a host's name, the @handle of a space, or a job of yours.", Some(("/explorer", "Back to the explorer"))))
            } @else if let Some(of) = &deployed {
                (deployment(of, run.as_ref(), &names, now_of(&app)))
            } @else {
                header { div { h2 { "Hosts" } } div.more { a href=(format!("/explorer/hosts?q={}", escaped(&text))) { "Search among all hosts" (icon("chevron-right")) } } }
                ul.feed {
                    @if space.is_some() { li { span.ic { (icon("building-2")) } div.tx { span { a href=(format!("/o/{handle}")) { "@" (handle) } } span.second { "the space of an organisation" } } } }
                    @for (name, id) in &hosts {
                        li { span.ic { (icon("server")) } div.tx { span { a href=(format!("/explorer/hosts/{id}")) { (name) } } span.second.mono { (brief(id)) } } }
                    }
                }
            }
        }
        @if !events.is_empty() {
            section.card {
                header { div { h2 { "What happened to it" } p.sub { "The latest " (events.len()) } } }
                (happenings(&events, now_of(&app)))
            }
        }
        @if let Some(id) = deployed.as_ref().map(|of| of.deployment) { (cli(&format!("runrig events {id}"))) }
    };
    shown(&app, &visitor, Place::Nowhere, "Search", content).await
}

/// What the ledger says to everyone of a deployment, and of one of its replicas.
fn deployment(of: &Deployed, run: Option<&Run>, names: &Names, now_ms: u64) -> Markup {
    html! {
        header { div { h2 { "Deployment " (of.deployment) } p.sub { (of.project) } } }
        dl.facts {
            dt { "Owner, who pays" } dd { a.mono href=(format!("/explorer/accounts/{}", of.owner)) { (of.owner) } }
            dt { "First deployed" } dd { (when(of.time_ms, now_ms)) " ago" }
            @if let Some(run) = run {
                dt { "Replica" } dd { (run.allocation) " of its service " (run.service) }
                dt { "Placed on" } dd { a href=(format!("/explorer/hosts/{}", run.host)) { (run.host.parse().map_or_else(|_| brief(&run.host), |id| names.host(&id))) } }
                dt { "Ended" } dd { @match run.until_ms { Some(at) => { (when(at, now_ms)) " ago" } None => { "no" } } }
            }
        }
        p.foot-note { "What runs in it, its log and its figures are its owner's." }
    }
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use crate::people::Kind;
    use crate::tests::{Site, to};

    const OWNER: AccountId = AccountId([5; 20]);

    #[tokio::test]
    async fn deployments_replicas_and_spaces_are_found_by_everyone() {
        use ledger::deployment::Event as D;
        let site = Site::open().await;
        site.member("acme", Kind::Company).await;
        let host = AccountId([6; 20]);
        let deployment = types::DeploymentId(3);
        let events = vec![
            ledger::Event::Deployment(D::Deployed {
                deployment,
                owner: OWNER,
                project: "shop".into(),
                release: 1,
                changed: Vec::new(),
            }),
            ledger::Event::Deployment(D::AllocationPlaced {
                deployment,
                allocation: types::AllocationId(7),
                service: "web".into(),
                replica: 1,
                host,
            }),
        ];
        site.app.index.hear(api::now_ms(), Vec::new(), events).await;
        let look = async |text: &str| {
            let answer = site.get(&format!("/explorer/search?q={text}"), "").await;
            let to = to(&answer);
            (to, answer.text().await.expect("text"))
        };
        for (text, parts) in [
            (
                "d-3",
                [OWNER.to_string(), "Deployment d-3".into(), "shop".into()],
            ),
            (
                "a-7",
                [
                    host.to_string(),
                    "a-7 of its service web".into(),
                    "shop".into(),
                ],
            ),
        ] {
            let (_, page) = look(text).await;
            for part in parts {
                assert!(page.contains(&part), "{text} has no {part}");
            }
        }
        for none in ["d-4", "a-8", "@nobody", "d-", "a-x"] {
            let (_, page) = look(none).await;
            assert!(page.contains("Nothing has this name"), "{none}");
        }
        // A handle alone tells nothing: its space must have been opened.
        assert!(look("@acme").await.1.contains("Nothing has this name"));
        let opened = site.app.people.log_in("acme", "four plain words here", "");
        let (person, _) = opened.await.expect("asked").expect("opened");
        let space = crate::hostile_tests::space(person.account);
        site.app.people.set_space(space).await.expect("stored");
        for text in ["@acme", "acme", "ACME"] {
            assert_eq!(look(text).await.0, "/o/acme", "{text}");
        }
    }
}
