//! Pinned, written out as a compose file and read again.

use types::MountSource;

use super::*;

#[test]
fn an_image_without_digest_is_not_pinned() {
    let project = try_read("services: { web: { image: nginx } }").unwrap();
    let problems = project
        .pin(&BTreeMap::new(), &BTreeMap::new(), &BTreeMap::new())
        .unwrap_err();
    assert_eq!(problems.0[0].key, "services.web");
}

#[test]
fn files_of_the_project_are_mounted() {
    let text = "services:
  web:
    image: nginx
    volumes:
      - ./web.env:/a:ro
      - ${PWD}/web.env:/b:ro,z
      - { type: bind, source: conf, target: /c, read_only: true }
      - ./conf:/d
      - ./data/db:/e
      - ./empty:/f
      - /etc/localtime:/etc/localtime:ro
      - { type: image, source: alpine, target: /g, image: { subpath: /etc/ } }
    configs:
      - app
      - { source: text, target: /etc/text, uid: '5', gid: 6, mode: 0440 }
configs:
  app: { file: ./conf/app.conf }
  text: { content: \"port=${SET} $$x\" }
";
    let folder = [("web.env", ""), ("conf/app.conf", "a"), ("conf/b", "b")];
    let mut environment = environment();
    environment.insert("PWD".into(), "/home/me/My Project".into());
    let inputs = Inputs {
        files: vec![Source {
            name: "compose.yaml",
            text,
        }],
        environment,
        project: None,
        profiles: BTreeSet::new(),
        directory: "/home/me/My Project",
        folder: &Files(&folder),
    };
    let project = read(inputs).unwrap_or_else(|e| panic!("{e}"));
    let web = &project.services["web"];
    let files: Vec<(&str, &Content, bool)> = web
        .files
        .iter()
        .map(|f| (f.target.as_str(), &f.source.content, f.read_only))
        .collect();
    let path = |p: &str| Content::Path(p.into());
    assert_eq!(
        files,
        [
            ("/a", &path("web.env"), true),
            ("/b", &path("web.env"), true),
            ("/c", &path("conf"), true),
            ("/d", &path("conf"), false),
            ("/app", &path("conf/app.conf"), true),
            ("/etc/text", &Content::Text("port=value $x".into()), true),
        ]
    );
    let owner = web.files[5].source.owner.unwrap();
    assert_eq!((owner.uid, owner.gid, owner.mode), (5, 6, 0o440));
    assert_eq!(project.files().len(), 4, "the same file is packed once");
    assert_eq!(project.images().len(), 2);
    assert!(
        project
            .volumes
            .contains_key("path.data/db".replace('/', ".").as_str())
    );
    assert!(project.volumes.contains_key("path.empty"));
    let told = |what: &str| project.warnings.iter().any(|w| w.what.contains(what));
    assert!(told("copied for each replica") && told("localtime is not mounted"));
    assert!(told("becomes the volume") && told("looks like a secret"));
    let spec = pinned(project);
    let web = &spec.services["web"];
    assert_eq!(web.mounts.len(), 9);
    let image = |m: &types::MountSpec| match &m.source {
        MountSource::Image(mount) => Some(mount.path.clone()),
        _ => None,
    };
    assert_eq!(
        web.mounts.iter().filter_map(image).collect::<Vec<_>>()[..2],
        ["etc", "content"]
    );
    let again = try_read(&to_compose(&spec)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pinned(again), spec);
}

#[test]
fn out_and_in_again() {
    let spec = pinned(
        try_read(&with(
            "command: ['a b', '$$HOME', \"x\\ny\\u2028\\\"\", 'null', '']
entrypoint: []
environment: { A: '1', 'odd key': 'y: # $$', T: \"tab\\t\" }
ports: ['8080:80', '53:53/udp', 3000]
expose: [9]
volumes: ['data:/d:ro', /cache, { type: volume, source: data, target: /p, volume: { subpath: 'x y/z', nocopy: true } }]
tmpfs: ['/run:size=1m', /t, '/u:mode=700,uid=7,gid=8']
networks: { back: { aliases: [x] }, default: }
depends_on: { db: { condition: service_started } }
healthcheck: { test: [CMD, a, '$$b'], interval: 7s }
restart: on-failure:4
user: 5:6
working_dir: /w
hostname: h
labels: { l: m }
stop_signal: INT
stop_grace_period: 3s
read_only: true
tty: true
scale: 0
cpus: 1.234
mem_limit: 77m
pids_limit: 3
x-runrig: { disk: 2g, bandwidth: 3mbit, autoscale: { min: 0, max: 3, cpu: 60%, idle: 90s } }
cap_add: [SYS_PTRACE]
cap_drop: [ALL]
group_add: [audio]
sysctls: { kernel.sem: 1 2 3 4 }
ulimits: { nofile: { soft: 1, hard: -1 } }
shm_size: 9m
oom_score_adj: 3
domainname: d.org
extra_hosts: ['a=1.2.3.4', 'a=::1']
dns_search: [d.org]
dns_opt: [ndots:1]
platform: linux/amd64
deploy:
  restart_policy: { condition: on-failure, max_attempts: 4, delay: 2s }
  update_config: { parallelism: 3, order: stop-first, failure_action: pause }
  placement: { constraints: [node.labels.region != eu, node.id == 7], max_replicas_per_node: 1 }",
        ))
        .unwrap(),
    );
    let text = to_compose(&spec);
    let again = try_read(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(pinned(again), spec, "{text}");
}

#[test]
fn what_services_say_of_their_logs_counts_together() {
    let logs = |web: &str, db: &str, own: &str| {
        let service = |name, says| format!("  {name}: {{ image: a, {says} }}\n");
        let services = service("web", web) + &service("db", db);
        let text = format!("services:\n{services}{own}");
        try_read(&text)
            .unwrap_or_else(|e| panic!("{e}"))
            .logs
            .bytes_max
    };
    let says = "logging: { driver: json-file, options: { max-size: 10m, max-file: '3' } }";
    let once = "logging: { options: { max-size: 1m } }";
    assert_eq!(logs(says, once, ""), Some(31 << 20));
    assert_eq!(logs(says, "tty: false", ""), None);
    let own = "x-runrig: { logs: { size: 5MiB } }\n";
    assert_eq!(logs(says, once, own), Some(5 << 20));
}

#[test]
fn what_becomes_of_logs_is_read_and_written() {
    let key = "ab".repeat(32);
    let file = |logs: &str| {
        format!(
            "services: {{ web: {{ image: nginx }} }}\nx-runrig: {{ logs: {{ {logs} }} }}\nname: a\n"
        )
    };
    let receivers =
        "[{ loki: 'https://a/push' }, { otlp: 'http://b:4318' }, { metrics: 'http://b:4318' }]";
    let said = format!("keep: 2d, size: 5MiB, readers: [\"{key}\"], export: {receivers}");
    let spec = pinned(try_read(&file(&said)).unwrap());
    assert_eq!(spec.logs.bytes_max, Some(5 << 20));
    assert_eq!(spec.logs.age_ms_max, Some(2 * 86_400_000));
    assert_eq!((spec.logs.readers.len(), spec.logs.exports.len()), (1, 3));
    let text = to_compose(&spec);
    assert_eq!(pinned(try_read(&text).unwrap()), spec, "{text}");
    for wrong in [
        "keep: 1s",
        "keep: 90d",
        "size: 1k",
        "readers: [me]",
        "export: [{ loki: 'ftp://a' }]",
        "export: [{ otlp: 'https://me:secret@a' }]",
        "export: [{}]",
        "days: 3",
    ] {
        let problems = try_read(&file(wrong)).unwrap_err();
        assert!(
            problems.0[0].key.starts_with("x-runrig.logs."),
            "{wrong}: {problems}"
        );
    }
}
