//! What stands in other people's programs stays slim: the whole tree of crates below it is looked
//! at, not only what it names itself.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::crates::Crate;
use crate::{command, wasm};

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
/// What runs in browsers as it is.
const BROWSER: &str = "browser";

pub fn breaches(crates: &[Crate]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let slim = crates.iter().filter(|c| {
        [LIGHT, BROWSER].contains(&c.name.as_str()) || c.folder().starts_with("kernel")
    });
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

/// Does [`BROWSER`] compile for browsers, and [`LIGHT`] by itself? Looked at where there is what that takes.
fn in_browsers() -> Result<Option<String>> {
    if let Some(lacks) = wasm::lacks()? {
        eprintln!("tidy: {LIGHT} was not compiled for browsers: install {lacks}");
        return Ok(None);
    }
    let arguments = [
        "check",
        "-p",
        LIGHT,
        "-p",
        BROWSER,
        "--target",
        wasm::TARGET,
    ];
    let mut check = command::new_cargo();
    check.args(arguments).args(["--target-dir", "target/wasm"]);
    let good = command::run(&mut check);
    Ok(good
        .err()
        .map(|why| format!("{LIGHT} for browsers: {why:#}")))
}
