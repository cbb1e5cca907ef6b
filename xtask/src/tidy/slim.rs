//! What stands in other people's programs stays slim: the whole tree of crates below it is looked
//! at, not only what it names itself.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::crates::Crate;

/// Crates that run things, wait for things or ask the machine for chance.
const HEAVY: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "futures",
    "hyper",
    "rayon",
    "getrandom",
    "commonware-runtime",
    "commonware-consensus",
];

/// Crates below [`LIGHT`] at most: it runs in browsers and on other people's servers.
const LIGHT_MAX: usize = 80;
const LIGHT: &str = "light";

const WASM: &str = "wasm32-unknown-unknown";

pub fn breaches(crates: &[Crate]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let slim = crates
        .iter()
        .filter(|c| c.name == LIGHT || c.folder().starts_with("kernel"));
    for each in slim {
        let tree = tree(&each.name)?;
        for heavy in HEAVY.iter().filter(|heavy| tree.contains(**heavy)) {
            found.push(format!(
                "{}: {heavy} is below it: `cargo tree -p {} -e normal -i {heavy}` tells why",
                each.name, each.name
            ));
        }
        if each.name == LIGHT && tree.len() > LIGHT_MAX {
            found.push(format!(
                "{LIGHT}: {} crates are below it, {LIGHT_MAX} may be",
                tree.len()
            ));
        }
    }
    found.extend(in_browsers()?);
    Ok(found)
}

/// Names of the crates that a program with `name` in it is made of.
fn tree(name: &str) -> Result<BTreeSet<String>> {
    let arguments = ["tree", "-p", name, "-e", "normal", "--prefix", "none"];
    let text = command::read(command::new_cargo().args(arguments))?;
    let names = text.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(str::to_string).collect())
}

/// Does [`LIGHT`] compile for browsers? Looked at where there is what that takes.
fn in_browsers() -> Result<Option<String>> {
    let sysroot = command::read(Command::new("rustc").args(["--print", "sysroot"]))?;
    let target = std::path::Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(WASM);
    let clang = Command::new("clang").arg("--version").output();
    let lacks = match (target.is_dir(), clang) {
        (false, _) => Some(format!("`rustup target add {WASM}`")),
        (_, Err(_)) => Some("clang, for the curve's C".to_string()),
        _ => None,
    };
    if let Some(lacks) = lacks {
        eprintln!("tidy: {LIGHT} was not compiled for browsers: install {lacks}");
        return Ok(None);
    }
    let arguments = [
        "check",
        "-p",
        LIGHT,
        "--target",
        WASM,
        "--target-dir",
        "target/wasm",
    ];
    let good = command::run(command::new_cargo().args(arguments));
    Ok(good
        .err()
        .map(|why| format!("{LIGHT} for browsers: {why:#}")))
}
