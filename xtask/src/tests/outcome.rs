//! What a run of `cargo test` says, line by line, added up.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Outcome {
    passed: u64,
    failed: u64,
    programs: u64,
    /// Of the program whose tests run now.
    program: String,
    failures: Vec<String>,
    /// Each with its reason.
    skipped: Vec<String>,
    /// Said to be running for long, and not ended yet.
    slow: BTreeSet<String>,
    /// What went wrong outside of any test.
    troubles: Vec<String>,
}

impl Outcome {
    pub fn read(&mut self, line: &str) {
        let text = line.trim();
        if let Some(program) = text.strip_prefix("Running ") {
            self.begins(program);
        } else if let Some(program) = text.strip_prefix("Doc-tests ") {
            self.begins(&format!("{program} (documentation)"));
        } else if let Some(result) = text.strip_prefix("test ") {
            if let Some((name, end)) = result.rsplit_once(" ... ") {
                self.ended(name, end);
            } else if let Some((name, _)) = result.split_once(" has been running for over") {
                self.slow.insert(format!("{}: {name}", self.program));
            }
        } else if let Some(trouble) = text.strip_prefix("error: ") {
            self.troubles.push(trouble.to_string());
        }
        // A test's own child may have left a line open before it.
        if let Some((_, counts)) = text.split_once("test result: ") {
            self.programs += 1;
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        }
    }

    fn begins(&mut self, program: &str) {
        // `unittests src/lib.rs (target/debug/deps/net-3a6d431a2373eb04)`
        let file = program
            .rsplit_once('/')
            .map(|(_, f)| f.trim_end_matches(')'));
        let name = file
            .and_then(|f| f.rsplit_once('-'))
            .map_or(program, |(n, _)| n);
        self.program = name.to_string();
        self.slow.clear();
    }

    fn ended(&mut self, name: &str, end: &str) {
        let name = format!("{}: {name}", self.program);
        self.slow.remove(&name);
        if end.starts_with("FAILED") {
            self.failures.push(name);
        } else if let Some(reason) = end.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = match reason {
                "" => "no reason given",
                _ => reason,
            };
            self.skipped.push(format!("{name} ({reason})"));
        }
    }

    /// What a test that ran did not look at, with the reason.
    pub fn leaves_out(&mut self, what: &str) {
        self.skipped.push(what.to_string());
    }

    pub fn hangs(&mut self, silence: Duration) {
        let minutes = silence.as_secs() / 60;
        let slow: Vec<&str> = self.slow.iter().map(String::as_str).collect();
        let where_ = match slow.as_slice() {
            [] => self.program.clone(),
            some => some.join(", "),
        };
        self.troubles.push(format!(
            "ended: no output for {minutes} minutes in {where_}"
        ));
    }

    /// cargo's own verdict; also counts programs that died without a result.
    pub fn ends(&mut self, success: bool) {
        if !success && self.passed_so_far() {
            self.troubles
                .push(format!("cargo test failed after {}", self.program));
        }
    }

    fn passed_so_far(&self) -> bool {
        self.failed == 0 && self.failures.is_empty() && self.troubles.is_empty()
    }

    /// No test at all is no success either.
    pub fn passed(&self) -> bool {
        self.passed_so_far() && self.programs > 0
    }

    /// The closing lines: what failed, what was skipped and why, and the totals last.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for trouble in &self.troubles {
            let _ = writeln!(text, "trouble: {trouble}");
        }
        for name in &self.failures {
            let _ = writeln!(text, "failed: {name}");
        }
        for name in &self.skipped {
            let _ = writeln!(text, "skipped: {name}");
        }
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        let _ = write!(
            text,
            "tests: {verdict}. {} passed, {} failed, {} skipped in {} programs",
            self.passed,
            self.failed,
            self.skipped.len(),
            self.programs
        );
        text
    }
}

fn count(counts: &str, word: &str) -> u64 {
    counts
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &str, success: bool) -> Outcome {
        let mut outcome = Outcome::default();
        lines.lines().for_each(|line| outcome.read(line));
        outcome.ends(success);
        outcome
    }

    const GOOD: &str = "
     Running unittests src/lib.rs (target/debug/deps/net-3a6d431a2373eb04)
running 2 tests
test dns::garbage ... ok
test far ... ignored, needs a second machine
test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
   Doc-tests net
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";

    #[test]
    fn adds_up() {
        let good = outcome(GOOD, true);
        assert!(good.passed());
        assert_eq!(
            good.summary(),
            "skipped: net: far (needs a second machine)\n\
             tests: ok. 3 passed, 0 failed, 1 skipped in 2 programs"
        );
    }

    #[test]
    fn names_a_failure() {
        let lines = "
     Running tests/isolation.rs (target/debug/deps/isolation-b5b7cda8c04b987e)
test who ... FAILED
noise of a child test result: FAILED. 0 passed; 1 failed; 0 ignored";
        let bad = outcome(lines, false);
        assert!(!bad.passed());
        assert!(bad.summary().starts_with("failed: isolation: who\n"));
        assert!(bad.summary().contains("0 passed, 1 failed"));
    }

    #[test]
    fn a_program_that_dies_fails_the_run() {
        let lines = "
     Running tests/isolation.rs (target/debug/deps/isolation-b5b7cda8c04b987e)
test who ...";
        let dead = outcome(lines, false);
        assert!(!dead.passed());
        assert!(
            dead.summary()
                .contains("trouble: cargo test failed after isolation")
        );
        let silent = outcome("error: test failed, to rerun pass `-p net`", false);
        assert!(!silent.passed());
    }

    #[test]
    fn a_hanging_test_is_named() {
        let mut lines = outcome(GOOD, true);
        lines.read("     Running unittests src/lib.rs (target/debug/deps/host-1)");
        lines.read("test waits has been running for over 60 seconds");
        lines.hangs(Duration::from_secs(900));
        assert!(!lines.passed());
        assert!(
            lines
                .summary()
                .contains("no output for 15 minutes in host: waits")
        );
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!outcome("", true).passed());
    }
}
