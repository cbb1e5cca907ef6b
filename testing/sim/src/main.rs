//! Play scenarios: `sim --list`, `sim --seed 7 --scenario epochs`, `sim --seeds 1..200 --scenario epochs`.
//!
//! The last line of each run is `seed S scenario NAME: ok|FAIL digest HEX`; the program ends
//! with 0 only when all are ok. A run is played twice, and fails if the two differ.

use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use std::process::ExitCode;

use sim::scenarios::{SCENARIOS, named};

struct Asked {
    seeds: RangeInclusive<u64>,
    names: Vec<String>,
}

const USAGE: &str = "usage: sim --list | sim [--seed S | --seeds FROM..TO] [--scenario NAME] (all, if none is named)";

fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let all = || SCENARIOS.iter().map(|(name, ..)| name.to_string());
    let mut asked = Asked {
        seeds: 1..=1,
        names: all().collect(),
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("\"{text}\" is no seed"))
    };
    while let Some(word) = words.next() {
        if word == "--list" {
            return Ok(None);
        }
        let value = words.next().ok_or(format!("{word}: a value is missing"))?;
        match word.as_str() {
            "--seed" => asked.seeds = number(&value)?..=number(&value)?,
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or("--seeds FROM..TO")?;
                asked.seeds = number(from)?..=number(to)?;
            }
            "--scenario" if all().any(|name| name == value) => asked.names = vec![value],
            "--scenario" => return Err(format!("no scenario is named {value}; see --list")),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(Some(asked))
}

/// What came of a run, and its digest.
fn play(name: &str, seed: u64) -> Result<sim::Report, String> {
    let scenario = named(name, seed).ok_or("no such scenario")?;
    let run = || {
        catch_unwind(|| sim::run(&scenario))
            .map_err(|_| "a promise was broken; see above".to_string())?
            .map_err(|error| format!("{error:#}"))
    };
    let first = run()?;
    if first != run()? {
        return Err("two runs of the same seed differ".into());
    }
    Ok(first)
}

fn main() -> ExitCode {
    let asked = match read(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            for (name, what, _) in SCENARIOS {
                println!("{name:12} {what}");
            }
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for name in &asked.names {
        for seed in asked.seeds.clone() {
            match play(name, seed) {
                Ok(report) => {
                    println!("{report:?}");
                    println!("seed {seed} scenario {name}: ok digest {}", report.digest);
                }
                Err(why) => {
                    failed = true;
                    println!(
                        "{why}\nrepeat it: cargo run -p sim -- --seed {seed} --scenario {name}"
                    );
                    println!("seed {seed} scenario {name}: FAIL digest -");
                }
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
