//! `$NAME` and its forms in values, as Compose reads them.
//!
//! | written | stands for |
//! |---|---|
//! | `$NAME` `${NAME}` | the value; unset: empty, with a warning |
//! | `${NAME:-d}` `${NAME-d}` | `d` if unset or empty / if unset |
//! | `${NAME:?e}` `${NAME?e}` | an error saying `e` if unset or empty / if unset |
//! | `${NAME:+r}` `${NAME+r}` | `r` if set and not empty / if set, else empty |
//! | `$$` | `$` |
//!
//! `d`, `e` and `r` may contain further ones. Any other `$` is an error.

use std::collections::BTreeSet;

use crate::problem::shown;

const DEPTH_MAX: u32 = 20;
/// Of one value.
const TEXT_MAX: usize = 256 * 1024;

pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub what: String,
    pub next: String,
}

fn wrong(what: impl Into<String>, next: impl Into<String>) -> TemplateError {
    TemplateError {
        what: what.into(),
        next: next.into(),
    }
}

/// `text` with its variables replaced; names found unset and without default go to `unset`.
pub(crate) fn substitute(
    text: &str,
    lookup: Lookup<'_>,
    unset: &mut BTreeSet<String>,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    expand(text, lookup, unset, 0, &mut out)?;
    Ok(out)
}

fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        return 0;
    }
    bytes
        .iter()
        .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
        .unwrap_or(bytes.len())
}

/// Where the brace that opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1u32;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn expand(
    text: &str,
    lookup: Lookup<'_>,
    unset: &mut BTreeSet<String>,
    depth: u32,
    out: &mut String,
) -> Result<(), TemplateError> {
    if depth > DEPTH_MAX {
        return Err(wrong(
            "variables stand too deep inside one another",
            "simplify",
        ));
    }
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = closing(inside).ok_or_else(|| {
                wrong(
                    format!("\"${{{}\" is not closed", shown(inside)),
                    "add the closing }",
                )
            })?;
            braced(&inside[..end], lookup, unset, depth, out)?;
            rest = &inside[end + 1..];
        } else {
            let length = name_length(rest);
            if length == 0 {
                return Err(wrong(
                    format!("\"${}\" is not a variable", shown(rest)),
                    "write $$ for a dollar sign",
                ));
            }
            let name = &rest[..length];
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    unset.insert(name.to_string());
                }
            }
            rest = &rest[length..];
        }
        if out.len() > TEXT_MAX {
            return Err(wrong(
                format!("with its variables filled in the value has more than {TEXT_MAX} bytes"),
                "shorten them",
            ));
        }
    }
    out.push_str(rest);
    Ok(())
}

fn braced(
    inside: &str,
    lookup: Lookup<'_>,
    unset: &mut BTreeSet<String>,
    depth: u32,
    out: &mut String,
) -> Result<(), TemplateError> {
    let (name, rest) = inside.split_at(name_length(inside));
    let bad = || {
        wrong(
            format!("\"${{{}}}\" is not a variable", shown(inside)),
            "write ${NAME}, ${NAME:-default}, ${NAME:?message} or ${NAME:+replacement}; $$ for a dollar sign",
        )
    };
    if name.is_empty() {
        return Err(bad());
    }
    let value = lookup(name);
    if rest.is_empty() {
        match value {
            Some(value) => out.push_str(&value),
            None => {
                unset.insert(name.to_string());
            }
        }
        return Ok(());
    }
    let (empty_counts_as_unset, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut characters = rest.chars();
    let operator = characters.next();
    let operand = characters.as_str();
    let value = value.filter(|v| !(empty_counts_as_unset && v.is_empty()));
    match (operator, value) {
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => out.push_str(&value),
        (Some('-'), None) | (Some('+'), Some(_)) => {
            expand(operand, lookup, unset, depth + 1, out)?;
        }
        (Some('+'), None) => {}
        (Some('?'), None) => {
            let mut message = String::new();
            expand(operand, lookup, unset, depth + 1, &mut message)?;
            let what = if message.is_empty() {
                format!("the variable {name} is needed and not set")
            } else {
                format!(
                    "the variable {name} is needed and not set: {}",
                    shown(&message)
                )
            };
            return Err(wrong(
                what,
                format!("set {name} in the environment or in .env"),
            ));
        }
        _ => return Err(bad()),
    }
    Ok(())
}
