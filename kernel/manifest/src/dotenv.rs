//! Environment files (`.env`, `env_file`), by the rules of Compose.
//!
//! `NAME=value`, `NAME: value`, `export NAME=value`; `#` begins a comment at the start of a line
//! or after a blank; single quotes keep everything, double quotes know `\n \r \t \\ \" \$`;
//! quoted values may span lines; variables are filled in outside single quotes, from the file's
//! own earlier lines first. A bare `NAME` takes its value from outside.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::{Problem, shown};
use crate::template::{self, Lookup};
use crate::yaml::TEXT_MAX;

const NAMES_MAX: usize = 4_096;
/// Of all values together.
const VALUES_MAX: usize = 4 << 20;

/// Reads an environment file that refers to nothing outside.
pub fn parse_env_file(text: &str) -> Result<BTreeMap<String, String>, Box<Problem>> {
    parse_env_file_with(".env", text, &|_| None)
}

/// Reads an environment file; `outside` knows the variables that it does not set itself.
pub fn parse_env_file_with(
    file: &str,
    text: &str,
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Box<Problem>> {
    let mut reader = Reader {
        file,
        rest: text,
        line: 1,
    };
    if text.len() > TEXT_MAX {
        return Err(reader.wrong(
            format!(
                "the file has {} bytes; at most {TEXT_MAX} are read",
                text.len()
            ),
            "split it",
        ));
    }
    reader.rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = BTreeMap::new();
    let mut size = 0;
    while let Some((name, value)) = reader.entry(&values, outside)? {
        if let Some(value) = value {
            size += value.len();
            values.insert(name, value);
        }
        if values.len() > NAMES_MAX || size > VALUES_MAX {
            return Err(reader.wrong(
                format!("more than {NAMES_MAX} names or {} MiB", VALUES_MAX >> 20),
                "split the file",
            ));
        }
    }
    Ok(values)
}

/// Reads an environment file whose values are taken as they stand (`format: raw`).
pub(crate) fn parse_raw_env_file(
    file: &str,
    text: &str,
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Box<Problem>> {
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.to_string())),
            None => (line.trim(), outside(line.trim())),
        };
        if name.is_empty() || name.len() > 256 || name.contains(char::is_whitespace) {
            let reader = Reader {
                file,
                rest: "",
                line: index + 1,
            };
            let what = format!("\"{}\" is no name of a variable", shown(name));
            return Err(reader.wrong(what, "write NAME=value"));
        }
        if values.len() >= NAMES_MAX {
            break;
        }
        values.extend(value.map(|value| (name.to_string(), value)));
    }
    Ok(values)
}

struct Reader<'a> {
    file: &'a str,
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: impl Into<String>, next: impl Into<String>) -> Box<Problem> {
        Box::new(Problem {
            file: self.file.to_string(),
            line: self.line,
            column: 1,
            key: String::new(),
            what: what.into(),
            why: String::new(),
            next: next.into(),
        })
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.bytes().filter(|b| *b == b'\n').count();
        self.rest = rest;
        taken
    }

    fn line_end(&self) -> usize {
        self.rest.find('\n').unwrap_or(self.rest.len())
    }

    fn entry(
        &mut self,
        earlier: &BTreeMap<String, String>,
        outside: Lookup<'_>,
    ) -> Result<Option<(String, Option<String>)>, Box<Problem>> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if self.rest.is_empty() {
                return Ok(None);
            }
            if !self.rest.starts_with('#') {
                break;
            }
            let end = self.line_end();
            self.take(end);
        }
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            let length = self.rest.len() - after.trim_start_matches([' ', '\t']).len();
            self.take(length);
        }
        let end = self
            .rest
            .find(['=', ':', '\n', '#'])
            .unwrap_or(self.rest.len());
        let name = self.rest[..end].trim();
        let is_name = !name.is_empty()
            && name.len() <= 256
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.[]".contains(c));
        if !is_name {
            return Err(self.wrong(
                format!(
                    "\"{}\" is no name of a variable",
                    shown(self.rest[..self.line_end()].trim())
                ),
                "write NAME=value",
            ));
        }
        let name = name.to_string();
        self.take(end);
        if !self.rest.starts_with(['=', ':']) {
            let end = self.line_end();
            self.take(end);
            let value = outside(&name);
            return Ok(Some((name, value)));
        }
        self.take(1);
        let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.take(blank);
        let lookup = |name: &str| earlier.get(name).cloned().or_else(|| outside(name));
        let value = match self.rest.bytes().next() {
            Some(quote @ (b'\'' | b'"')) => self.quoted(quote, &lookup)?,
            _ => self.unquoted(&lookup)?,
        };
        Ok(Some((name, Some(value))))
    }

    fn unquoted(&mut self, lookup: Lookup<'_>) -> Result<String, Box<Problem>> {
        let end = self.line_end();
        let line = &self.rest[..end];
        let comment = line
            .char_indices()
            .find(|(i, c)| *c == '#' && (*i == 0 || line[..*i].ends_with([' ', '\t'])));
        let value = comment.map_or(line, |(i, _)| &line[..i]).trim();
        let value = self.filled(value, lookup)?;
        self.take(end);
        Ok(value)
    }

    fn quoted(&mut self, quote: u8, lookup: Lookup<'_>) -> Result<String, Box<Problem>> {
        let mut end = None;
        let mut escaped = false;
        for (i, byte) in self.rest.bytes().enumerate().skip(1) {
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == quote {
                end = Some(i);
                break;
            }
        }
        let Some(end) = end else {
            return Err(self.wrong("a quote is not closed", "close it"));
        };
        let inside = &self.rest[1..end];
        let value = if quote == b'\'' {
            inside.replace("\\'", "'")
        } else {
            self.filled(&unescaped(inside), lookup)?
        };
        self.take(end + 1);
        let tail = self.rest[..self.line_end()].trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(self.wrong(
                format!("\"{}\" follows a closing quote", shown(tail)),
                "put it inside the quotes, or # before it",
            ));
        }
        let end = self.line_end();
        self.take(end);
        Ok(value)
    }

    fn filled(&self, text: &str, lookup: Lookup<'_>) -> Result<String, Box<Problem>> {
        template::substitute(text, lookup, &mut BTreeSet::new())
            .map_err(|e| self.wrong(e.what, e.next))
    }
}

/// Double-quoted text without its escapes; `\$` becomes `$$`, which filling in takes for `$`.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            Some(c) => {
                out.push('\\');
                out.push(c);
            }
            None => out.push('\\'),
        }
    }
    out
}
