//! Images built on a host by a real builder: stages, arguments, cache, failures, limits.

use std::collections::BTreeSet;

use fixtures::{Cloud, found_in, free_ports, get, until};
use serde_json::Value;

const DOCKERFILE: &str = r#"# What one stage makes the other serves.
ARG BASE=busybox
FROM ${BASE} AS made
ARG WHO=nobody
COPY . /src
RUN echo "made for $WHO" > /made && ls /src > /listed

FROM busybox AS served
COPY --from=made /made /listed /site/
COPY page /site/page
HEALTHCHECK --interval=1s CMD wget -q -O /dev/null http://127.0.0.1:8000/page
CMD ["httpd", "-f", "-p", "8000", "-h", "/site"]

FROM served AS other
RUN echo "of another stage" > /site/page
"#;

fn compose(web: u16, other: u16) -> String {
    format!(
        r#"
name: made
services:
  web:
    build: {{ context: app, args: {{ WHO: everyone }}, target: served, x-runrig: {{ disk: 1g }} }}
    ports: ["{web}:8000"]
  other:
    image: acme/other:1.2
    build: {{ context: app, labels: {{ a: b }}, tags: ["further:1"], x-runrig: {{ disk: 1g }} }}
    ports: ["{other}:8000"]
"#
    )
}

struct World {
    cloud: Cloud,
    folder: tempfile::TempDir,
}

impl World {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// `build` of one service with this recipe, and these limits; exit code and stderr.
    fn build(&self, recipe: &str, limits: &str) -> (i32, String) {
        self.write("bad/Dockerfile", recipe);
        let text = format!(
            "name: bad\nservices: {{ bad: {{ build: {{ context: bad, x-runrig: {{ {limits} }} }} }} }}\n"
        );
        let file = self.write("bad.yaml", &text);
        let (code, _, err) = self.cloud.run(&["build", "-f", &file, "--yes"]);
        (code, err)
    }

    fn images(&self) -> Vec<String> {
        let all = self.cloud.json(&["image", "ls"]);
        let names = all.as_array().expect("a list").iter();
        names
            .map(|i| i["image"].as_str().unwrap_or_default().to_string())
            .collect()
    }
}

fn answer(port: u16, path: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    let answer = get(&address, &address, path);
    assert_eq!(answer.status, 200, "{path}");
    answer.text()
}

#[test]
fn a_project_is_built_where_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder.path(), free_ports());
    cloud.load(&fixtures::busybox());
    let world = World { cloud, folder };
    let cloud = &world.cloud;

    let hosts = cloud.json(&["host", "ls"]);
    let offered = hosts.as_array().expect("a list").iter();
    assert!(offered.clone().count() == 3 && offered.clone().all(|h| h["offer"]["builds"] == true));

    let (web, other) = (cloud.port(0), cloud.port(1));
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("app/page", "first page\n");
    world.write("app/.dockerignore", "*\n!page\n");
    world.write("app/private", "not for the context\n");
    let file = world.write("compose.yaml", &compose(web, other));
    let up = |more: &[&str]| -> (Value, String) {
        let args = ["up", "-f", &file, "--yes", "--wait", "--json"];
        let (code, out, err) = cloud.run(&[&args[..], more].concat());
        assert_eq!(code, 0, "{out}{err}");
        (serde_json::from_str(&out).expect("json"), err)
    };
    let (first, log) = up(&[]);
    assert!(
        log.contains("web | ") && log.contains("COPY page /site/page"),
        "{log}"
    );
    assert_eq!(answer(web, "/made"), "made for everyone\n");
    assert_eq!(answer(web, "/listed"), "page\n", "the rest was ignored");
    assert_eq!(answer(web, "/page"), "first page\n");
    assert_eq!(answer(other, "/made"), "made for nobody\n");
    assert_eq!(answer(other, "/page"), "of another stage\n");
    let health = first["allocations"][0]["status"]["health"].as_str();
    assert_eq!(health, Some("healthy"), "the image's own check is kept");
    let images = world.images();
    for name in ["made-web:latest", "acme/other:1.2", "further:1"] {
        assert!(images.iter().any(|i| i == name), "{name}: {images:?}");
    }

    // The same inputs are built once; what has changed is built on top of what has not.
    let (again, log) = up(&[]);
    assert!(
        again["release"] == first["release"] && !log.contains("STEP"),
        "{log}"
    );
    world.write("app/page", "second page\n");
    let (second, log) = up(&[]);
    assert_ne!(second["release"], first["release"]);
    assert!(log.contains("Using cache"), "{log}");
    assert_eq!(answer(web, "/page"), "second page\n");

    stages_are_made_anew(&world);

    // What fails says where, and changes nothing.
    let failing = "FROM busybox\n\nRUN echo 'told before' && \\\n    exit 3\n";
    let (code, err) = world.build(failing, "disk: 1g");
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("bad | told before") && err.contains("Dockerfile:3: RUN"),
        "{err}"
    );
    let (code, err) = world.build("FROM busybox\nRUNN x\n", "disk: 1g");
    assert!(
        code == 2 && err.contains("Dockerfile:2: RUNN is no instruction"),
        "{err}"
    );

    // Limits, and walls.
    let fill = "FROM busybox\nRUN while :; do cat /bin/busybox >> /fill; done\n";
    let (code, err) = world.build(fill, "disk: 100m");
    assert!(code == 1 && err.contains("out of disk"), "{err}");
    let idle = "FROM busybox\nRUN sleep 10000\n";
    let (code, err) = world.build(idle, "disk: 1g, timeout: 2s");
    assert!(
        code == 1 && err.contains("out of time: stopped after 2 s"),
        "{err}"
    );
    let walls = "FROM busybox\n\
        RUN ! mkdir /proc/1/root/out/planted\n\
        RUN mkdir /m && ! mount -t tmpfs m /m\n\
        RUN ! sh -c 'echo 1 > /proc/sys/kernel/panic'\n\
        RUN mknod /disk b 8 0 || true; ! dd if=/disk of=/dev/null count=1\n";
    let (code, err) = world.build(walls, "disk: 1g");
    assert_eq!(code, 0, "{err}");

    let limits =
        "disk: 1g }, shm_size: 8m, network: none, ulimits: { nofile: 777 }, labels: { a: b";
    let within =
        "FROM busybox\nRUN test $(ulimit -n) = 777 && busybox df -k /dev/shm | grep 8192\n";
    let (code, err) = world.build(within, limits);
    assert_eq!(code, 0, "{err}");

    secrets_are_seen_by_their_steps_alone(&world);

    // Nothing of a build stays but its image and the account's cache.
    assert!(!world.images().iter().any(|i| i.starts_with("further:2")));
    let names = cloud.json(&["ls"]);
    let names: Vec<&str> = names
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|p| p["project"].as_str())
        .collect();
    assert_eq!(names, ["made"]);
    assert_eq!(answer(web, "/page"), "second page\n", "what runs went on");
}

/// One stage by its cache, the other never.
fn stages_are_made_anew(world: &World) {
    let file = world.write(
        "anew.yaml",
        "name: anew\nservices:\n  one: { build: { context: anew, no_cache_filter: [fresh], x-runrig: { disk: 1g } } }\n",
    );
    let recipe = "FROM busybox AS kept\nRUN cat /proc/sys/kernel/random/uuid > /kept\n\
        FROM busybox AS fresh\nRUN cat /proc/sys/kernel/random/uuid > /fresh\n\
        FROM busybox\nCOPY --from=kept /kept /kept\nCOPY --from=fresh /fresh /fresh\n\
        RUN echo \"this is $(cat /kept) $(cat /fresh)\"\n";
    world.write("anew/Dockerfile", recipe);
    let (mut kept, mut fresh) = (BTreeSet::new(), BTreeSet::new());
    // Each host has a cache of its own: of four builds on three hosts two are on one.
    for _ in 0..4 {
        let (_, _, err) = world.cloud.run(&["build", "-f", &file, "--yes"]);
        let said = err.lines().find_map(|l| l.split_once("| this is "));
        let (_, words) = said.unwrap_or_else(|| panic!("{err}"));
        let (first, second) = words.split_once(' ').expect("two words");
        assert!(fresh.insert(second.to_string()), "anew: {err}");
        if !kept.insert(first.to_string()) {
            return;
        }
    }
    panic!("nothing by the cache: {kept:?}");
}

const HUSHED: &str = r#"FROM busybox
RUN --mount=type=secret,id=npm,required=true sha256sum /run/secrets/npm && cp /run/secrets/npm /tmp/x && rm /tmp/x
RUN --mount=type=secret,id=again,target=/etc/token grep -q word /etc/token
RUN --mount=type=secret,id=outside sha256sum /run/secrets/outside
RUN ! test -s /run/secrets/npm && ! test -s /run/secrets/outside && ! test -s /etc/token
CMD ["sh", "-c", "test -s /run/secrets/npm || echo nothing of it; exec sleep 100000"]
"#;

/// While it runs and afterwards no disk has the value, and nothing tells it.
fn secrets_are_seen_by_their_steps_alone(world: &World) {
    let cloud = &world.cloud;
    let token = format!("a-{:x}-word", rand::random::<u64>());
    // Kept outside of projects.
    let outside = format!("an-{:x}-outsider", rand::random::<u64>());
    let values = [token.clone(), outside.clone()];
    let path = world.write("outside.txt", &outside);
    cloud.good(&["secret", "create", "for-builds", &path]);
    // Beside the cloud's own folder, which is looked through.
    world.write("token.txt", &token);
    world.write("hush/Dockerfile", HUSHED);
    let text = "name: hush
secrets: { npm: { file: ./token.txt }, outside: { external: true, name: for-builds } }
services:
  hushed:
    build:
      context: hush
      secrets: [npm, { source: npm, target: again }, outside]
      x-runrig: { disk: 1g }
    stop_signal: SIGKILL
";
    let file = world.write("hush.yaml", text);
    let up = ["up", "-f", &file, "--yes", "--wait"];
    let (code, out, log) = cloud.run(&up);
    assert_eq!(code, 0, "{out}{log}");
    let sum = types::Digest::of(token.as_bytes()).hex();
    assert!(log.contains(&sum) && !log.contains(&token), "{log}");
    let sum = types::Digest::of(outside.as_bytes()).hex();
    assert!(log.contains(&sum) && !log.contains(&outside), "{log}");
    until("the image has nothing of it", || {
        cloud.good(&["logs", "hushed"]).contains("nothing of it")
    });
    assert_eq!(found_in(&cloud.data(), &values), "");

    // A renewed token is no other input.
    world.write("token.txt", &format!("{token}-2"));
    let (code, _, log) = cloud.run(&up);
    assert!(code == 0 && !log.contains("STEP"), "{log}");
    world.write("token.txt", &token);

    // While a step holds it.
    let held = "FROM busybox\nRUN --mount=type=secret,id=npm grep -q word /run/secrets/npm && echo seen $((40 + 2)) && sleep 100000\n";
    world.write("hush/Dockerfile", held);
    std::thread::scope(|scope| {
        let building = scope.spawn(|| cloud.run(&["build", "-f", &file, "--yes"]));
        let project = || -> Option<String> {
            let all = cloud.json(&["ls"]);
            let mut names = all.as_array().expect("a list").iter();
            let name = names.find_map(|p| p["project"].as_str()?.strip_prefix("build-hush-"));
            name.map(|end| format!("build-hush-{end}"))
        };
        until("the step has it", || {
            project().is_some_and(|p| cloud.run(&["logs", &p]).1.contains("seen 42"))
        });
        assert_eq!(found_in(&cloud.data(), &values), "");
        cloud.good(&["down", &project().expect("it builds")]);
        let (code, out, log) = building.join().expect("it ends");
        assert!(code != 0 && !log.contains(&token), "{code} {out}{log}");
    });
    let mut shown = String::new();
    for args in [
        &["bill", "--json"][..],
        &["inspect", "hush"],
        &["events", "--json", "--past"],
    ] {
        let (_, out, err) = cloud.run(args);
        shown += &format!("{out}{err}");
    }
    assert!(!shown.contains(&token), "shown");
    assert_eq!(found_in(&cloud.data(), &values), "");
    cloud.good(&["down", "hush"]);
}
