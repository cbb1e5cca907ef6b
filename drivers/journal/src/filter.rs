//! Which lines are wanted.

use regex::{Regex, RegexBuilder};

use crate::{Line, Source};

/// Longest pattern, in bytes.
pub const PATTERN_MAX: usize = 500;
/// Memory that a pattern may take, compiled and while it runs. Time is linear in the text
/// whatever the pattern.
const COMPILED_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    Long(usize),
    Wrong(String),
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Long(length) => write!(
                f,
                "the pattern has {length} bytes, at most {PATTERN_MAX} are taken"
            ),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PatternError {}

/// All that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Written then or later.
    pub since_ms: Option<u64>,
    /// Written before.
    pub until_ms: Option<u64>,
    pub source: Option<Source>,
    pattern: Option<Regex>,
}

impl Filter {
    /// By time alone.
    pub fn between(since_ms: Option<u64>, until_ms: Option<u64>) -> Self {
        Self {
            since_ms,
            until_ms,
            ..Self::default()
        }
    }

    /// Only lines in which `pattern`, a regular expression, is found.
    pub fn grep(mut self, pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > PATTERN_MAX {
            return Err(PatternError::Long(pattern.len()));
        }
        let pattern = RegexBuilder::new(pattern)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .nest_limit(50)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                // The library draws the pattern over several lines; the last one says what is wrong.
                let last = text.lines().last().unwrap_or_default();
                PatternError::Wrong(last.trim_start_matches("error: ").to_string())
            })?;
        self.pattern = Some(pattern);
        Ok(self)
    }

    pub fn passes(&self, line: &Line) -> bool {
        self.may_hold(line.at_ms, line.at_ms)
            && self.source.is_none_or(|s| s == line.source)
            && self.finds(&line.text)
    }

    /// The pattern alone.
    pub fn finds(&self, text: &str) -> bool {
        self.pattern.as_ref().is_none_or(|p| p.is_match(text))
    }

    /// Whether lines between these times may pass.
    pub fn may_hold(&self, oldest_ms: u64, newest_ms: u64) -> bool {
        self.since_ms.is_none_or(|since| newest_ms >= since)
            && self.until_ms.is_none_or(|until| oldest_ms < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_set_must_hold() {
        let line = |at_ms, source, text: &str| Line {
            at_ms,
            source,
            text: text.into(),
        };
        let filter = Filter {
            since_ms: Some(10),
            until_ms: Some(20),
            source: Some(Source::Stderr),
            ..Filter::default()
        };
        let filter = filter.grep("(?i)err(or)?: [0-9]+").expect("a pattern");
        for (given, passes) in [
            (line(10, Source::Stderr, "an Error: 7"), true),
            (line(19, Source::Stderr, "err: 12"), true),
            (line(20, Source::Stderr, "err: 12"), false),
            (line(9, Source::Stderr, "err: 12"), false),
            (line(10, Source::Stdout, "err: 12"), false),
            (line(10, Source::Stderr, "err: x"), false),
        ] {
            assert_eq!(filter.passes(&given), passes, "{given:?}");
        }
    }

    #[test]
    fn patterns_that_would_cost_too_much_are_refused() {
        for pattern in ["(", "a{1000}{1000}", "x".repeat(501).as_str()] {
            let refused = Filter::default().grep(pattern);
            let why = refused.expect_err("refused").to_string();
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
        // Ruin for engines that go back; this one reads the text once.
        let filter = Filter::default().grep("(a+)+$").expect("taken");
        assert!(!filter.finds(&format!("{}b", "a".repeat(60_000))));
    }
}
