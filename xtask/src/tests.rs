//! Run all tests and sum up what happened.
//!
//! Invariants: a test that ends its process, a test that hangs and a test that does not
//! compile each make the run fail; no test is left out in silence.

mod outcome;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{command, wasm};
use outcome::Outcome;

/// A run that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Tests of `crates`, or of the whole workspace.
pub fn run(crates: &[String]) -> Result<()> {
    let started = Instant::now();
    let chosen: Vec<&str> = match crates {
        [] => vec!["--workspace"],
        some => some.iter().flat_map(|c| ["-p", c.as_str()]).collect(),
    };
    command::cargo(&[&["test", "--no-run"], chosen.as_slice()].concat()).context("build")?;
    let built = started.elapsed();
    let mut tests = command::new_cargo();
    tests
        .args(["test", "--no-fail-fast", "--color", "never"])
        .args(chosen);
    // One pipe for both: results and the names of their programs stay in order.
    let (output, input) = std::io::pipe().context("make a pipe")?;
    tests.stdout(input.try_clone().context("make a pipe")?);
    tests.stderr(input);
    tests.process_group(0);
    let mut child = tests.spawn().context("run cargo test")?;
    // Its ends of the pipe would keep us waiting.
    drop(tests);
    let (lines, incoming) = mpsc::sync_channel(1_024);
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if lines
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let mut outcome = follow(&mut child, &incoming)?;
    let pages = crates.is_empty() || crates.iter().any(|c| c == "runrig");
    if let Some(why) = wasm::left_out().filter(|_| pages) {
        outcome.leaves_out(&format!("portal: proofs checked in the browser ({why})"));
    }
    println!("{}", outcome.summary());
    println!(
        "built in {} s, tested in {} s",
        built.as_secs(),
        (started.elapsed() - built).as_secs()
    );
    match outcome.passed() {
        true => Ok(()),
        false => bail!("tests failed"),
    }
}

fn follow(child: &mut Child, incoming: &mpsc::Receiver<String>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut last = Instant::now();
    loop {
        match incoming.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                last = Instant::now();
                println!("{line}");
                outcome.read(&line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) if last.elapsed() > SILENCE => {
                outcome.hangs(SILENCE);
                // The whole group: cargo and what it runs.
                unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
                child.wait().context("end cargo test")?;
                return Ok(outcome);
            }
            // A process that a test left behind may hold the pipe for ever.
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if child.try_wait().context("follow cargo test")?.is_some()
                    && last.elapsed() > Duration::from_secs(5)
                {
                    break;
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().context("end cargo test")?;
    outcome.ends(status.success());
    Ok(outcome)
}
