//! Text of any kind: YAML, variables, env files; large, foreign and senseless.

use proptest::prelude::*;
use types::RestartPolicy;

use super::*;

#[test]
fn bombs_end_soon() {
    let mut lists = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    let mut maps = String::from("a0: &a0 { k: v }\n");
    for i in 1..40 {
        let before = i - 1;
        lists.push_str(&format!(
            "a{i}: &a{i} [*a{before}, *a{before}, *a{before}]\n"
        ));
        maps.push_str(&format!("a{i}: &a{i} {{ <<: [*a{before}, *a{before}] }}\n"));
    }
    for text in [lists, maps] {
        let problems = try_read(&text).unwrap_err().0;
        assert!(
            problems[0].what.contains("aliases written out"),
            "{problems:?}"
        );
        assert!(problems[0].line > 1);
    }
    let fill = "${SET:-".repeat(10_000);
    assert!(try_read(&format!("x-a: '{fill}'")).is_err());
}

#[test]
fn anchors_and_merge_keys() {
    let project = try_read(
        "x-base: &base
  image: one
  restart: always
  environment: &env { A: '1', B: '${NEVER:?overridden}' }
x-more: &more { tty: true, restart: 'no' }
services:
  web:
    <<: [*base, *more]
    image: two
    environment:
      <<: *env
      B: '2'
",
    )
    .unwrap_err();
    // The base itself is filled in too, where it stands.
    assert_eq!(project.0[0].line, 4);
    let project = try_read(
        "x-base: &base
  image: one
  restart: always
  environment: &env { A: '1', B: '1' }
x-more: &more { tty: true, restart: 'no' }
services:
  web:
    <<: [*base, *more]
    image: two
    environment:
      <<: *env
      B: '2'
  copy: *base
",
    )
    .unwrap();
    let web = &project.services["web"].spec;
    assert_eq!(web.image.reference, "two");
    assert_eq!(web.restart, RestartPolicy::Always);
    assert!(web.tty);
    assert_eq!(
        (web.environment["A"].as_str(), web.environment["B"].as_str()),
        ("1", "2")
    );
    assert_eq!(project.services["copy"].spec.image.reference, "one");
}

#[test]
fn interpolation_as_compose_documents_it() {
    let set = environment();
    let lookup = |name: &str| set.get(name).cloned();
    for (text, value) in [
        ("$SET", Some("value")),
        ("${SET}", Some("value")),
        ("a${SET}b$OTHER.c", Some("avaluebother.c")),
        ("$SET_x", Some("")),
        ("${NOPE}", Some("")),
        ("${NOPE:-d}", Some("d")),
        ("${EMPTY:-d}", Some("d")),
        ("${SET:-d}", Some("value")),
        ("${NOPE-d}", Some("d")),
        ("${EMPTY-d}", Some("")),
        ("${NOPE-}", Some("")),
        ("${SET:?e}", Some("value")),
        ("${EMPTY?e}", Some("")),
        ("${EMPTY:?e}", None),
        ("${NOPE?e}", None),
        ("${NOPE:?}", None),
        ("${SET:+r}", Some("r")),
        ("${EMPTY:+r}", Some("")),
        ("${EMPTY+r}", Some("r")),
        ("${NOPE+r}", Some("")),
        ("${NOPE:-${OTHER}}", Some("other")),
        ("${NOPE:-${ALSO:-$SET}-x}", Some("value-x")),
        ("${NOPE:?${SET}}", None),
        ("${SET:+${OTHER}}", Some("other")),
        ("${NOPE:-{\"a\":{}}}", Some("{\"a\":{}}")),
        ("$$SET", Some("$SET")),
        ("$${SET}", Some("${SET}")),
        ("$$$SET", Some("$value")),
        ("100%", Some("100%")),
        ("$", None),
        ("$1", None),
        ("${", None),
        ("${}", None),
        ("${1}", None),
        ("${SET", None),
        ("${SET!x}", None),
        ("${SET:x}", None),
    ] {
        let mut unset = Default::default();
        let found = template::substitute(text, &lookup, &mut unset);
        assert_eq!(found.ok().as_deref(), value, "{text}");
        assert!(!unset.contains("SET") && !unset.contains("EMPTY"));
    }
    let project = try_read("services: { web: { image: 'a${NOPE}', hostname: 'b$NOPE' } }").unwrap();
    assert_eq!(project.warnings.len(), 1);
    assert!(project.warnings[0].what.contains("NOPE is not set"));
}

#[test]
fn environment_files() {
    let outside = |name: &str| (name == "OUT").then(|| "side".to_string());
    for (text, values) in [
        ("A=b", vec![("A", "b")]),
        (
            "\u{feff}# c\n\n  A = b \r\nB:c\n",
            vec![("A", "b"), ("B", "c")],
        ),
        ("export A=b", vec![("A", "b")]),
        ("exported=b", vec![("exported", "b")]),
        ("A=", vec![("A", "")]),
        ("OUT\nGONE\n", vec![("OUT", "side")]),
        ("A=b # c", vec![("A", "b")]),
        ("A=b#c", vec![("A", "b#c")]),
        ("A= # c", vec![("A", "")]),
        ("A='b # $c' # d", vec![("A", "b # $c")]),
        ("A=\"b # c\"", vec![("A", "b # c")]),
        ("A='it\\'s'", vec![("A", "it's")]),
        ("A='x\\ny'", vec![("A", "x\\ny")]),
        ("A=\"x\\ny\\t\\\"\\\\\"", vec![("A", "x\ny\t\"\\")]),
        ("A=\"x\ny\"\nB=z", vec![("A", "x\ny"), ("B", "z")]),
        ("A='x\ny'", vec![("A", "x\ny")]),
        (
            "A=1\nB=$A-${C:-d}\nC=\"$OUT\"",
            vec![("A", "1"), ("B", "1-d"), ("C", "side")],
        ),
        ("A=\"\\$B $$C\"", vec![("A", "$B $C")]),
        ("A=b=c", vec![("A", "b=c")]),
    ] {
        let found = parse_env_file_with(".env", text, &outside).unwrap();
        let values: BTreeMap<String, String> = values
            .into_iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        assert_eq!(found, values, "{text}");
    }
    for (text, line) in [
        ("A=1\nnot good=x y z", 2),
        ("A=1\n=x", 2),
        ("A='x", 1),
        ("A=\"x\\\"", 1),
        ("A='x' y", 1),
        ("\n\nA=$(", 3),
        ("A=${B:?no}", 1),
    ] {
        assert_eq!(parse_env_file(text).expect_err(text).line, line, "{text}");
    }
}

/// No pattern repeated is slow to refuse, or to read.
#[test]
fn large_files_end_soon() {
    for piece in [
        "[",
        "{",
        "- ",
        "a: ",
        "? ",
        ": ",
        "&a ",
        "*a ",
        "!x ",
        "\"",
        "'",
        "|\n ",
        ">\n ",
        "# \n",
        "\n",
        "%",
        "---\n",
        "a\n",
        "a: b\n",
        "- a\n",
        "[],",
        "{},",
        "\t",
        "\u{85}",
        "a:\n ",
        ",",
        "]",
        "}",
        "x-a: [a, b]\n",
        "\\",
        "\r\n",
        "@",
        "`",
        "${A",
        "$$",
        "${A:-",
        " ",
        "- [\n",
        "- {a: b}\n",
    ] {
        let started = std::time::Instant::now();
        for before in [
            "",
            "x-a: [",
            "x-a: \"",
            "services: { a: { image: b, command: \"",
        ] {
            let times = ((1 << 18) - before.len()) / piece.len();
            let _ = try_read(&format!("{before}{}", piece.repeat(times)));
        }
        let _ = parse_env_file(&piece.repeat((1 << 18) / piece.len()));
        let spent = started.elapsed();
        assert!(spent.as_secs() < 10, "{piece:?} took {spent:?}");
    }
}

#[test]
fn line_ends_and_marks_of_other_systems() {
    let text = with("command: [a]\ntty: true").replace('\n', "\r\n");
    assert!(
        try_read(&format!("\u{feff}{text}")).unwrap().services["web"]
            .spec
            .tty
    );
    let problems = try_read(&text.replace("tty", "ttys")).unwrap_err().0;
    assert_eq!(problems[0].line, 5);
}

fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "services:",
        "web:",
        "image: a",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "ports",
        ": ",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: ",
        "${",
        "$A",
        ":-",
        "}",
        "#",
        "|",
        ">",
        "---",
        "!x",
        "volumes",
        "deploy",
        "healthcheck",
        "test",
        "é",
        "\u{2028}",
        "\t",
        "1",
        "1-2",
        "/",
        ",",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = try_read(&text);
        let _ = try_read(&with(&format!("command: {text}")));
        let _ = parse_env_file(&text);
        let _ = value::words(&text);
        let _ = value::bytes(&text);
        let _ = value::duration_ms(&text);
    }

    #[test]
    fn no_yaml_panics(text in fragments()) {
        let _ = try_read(&text);
        let _ = try_read(&with(&text));
        let _ = parse_env_file(&text);
    }

    #[test]
    fn any_value_survives_out_and_in(value in any::<String>(), key in "[A-Z]{1,8}") {
        prop_assume!(!value.contains('\0'));
        let mut spec = pinned(try_read("services: { web: { image: nginx } }").unwrap());
        let web = spec.services.get_mut("web").unwrap();
        web.environment.insert(key, value.clone());
        web.command = Some(vec![value]);
        let text = to_compose(&spec);
        let again = try_read(&text).map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
        prop_assert_eq!(pinned(again), spec);
    }
}
