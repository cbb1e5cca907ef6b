//! Whole files in the style of those that people share: what they come to, and what is said
//! of them.

use types::{DependencyCondition, MountSource, RestartPolicy, TmpfsSpec, UpdateOrder};

use crate::Project;
use crate::tests::read_files;

const SHOP: [(&str, &str); 3] = [
    (
        "more/database.yaml",
        include_str!("../../../examples/shop/more/database.yaml"),
    ),
    (
        "web/site.conf",
        include_str!("../../../examples/shop/web/site.conf"),
    ),
    ("app/Dockerfile", ""),
];

fn shop(profiles: &[&str]) -> Project {
    let files = [
        (
            "compose.yaml",
            include_str!("../../../examples/shop/compose.yaml"),
        ),
        (
            "compose.override.yaml",
            include_str!("../../../examples/shop/compose.override.yaml"),
        ),
    ];
    read_files(&files, &SHOP, profiles).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_example_of_a_shop() {
    let project = shop(&[]);
    let names: Vec<&str> = project.services.keys().map(String::as_str).collect();
    assert_eq!(names, ["app", "db", "proxy"]);
    let told: Vec<&str> = project.warnings.iter().map(|w| w.what.as_str()).collect();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(project.builds()["app"].0, "shop-app");
    let app = &project.services["app"];
    assert_eq!(app.spec.image.reference, "shop-app");
    assert_eq!(app.spec.environment["LOG_LEVEL"], "debug");
    assert_eq!(app.spec.resources.cpu_millis, 500);
    assert_eq!(app.spec.replicas, 2);
    assert_eq!(app.spec.placement.replicas_per_host_max, 1);
    assert_eq!(app.spec.update.order, UpdateOrder::StartFirst);
    assert_eq!(app.spec.process.capabilities().count(), 0);
    assert_eq!(
        app.spec.mounts[0].source,
        MountSource::Tmpfs(TmpfsSpec::default())
    );
    assert_eq!(
        app.spec.depends_on["db"],
        DependencyCondition::ServiceHealthy
    );
    assert_eq!(app.files[0].target, "/etc/app/settings.json");
    let proxy = &project.services["proxy"];
    assert_eq!(proxy.spec.process.capabilities().count(), 4);
    assert_eq!(proxy.spec.restart, RestartPolicy::UnlessStopped);
    assert_eq!(proxy.spec.mounts.len(), 3);
    assert!(proxy.files[0].read_only);
    assert!(project.volumes.contains_key("db"));
    let seed = &shop(&["tools"]).services["seed"];
    assert_eq!(seed.spec.replicas, 1, "deploy was reset");
    assert_eq!(seed.spec.restart, RestartPolicy::No);
    assert_eq!(seed.files.len(), 1, "the config came along");
}

/// Each with the keys that are warned of, and those that are refused.
#[test]
fn files_as_people_share_them() {
    let folder = [
        ("html/index.html", "hello"),
        ("prometheus.yml", "a: b"),
        ("db_password.txt", "x"),
        ("src/main.py", "x"),
    ];
    for (text, warned, refused) in [
        // A blog with its data beside the file.
        (
            "version: '3.8'
services:
  blog:
    image: ghost:5
    container_name: blog
    ports: ['2368:2368']
    volumes: ['./content:/var/lib/ghost/content']
    restart: always
",
            &["services.blog.volumes[0]", "version"][..],
            &[][..],
        ),
        // A development set-up: built, its source mounted over what was built.
        (
            "services:
  api:
    build: { context: ., dockerfile: Dockerfile.dev, args: [MODE=dev], target: dev }
    command: python main.py
    volumes: ['./src:/app', '/app/node_modules']
    ports: ['127.0.0.1:8000:8000']
    develop: { watch: [{ action: sync, path: ./src, target: /app }] }
",
            &[
                "services.api.develop",
                "services.api.ports[0]",
                "services.api.volumes[0]",
            ],
            &[],
        ),
        // Monitoring: a file of settings, the machine's own sockets and folders.
        (
            "services:
  prometheus:
    image: prom/prometheus
    volumes: ['./prometheus.yml:/etc/prometheus/prometheus.yml:ro', 'data:/prometheus']
    logging: { driver: json-file, options: { max-size: 10m } }
  node:
    image: prom/node-exporter
    pid: host
    network_mode: host
    volumes: ['/proc:/host/proc:ro', '/var/run/docker.sock:/var/run/docker.sock']
volumes: { data: }
",
            &[],
            &[
                "services.node.network_mode",
                "services.node.pid",
                "services.node.volumes[0]",
                "services.node.volumes[1]",
            ],
        ),
        // A database whose password is a secret.
        (
            "services:
  db:
    image: postgres:16
    environment: { POSTGRES_PASSWORD_FILE: /run/secrets/db_password }
    secrets: [db_password]
    volumes: ['pg:/var/lib/postgresql/data', '/etc/localtime:/etc/localtime:ro']
secrets: { db_password: { file: ./db_password.txt } }
volumes: { pg: }
",
            &["services.db.volumes[1]"],
            &[],
        ),
        // Search, with what it asks of the machine.
        (
            "services:
  search:
    image: elasticsearch:8
    environment: [discovery.type=single-node, 'ES_JAVA_OPTS=-Xms512m -Xmx512m']
    ulimits: { memlock: { soft: -1, hard: -1 }, nofile: 65536 }
    cap_add: [IPC_LOCK]
    mem_limit: 1g
    sysctls: { vm.max_map_count: 262144 }
",
            &["services.search.cap_add[0]"],
            &["services.search.sysctls.vm.max_map_count"],
        ),
        // A site behind a proxy of another project.
        (
            "services:
  web:
    image: nginx
    volumes: ['./html:/usr/share/nginx/html:ro']
    labels: ['traefik.enable=true', 'traefik.http.routers.web.rule=Host(`a.org`)']
    networks: [proxy, default]
networks: { proxy: { external: true } }
",
            &[],
            &["networks.proxy.external"],
        ),
    ] {
        let keys = |problems: &[crate::Problem]| -> Vec<String> {
            let mut keys: Vec<String> = problems.iter().map(|p| p.key.clone()).collect();
            keys.sort();
            keys
        };
        match read_files(&[("compose.yaml", text)], &folder, &[]) {
            Ok(project) => {
                assert_eq!(keys(&project.warnings), warned, "{text}");
                assert!(refused.is_empty(), "{text}");
            }
            Err(problems) => assert_eq!(keys(&problems.0), refused, "{text}"),
        }
    }
}
