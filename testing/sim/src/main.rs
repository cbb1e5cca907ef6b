//! Play scenarios, or measure the lineup: `sim --lineup`, `sim --list`, `sim --seed 7 --scenario epochs`, `sim --seeds 1..200 --scenario all`.
//!
//! The last line of each run is `seed S scenario NAME: ok|FAIL digest HEX`; the program ends
//! with 0 only when all are ok. A run is played twice, and fails if the two differ. Runs go side by
//! side, as many as there are cores; of many, a table at the end says what became of each scenario.
//! What is in a file of results is not played again: many runs may be stopped and gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZeroU64;
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
    /// One seed of so many is played twice; `None`: none.
    twice: Option<NonZeroU64>,
    /// Tell what happened also of runs that are ok.
    trace: bool,
    /// So many runs side by side.
    jobs: usize,
    /// Where a line for each run goes, and is read from.
    results: Option<String>,
}

const USAGE: &str = "\
usage: sim --list
       sim --lineup
       sim [--seed S | --seeds FROM..TO] [--scenario NAME|all]... [--once | --twice-in N]
           [--results FILE] [--trace] [--jobs N]

Seeds go from FROM to TO, both included; all scenarios are played if none is named. --once plays
each run once, not twice: faster, and says nothing of whether a seed repeats. --twice-in N plays
those seeds twice that N divides. --results adds a line for each run to FILE, and does not play
what stands there as ok: take a new file for another build. --trace prints
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
        twice: NonZeroU64::new(1),
        trace: false,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        results: None,
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("\"{text}\" is no seed"))
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => return Ok(None),
            "--once" => asked.twice = None,
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
                    "--twice-in" => {
                        asked.twice = value.parse().ok();
                        asked
                            .twice
                            .ok_or(format!("--twice-in: \"{value}\" is no number"))?;
                    }
                    "--results" => asked.results = Some(value),
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
    /// Once or twice.
    times: u64,
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
    Played {
        report,
        trace,
        times: 1,
    }
}

/// As [`once`], and again: both must be the same to the last message.
fn play(name: &str, seed: u64, twice: bool) -> Played {
    let mut first = once(name, seed);
    if !twice || first.report.is_err() {
        return first;
    }
    let second = once(name, seed);
    first.times = 2;
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
        ..first
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
    /// How often seeds were played, and the CPU that it took.
    played: u64,
    took: Duration,
}

/// What came of a run, as a line of a file of results.
struct Line {
    name: String,
    seed: u64,
    ok: bool,
    played: u64,
    took: Duration,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [
            "seed",
            seed,
            "scenario",
            name,
            how,
            "digest",
            _,
            "played",
            played,
            "cpu",
            took,
        ] = words[..]
        else {
            return None;
        };
        Some(Self {
            name: name.strip_suffix(':')?.into(),
            seed: seed.parse().ok()?,
            ok: how == "ok",
            played: played.parse().ok()?,
            took: Duration::try_from_secs_f64(took.parse().ok()?).ok()?,
        })
    }

    fn count(&self, tally: &mut Tally) {
        tally.took += self.took;
        tally.played += self.played;
        if self.ok {
            tally.ok += 1;
        } else {
            tally.failed.push(self.seed);
        }
    }
}

/// The file, and the runs in it that are ok.
fn results(path: &str) -> std::io::Result<(File, Vec<Line>)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // A line that was cut short is not gone on with.
    if !text.is_empty() && !text.ends_with('\n') {
        writeln!(file)?;
    }
    let lines = text.lines().filter_map(Line::read);
    Ok((file, lines.filter(|line| line.ok).collect()))
}

/// The CPU that this thread has used; a run takes no other.
fn cpu() -> Option<Duration> {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = said.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}

/// Says what became of each scenario. The last line is that of a run: of one that failed, if any.
fn table(tallies: &BTreeMap<&str, Tally>, last: &str) {
    println!(
        "{:14} {:>6} {:>6} {:>9}  seeds that failed",
        "scenario", "ok", "failed", "CPU s"
    );
    for (name, tally) in tallies {
        let took = tally.took.as_secs_f64() / tally.played as f64;
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
    let (file, known) = match asked.results.as_deref().map(results).transpose() {
        Ok(found) => found.unzip(),
        Err(why) => {
            eprintln!("--results {}: {why}", asked.results.unwrap_or_default());
            return ExitCode::from(2);
        }
    };
    let known = known.unwrap_or_default();
    let names = || asked.names.iter();
    let mut tallies = BTreeMap::<&str, Tally>::new();
    let mut done = BTreeSet::new();
    for line in &known {
        let wanted = asked.seeds.contains(&line.seed) && names().any(|name| *name == line.name);
        if wanted && done.insert((&line.name, line.seed)) {
            line.count(tallies.entry(&line.name).or_default());
        }
    }
    let runs: Vec<(&String, u64)> = asked
        .seeds
        .clone()
        .flat_map(|seed| names().map(move |name| (name, seed)))
        .filter(|run| !done.contains(run))
        .collect();
    let next = AtomicUsize::new(0);
    let told = Mutex::new((tallies, String::new()));
    let work = || {
        while let Some((name, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let twice = asked.twice.is_some_and(|of| *seed % of == 0);
            let (since, before) = (Instant::now(), cpu());
            let played = play(name, *seed, twice);
            let used = cpu().zip(before).map(|(now, before)| now - before);
            let took = used.unwrap_or(since.elapsed());
            let mut told = told.lock().expect("nobody panics with it");
            let (tallies, last) = &mut *told;
            let said = tell(name, *seed, &played, asked.trace);
            let none_failed = tallies.values().all(|tally| tally.failed.is_empty());
            let line = Line {
                name: name.to_string(),
                seed: *seed,
                ok: played.report.is_ok(),
                played: played.times,
                took,
            };
            line.count(tallies.entry(name).or_default());
            if let Some(mut file) = file.as_ref() {
                let took = took.as_secs_f64();
                let kept = writeln!(file, "{said} played {} cpu {took:.2}", played.times);
                kept.expect("the file of results is written");
            }
            if none_failed || played.report.is_err() {
                *last = said;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs.min(runs.len()) {
            scope.spawn(work);
        }
    });
    let (tallies, last) = told.into_inner().expect("nobody panics with it");
    if runs.len() + done.len() > 1 {
        table(&tallies, &last);
    }
    if tallies.values().all(|tally| tally.failed.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
