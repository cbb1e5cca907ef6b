//! How compose files are read, beside Debian's docker-compose: variables, files over files,
//! extension, profiles, and the one file that all of it comes to.
//!
//! Each folder of `compose` is a project in the style of those that people share. What
//! docker-compose makes of it is read by `runrig config`, and must come to what that makes of
//! the project itself; and the other way round. Where docker-compose 1.29 is older than the
//! specification, [`NEWER`] and [`DIFFERENT`] name it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Tools for the stage alone.
const ENVIRONMENT: [&str; 2] = ["PATH", "HOME"];

fn run(command: &mut Command, folder: &Path) -> (bool, String, String) {
    let kept = std::env::vars().filter(|(name, _)| ENVIRONMENT.contains(&name.as_str()));
    let kept: Vec<(String, String)> = kept.collect();
    command.env_clear().envs(kept).current_dir(folder);
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// `docker-compose config` of these files.
fn theirs(folder: &Path, files: &[PathBuf]) -> Result<String, String> {
    let mut command = Command::new("docker-compose");
    command.args(["-p", "same"]);
    for file in files {
        command.arg("-f").arg(file);
    }
    let (good, out, err) = run(command.arg("config"), folder);
    good.then_some(out).ok_or(err)
}

/// `runrig config` of these files. What the network refuses is printed all the same.
fn ours(folder: &Path, files: &[PathBuf], more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
    command.args(["config", "-p", "same", "--profile", "*"]);
    for file in files {
        command.arg("-f").arg(file);
    }
    let (_, out, err) = run(command.args(more), folder);
    (!out.is_empty()).then_some(out).ok_or(err)
}

fn read(folder: &Path, files: &[PathBuf]) -> Value {
    let json = ours(folder, files, &["--format", "json"]);
    let json = json.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    level(&mut value, "");
    value
}

/// Away with what says nothing: the order of what has none, ways to write one text, and keys
/// that are the user's own.
fn level(value: &mut Value, key: &str) {
    const UNORDERED: [&str; 8] = [
        "cap_add",
        "cap_drop",
        "configs",
        "expose",
        "extra_hosts",
        "ports",
        "secrets",
        "volumes",
    ];
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| !key.starts_with("x-"));
            if key == "healthcheck" && entries.remove("disable").is_some() {
                entries.insert("test".into(), Value::from(vec!["NONE"]));
            }
            entries.iter_mut().for_each(|(k, v)| level(v, k));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| level(item, ""));
            if UNORDERED.contains(&key) {
                items.sort_by_key(Value::to_string);
            }
        }
        Value::Number(number) => *value = Value::String(number.to_string()),
        _ => {}
    }
}

/// Project, place, what we read there, what docker-compose 1.29 does.
///
/// It reads numbers as numbers, where the specification keeps what is written; and of variables
/// inside of variables it fills in the outer ones alone.
const DIFFERENT: [(&str, &str, &str, &str); 3] = [
    (
        "flask",
        "/services/web/deploy/resources/limits/cpus",
        "0.50",
        "0.5",
    ),
    ("flask", "/services/web/environment/LIMIT", "1.50", "1.5"),
    (
        "queue",
        "/services/sender/image",
        "example/sender:4",
        "example/sender:$${TAG:-3}",
    ),
];

/// Takes out of all what is known to be different.
fn settle(folder: &str, own: &mut Value, made: &mut Value, again: &mut Value) {
    for (_, place, ours, theirs) in DIFFERENT.iter().filter(|d| d.0 == folder) {
        assert_eq!(own.pointer(place), Some(&Value::from(*ours)), "{place}");
        assert_eq!(made.pointer(place), Some(&Value::from(*theirs)), "{place}");
        for value in [&mut *own, made, again] {
            *value.pointer_mut(place).expect("the place") = Value::Null;
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let names = [
        "compose.yaml",
        "compose.override.yaml",
        "compose.production.yaml",
    ];
    let paths = names.iter().map(|name| folder.join(name));
    paths.filter(|path| path.exists()).collect()
}

#[test]
fn shared_files_come_to_what_docker_compose_makes_of_them() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(all)
        .expect("the collection")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 16);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (folders.iter())
            .map(|folder| scope.spawn(|| compared(folder)))
            .collect();
        let all = all.into_iter();
        all.flat_map(|one| one.join().expect("it compares"))
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How the project in `folder` is read differently.
fn compared(folder: &Path) -> Vec<String> {
    let away = tempfile::tempdir().expect("a folder");
    let name = folder.file_name().expect("a name").to_string_lossy();
    let files = files(folder);
    let mut own = read(folder, &files);
    let put = |file: &str, text: Result<String, String>| {
        let path = away.path().join(file);
        let text = text.unwrap_or_else(|e| panic!("{name}: {e}"));
        std::fs::write(&path, text).expect("written");
        vec![path]
    };
    // What it makes of the project.
    let made = put("theirs.yaml", theirs(folder, &files));
    let mut made = read(away.path(), &made);
    // What it makes of what we make of it.
    let text = ours(folder, &files, &[]).map(|text| {
        // It knows no name but that of its command line.
        let lines = text.lines().filter(|line| !line.starts_with("name: "));
        lines.collect::<Vec<_>>().join("\n")
    });
    // Nor an address for a port that is written out.
    let newer = text.as_ref().is_ok_and(|text| text.contains("host_ip: "));
    let printed = put("ours.yaml", text);
    let mut again = own.clone();
    if !newer {
        let text = put("again.yaml", theirs(away.path(), &printed));
        again = read(away.path(), &text);
    }
    settle(&name, &mut own, &mut made, &mut again);
    let mut wrong = Vec::new();
    for (what, other) in [("its own", &made), ("ours, read by it", &again)] {
        if own != *other {
            let text = |v| serde_json::to_string_pretty(v).expect("json");
            wrong.push(format!(
                "{name}, {what}:\n{}",
                unlike(&text(&own), &text(other))
            ));
        }
    }
    wrong
}

fn unlike(ours: &str, theirs: &str) -> String {
    let lines = |a: &str, b: &str, sign: &str| -> String {
        let known: Vec<&str> = b.lines().collect();
        let only = a.lines().filter(|line| !known.contains(line));
        only.map(|line| format!("{sign} {line}\n")).collect()
    };
    lines(ours, theirs, "ours  ") + &lines(theirs, ours, "theirs")
}

/// What the specification has and docker-compose 1.29 refuses.
const NEWER: [(&str, &str); 8] = [
    (
        "a project's own name",
        "name: same\nservices: { a: { image: a } }",
    ),
    (
        "a value where another is set",
        "services: { a: { image: \"a${HOME:+b}\" } }",
    ),
    (
        "env files that may be missing",
        "services: { a: { image: a, env_file: [{ path: none.env, required: false }] } }",
    ),
    (
        "dependencies that may be missing",
        "services: { a: { image: a, depends_on: { b: { condition: service_started, required: false } } } }",
    ),
    (
        "configs that stand in the file",
        "services: { a: { image: a, configs: [c] } }\nconfigs: { c: { content: text } }",
    ),
    (
        "secrets of builds",
        "services: { a: { build: { context: ., secrets: [s] } } }\nsecrets: { s: { environment: HOME } }",
    ),
    (
        "what is done after a start",
        "services: { a: { image: a, post_start: [{ command: \"true\" }] } }",
    ),
    (
        "what is watched",
        "services: { a: { image: a, develop: { watch: [] } } }",
    ),
];

#[test]
fn what_is_newer_than_docker_compose_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").expect("written");
    let files = [folder.path().join("compose.yaml")];
    for (what, text) in NEWER {
        std::fs::write(&files[0], text).expect("written");
        assert!(
            theirs(folder.path(), &files).is_err(),
            "{what}: it can do that"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
        let (good, _, err) = run(command.arg("config"), folder.path());
        assert!(good, "{what}: {err}");
        read(folder.path(), &files);
    }
}

/// What was printed is as good as what it was printed of, and safe to print again.
#[test]
fn what_is_printed_comes_to_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose/overrides");
    let files = files(&folder);
    let away = tempfile::tempdir().expect("a folder");
    for format in ["yaml", "json"] {
        let printed = ours(&folder, &files, &["--format", format]).expect("printed");
        let file = away.path().join("printed.yaml");
        std::fs::write(&file, &printed).expect("written");
        let again = ours(away.path(), &[file], &["--format", format]).expect("printed");
        assert_eq!(printed, again);
    }
    let lines = |args: &[&str]| ours(&folder, &files, args).expect("printed");
    assert_eq!(lines(&["--services"]), "app\ndb\nold\nqueue\n");
    assert_eq!(lines(&["--volumes"]), "cache\ndata\nlogs\n");
    assert!(lines(&["--images"]).contains("example/app:2\n"));
    assert_eq!(lines(&["--hash"]).lines().count(), 4);
    assert_eq!(lines(&["--hash", "db"]).lines().count(), 1);
}
