//! Tests, checks and tidy rules of this repository, on any machine and in CI alike.
//!
//! `cargo xtask test` installs what the tests need and runs them all, `cargo xtask tidy`
//! holds the rules that a compiler does not know, `cargo xtask ci` does everything.

mod bars;
mod command;
mod crates;
mod drill;
mod packages;
mod tests;
mod tidy;
mod unified;
mod wasm;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <task>

  test [CRATE..]  install what the tests need, run them, sum up
  drill NAME|all  one failure, or all, at full length on a real cloud; prints figures
  screenshots     pictures of all web pages, both themes, desk and phone, into screenshots/
  portal-bars [lighthouse | live]
                  axe, weight and outside requests of all web pages; or Lighthouse; or what live
                  tabs cost, how soon a log and a newcomer's job are there
  unified         the engine's suite under cgroup v2, in a virtual machine (eight minutes)
  tidy            the direction of dependencies, pure kernel crates, documented folders, sizes
  ci              fmt --check, tidy, clippy, test: what CI runs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((task, crates)) if task == "test" => test(crates),
        Some((task, [name])) if task == "drill" => drill(name),
        Some((task, [])) if task == "screenshots" => screenshots(),
        Some((task, [])) if task == "portal-bars" => bars(None),
        Some((task, [what]))
            if task == "portal-bars" && ["lighthouse", "live"].contains(&what.as_str()) =>
        {
            bars(Some(what))
        }
        Some((task, [])) if task == "unified" => unified::run(),
        Some((task, [])) if task == "tidy" => tidy::check(),
        Some((task, [])) if task == "ci" => ci(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn drill(name: &str) -> Result<()> {
    packages::install()?;
    drill::run(name)
}

/// The browser's test goes through all pages; with a folder named, it takes pictures too.
fn screenshots() -> Result<()> {
    packages::install()?;
    bars::axe()?;
    let folder = command::root().join("screenshots");
    command::run(
        command::new_cargo()
            .args(["test", "-q", "-p", "runrig", "--test", "portal"])
            .env("RUNRIG_SCREENSHOTS", &folder),
    )?;
    println!("{}", folder.display());
    Ok(())
}

fn bars(what: Option<&str>) -> Result<()> {
    packages::install()?;
    bars::run(what)
}

fn test(crates: &[String]) -> Result<()> {
    packages::install()?;
    bars::axe()?;
    tests::run(crates)
}

/// Every step runs, so that one run tells all that is wrong; tests come last, with their
/// closing lines at the end of the output.
fn ci() -> Result<()> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    let steps: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("fmt", &|| command::cargo(&["fmt", "--all", "--check"])),
        ("tidy", &tidy::check),
        ("clippy", &|| command::cargo(&clippy)),
        ("test", &|| test(&[])),
    ];
    // What is lacking is said again by the tests, who need it.
    if let Err(error) = packages::install() {
        eprintln!("{error:#}");
    }
    let mut failed = Vec::new();
    for (name, step) in steps {
        eprintln!("== {name}");
        if let Err(error) = step() {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
