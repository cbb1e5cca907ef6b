//! The last lines of a job's log, for who has no scripts.

use std::time::Duration;

use api::{AllocationView, DeploymentView, LogLine};
use futures::StreamExt;
use maud::{Markup, html};
use words::plural;

use super::jobs::live;
use crate::app::App;
use crate::people::Login;

/// Lines of one page, of all replicas together.
const LINES: usize = 100;
/// Characters of a line.
const WIDTH: usize = 1_000;
/// Replicas that are asked, and how long all of them together.
const ASKED_MAX: usize = 8;
const PATIENCE: Duration = Duration::from_millis(400);

/// What hosts told in time.
#[derive(Default)]
pub(super) struct Told {
    lines: Vec<LogLine>,
    /// Replicas of which nothing is known.
    silent: usize,
}

async fn of_one(
    client: sdk::Client,
    key: types::SecretKey,
    one: &AllocationView,
) -> Option<Vec<LogLine>> {
    let query = sdk::LogQuery {
        tail: Some(LINES),
        ..sdk::LogQuery::default()
    };
    let asked = async {
        let lines = client.logs(&key, one.allocation, &query).await.ok()?;
        let lines = lines.take(LINES).filter_map(|line| async { line.ok() });
        Some(lines.collect().await)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

/// The last lines of those that run.
pub(super) async fn last(app: &App, login: &Login, view: &DeploymentView) -> Told {
    let client = login.client(app);
    let all: Vec<&AllocationView> = live(view).collect();
    let asked = all.iter().take(ASKED_MAX);
    let asked = asked.map(|one| of_one(client.clone(), login.key.clone(), one));
    let answers = futures::future::join_all(asked).await;
    let heard = answers.iter().flatten().count();
    gathered(
        answers.into_iter().flatten().flatten().collect(),
        all.len() - heard,
    )
}

fn gathered(mut lines: Vec<LogLine>, silent: usize) -> Told {
    lines.sort_by_key(|line| (line.at_ms, line.allocation, line.sequence));
    lines.drain(..lines.len().saturating_sub(LINES));
    Told { lines, silent }
}

/// Without what colours a terminal, and what else no page shows.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().take(WIDTH).peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                Some('[') => {
                    // To the letter that ends it.
                    while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                Some(']') => {
                    // To a bell, or another escape with its character.
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && rest.next().is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if text.chars().nth(WIDTH).is_some() {
        out.push('…');
    }
    out
}

/// What stands where the live log would be, if scripts ran.
pub(super) fn shown(name: &str, told: &Told) -> Markup {
    html! {
        noscript {
            p.note { "A live log needs scripts; these are the last lines. On the command line: runrig logs -f " (name) }
            @if told.silent > 0 { p.note { "Of " (plural(told.silent as u64, "replica", "replicas")) " nothing is known: their hosts did not answer in time, or there are too many." } }
            @if told.lines.is_empty() && told.silent == 0 { p.note { "Nothing was printed, or nothing runs." } }
            @for line in &told.lines {
                p class=[(line.stream == "stderr").then_some("stderr")] {
                    time { (words::utc(line.at_ms)) }
                    span.from { (line.service) "." (line.replica) }
                    (plain(&line.text))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::AllocationId;

    use super::*;
    use crate::tests::EVIL;

    fn line(allocation: u64, at_ms: u64, sequence: u64, text: &str) -> LogLine {
        LogLine {
            allocation: AllocationId(allocation),
            service: "web".into(),
            replica: 1,
            release: 1,
            sequence,
            at_ms,
            stream: "stdout".into(),
            text: text.into(),
        }
    }

    #[test]
    fn replicas_come_to_one_log_of_which_the_end_is_shown() {
        let mut lines: Vec<LogLine> = (0..150).map(|n| line(2, 2_000 + n, n, "later")).collect();
        lines.push(line(1, 1_000, 0, "first"));
        let told = gathered(lines, 1);
        assert_eq!(told.lines.len(), LINES);
        assert_eq!(told.lines[0].sequence, 50);
        let told = gathered(vec![line(1, 5, 1, "b"), line(1, 5, 0, "a")], 1);
        let text = shown("shop", &told).into_string();
        assert!(text.find("a</p>") < text.find("b</p>"), "{text}");
        assert!(text.contains("Of 1 replica nothing"), "{text}");
        let none = shown("shop", &Told::default()).into_string();
        assert!(none.contains("Nothing was printed"), "{none}");
    }

    #[test]
    fn what_a_program_prints_is_text() {
        for (text, expected) in [
            ("\u{1b}[1;31mred\u{1b}[0m\tend\r", "red\tend"),
            ("\u{1b}]0;owned\u{7}a\u{1b}]8;;x\u{1b}\\b", "ab"),
            ("a\u{202e}b\u{2066}\u{0}c\u{1b}", "abc"),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
        assert_eq!(plain(&"é".repeat(WIDTH + 1)).chars().count(), WIDTH + 1);
        let told = gathered(vec![line(1, 0, 0, EVIL)], 0);
        assert!(!shown("shop", &told).into_string().contains(EVIL));
    }
}
