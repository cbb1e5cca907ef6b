//! Failures that the cloud must get over, one by one and at full length, with figures.

use anyhow::Result;

use crate::command;

/// Runs the drill `name`, or `all`, of `runrig/tests/drills.rs`; each prints a line of verdict.
pub fn run(name: &str) -> Result<()> {
    let test = ["test", "-q", "-p", "runrig", "--test", "drills"];
    command::run(
        command::new_cargo()
            .args(test)
            .args(["--", "--nocapture"])
            .env("RUNRIG_DRILL", name)
            .env("RUNRIG_DRILL_LONG", "1"),
    )
}
