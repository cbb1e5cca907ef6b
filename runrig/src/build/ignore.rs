//! `.dockerignore`: what of a context is left out.

use images::Ignored;

const PATTERNS_MAX: usize = 10_000;

/// Patterns in their order; the last that fits decides.
#[derive(Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

struct Pattern {
    /// It takes back what others leave out.
    back: bool,
    parts: Vec<Vec<char>>,
}

impl Ignore {
    /// Errors: there are too many patterns.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (back, line) = match line.strip_prefix('!') {
                Some(line) => (true, line.trim()),
                None => (false, line),
            };
            let mut parts: Vec<Vec<char>> = Vec::new();
            for part in line.split('/') {
                match part {
                    "" | "." => {}
                    ".." => {
                        parts.pop();
                    }
                    part => parts.push(part.chars().collect()),
                }
            }
            if !parts.is_empty() {
                patterns.push(Pattern { back, parts });
            }
            if patterns.len() > PATTERNS_MAX {
                return Err(format!("more than {PATTERNS_MAX} patterns"));
            }
        }
        Ok(Self { patterns })
    }
}

impl Ignored for Ignore {
    fn is_ignored(&self, path: &str) -> bool {
        let path: Vec<Vec<char>> = path.split('/').map(|p| p.chars().collect()).collect();
        let last = self.patterns.iter().rev().find(|p| p.fits(&path));
        last.is_some_and(|p| !p.back)
    }

    fn may_return(&self) -> bool {
        self.patterns.iter().any(|p| p.back)
    }
}

impl Pattern {
    /// The path, or a folder that it is in.
    fn fits(&self, path: &[Vec<char>]) -> bool {
        // `reached[i]`: the parts so far fit the first i of the path.
        let mut reached = vec![false; path.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            let any = part[..] == ['*', '*'];
            let mut next = vec![false; path.len() + 1];
            for i in 0..=path.len() {
                next[i] = match any {
                    true => reached[i] || (i > 0 && next[i - 1]),
                    false => i > 0 && reached[i - 1] && fits(part, &path[i - 1]),
                };
            }
            reached = next;
        }
        // Nothing is not a folder of the context.
        reached.iter().skip(1).any(|r| *r)
    }
}

/// One part of a path, with `*`, `?`, `[a-z]`, `[^a]` and `\`.
fn fits(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        let one = (p < pattern.len() && t < text.len())
            .then(|| single(&pattern[p..], text[t]))
            .flatten();
        if let Some(taken) = one {
            p += taken;
            t += 1;
            continue;
        }
        match star {
            Some((after, at)) if at < text.len() => {
                star = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern stands for this one character, if it does.
fn single(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        '\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        '[' => {
            let end = pattern.iter().skip(2).position(|p| *p == ']')? + 2;
            let inner = &pattern[1..end];
            let (not, inner) = match inner[0] {
                '^' | '!' if inner.len() > 1 => (true, &inner[1..]),
                _ => (false, inner),
            };
            let mut found = false;
            let mut at = 0;
            while at < inner.len() {
                let range = inner.get(at + 1) == Some(&'-') && at + 2 < inner.len();
                let last = if range { inner[at + 2] } else { inner[at] };
                found |= (inner[at]..=last).contains(&c);
                at += if range { 3 } else { 1 };
            }
            (found != not).then_some(end + 1)
        }
        plain => (plain == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_docker_reads_them() {
        for (patterns, path, ignored) in [
            ("node_modules", "node_modules/a/b", true),
            ("node_modules", "app/node_modules/a", false),
            ("**/node_modules", "app/node_modules/a", true),
            ("**/node_modules", "node_modules", true),
            ("*.log", "a.log", true),
            ("*.log", "sub/a.log", false),
            ("**/*.log", "sub/deep/a.log", true),
            ("/dist/", "dist/x", true),
            ("./dist", "dist", true),
            ("*", "anything/at/all", true),
            ("*\n!src", "src/main.c", false),
            ("*\n!src\nsrc/*.o", "src/main.o", true),
            ("*\n!src/keep", "src/other", true),
            ("# comment\n\n", "# comment", false),
            ("a?c", "abc", true),
            ("a[b-d]c", "acc", true),
            ("a[^b-d]c", "acc", false),
            ("a\\*c", "abc", false),
            ("a\\*c", "a*c", true),
            ("a**", "abc", true),
            ("docs/**", "docs/a/b", true),
            ("docs/**/b", "docs/b", true),
            ("..", "a", false),
            ("**", "a/b", true),
        ] {
            let ignore = Ignore::parse(patterns).expect("read");
            assert_eq!(ignore.is_ignored(path), ignored, "{patterns:?} {path}");
        }
        assert!(Ignore::parse("a\n!b").expect("read").may_return());
    }

    #[test]
    fn a_pattern_of_stars_ends_soon() {
        let ignore = Ignore::parse(&"*a".repeat(500)).expect("read");
        assert!(!ignore.is_ignored(&"b".repeat(5_000)));
        let deep = Ignore::parse(&"**/".repeat(500)).expect("read");
        assert!(deep.is_ignored(&"b/".repeat(500)));
    }
}
