//! Kernel crates are pure: no I/O, clock, chance, thread, async, float or hash-map order.
//!
//! Reads the code itself, without what is compiled for tests only: a file of a module under
//! `#[cfg(test)]` and the files below it are left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::Visit;

use crate::command;
use crate::crates::Crate;

/// Crates that bring what the kernel must not know.
const CRATES: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-stream",
    "futures",
    "async-std",
    "smol",
    "reqwest",
    "hyper",
    "axum",
    "nix",
    "libc",
    "chrono",
    "time",
    "getrandom",
    "rayon",
    "tracing",
    "log",
    "dashmap",
    "hashbrown",
    "tempfile",
    "redb",
];

/// Names that stand for the same, anywhere in a path.
const NAMES: &[(&str, &str)] = &[
    (
        "HashMap",
        "iterates in another order each time: use BTreeMap",
    ),
    (
        "HashSet",
        "iterates in another order each time: use BTreeSet",
    ),
    ("f32", "rounds: use integers with a scale"),
    ("f64", "rounds: use integers with a scale"),
    ("thread_rng", "is chance: take randomness as an argument"),
    ("OsRng", "is chance: take randomness as an argument"),
    ("ThreadRng", "is chance: take randomness as an argument"),
    ("println", "is I/O: a driver's work"),
    ("print", "is I/O: a driver's work"),
    ("eprintln", "is I/O: a driver's work"),
    ("eprint", "is I/O: a driver's work"),
    ("dbg", "is I/O: a driver's work"),
    ("SystemTime", "is a clock: take time as an argument"),
    ("Instant", "is a clock: take time as an argument"),
];

/// Paths that stand for the same, at their beginning.
const PATHS: &[(&str, &str)] = &[
    ("std::time", "is a clock: take time as an argument"),
    ("core::time", "is a clock: take time as an argument"),
    ("std::net", "is I/O: a driver's work"),
    ("std::fs", "is I/O: a driver's work"),
    ("std::io::stdin", "is I/O: a driver's work"),
    ("std::io::stdout", "is I/O: a driver's work"),
    ("std::io::stderr", "is I/O: a driver's work"),
    (
        "std::env",
        "differs between machines: take it as an argument",
    ),
    ("std::process", "is I/O: a driver's work"),
    ("std::thread", "runs in another order each time"),
    ("rand::rng", "is chance: take randomness as an argument"),
    ("rand::random", "is chance: take randomness as an argument"),
];

/// Inside of [`PATHS`], but mere values.
const VALUES: &[&str] = &[
    "std::net::AddrParseError",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
];

pub fn breaches(crates: &[Crate], files: &[PathBuf]) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for one in crates {
        let folder = one.folder();
        if !folder.starts_with("kernel") {
            continue;
        }
        for needed in &one.dependencies {
            if needed.kind.is_none() && CRATES.contains(&needed.name.as_str()) {
                breaches.push(format!(
                    "{}: a kernel crate must not use {}: take values, give values",
                    one.name, needed.name
                ));
            }
        }
        let source = folder.join("src");
        let mut read = Vec::new();
        let mut tests = BTreeSet::new();
        for path in files
            .iter()
            .filter(|f| f.starts_with(&source) && is_rust(f))
        {
            let text = std::fs::read_to_string(command::root().join(path))
                .with_context(|| format!("read {}", path.display()))?;
            let found = scan(&text).with_context(|| format!("parse {}", path.display()))?;
            let home = home(path);
            tests.extend(found.tests.iter().map(|module| home.join(module)));
            read.push((path, found.breaches));
        }
        for (path, found) in read {
            let own = path.with_extension("");
            let own = match own.file_name().is_some_and(|n| n == "mod") {
                true => own.parent().unwrap_or(&own).to_path_buf(),
                false => own,
            };
            if tests.iter().any(|test| own.starts_with(test)) {
                continue;
            }
            let shown = path.display();
            let found = found
                .iter()
                .map(|(line, why)| format!("{shown}:{line}: {why}"));
            breaches.extend(found);
        }
    }
    Ok(breaches)
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "rs")
}

/// Where the modules that a file declares lie.
fn home(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(path);
    match path.file_stem().and_then(|s| s.to_str()) {
        Some("lib" | "main" | "mod") | None => folder.to_path_buf(),
        Some(stem) => folder.join(stem),
    }
}

#[derive(Default)]
struct Scan {
    breaches: Vec<(usize, String)>,
    /// Modules in files of their own, for tests only.
    tests: Vec<String>,
}

fn scan(text: &str) -> Result<Scan> {
    let file = syn::parse_file(text)?;
    let mut scan = Scan::default();
    scan.visit_file(&file);
    Ok(scan)
}

impl Scan {
    fn path(&mut self, segments: &[String], span: Span) {
        let path = segments.join("::");
        let starts = |begin: &str| {
            path.strip_prefix(begin)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let named = NAMES
            .iter()
            .find(|(name, _)| segments.iter().any(|s| s == name));
        if VALUES.iter().any(|value| starts(value)) {
            return;
        }
        if let Some((what, why)) = PATHS.iter().find(|(begin, _)| starts(begin)).or(named) {
            self.breaches
                .push((span.start().line, format!("{what} {why}")));
        }
    }

    fn tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Name(name) => self.leaf(before, &name.ident),
            syn::UseTree::Rename(name) => self.leaf(before, &name.ident),
            syn::UseTree::Glob(glob) => self.path(before, glob.star_token.spans[0]),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }

    fn leaf(&mut self, before: &mut Vec<String>, name: &syn::Ident) {
        before.push(name.to_string());
        self.path(before, name.span());
        before.pop();
    }

    /// A macro's words are not parsed yet; paths in them are found all the same.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut at = Span::call_site();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 && !segments.is_empty() {
                        self.path(&segments, at);
                        segments.clear();
                    }
                    at = ident.span();
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.path(&segments, at);
                    segments.clear();
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            if let Ok(float) = syn::parse_str::<syn::LitFloat>(&literal.to_string())
                            {
                                self.float(&float, literal.span());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        self.path(&segments, at);
    }

    fn float(&mut self, float: &syn::LitFloat, span: Span) {
        self.breaches.push((
            span.start().line,
            format!("{float} rounds: use integers with a scale"),
        ));
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Ident>()
                    .is_ok_and(|only| only == "test")
    })
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        } else if item.content.is_none() {
            self.tests.push(item.ident.to_string());
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            if let Some(token) = &item.sig.asyncness {
                let line = token.span.start().line;
                self.breaches
                    .push((line, "async waits: a service's work".into()));
            }
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.path(&segments, first.ident.span());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    // Documentation and cfg are not code that runs.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_lit_float(&mut self, float: &'ast syn::LitFloat) {
        self.float(float, float.span());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let scan = scan(text).expect("parses");
        scan.breaches.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn finds_what_is_impure() {
        for text in [
            "use std::time::Duration;",
            "use std::{collections::BTreeMap, fs};",
            "use std::collections::{BTreeMap, HashMap as M};",
            "use std::net::*;",
            "fn a() { let t = std::time::Instant::now(); }",
            "fn a(x: f64) {}",
            "fn a() -> u64 { 1.5 as u64 }",
            "fn a() { vec![std::env::var(\"A\").is_ok()]; }",
            "fn a() { println!(\"a\"); }",
            "use std::net::TcpStream;",
            "fn a() { assert!(x == 0.5); }",
            "fn a() { std::thread::spawn(|| {}); }",
            "async fn a() {}",
            "fn a() { rand::rng(); }",
        ] {
            assert_eq!(lines(text), [1], "{text}");
        }
    }

    #[test]
    fn leaves_the_rest_alone() {
        for text in [
            "/// Not f64, not std::time.\nuse std::collections::BTreeMap;",
            "#[cfg(test)] mod tests { use std::time::Instant; fn a(x: f64) {} }",
            "#[test] fn a() { let x = 1.5; }",
            "#[cfg(test)] use std::collections::HashMap;",
            "use std::net::{IpAddr, SocketAddr};",
            "fn a(w: &mut impl std::io::Write) {}",
            "fn time() { let fs = 1; my::std::fs(); }",
            "fn a() { assert!(timestamps.len() == 1); }",
        ] {
            assert_eq!(lines(text), [0; 0], "{text}");
        }
        let found = scan("#[cfg(test)]\nmod tests;\nmod other;").expect("parses");
        assert_eq!(found.tests, ["tests"]);
    }
}
