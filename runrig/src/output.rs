//! Data on stdout, words on stderr.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{self, Failure, Result};

/// A reader that closed the pipe (`| head`) ends the command, as any Unix filter's would.
fn written(result: std::io::Result<()>) {
    if let Err(error) = result {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("error: write to stdout: {error}");
        }
        std::process::exit(if quiet { 0 } else { 1 });
    }
}

/// One line of data.
pub fn data(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    written(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Bytes as they are.
pub fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()));
}

/// How much is said on stderr besides errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Talk {
    /// Lines that are redrawn on a terminal, else one line a step
    #[default]
    Auto,
    /// One line a step
    Plain,
    /// One JSON object a step, and no other words
    Json,
    /// Nothing
    Quiet,
}

static TALK: OnceLock<Talk> = OnceLock::new();

/// Once, before anything is said.
pub fn talk_like(talk: Talk) {
    let _ = TALK.set(talk);
}

pub fn talk() -> Talk {
    TALK.get().copied().unwrap_or_default()
}

/// Lists print ids only.
pub fn ids_only() -> bool {
    talk() == Talk::Quiet
}

/// One line of words.
pub fn say(line: impl std::fmt::Display) {
    if matches!(talk(), Talk::Auto | Talk::Plain) {
        shout(line);
    }
}

/// One line on stderr, however quiet it is to be.
pub fn shout(line: impl std::fmt::Display) {
    // Nobody listens to a closed stderr.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A whole document: readable on a terminal, one line in a pipe.
pub fn json<T: Serialize>(value: &T) {
    let text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    data(text.unwrap_or_default());
}

/// One of many documents: always one line.
pub fn json_line<T: Serialize>(value: &T) {
    data(serde_json::to_string(value).unwrap_or_default());
}

/// Whether stdout may carry colour.
pub fn colour() -> bool {
    static COLOUR: OnceLock<bool> = OnceLock::new();
    *COLOUR.get_or_init(|| may_colour(std::io::stdout().is_terminal()))
}

/// Whether stderr is a terminal that can redraw lines.
pub fn lively() -> bool {
    talk() == Talk::Auto && may_colour(std::io::stderr().is_terminal())
}

fn may_colour(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// `text` dimmed, if stdout may carry colour.
pub fn dim(text: &str) -> String {
    if colour() {
        format!("\x1b[2m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}

/// Columns apart by spaces, as `docker ps` prints them. Columns named in `right` are numbers.
pub fn table(headers: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let left = u16::from(index > 0);
        column.set_padding((left, 1));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What others wrote must not move the cursor or forge lines.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// For log lines: what a container wrote, less what would take the terminal over.
pub fn tame(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\t' | '\x1b'))
        .collect()
}

/// Asks on a terminal; `command` is what asks, for the error where there is none.
///
/// Errors: no terminal (usage: say --yes), the answer is no, or Ctrl-C.
pub async fn confirm(question: &str, command: &str) -> Result {
    let (mut err, input) = (std::io::stderr(), std::io::stdin());
    if !err.is_terminal() || !input.is_terminal() {
        return Err(Failure::usage(
            format!("`runrig {command}` asks before it acts"),
            "there is no terminal to ask on",
            "Say --yes.",
        ));
    }
    let _ = write!(err, "{question} [y/N] ");
    let _ = err.flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        answer
    });
    let answer = tokio::select! {
        answer = answer => answer.unwrap_or_default(),
        _ = tokio::signal::ctrl_c() => {
            say("");
            return Err(Failure::new(failure::INTERRUPTED, "nothing was done", "interrupted", ""));
        }
    };
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(
            failure::FAILED,
            "nothing was done",
            "the answer was no",
            "",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_moves_the_cursor() {
        let rows = vec![
            vec!["web".to_string(), "1".to_string()],
            vec!["data\nbase".to_string(), "10".to_string()],
        ];
        let text = table(&["SERVICE", "N"], &rows, &[1]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("SERVICE") && lines[1].starts_with("web"));
        assert_eq!(lines[1].len(), lines[2].len(), "{text}");
    }
}
