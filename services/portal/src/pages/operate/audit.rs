//! Who signed what on whose behalf, and whether it was accepted.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use words::{KINDS, brief};

use crate::app::App;
use crate::index::operate::{self, ActFilter, ActRow};
use crate::index::query::PAGE;
use crate::pages::explorer::{behind, now_of};
use crate::pages::money::csv_line;
use crate::pages::{file, shown};
use crate::ui::{Place, Tone, alert, badge, cli, empty, icon, pager, when};
use crate::web::{Page, Visitor, escaped};

/// Rows of a file at the most.
const FILE_MAX: usize = 10_000;

#[derive(Default, Deserialize)]
pub struct Asked {
    account: Option<String>,
    key: Option<String>,
    kind: Option<String>,
    result: Option<String>,
    routine: Option<String>,
    before: Option<String>,
}

/// As the address says it, and what of it cannot be read.
struct Read {
    filter: ActFilter,
    wrong: Option<&'static str>,
}

fn trimmed(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("").trim()
}

impl Asked {
    fn read(&self) -> Read {
        let mut wrong = None;
        let mut account = |text: &str| match (text.is_empty(), text.parse()) {
            (true, _) => None,
            (false, Ok(id)) => Some(id),
            (false, Err(_)) => {
                wrong = Some("An account, or that of a key, has 40 characters, 0 to 9 and a to f.");
                None
            }
        };
        let (of, key) = (account(trimmed(&self.account)), account(trimmed(&self.key)));
        let kind = trimmed(&self.kind);
        Read {
            filter: ActFilter {
                account: of,
                key,
                kind: KINDS.contains(&kind).then(|| kind.to_string()),
                refused: match trimmed(&self.result) {
                    "accepted" => Some(false),
                    "refused" => Some(true),
                    _ => None,
                },
                routine: self.routine.is_some(),
                before: trimmed(&self.before)
                    .split_once('.')
                    .and_then(|(height, at)| Some((height.parse().ok()?, at.parse().ok()?))),
            },
            wrong,
        }
    }

    /// All but where the page begins.
    fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in [
            ("account", trimmed(&self.account)),
            ("key", trimmed(&self.key)),
            ("kind", trimmed(&self.kind)),
            ("result", trimmed(&self.result)),
            ("routine", trimmed(&self.routine)),
        ] {
            if !value.is_empty() {
                query.push_str(&format!("{name}={}&", escaped(value)));
            }
        }
        query
    }
}

fn form(asked: &Asked, filter: &ActFilter) -> Markup {
    let option = |value: &str, label: &str, chosen: bool| {
        html! { option value=(value) selected[chosen] { (label) } }
    };
    html! {
        form.filters.fields action="/operate/audit" {
            div { label.lab for="account" { "Account" } input.in.short.mono id="account" name="account" value=(trimmed(&asked.account)) maxlength="40" placeholder="For whom, or who did it" spellcheck="false" autocomplete="off"; }
            div { label.lab for="key" { "Key" } input.in.short.mono id="key" name="key" value=(trimmed(&asked.key)) maxlength="40" placeholder="Account of the key" spellcheck="false" autocomplete="off"; }
            div { label.lab for="kind" { "Kind" } select.short id="kind" name="kind" {
                (option("", "All kinds", filter.kind.is_none()))
                @for kind in KINDS { (option(kind, kind, filter.kind.as_deref() == Some(kind))) }
            } }
            div { label.lab for="result" { "Result" } select.short id="result" name="result" {
                (option("", "Any", filter.refused.is_none()))
                (option("accepted", "Accepted", filter.refused == Some(false)))
                (option("refused", "Not accepted", filter.refused == Some(true)))
            } }
            label.check { input type="checkbox" name="routine" value="on" checked[filter.routine]; span { "Reports of hosts too" } }
            button.btn { (icon("funnel")) "Filter" }
        }
    }
}

fn account(id: &str, name: &str) -> Markup {
    html! { a.mono href=(format!("/operate/audit?{name}={id}")) title=(id) { (brief(id)) } }
}

fn table(rows: &[ActRow], now: u64) -> Markup {
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "What" } th { "Kind" } th { "For" } th { "Done by" } th { "Key of" } th { "Result" } th { "When" } } }
            tbody { @for row in rows { tr {
                td.wrap { a.row href=(format!("/explorer/transactions/{}", row.id)) { (row.words) } @if let Some(why) = &row.refused { span.second.bad.wrap { (why) } } }
                td data-l="Kind" { span.tag { (row.kind) } }
                td data-l="For" { @match &row.sender { Some(id) => { (account(id, "account")) } None => { "–" } } }
                td data-l="Done by" { @match &row.actor {
                    Some(id) if row.sender.as_ref() != Some(id) => { (account(id, "account")) }
                    _ => { span.dim { "itself" } }
                } }
                td data-l="Key of" { @match &row.signer { Some(id) => { (account(id, "key")) } None => { "–" } } }
                td data-l="Result" { @if row.refused.is_some() { (badge(Tone::Bad, "Not accepted")) } @else { (badge(Tone::Ok, "Accepted")) } }
                td data-l="When" { span.nowrap { (when(row.time_ms, now)) " ago" } }
            } } }
        } }
    }
}

/// `GET /operate/audit`
pub async fn audit(State(app): State<App>, visitor: Visitor, Query(asked): Query<Asked>) -> Page {
    let Read { filter, wrong } = asked.read();
    let of = filter.clone();
    let mut rows = app
        .index
        .ask(move |store| operate::acts(store, &of, PAGE + 1))
        .await?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let query = asked.query();
    let next = rows.last().filter(|_| more).map(|last| {
        format!(
            "/operate/audit?{query}before={}.{}",
            last.height, last.position
        )
    });
    let first = filter
        .before
        .map(|_| format!("/operate/audit?{}", query.trim_end_matches('&')));
    let now = now_of(&app);
    let until = rows
        .first()
        .zip(rows.last())
        .map_or_else(String::new, |(a, b)| {
            format!(
                "{} UTC back to {} UTC",
                words::utc(a.time_ms),
                words::utc(b.time_ms)
            )
        });
    let filtered = !query.is_empty();
    let mut line = String::from("runrig network audit");
    if let Some(id) = filter.account.or(filter.key) {
        line.push_str(&format!(" --of {id}"));
    }
    if filter.refused == Some(true) {
        line.push_str(" --refused");
    }
    if filter.routine {
        line.push_str(" --routine");
    }
    let content = html! {
        div.pagehead {
            div { h1 { "Audit log" } p.sub { "Every signed act on the ledger: for whom, by whose key, and what came of it" } }
            div.acts { a.btn href=(format!("/operate/audit.csv?{query}")) { (icon("download")) "CSV" } }
        }
        @if let Some(said) = behind(&app) { (said) }
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p { (wrong) } })) }
        div.card.flush {
            header { (form(&asked, &filter)) }
            @if rows.is_empty() {
                @if filtered { (empty("funnel", "No act matches", "Take away the filter to see all of them.", Some(("/operate/audit", "Show all")))) }
                @else { (empty("scroll-text", "Nothing was signed yet", "Deploys, transfers and registrations come here.", None)) }
            } @else {
                (table(&rows, now))
                (pager(&until, first.as_deref(), next.as_deref()))
            }
        }
        p.foot-note { "Signs of life and reports of hosts are kept here for the newest 20 000 blocks; all else since the first block." }
        (cli(&line))
    };
    shown(&app, &visitor, Place::Audit, "Audit log", content).await
}

/// `GET /operate/audit.csv`: the newest of what the filter finds.
pub async fn csv(State(app): State<App>, Query(asked): Query<Asked>) -> Page {
    let filter = asked.read().filter;
    let rows = app
        .index
        .ask(move |store| operate::acts(store, &filter, FILE_MAX))
        .await?;
    let mut out = String::from(
        "time_utc,height,position,transaction,kind,for_account,done_by,key_of,result,why,words\n",
    );
    for row in rows {
        let result = match row.refused {
            Some(_) => "not accepted",
            None => "accepted",
        };
        let fields = [
            words::utc(row.time_ms),
            row.height.to_string(),
            row.position.to_string(),
            row.id,
            row.kind,
            row.sender.unwrap_or_default(),
            row.actor.unwrap_or_default(),
            row.signer.unwrap_or_default(),
            result.to_string(),
            row.refused.unwrap_or_default(),
            row.words,
        ];
        out += &csv_line(&fields);
    }
    Ok(file("audit.csv", "text/csv; charset=utf-8", out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_what_is_wrong_is_said() {
        let id = "ab".repeat(20);
        let asked = Asked {
            account: Some(format!(" {id} ")),
            kind: Some("deploy".into()),
            result: Some("refused".into()),
            before: Some("12.3".into()),
            ..Asked::default()
        };
        let read = asked.read();
        assert_eq!(read.wrong, None);
        assert_eq!(read.filter.account.map(|a| a.to_string()), Some(id.clone()));
        assert_eq!(read.filter.before, Some((12, 3)));
        assert_eq!(read.filter.refused, Some(true));
        assert_eq!(
            asked.query(),
            format!("account={id}&kind=deploy&result=refused&")
        );
        let asked = Asked {
            key: Some("nobody".into()),
            kind: Some("'; DROP TABLE transactions; --".into()),
            before: Some("9".into()),
            ..Asked::default()
        };
        let read = asked.read();
        assert!(read.wrong.is_some());
        assert!(read.filter.key.is_none() && read.filter.kind.is_none());
        assert_eq!(read.filter.before, None);
    }
}
