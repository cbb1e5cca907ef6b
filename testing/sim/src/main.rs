//! Play scenarios, or measure the lineup: `sim --lineup`, `sim --list`, `sim --seed 7 --scenario epochs`, `sim --seeds 1..200 --scenario all`.
//!
//! The last line of each run is `seed S scenario NAME: ok|FAIL digest HEX`; the program ends
//! with 0 only when all are ok. A run is played twice, and fails if the two differ. Runs go side by
//! side, as many as there are cores; of many, a table at the end says what became of each scenario.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sim::scenarios::{SCENARIOS, named};
use sim::{LEGEND, Lineup, Report, SIZES, Trace, measure};

struct Asked {
    seeds: RangeInclusive<u64>,
    names: Vec<String>,
    /// Play each run once only: its digest is not compared.
    once: bool,
    /// Tell what happened also of runs that are ok.
    trace: bool,
    /// So many runs side by side.
    jobs: usize,
}

const USAGE: &str = "\
usage: sim --list
       sim --lineup
       sim [--seed S | --seeds FROM..TO] [--scenario NAME|all]... [--once] [--trace] [--jobs N]

Seeds go from FROM to TO, both included; all scenarios are played if none is named. --once plays
each run once, not twice: faster, and says nothing of whether a seed repeats. --trace prints
what happened also when a run is ok. --jobs: so many runs side by side, not one for each core.
--lineup counts the messages that bring a transaction to a block, with 10 to 1000 validators.
RUST_LOG=info says also what the validators log, on standard error.";

/// Lines of what happened that are shown when a run fails.
const SHOWN: usize = 400;

fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let all = || SCENARIOS.iter().map(|(name, ..)| name.to_string());
    let mut asked = Asked {
        seeds: 1..=1,
        names: Vec::new(),
        once: false,
        trace: false,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("\"{text}\" is no seed"))
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => return Ok(None),
            "--once" => asked.once = true,
            "--trace" => asked.trace = true,
            _ => {
                let value = words.next().ok_or(format!("{word}: a value is missing"))?;
                match word.as_str() {
                    "--seed" => asked.seeds = number(&value)?..=number(&value)?,
                    "--seeds" => {
                        let (from, to) = value.split_once("..").ok_or("--seeds FROM..TO")?;
                        asked.seeds = number(from)?..=number(to)?;
                    }
                    "--jobs" => {
                        let jobs = value.parse().ok().filter(|jobs| *jobs > 0);
                        asked.jobs = jobs.ok_or(format!("--jobs: \"{value}\" is no number"))?;
                    }
                    "--scenario" if value == "all" => asked.names.extend(all()),
                    "--scenario" if all().any(|name| name == value) => asked.names.push(value),
                    "--scenario" => {
                        return Err(format!("no scenario is named {value}; see --list"));
                    }
                    _ => return Err(format!("{word} is not known")),
                }
            }
        }
    }
    if asked.names.is_empty() {
        asked.names = all().collect();
    }
    Ok(Some(asked))
}

/// What came of one run.
struct Played {
    report: Result<Report, String>,
    trace: Trace,
}

fn once(name: &str, seed: u64) -> Played {
    let trace = Trace::default();
    let run = || {
        let scenario = named(name, seed).ok_or("no such scenario")?;
        let report = sim::run_traced(&scenario, &trace).map_err(|error| format!("{error:#}"))?;
        let kept = scenario.check(&report);
        kept.map_err(|error| format!("{error:#}"))?;
        Ok(report)
    };
    let report = catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|why| {
        let said = why.downcast_ref::<String>().cloned();
        let said = said.or(why.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(said.unwrap_or_else(|| "a promise was broken".into()))
    });
    Played { report, trace }
}

/// As [`once`], and again: both must be the same to the last message.
fn play(name: &str, seed: u64, twice: bool) -> Played {
    let first = once(name, seed);
    if !twice || first.report.is_err() {
        return first;
    }
    let second = once(name, seed);
    if first.report == second.report {
        return first;
    }
    let lines = (first.trace.lines(), second.trace.lines());
    let differs = lines.0.iter().zip(&lines.1).find(|(a, b)| a != b);
    Played {
        report: Err(format!(
            "two runs of the same seed differ: {:?} and {:?}; first difference: {differs:?}",
            first.report, second.report
        )),
        trace: first.trace,
    }
}

/// Says what came of a run; its last line.
fn tell(name: &str, seed: u64, played: &Played, shown: bool) -> String {
    let lines = played.trace.lines();
    if shown || played.report.is_err() {
        println!("{LEGEND}");
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            println!("{line}");
        }
    }
    let last = match &played.report {
        Ok(report) => {
            println!("{report:?}");
            format!("seed {seed} scenario {name}: ok digest {}", report.digest)
        }
        Err(why) => {
            println!("{why}");
            println!("repeat it: cargo run -p sim -- --seed {seed} --scenario {name}");
            format!("seed {seed} scenario {name}: FAIL digest -")
        }
    };
    println!("{last}");
    last
}

/// What became of a scenario's runs.
#[derive(Default)]
struct Tally {
    ok: u64,
    failed: Vec<u64>,
    took: Duration,
}

/// Says what became of each scenario. The last line is that of a run: of one that failed, if any.
fn table(tallies: &BTreeMap<&str, Tally>, last: &str) {
    println!(
        "{:14} {:>6} {:>6} {:>9}  seeds that failed",
        "scenario", "ok", "failed", "s a seed"
    );
    for (name, tally) in tallies {
        let played = tally.ok + tally.failed.len() as u64;
        let took = tally.took.as_secs_f64() / played as f64;
        let failed: Vec<String> = tally.failed.iter().map(u64::to_string).collect();
        let (ok, many) = (tally.ok, failed.len());
        println!(
            "{name:14} {ok:>6} {many:>6} {took:>9.2}  {}",
            failed.join(" ")
        );
    }
    println!("{last}");
}

/// Prints a row for each number of validators, with all there and with some away.
fn lineup() -> anyhow::Result<()> {
    println!("{}", Lineup::HEAD);
    for away in [0, 1, 3] {
        for validators in SIZES {
            println!("{}", measure(validators, away, 200, 1)?.row());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    if std::env::args().skip(1).eq(["--lineup"]) {
        return match lineup() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why:#}");
                ExitCode::FAILURE
            }
        };
    }
    let asked = match read(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            for (name, what, _) in SCENARIOS {
                println!("{name:14} {what}");
            }
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let names = || asked.names.iter();
    let runs: Vec<(&String, u64)> = asked
        .seeds
        .clone()
        .flat_map(|seed| names().map(move |name| (name, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let told = Mutex::new((BTreeMap::<&str, Tally>::new(), String::new()));
    let work = || {
        while let Some((name, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let since = Instant::now();
            let played = play(name, *seed, !asked.once);
            let took = since.elapsed();
            let mut told = told.lock().expect("nobody panics with it");
            let (tallies, last) = &mut *told;
            let line = tell(name, *seed, &played, asked.trace);
            let none_failed = tallies.values().all(|tally| tally.failed.is_empty());
            let tally = tallies.entry(name).or_default();
            tally.took += took;
            if played.report.is_ok() {
                tally.ok += 1;
            } else {
                tally.failed.push(*seed);
            }
            if none_failed || played.report.is_err() {
                *last = line;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs.min(runs.len()) {
            scope.spawn(work);
        }
    });
    let (tallies, last) = told.into_inner().expect("nobody panics with it");
    if runs.len() > 1 {
        table(&tallies, &last);
    }
    if tallies.values().all(|tally| tally.failed.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
