//! What handlers read of an address and of a form, by their sources: a parameter or a field that comes
//! new is tried as the others are.

use std::collections::BTreeSet;
use std::path::Path;

fn sources(folder: &Path, each: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if name.contains("tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, each);
        } else if name.ends_with(".rs") {
            each(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

fn all(mut each: impl FnMut(&str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for part in ["pages", "web"] {
        sources(&root.join(part), &mut each);
    }
    for part in ["approve.rs", "live.rs"] {
        each(&std::fs::read_to_string(root.join(part)).expect("text"));
    }
}

/// Fields of every struct that is read from outside.
pub(super) fn parameters() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    all(|source| {
        for part in source.split("Deserialize").skip(1) {
            // A derive, not a use.
            let Some((_, rest)) = part.split_once("struct ").filter(|(before, _)| {
                before
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == ',' || c == ' ')
                    .starts_with(")]")
            }) else {
                continue;
            };
            let body = rest.split_once('{').map_or("", |(_, body)| body);
            let body = body.split('}').next().unwrap_or("");
            for line in body.lines().map(str::trim) {
                let field = line
                    .trim_start_matches("pub ")
                    .split(':')
                    .next()
                    .unwrap_or("");
                if line.contains(": ") && !line.starts_with(['/', '#']) {
                    found.insert(field.to_string());
                }
            }
        }
    });
    found
}

/// Names that a form's fields are asked for, or have on a page.
pub(super) fn fields() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    all(|source| {
        let flat: String = source.split_whitespace().collect();
        for before in [
            "text(\"", "exact(\"", "has(\"", "name=\"", "form,\"", "small(\"", "large(\"",
            "input(\"", "field(\"",
        ] {
            for part in flat.split(before).skip(1) {
                let name = part.split('"').next().unwrap_or("");
                let plain =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
                if !name.is_empty() && name.bytes().all(plain) {
                    found.insert(name.to_string());
                }
            }
        }
    });
    // Their names are made: of days, and of jobs.
    for made in ["from-0", "until-0", "app_shop", "title_shop"] {
        found.insert(made.into());
    }
    found
}

#[test]
fn parameters_and_fields_are_found() {
    let parameters = parameters();
    for known in [
        "q", "before", "page", "kind", "range", "next", "replica", "job", "welcome",
    ] {
        assert!(parameters.contains(known), "{known}: {parameters:?}");
    }
    let fields = fields();
    for known in [
        "to",
        "memo",
        "percent",
        "cpus",
        "bandwidth",
        "hours",
        "draining",
        "order",
        "alert",
        "compose",
        "label",
        "passkey_id",
        "approve_password",
        "company_address",
        "new_password",
        "secret",
        "invitation",
        "release",
        "volumes",
    ] {
        assert!(fields.contains(known), "{known}: {fields:?}");
    }
}
