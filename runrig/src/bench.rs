//! `bench`: measure this machine, each figure beside its peer or its physical limit.

use anyhow::Context as _;
use bench::{Bound, Figure, Found};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Result;
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig bench\n  runrig bench ledger --rounds 3\n  runrig bench start --json\n\nMeasure on a machine that does nothing else; docs/benchmarks.md says what the figures mean."
)]
pub struct Bench {
    /// What to measure
    #[arg(default_value = "all")]
    name: Name,
    /// Rounds of each measurement; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    All,
    /// Transfers that four validators commit, beside signature checks and PostgreSQL
    Ledger,
    /// Submit to final of a lone transaction
    Finality,
    /// CPU of a block and memory of a validator under a small load; a round is a minute
    Steady,
    /// Placements a second, with 10 thousand, 100 thousand and a million hosts
    Scheduler,
    /// The real ledger with ten thousand simulated hosts and a hundred thousand allocations
    Scale,
    /// A state of a million accounts, and of ten: what blocks, proofs and starts cost
    State,
    /// Start of a container, beside `crun run` and `runc run`
    Start,
    /// `runrig up` to the first HTTP answer
    Up,
    /// What a cloud costs on which nothing runs
    Idle,
    /// Requests a second and CPU a request, beside HAProxy and nginx
    Gateway,
    /// Pages of the portal for who has ten thousand jobs
    Portal,
}

const EACH: [Name; 11] = [
    Name::Ledger,
    Name::Finality,
    Name::Steady,
    Name::Scheduler,
    Name::Scale,
    Name::State,
    Name::Start,
    Name::Up,
    Name::Idle,
    Name::Gateway,
    Name::Portal,
];

/// Where it was measured: without it a figure says little.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    /// Programs that ran or wanted to when it began; near 0 on a machine that is idle.
    load: f64,
    /// Built with optimisation.
    release: bool,
}

impl Machine {
    fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors
            .lines()
            .find_map(|l| l.strip_prefix("model name"));
        let load = read("/proc/loadavg");
        Self {
            processor: name
                .map(|n| n.trim_start_matches([' ', '\t', ':']).to_string())
                .unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: load
                .split_whitespace()
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or_default(),
            release: !cfg!(debug_assertions),
        }
    }

    fn words(&self) -> String {
        let build = if self.release { "" } else { ", a debug build" };
        format!(
            "{} cores of {}, load {} when it began{build}",
            self.cores, self.processor, self.load
        )
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    #[serde(flatten)]
    found: Found,
}

pub async fn run(args: &Bench, json: bool) -> Result {
    let machine = Machine::this();
    output::say(machine.words());
    let program = std::env::current_exe().context("find this program")?;
    let rounds = usize::from(args.rounds);
    let chosen = EACH
        .into_iter()
        .filter(|name| args.name == Name::All || args.name == *name);
    let mut all = Found::default();
    for name in chosen {
        let found = match name {
            Name::All => continue,
            Name::Ledger => bench::ledger(&program, rounds).await?,
            Name::Finality => bench::finality(&program, rounds).await?,
            Name::Steady => bench::steady(&program, rounds).await?,
            Name::Scheduler => bench::scheduler(rounds),
            Name::Scale => bench::scale(rounds)?,
            Name::State => bench::state(rounds)?,
            Name::Start => bench::start(&program, rounds).await?,
            Name::Up => bench::up_to_answer(&program, rounds).await?,
            Name::Idle => bench::idle(&program, rounds).await?,
            Name::Gateway => bench::gateway(&program, rounds).await?,
            Name::Portal => bench::portal(&program, rounds).await?,
        };
        if !json {
            print(&found);
        }
        all.figures.extend(found.figures);
        all.left_out.extend(found.left_out);
    }
    if json {
        output::json(&Report {
            machine,
            found: all,
        });
    }
    Ok(())
}

fn print(found: &Found) {
    for figure in &found.figures {
        output::data(line(figure));
    }
    for missing in &found.left_out {
        output::say(format!("not measured: {missing}"));
    }
}

/// `ledger: what  12,345 1/s (12,000 to 12,900)  | beside: 45,000, 0.27×  | goal …: met`
fn line(figure: &Figure) -> String {
    let mut line = format!(
        "{}: {}: {} {} ({} to {})",
        figure.bench,
        figure.name,
        number(figure.median),
        figure.unit,
        number(figure.spread.0),
        number(figure.spread.1)
    );
    if let Some(beside) = &figure.beside {
        line.push_str(&format!(
            "; beside {}: {}, {:.2} of it",
            beside.name,
            number(beside.median),
            beside.ratio
        ));
    }
    if let Some(goal) = figure.goal {
        let bound = match goal.bound {
            Bound::AtLeast(least) => format!("at least {}", number(least)),
            Bound::AtMost(most) => format!("at most {}", number(most)),
            Bound::RatioAtMost(most) => format!("at most {most} of it"),
        };
        let met = if goal.met { "met" } else { "missed" };
        line.push_str(&format!("; goal {bound}: {met}"));
    }
    line
}

/// Three digits that say something, thousands apart.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut apart = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !apart.ends_with('-') {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.1234, "0.123"),
            (1.999, "2.00"),
            (26.04, "26.0"),
            (123.4, "123"),
            (45678.9, "45,679"),
            (1234567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_line_says_peer_and_goal() {
        let figure = Figure::of("start", "libcontainer", "ms", vec![36.0])
            .map(|f| f.beside("crun run", &[30.0]).goal(Bound::RatioAtMost(1.2)));
        assert_eq!(
            figure.as_ref().map(line).as_deref(),
            Some(
                "start: libcontainer: 36.0 ms (36.0 to 36.0); beside crun run: 30.0, 1.20 of it; goal at most 1.2 of it: met"
            )
        );
    }
}
