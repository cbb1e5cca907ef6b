//! What is read of a Dockerfile before it is sent: that its instructions are known, and which
//! images it begins with. What it does is the builder's to know.

use std::collections::{BTreeMap, BTreeSet};

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
const STEPS_MAX: usize = 10_000;
const EXPANDED_MAX: usize = 4_096;

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Its first.
    line: usize,
    /// Its last.
    end: usize,
    /// In upper case.
    instruction: String,
    rest: String,
}

pub struct Recipe {
    steps: Vec<Step>,
}

fn wrong<T>(line: usize, what: impl Into<String>) -> Result<T, Wrong> {
    let what = what.into();
    Err(Wrong { line, what })
}

impl Recipe {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let escape = escape(text);
        let mut steps = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, first)) = lines.next() {
            let mut end = index + 1;
            let first = first.trim();
            if first.is_empty() || first.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let mut whole = String::new();
            let mut part = Some(first);
            while let Some(text) = part {
                let text = text.trim_end();
                let Some(more) = text.strip_suffix(escape) else {
                    whole.push_str(text);
                    break;
                };
                whole.push_str(more);
                // Comments and empty lines in between are as if they were not there.
                let mut further = || {
                    let (index, text) = lines.next()?;
                    end = index + 1;
                    Some(text)
                };
                part = further();
                while part.is_some_and(|t| t.trim_start().starts_with('#') || t.trim().is_empty()) {
                    part = further();
                }
            }
            let (word, rest) = whole
                .split_once(char::is_whitespace)
                .unwrap_or((&whole, ""));
            let instruction = word.to_ascii_uppercase();
            if !INSTRUCTIONS.contains(&instruction.as_str()) {
                let word: String = word.chars().take(40).collect();
                return wrong(line, format!("{word} is no instruction"));
            }
            let rest = rest.trim().to_string();
            if rest.is_empty() {
                return wrong(line, format!("{instruction} needs something after it"));
            }
            if matches!(instruction.as_str(), "RUN" | "COPY" | "ADD") {
                for end in documents(&rest) {
                    let found = lines
                        .by_ref()
                        .any(|(_, text)| text.trim_start_matches('\t') == end);
                    if !found {
                        return wrong(line, format!("the text until {end} does not end"));
                    }
                }
            }
            if steps.len() >= STEPS_MAX {
                return wrong(line, format!("more than {STEPS_MAX} instructions"));
            }
            steps.push(Step {
                line,
                end,
                instruction,
                rest,
            });
        }
        match steps.iter().find(|s| s.instruction != "ARG") {
            None => wrong(1, "there is no FROM"),
            Some(step) if step.instruction != "FROM" => {
                wrong(step.line, "only ARG may stand before the first FROM")
            }
            Some(_) => Ok(Self { steps }),
        }
    }

    /// Images that `target`, or the last stage, may need: as they are written → what that is
    /// with `args` and the recipe's own defaults. `contexts` are no images.
    pub fn bases(
        &self,
        args: &BTreeMap<String, String>,
        target: Option<&str>,
        contexts: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>, Wrong> {
        let mut variables = BTreeMap::new();
        let mut stages: Vec<String> = Vec::new();
        let mut bases = BTreeMap::new();
        let mut reached = target.is_none();
        for step in &self.steps {
            match step.instruction.as_str() {
                "ARG" if stages.is_empty() => {
                    for pair in step.rest.split_whitespace() {
                        let (name, default) = pair.split_once('=').unwrap_or((pair, ""));
                        let default = default.trim_matches(['"', '\'']);
                        let value = match args.get(name) {
                            Some(value) => value.clone(),
                            None => expand(default, &variables).unwrap_or_default(),
                        };
                        variables.insert(name.to_string(), value);
                    }
                }
                "FROM" => {
                    let is_target = |t: &str| {
                        stages.last().is_some_and(|s| s.eq_ignore_ascii_case(t))
                            || t.parse() == Ok(stages.len().wrapping_sub(1))
                    };
                    if !stages.is_empty() && target.is_some_and(is_target) {
                        return Ok(bases);
                    }
                    let mut words = step.rest.split_whitespace();
                    let word = words.by_ref().find(|w| !w.starts_with("--"));
                    let Some(word) = word else {
                        return wrong(step.line, "FROM names no image");
                    };
                    let name = match (words.next(), words.next()) {
                        (Some(word), Some(name)) if word.eq_ignore_ascii_case("as") => name,
                        _ => "",
                    };
                    let Some(image) = expand(word, &variables) else {
                        return wrong(step.line, format!("{word} cannot be read"));
                    };
                    if image.is_empty() {
                        let what = format!("{word} is empty: give the ARG a value");
                        return wrong(step.line, what);
                    }
                    let known = stages.iter().any(|s| s.eq_ignore_ascii_case(&image));
                    if !known && image != "scratch" && !contexts.contains(&image) {
                        bases.insert(word.to_string(), image);
                    }
                    stages.push(name.to_string());
                }
                "COPY" | "RUN" => {
                    for from in froms(step) {
                        let known = stages.iter().any(|s| s.eq_ignore_ascii_case(from));
                        let number = from.parse::<usize>().is_ok();
                        if !known && !number && !contexts.contains(from) {
                            bases.insert(from.to_string(), from.to_string());
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(target) = target {
            let last = stages
                .last()
                .is_some_and(|s| s.eq_ignore_ascii_case(target));
            reached = last || target.parse() == Ok(stages.len() - 1);
        }
        if !reached {
            let names: Vec<&str> = stages
                .iter()
                .map(String::as_str)
                .filter(|s| !s.is_empty())
                .collect();
            let what = format!(
                "there is no stage {}; there are: {}",
                target.unwrap_or_default(),
                names.join(", ")
            );
            return wrong(self.steps.last().map_or(1, |s| s.line), what);
        }
        Ok(bases)
    }

    /// `text`, of which this was read, so that no builder has what its `stages` come to: each
    /// begins with `mark`, which none has seen before.
    pub fn anew(&self, text: &str, stages: &BTreeSet<String>, mark: &str) -> Result<String, Wrong> {
        let mut marked = BTreeSet::new();
        let mut left = stages.clone();
        let froms = self.steps.iter().filter(|s| s.instruction == "FROM");
        for (number, step) in froms.enumerate() {
            let mut words = step.rest.split_whitespace().rev();
            let name = words.next().unwrap_or_default();
            let named = words.next().is_some_and(|w| w.eq_ignore_ascii_case("as"));
            let is_it = |stage: &String| {
                named && stage.eq_ignore_ascii_case(name) || stage.parse() == Ok(number)
            };
            if stages.iter().any(is_it) {
                marked.insert(step.end);
                left.retain(|stage| !is_it(stage));
            }
        }
        if let Some(unknown) = left.first() {
            return wrong(1, format!("no_cache_filter: there is no stage {unknown}"));
        }
        let mut out = String::new();
        for (index, line) in text.lines().enumerate() {
            out.push_str(line);
            out.push('\n');
            if marked.contains(&(index + 1)) {
                out.push_str(&format!("ARG {mark}\n"));
            }
        }
        Ok(out)
    }

    /// Line of the instruction that a builder shows as `text`.
    pub fn line_of(&self, text: &str) -> Option<usize> {
        let bare = |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
        let wanted = bare(text);
        self.steps
            .iter()
            .find(|s| bare(&format!("{}{}", s.instruction, s.rest)) == wanted)
            .map(|s| s.line)
    }
}

/// `# escape=` of the first lines.
fn escape(text: &str) -> char {
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else {
            break;
        };
        let Some((name, value)) = comment.split_once('=') else {
            break;
        };
        if name.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            return '`';
        }
    }
    '\\'
}

/// Words that end the here-documents that `rest` begins.
fn documents(rest: &str) -> Vec<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    rest.match_indices("<<")
        .filter_map(|(at, _)| {
            let after = rest[at + 2..].strip_prefix('-').unwrap_or(&rest[at + 2..]);
            let after = after.trim_start_matches(['"', '\'']);
            let end = after.find(|c| !plain(c)).unwrap_or(after.len());
            let first = after.chars().next()?;
            (end > 0 && (first.is_ascii_alphabetic() || first == '_')).then(|| &after[..end])
        })
        .collect()
}

/// What `--from=` and `--mount=…,from=` name.
fn froms(step: &Step) -> impl Iterator<Item = &str> {
    let flags = step
        .rest
        .split_whitespace()
        .take_while(|w| w.starts_with("--"));
    flags.flat_map(|flag| {
        let parts: Vec<&str> = match flag.strip_prefix("--mount=") {
            Some(mount) => mount.split(',').collect(),
            None => flag.strip_prefix("--").into_iter().collect(),
        };
        parts.into_iter().filter_map(|p| p.strip_prefix("from="))
    })
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}`; `None`: it is none of these, or
/// grows too long.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(inner) = after.strip_prefix('{') {
            let (inner, more) = inner.split_once('}')?;
            rest = more;
            let operation = inner.find(':').map(|at| (&inner[..at], &inner[at + 1..]));
            out.push_str(&match operation {
                None => value(inner),
                Some((name, other)) => match (other.strip_prefix('-'), other.strip_prefix('+')) {
                    (Some(default), _) if value(name).is_empty() => default.into(),
                    (Some(_), _) => value(name),
                    (_, Some(other)) if !value(name).is_empty() => other.into(),
                    (_, Some(_)) => String::new(),
                    _ => return None,
                },
            });
        } else {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = after.find(|c| !plain(c)).unwrap_or(after.len());
            out.push_str(&value(&after[..end]));
            rest = &after[end..];
        }
        if out.len() > EXPANDED_MAX {
            return None;
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: &str = r#"# syntax=docker/dockerfile:1
ARG BASE=debian:12
ARG TAG="1"
FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG BASE
RUN apt-get update \
    # a comment in between

    && true
COPY --from=tools:$X --chown=1 /a /b
FROM web:${TAG:-latest} as Run
RUN --mount=type=bind,from=lib,target=/l cat <<EOF > /x
FROM nothing
EOF
COPY --from=build /a /a
COPY --from=0 /a /a
FROM run
CMD ["x"]
"#;

    fn bases(
        text: &str,
        args: &[(&str, &str)],
        target: Option<&str>,
    ) -> Result<Vec<String>, Wrong> {
        let args = args.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let contexts = ["lib".to_string()].into();
        let found = Recipe::parse(text)?.bases(&args.collect(), target, &contexts)?;
        Ok(found.into_iter().map(|(k, v)| format!("{k}={v}")).collect())
    }

    #[test]
    fn the_images_that_it_begins_with() {
        let all = [
            "${BASE}=debian:12",
            "tools:$X=tools:$X",
            "web:${TAG:-latest}=web:1",
        ];
        assert_eq!(bases(STAGES, &[], None).expect("read"), all);
        assert_eq!(bases(STAGES, &[], Some("2")).expect("read"), all);
        let first = bases(STAGES, &[("BASE", "alpine")], Some("BUILD")).expect("read");
        assert_eq!(first, ["${BASE}=alpine", "tools:$X=tools:$X"]);
        assert_eq!(bases("FROM scratch\nCOPY . /\n", &[], None), Ok(vec![]));
        assert_eq!(bases("FROM lib\n", &[], None), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str, target| match bases(text, &[], target) {
            Err(wrong) => format!("{}: {}", wrong.line, wrong.what),
            Ok(found) => panic!("{found:?}"),
        };
        assert_eq!(
            told("FROM a\n\nRUNN x\n", None),
            "3: RUNN is no instruction"
        );
        assert_eq!(told("", None), "1: there is no FROM");
        assert_eq!(
            told("ARG A\nRUN x\n", None),
            "2: only ARG may stand before the first FROM"
        );
        assert_eq!(
            told("ARG A\nFROM $A\n", None),
            "2: $A is empty: give the ARG a value"
        );
        assert_eq!(
            told("FROM a\nRUN\n", None),
            "2: RUN needs something after it"
        );
        assert_eq!(
            told("FROM a AS one\nFROM b AS two\n", Some("none")),
            "2: there is no stage none; there are: one, two"
        );
        assert_eq!(
            told("FROM a\nRUN <<END\nx\n", None),
            "2: the text until END does not end"
        );
    }

    #[test]
    fn stages_are_marked_to_be_made_anew() {
        let marked = |stages: &[&str]| -> Result<Vec<String>, Wrong> {
            let stages = stages.iter().map(|s| s.to_string()).collect();
            let recipe = Recipe::parse(STAGES)?;
            let text = recipe.anew(STAGES, &stages, "NEW=1")?;
            let lines: Vec<&str> = text.lines().collect();
            let at = (1..lines.len()).filter(|at| lines[*at] == "ARG NEW=1");
            Ok(at.map(|at| lines[at - 1].to_string()).collect())
        };
        let run = "FROM web:${TAG:-latest} as Run";
        assert_eq!(marked(&["run"]), Ok(vec![run.to_string()]));
        assert_eq!(
            marked(&["1", "2"]),
            Ok(vec![run.to_string(), "FROM run".to_string()])
        );
        assert!(marked(&["nothing"]).is_err_and(|w| w.what.contains("no stage nothing")));
        let long = "FROM a \\\n  # why\n  AS b\nRUN x\n";
        let recipe = Recipe::parse(long).expect("read");
        let text = recipe.anew(long, &["b".to_string()].into(), "N=1");
        let expected = "FROM a \\\n  # why\n  AS b\nARG N=1\nRUN x\n";
        assert_eq!(text.as_deref(), Ok(expected));
    }

    #[test]
    fn a_step_is_found_again() {
        let recipe = Recipe::parse(STAGES).expect("read");
        assert_eq!(recipe.line_of("RUN apt-get update     && true"), Some(6));
        assert_eq!(recipe.line_of("CMD [\"x\"]"), Some(18));
        assert_eq!(recipe.line_of("RUN other"), None);
    }
}
