//! For those who run the network: how it stands, what waits, what had no place, what went wrong,
//! who signed what. All of it is public.

pub mod audit;
pub mod incidents;
pub mod network;
pub mod placements;
pub mod queue;

use maud::{Markup, html};

use crate::index::query::PAGE;
use crate::ui;

/// The parts of the network's page.
fn tabs(at: &str) -> Markup {
    let all = [
        ("/operate", "Validators and hosts"),
        ("/operate/queue", "Queue"),
        ("/operate/placements", "Placements"),
    ];
    html! {
        nav.tabs aria-label="Parts of the network" {
            @for (href, label) in all { a href=(href) aria-current=[(at == href).then_some("page")] { (label) } }
        }
    }
}

/// A page number as it stands in an address, from 1; bounded, so that none is a long walk.
fn page_of(page: Option<usize>) -> usize {
    page.unwrap_or(1).clamp(1, 1_000)
}

/// Takes the row off that says that there are more, and leads to them. `href` goes on with a page.
fn cut<T>(rows: &mut Vec<T>, page: usize, href: &str) -> Markup {
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let next = more.then(|| format!("{href}page={}", page + 1));
    let first = (page > 1).then(|| format!("{href}page=1"));
    html! {
        @if more || page > 1 { (ui::pager(&format!("Page {page}"), first.as_deref(), next.as_deref())) }
    }
}

/// How long something lasted; in words while it goes on.
fn lasted(from_ms: u64, until_ms: Option<u64>, now_ms: u64) -> String {
    match until_ms {
        Some(until) if until <= from_ms => "a moment".into(),
        Some(until) => words::span(until - from_ms),
        None => format!("{} so far", words::span(now_ms.saturating_sub(from_ms))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_says_how_long() {
        for (from, until, said) in [
            (5_000, Some(5_000), "a moment"),
            (5_000, Some(65_000), "1 min"),
            (5_000, None, "1 min so far"),
        ] {
            assert_eq!(lasted(from, until, 100_000), said);
        }
    }

    #[test]
    fn pages_are_bounded_and_the_last_has_none_after_it() {
        assert_eq!(page_of(None), 1);
        assert_eq!(page_of(Some(0)), 1);
        assert_eq!(page_of(Some(usize::MAX)), 1_000);
        let mut rows = vec![0; PAGE + 1];
        assert!(cut(&mut rows, 1, "/x?").0.contains("/x?page=2"));
        assert_eq!(rows.len(), PAGE);
        assert!(cut(&mut rows, 1, "/x?").0.is_empty());
        assert!(!cut(&mut rows, 2, "/x?").0.contains("page=3"));
    }
}
