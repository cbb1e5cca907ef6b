//! What people type is understood, said in the docs, and answered with a hint where it is not.

use super::*;

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn what_people_type_is_read() {
    for line in [
        "runrig ps -a -q",
        "runrig ps --filter state=running --json",
        "runrig logs -f -n 100 --since 10m -t web",
        "runrig logs -n all web",
        "runrig exec -it web -- sh -c ls",
        "runrig exec a-1 ls -la",
        "runrig exec -e A=b -u 1000 -w /tmp web -- env",
        "runrig --json chain status",
        "runrig chain supply --json",
        "runrig wallet send 0101010101010101010101010101010101010101 2.5 --yes",
        "runrig receipt r-1 --verify",
        "runrig down -v shop --timeout 5s",
        "runrig up -f compose.yaml -p shop --yes --wait --json --timeout 2m",
        "runrig dev --hosts 5 --listen 127.0.0.1:9700 --data /nowhere --demo --json",
        "runrig context create x --url http://127.0.0.1:1",
        "runrig network init --out /nowhere --validators 7",
        "runrig completion bash",
        "runrig host join --network http://h:1 --data d --name n --cpus 0.5 --memory 512m --disk 10g --bandwidth 100mbit --region eu --engine crun --listen 127.0.0.1:1",
        "runrig host invite --for 10m --name barn --json",
        "runrig host join --network http://h:1 --data d --name n --token ab",
        "runrig host join --network http://h:1 --data d --name n --token-file token",
        "runrig doctor --engine runc --json",
        "runrig host price rack-7 72.5 --key host.key",
        "runrig host hours rack-7 --always",
        "runrig host hours rack-7 --json",
        "runrig up -f a.yaml -f b.yaml --profile debug --dry-run",
        "runrig -q ps",
        "runrig up --yes --progress json",
        "runrig run --rm -y -e A=b -p 80:80 --cpus 0.5 -m 64m nginx sh -c ls",
        "runrig run -d --name web nginx",
        "runrig cp web:/etc/hosts .",
        "runrig cp - shop/web:/tmp",
        "runrig port-forward db 5432 0:80 --address 127.0.0.1",
        "runrig port web 80/udp",
        "runrig context rm x",
        "runrig login http://localhost:8780 --name laptop",
        "runrig logout --here",
        "runrig man /nowhere",
        "runrig images --json",
        "runrig config --format json -f a.yaml",
        "runrig config --hash web",
        "runrig secret create npm token.txt",
        "runrig secret rm npm api_key",
        "runrig ls -a",
        "runrig bench",
        "runrig validator accuse double.json --key k",
        "runrig bench ledger --rounds 3 --json",
        "runrig limit show --json",
        "runrig limit set --alert 20 --limit 50 --order a,b,c",
        "runrig limit set --limit none",
        "runrig wallet balance --verify",
        "runrig host ls --verify=10s",
        "runrig lots odds --seats 4,7 --bad 10 --candidates 100",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    for line in [
        "runrig",
        "runrig pss",
        "runrig logs -n many web",
        "runrig up --detach --wait",
        "runrig dev --hosts 65",
        "runrig host join --network http://h:1 --data d --name n --memory lots",
        "runrig host join --network http://h:1 --data d --name n --token ab --owner 0101010101010101010101010101010101010101",
        "runrig host join --network http://h:1 --data d --name n --token ab --token-file token",
        "runrig host invite --for long",
        "runrig doctor --engine docker",
        "runrig bench everything",
        "runrig bench ledger --rounds 0",
        "runrig wallet send someone 1",
        "runrig limit set",
        "runrig limit set --limit lots",
        "runrig network init --out x --validators 0",
        "runrig up --dry-run --wait",
        "runrig run --rm -d nginx",
        "runrig run",
        "runrig cp web:/x",
        "runrig cp web: .",
        "runrig port-forward db",
        "runrig port-forward db http",
        "runrig ps --progress loud",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

/// `up`, `host ls`, …: all that do something.
fn verbs(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    shown
        .filter(|c| c.get_name() != "help")
        .flat_map(|c| {
            let path = format!("{path} {}", c.get_name()).trim().to_string();
            match c.has_subcommands() {
                true => verbs(c, &path),
                false => vec![(path, c.clone())],
            }
        })
        .collect()
}

#[test]
fn every_verb_says_what_it_does_and_stands_in_the_docs() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let folders = [docs.to_string(), format!("{docs}/how-to")];
    let pages = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("docs").flatten());
    let text: String = pages
        .filter_map(|page| std::fs::read_to_string(page.path()).ok())
        .collect();
    for (path, verb) in verbs(&Cli::command(), "") {
        assert!(
            verb.get_about().is_some(),
            "{path} does not say what it does"
        );
        let (noun, last) = path.rsplit_once(' ').unwrap_or(("", &path));
        // In a list of a noun's verbs the noun stands once.
        let told = text.lines().any(|line| {
            line.contains(&format!("runrig {path}"))
                || line.contains(&format!("`runrig {noun}")) && line.contains(&format!("`{last}`"))
        });
        assert!(told, "`runrig {path}` is not in docs/");
    }
}

#[test]
fn help_begins_with_examples_that_are_understood() {
    for (path, verb) in verbs(&Cli::command(), "") {
        let examples = verb.get_before_help().map(ToString::to_string);
        let examples = examples.unwrap_or_default();
        let lines = examples.lines().map(str::trim);
        for line in lines.filter_map(|l| l.strip_prefix("runrig ")) {
            // Up to where the shell takes over.
            let end = line.find(['|', '>', '&']).unwrap_or(line.len());
            let line = line[..end].replace('\'', "");
            let words = std::iter::once("runrig").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{path}: {line}: {error}");
            }
        }
    }
}

#[test]
fn what_the_how_to_pages_say_is_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to");
    let mut count = 0;
    for page in std::fs::read_dir(folder).expect("docs").flatten() {
        let text = std::fs::read_to_string(page.path()).expect("read");
        let lines = text.lines().filter_map(|l| l.strip_prefix("$ "));
        // What a shell makes of several lines, or a reader of an ellipsis, is theirs.
        for line in lines.filter(|l| !l.contains('…') && !l.ends_with('\\')) {
            let piped = || line.split_once("| runrig ").map(|(_, rest)| rest);
            let Some(rest) = line.strip_prefix("runrig ").or_else(piped) else {
                continue;
            };
            let command = format!("runrig {rest}");
            let end = command
                .find(['|', '>', '#', ';', '&'])
                .unwrap_or(command.len());
            let command = command[..end].replace('\'', "");
            if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
                panic!("{}: {command}: {error}", page.path().display());
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands");
}

#[test]
fn a_typo_is_answered_with_a_hint() {
    let error = Cli::try_parse_from(["runrig", "lgos"]).expect_err("a typo");
    assert!(error.to_string().contains("'logs'"), "{error}");
}

/// Files below `folder` that people's commands stand in.
fn papers(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = !name.starts_with('.')
            && !["target", "rfd", "tests", "testing", "screenshots"].contains(&&*name);
        if path.is_dir() && ours {
            papers(&path, found);
        } else if name.ends_with(".md") || (name.ends_with(".rs") && !name.contains("test")) {
            found.push(path);
        }
    }
}

/// Commands that `text` tells people: in backticks, in quotes, or after a prompt.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", "\n").replace("\\\"", "'");
    let mut found = Vec::new();
    let quotes = [
        ("`runrig ", '`'),
        ("$ runrig ", '\n'),
        ("cli(\"runrig ", '"'),
        ("cli(&format!(\"runrig ", '"'),
    ];
    for (before, end) in quotes {
        for (at, _) in text.match_indices(before) {
            let rest = &text[at + before.len()..];
            let told = rest.split(end).next().unwrap_or_default();
            let told = told.split(['\n', '`', '#', '|', ';', '>', '&', '(']).next();
            found.push(told.unwrap_or_default().trim().to_string());
        }
    }
    found
}

/// Words of a command; what stands for something else is `sample`.
fn filled(told: &str, sample: &str) -> Option<Vec<String>> {
    let mut words = vec!["runrig".to_string()];
    let mut quoted = None::<char>;
    let mut word = String::new();
    let mut depth = 0;
    for letter in told.chars().chain([' ']) {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                word.push_str(sample);
            }
            _ if depth > 0 => {}
            '\'' if quoted.is_some() => quoted = None,
            '\'' => quoted = Some(letter),
            ' ' if quoted.is_none() => {
                words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()))
            }
            _ => word.push(letter),
        }
    }
    // Not to be typed: something is left out, or said to be optional.
    let typed = words
        .iter()
        .all(|w| !w.contains(['…', '[', ']', '<', '*']) && !w.contains("..."));
    let is_name = |w: &String| w.len() > 1 && w.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let named = words
        .into_iter()
        .map(|w| if is_name(&w) { sample.to_string() } else { w });
    typed.then(|| named.collect())
}

#[test]
fn every_command_that_people_are_told_is_understood() {
    use clap::error::ErrorKind::{InvalidSubcommand, UnknownArgument};
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    papers(&root, &mut files);
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        for told in commands(&text) {
            if told.starts_with('{') || told.starts_with("shim") || told.contains('"') {
                continue;
            }
            let refused = |sample: &str| {
                let words = filled(&told, sample)?;
                let error = Cli::try_parse_from(words).err()?;
                matches!(error.kind(), InvalidSubcommand | UnknownArgument).then_some(error)
            };
            read += 1;
            if let Some(error) = refused("1").filter(|_| refused("10m").is_some()) {
                let first = error.to_string();
                let first = first.lines().next().unwrap_or_default().to_string();
                wrong.push(format!("{}: runrig {told}\n    {first}", file.display()));
            }
        }
    }
    assert!(read > 500, "{read}");
    assert!(
        wrong.is_empty(),
        "{} of {read}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
