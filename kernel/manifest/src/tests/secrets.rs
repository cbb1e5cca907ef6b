//! Secrets and commands beside the service's own; where replicas are spread.

use super::*;

const TEXT: &str = "
secrets:
  file: { file: keys/db.txt, labels: { a: b } }
  variable: { environment: SET }
  outside: { external: true, name: elsewhere }
  older: { external: { name: old } }
  unused: { environment: OTHER }
services:
  web:
    image: nginx
    secrets:
      - file
      - { source: variable, target: token, uid: '7', gid: 8, mode: 0440 }
      - { source: outside, target: /etc/outside }
      - older
    post_start:
      - { command: [a, 'b c'], user: root, working_dir: /w, environment: [A=1] }
      - { command: echo done }
    pre_stop: [{ command: bye, privileged: false }]
    deploy:
      rollback_config: { parallelism: 0, order: stop-first, failure_action: continue }
      placement: { preferences: [{ spread: node.labels.region }] }
";

fn project() -> Project {
    let folder = [("keys/db.txt", "hunter2")];
    read_files(&[("compose.yaml", TEXT)], &folder, &[]).unwrap()
}

#[test]
fn secrets_say_where_their_values_are() {
    let project = project();
    assert_eq!(project.warnings.len(), 1, "{:?}", project.warnings);
    let secrets = project.secrets();
    let expected = [
        ("file", SecretSource::Path("keys/db.txt".into())),
        ("older", SecretSource::External("old".into())),
        ("outside", SecretSource::External("elsewhere".into())),
        ("variable", SecretSource::Value(Veiled("value".into()))),
    ];
    let expected = expected.map(|(name, source)| (name.to_string(), source));
    assert_eq!(secrets, BTreeMap::from(expected));
    assert!(!format!("{project:?}").contains("value"));
    let drafts = &project.services["web"].secrets;
    let targets: Vec<&str> = drafts.iter().map(|s| s.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/run/secrets/file",
            "/run/secrets/token",
            "/etc/outside",
            "/run/secrets/older"
        ]
    );
    assert_eq!(
        (drafts[0].uid, drafts[0].gid, drafts[0].mode),
        (None, None, 0o400)
    );
    let said = (drafts[1].uid, drafts[1].gid, drafts[1].mode);
    assert_eq!(said, (Some(7), Some(8), 0o440));
}

#[test]
fn what_is_sealed_is_pinned_and_written_out_without_its_value() {
    let spec = pinned(project());
    let web = &spec.services["web"];
    assert_eq!(web.secrets().count(), 4);
    assert!(web.mounts.iter().all(|m| m.read_only));
    assert_eq!(web.hooks.post_start.len(), 2);
    assert_eq!(web.hooks.pre_stop[0].command, ["bye"]);
    assert_eq!(web.rollback.map(|r| r.parallelism), Some(0));
    assert!(web.placement.spread_regions);
    let text = to_compose(&spec);
    assert!(!text.contains("value"), "{text}");
    let again = try_read(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(pinned(again), spec, "{text}");
}

#[test]
fn wrong_secrets_are_refused() {
    for (secret, what) in [
        ("{ file: gone.txt }", "there is no file"),
        ("{ environment: NOPE }", "is not set"),
        ("{ file: a.txt, environment: SET }", "exclude one another"),
        ("{ file: a.txt, external: true }", "exclude one another"),
        ("{}", "nothing is said"),
        ("{ external: false }", "nothing is said"),
        ("{ driver: vault }", "not known"),
        ("{ content: hunter2 }", "not known"),
        ("{ x-runrig: { image: a, mark: b } }", "x-runrig"),
    ] {
        let text = format!("secrets: {{ s: {secret} }}\nservices: {{ web: {{ image: a }} }}\n");
        let folder = [("a.txt", "x")];
        let problems = read_files(&[("compose.yaml", &text)], &folder, &[]).unwrap_err();
        let told = problems.to_string();
        assert!(told.contains(what) && told.contains("secrets.s"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
