//! Lists of hosts: filtered by their address, a page at a time; sums are of all of them.

use std::collections::BTreeMap;

use api::HostView;
use maud::{Markup, html};
use serde::Deserialize;
use types::HostId;

use super::hosts::{host_state, host_table};
use crate::index::lent::Runs;
use crate::ui::{self, empty, icon};
use crate::web::escaped;

/// Rows of one page.
pub const PAGE: usize = 50;
/// What is typed into the filter.
const TEXT_MAX: usize = 100;

/// States of a host, as an address has them, each with the word that [`host_state`] says.
const STATES: [(&str, &str); 6] = [
    ("online", "Online"),
    ("closed", "Closed"),
    ("silent", "Silent"),
    ("draining", "Draining"),
    ("cordoned", "Takes no new work"),
    ("trial", "On trial"),
];

#[derive(Default, Deserialize)]
pub struct Filter {
    q: Option<String>,
    status: Option<String>,
    page: Option<usize>,
}

/// A page of those that the filter finds.
pub struct Listed<'a> {
    rows: Vec<&'a HostView>,
    found: usize,
    /// Before the filter.
    all: usize,
    text: String,
    /// One of [`STATES`], or empty.
    state: &'static str,
    page: usize,
    pages: usize,
}

fn has(host: &HostView, text: &str) -> bool {
    let id = host.host.to_string();
    let has = |part: &str| part.to_lowercase().contains(text);
    has(&host.name)
        || has(&host.offer.region)
        || has(&host.offer.architecture)
        || id.starts_with(text)
}

impl Filter {
    /// By name.
    pub fn of<'a>(&self, hosts: impl IntoIterator<Item = &'a HostView>, now_ms: u64) -> Listed<'a> {
        let text = self.q.as_deref().unwrap_or("").trim();
        let text: String = text.chars().take(TEXT_MAX).collect();
        let named = self.status.as_deref().unwrap_or("");
        let (state, word) = *STATES
            .iter()
            .find(|(name, _)| *name == named)
            .unwrap_or(&("", ""));
        let mut rows: Vec<&HostView> = hosts.into_iter().collect();
        let all = rows.len();
        let lower = text.to_lowercase();
        rows.retain(|host| {
            let stands = state.is_empty() || host_state(host, now_ms).1 == word;
            stands && (lower.is_empty() || has(host, &lower))
        });
        rows.sort_by(|a, b| (&a.name, a.host).cmp(&(&b.name, b.host)));
        let found = rows.len();
        let pages = found.div_ceil(PAGE).max(1);
        let page = self.page.unwrap_or(1).clamp(1, pages);
        let rows = rows.into_iter().skip((page - 1) * PAGE).take(PAGE);
        Listed {
            rows: rows.collect(),
            found,
            all,
            text,
            state,
            page,
            pages,
        }
    }
}

impl Listed<'_> {
    pub fn ids(&self) -> Vec<HostId> {
        self.rows.iter().map(|host| host.host).collect()
    }

    /// Of one of its pages.
    pub fn query(&self, page: usize) -> String {
        let text = escaped(&self.text);
        format!("q={text}&status={}&page={page}", self.state)
    }

    pub fn again(&self) -> String {
        self.query(self.page)
    }

    /// The filter, sent to the page at `path`.
    pub fn form(&self, path: &str) -> Markup {
        html! {
            form.filters action=(path) {
                div.search { (icon("search")) label.sr for="filter" { "Filter" } input id="filter" name="q" type="search" value=(self.text) placeholder="Name, region, architecture or id" maxlength=(TEXT_MAX); }
                label.sr for="status" { "State" }
                select.short id="status" name="status" {
                    option value="" selected[self.state.is_empty()] { "Any state" }
                    @for (name, word) in STATES { option value=(name) selected[self.state == name] { (word) } }
                }
                button.btn { (icon("funnel")) "Filter" }
            }
        }
    }

    /// Its rows; `runs`: how what ran there ended, where that is to be shown.
    pub fn table(&self, path: &str, now_ms: u64, runs: Option<&BTreeMap<HostId, Runs>>) -> Markup {
        let at = |page: usize| format!("{path}?{}", self.query(page));
        let shown = format!(
            "Page {} of {}, {}",
            self.page,
            self.pages,
            words::plural(self.found as u64, "host", "hosts")
        );
        html! {
            @if self.rows.is_empty() {
                @if self.all == 0 { (empty("server", "No host has joined", "A machine joins with one command.", Some(("/hosts/new", "Lend a machine")))) }
                @else { (empty("funnel", "No host matches", "Take away the filter to see all of them.", Some((path, "Show all hosts")))) }
            } @else {
                (host_table(&self.rows, now_ms, runs))
                @if self.pages > 1 || self.found < self.all {
                    (ui::turner(&shown, (self.page > 1).then(|| at(self.page - 1)).as_deref(), (self.page < self.pages).then(|| at(self.page + 1)).as_deref()))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile_tests::host;

    fn many(count: usize) -> Vec<HostView> {
        let one = |n: usize| HostView {
            name: format!("rack-{n:03}"),
            online: !n.is_multiple_of(3),
            ..host(types::AccountId::default())
        };
        (0..count).map(one).collect()
    }

    fn filter(q: &str, status: &str, page: usize) -> Filter {
        Filter {
            q: Some(q.into()),
            status: Some(status.into()),
            page: Some(page),
        }
    }

    #[test]
    fn a_page_has_its_rows_and_knows_of_all() {
        let hosts = many(120);
        let first = Filter::default().of(&hosts, 0);
        assert_eq!((first.rows.len(), first.found, first.pages), (50, 120, 3));
        assert_eq!(first.rows[0].name, "rack-000");
        let last = filter("", "", 99).of(&hosts, 0);
        assert_eq!((last.page, last.rows.len()), (3, 20));
        let silent = filter("RACK-0", "silent", 1).of(&hosts, 0);
        assert_eq!((silent.found, silent.pages), (34, 1));
        assert_eq!(silent.query(2), "q=RACK-0&status=silent&page=2");
        let unknown = filter("", "<b>", 1).of(&hosts, 0);
        assert_eq!((unknown.found, unknown.state), (120, ""));
        let table = filter("", "", 2).of(&hosts, 0).table("/hosts", 0, None).0;
        for part in ["Page 2 of 3", "page=1\"", "page=3\"", "rack-050"] {
            assert!(table.contains(part), "{part}");
        }
        let none = filter("nothing", "", 1)
            .of(&hosts, 0)
            .table("/hosts", 0, None);
        assert!(none.0.contains("No host matches"));
    }
}
