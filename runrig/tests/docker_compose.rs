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
const DIFFERENT: [(&str, &str, &str, &str); 4] = [
    (
        "flask",
        "/services/web/deploy/resources/limits/cpus",
        "0.50",
        "0.5",
    ),
    ("flask", "/services/web/environment/LIMIT", "1.50", "1.5"),
    (
        "chat",
        "/services/rocket/environment/MONGO_URL",
        "mongodb://mongodb:27017/chat?replicaSet=rs0",
        "mongodb://$${MONGO_HOST:-mongodb:27017/chat?replicaSet=rs0}",
    ),
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
    assert!(folders.len() >= 50);
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

/// What each project is refused, or warned of, and on which lines: as
/// `compose_said.txt` has it, with the reason and what to do for each.
#[test]
fn what_is_refused_is_told_with_every_line() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let all = std::fs::read_dir(tests.join("compose")).expect("the collection");
    let mut folders: Vec<PathBuf> = all.map(|e| e.expect("an entry").path()).collect();
    folders.sort();
    let mut told = String::new();
    for folder in &folders {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
        command.args(["config", "--profile", "*"]);
        for file in files(folder) {
            command.arg("-f").arg(file.file_name().expect("a name"));
        }
        command.env_clear();
        let kept = std::env::vars().filter(|(name, _)| ENVIRONMENT.contains(&name.as_str()));
        let output = command.envs(kept).current_dir(folder).output();
        let output = output.expect("it runs");
        let name = folder.file_name().expect("a name").to_string_lossy();
        let text = String::from_utf8_lossy(&output.stderr);
        let mut refused = 0;
        for line in text.lines() {
            let (kind, place) = match line.strip_prefix("warning: ") {
                Some(place) => ("warned", place),
                None => ("refused", line),
            };
            // FILE:LINE:COLUMN: KEY: WHAT; WHY; NEXT
            let Some((place, said)) = place.split_once(": ") else {
                continue;
            };
            let mut numbers = place.split(':').skip(1);
            let Some(row) = numbers.next().filter(|n| n.parse::<u32>().is_ok()) else {
                continue;
            };
            let (key, said) = said.split_once(": ").expect("a key");
            assert!(
                said.contains("; "),
                "{name}: no reason or no next step: {line}"
            );
            refused += usize::from(kind == "refused");
            told += &format!("{name} {kind} {row} {key}\n");
        }
        let code = output.status.code();
        assert_eq!(code == Some(2), refused > 0, "{name}: {code:?} {text}");
    }
    let path = tests.join("compose_said.txt");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("RUNRIG_WRITE_EXPECTED").is_some() {
        std::fs::write(&path, told).expect("written");
        return;
    }
    assert_eq!(
        told, known,
        "RUNRIG_WRITE_EXPECTED=1 writes it anew: look at what changes"
    );
}

/// Projects of a syntax that docker-compose 1.29 does not know, and what they come to, written
/// down.
#[test]
fn newer_files_come_to_what_is_written_beside_them() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose_newer");
    let mut count = 0;
    for entry in std::fs::read_dir(all).expect("the collection") {
        let folder = entry.expect("an entry").path();
        let json = ours(&folder, &files(&folder), &["--format", "json"]);
        let json = json.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let json = json.replace(&*folder.to_string_lossy(), "HERE");
        let path = folder.join("expected.json");
        if std::env::var_os("RUNRIG_WRITE_EXPECTED").is_some() {
            std::fs::write(&path, &json).expect("written");
        }
        let known = std::fs::read_to_string(&path).expect("what it comes to");
        assert_eq!(json, known, "{}", folder.display());
        count += 1;
    }
    assert!(count >= 6);
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

/// `compose.override.yaml` beside what is found, and what variables say of files, projects and
/// profiles: beside docker-compose where it knows them.
#[test]
fn variables_say_which_files_are_meant() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        "compose.yaml",
        "services: { web: { image: \"a:${TAG:-none}\" } }",
    );
    write(
        "compose.override.yaml",
        "services: { web: { hostname: over } }",
    );
    write(
        "other/more.yaml",
        "services: { more: { image: b, hostname: \"h-${TAG}\" } }",
    );
    write(
        "extra.yaml",
        "services: { tool: { image: c, profiles: [debug] } }",
    );
    write("one.env", "TAG=one\nNAME=x\n");
    write("two.env", "TAG=two\n");
    write("deep/er/.keep", "");
    let said = |within: &str, variables: &[(&str, &str)], args: &[&str]| -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runrig"));
        command.args(["config", "--format", "json"]).args(args);
        let within = folder.path().join(within);
        let kept = std::env::vars().filter(|(name, _)| ENVIRONMENT.contains(&name.as_str()));
        let kept: Vec<(String, String)> = kept.collect();
        command
            .env_clear()
            .envs(kept)
            .envs(variables.iter().copied());
        let output = command.current_dir(within).output().expect("it runs");
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr).into_owned()));
        let Some(services) = value["services"].as_object() else {
            return value.as_str().unwrap_or_default().to_string();
        };
        let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
        let services = services.iter().map(|(name, service)| {
            format!(
                "{name}={},{}",
                text(&service["image"]),
                text(&service["hostname"])
            )
        });
        let services: Vec<String> = services.collect();
        format!("{}: {}", text(&value["name"]), services.join(" "))
    };
    let named = [("COMPOSE_PROJECT_NAME", "p")];
    let with = |name, value| [named[0], (name, value)];
    let found = "p: web=a:none,over";
    assert_eq!(said("", &named, &[]), found);
    assert_eq!(said("deep/er", &named, &[]), found, "it lies above");
    assert_eq!(said("", &named, &["-f", "compose.yaml"]), "p: web=a:none,-");
    assert_eq!(said("", &with("TAG", "env"), &[]), "p: web=a:env,over");
    let two = "compose.yaml:extra.yaml";
    assert_eq!(said("", &with("COMPOSE_FILE", two), &[]), "p: web=a:none,-");
    let comma = [
        named[0],
        ("COMPOSE_FILE", "compose.yaml,extra.yaml"),
        ("COMPOSE_PATH_SEPARATOR", ","),
    ];
    assert_eq!(
        said("", &comma, &["--profile", "debug"]),
        "p: tool=c,- web=a:none,-"
    );
    let debug = [
        comma[0],
        comma[1],
        comma[2],
        ("COMPOSE_PROFILES", "other, debug"),
    ];
    assert_eq!(said("", &debug, &[]), "p: tool=c,- web=a:none,-");
    // Of several the last counts most, and the environment more than any.
    let files = with("COMPOSE_ENV_FILES", "one.env,two.env");
    assert_eq!(said("", &files, &[]), "p: web=a:two,over");
    assert_eq!(
        said("", &files, &["--env-file", "one.env"]),
        "p: web=a:one,over"
    );
    let both = [files[0], files[1], ("TAG", "env")];
    assert_eq!(said("", &both, &[]), "p: web=a:env,over");
    let gone = said("", &named, &["--env-file", "gone.env"]);
    assert!(
        gone.contains("gone.env cannot be read") && gone.contains("--env-file"),
        "{gone}"
    );
    // What stands in .env where one is says as much, and is what variables inside are of.
    write(
        "at/.env",
        "COMPOSE_FILE=../other/more.yaml\nCOMPOSE_PROJECT_NAME=of-env\nTAG=not\n",
    );
    write("other/.env", "TAG=beside\nCOMPOSE_PROJECT_NAME=beside\n");
    assert_eq!(said("at", &[], &[]), "beside: more=b,h-beside");
    assert_eq!(
        said("", &[("COMPOSE_FILE", ":"), named[0]], &[])
            .lines()
            .next(),
        Some("error: no compose file: COMPOSE_FILE names none")
    );
}
