//! Progress of replicas: redrawn lines on a terminal, else one line per step. On stderr.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use api::AllocationView;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use types::AllocationId;

use crate::output::{self, Talk};

pub struct Progress {
    lines: RefCell<BTreeMap<AllocationId, Line>>,
    /// `None` without a terminal.
    bars: Option<MultiProgress>,
}

struct Line {
    last: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            lines: RefCell::default(),
            bars: output::lively().then(MultiProgress::new),
        }
    }

    /// Shows `words` for a replica, if they are new.
    pub fn step(&self, allocation: &AllocationView, words: &str) {
        let mut lines = self.lines.borrow_mut();
        let line = lines.entry(allocation.allocation).or_insert_with(|| Line {
            last: String::new(),
            bar: self.bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("{spinner} {prefix:<32} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_prefix(name(allocation));
                bar
            }),
        });
        if line.last == words {
            return;
        }
        line.last = words.to_string();
        let words = output::printable(words);
        match &line.bar {
            Some(bar) => bar.set_message(words),
            None if output::talk() == Talk::Json => output::shout(serde_json::json!({
                "service": allocation.service, "replica": allocation.replica,
                "allocation": allocation.allocation, "host": allocation.host_name,
                "step": words,
            })),
            None => output::say(format!("{} {words}", name(allocation))),
        }
    }

    /// Leaves the last words on the screen.
    pub fn end(&self) {
        for line in self.lines.borrow_mut().values() {
            if let Some(bar) = &line.bar {
                bar.abandon();
            }
        }
    }
}

fn name(allocation: &AllocationView) -> String {
    format!(
        "{}.{} ({}) on {}",
        allocation.service, allocation.replica, allocation.allocation, allocation.host_name
    )
}
