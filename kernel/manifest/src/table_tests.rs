//! The tables of `docs/compose.md` say what the reader does.

use std::collections::BTreeSet;

use crate::tests::read_files;
use crate::{Problem, Problems, Project};

const TABLES: &str = include_str!("../../../docs/compose.md");

const FOLDER: &[(&str, &str)] = &[
    ("web.env", "A='1'\n"),
    ("labels.env", "a=b\n"),
    ("more/compose.yaml", "services: { more: { image: a } }\n"),
    ("more/base.yaml", "services: { base: { image: a } }\n"),
    ("conf/app.conf", "a\n"),
    ("a.txt", "a\n"),
];

/// All keys of the specification, per section of the document.
const KEYS: [(&str, &str); 6] = [
    (
        "Top",
        "configs include models name networks secrets services version volumes",
    ),
    (
        "Networks",
        "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name",
    ),
    ("Volumes", "driver driver_opts external labels name"),
    (
        "Services",
        "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command \
         configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period \
         cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on deploy develop \
         device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file \
         environment expose extends external_links extra_hosts gpus group_add healthcheck \
         hostname image init ipc isolation label_file labels links logging mac_address mem_limit \
         mem_reservation mem_swappiness memswap_limit models network_mode networks \
         oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop \
         privileged profiles provider pull_policy read_only restart runtime scale secrets \
         security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls \
         tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir",
    ),
    (
        "Deploy",
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config \
         update_config",
    ),
    (
        "Build",
        "additional_contexts args cache_from cache_to context dockerfile dockerfile_inline \
         entitlements extra_hosts isolation labels network no_cache no_cache_filter platforms \
         privileged provenance pull sbom secrets shm_size ssh tags target ulimits",
    ),
];

struct Row<'a> {
    section: &'a str,
    key: &'a str,
    verdict: &'a str,
    example: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in TABLES.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(rest) = line.strip_prefix("| `") else {
            continue;
        };
        let (key, rest) = rest.split_once("` | ").expect("a key in backticks");
        let (verdict, rest) = rest.split_once(" | `").expect("a verdict and an example");
        let (example, _) = rest.split_once("` |").expect("the example's end");
        rows.push(Row {
            section,
            key,
            verdict,
            example,
        });
    }
    rows
}

/// The example in a whole file, and the path of its key.
fn file(row: &Row<'_>) -> (String, String) {
    let (key, example) = (
        row.example.split(':').next().unwrap_or_default(),
        row.example,
    );
    let web = "services: { web: { image: nginx } }";
    match row.section {
        "Top" if key == "services" => (example.to_string(), key.to_string()),
        "Top" => (format!("{web}\n{example}\n"), key.to_string()),
        "Networks" => (
            format!("{web}\nnetworks: {{ back: {{ {example} }} }}\n"),
            format!("networks.back.{key}"),
        ),
        "Volumes" => (
            format!("{web}\nvolumes: {{ data: {{ {example} }} }}\n"),
            format!("volumes.data.{key}"),
        ),
        "Services" | "Deploy" | "Build" => {
            let image = match key {
                "image" | "build" | "extends" => "",
                _ => "image: nginx",
            };
            let (open, close, path) = match row.section {
                "Deploy" => ("deploy: { ", " }", "deploy."),
                "Build" => ("build: { ", " }", "build."),
                _ => ("", "", ""),
            };
            let text = format!(
                "services:\n  web:\n    {image}\n    {open}{example}{close}\n  db: {{ image: redis }}\n\
                 volumes: {{ data: }}\nnetworks: {{ back: }}\nconfigs: {{ app: {{ content: a }} }}\nsecrets: {{ key: {{ file: a.txt }} }}\n"
            );
            (text, format!("services.web.{path}{key}"))
        }
        other => panic!("no example goes into {other}"),
    }
}

fn touches(problems: &[Problem], path: &str) -> bool {
    problems.iter().any(|p| p.key.starts_with(path))
}

fn verdict(read: &Result<Project, Problems>, path: &str) -> &'static str {
    match read {
        Err(problems) if touches(&problems.0, path) => "refused",
        Err(_) => "refused for another reason",
        Ok(project) if touches(&project.warnings, path) => "warned",
        Ok(_) => "yes",
    }
}

#[test]
fn the_tables_say_what_is_done() {
    for row in rows() {
        let (text, path) = file(&row);
        let read = read_files(&[("compose.yaml", &text)], FOLDER, &["debug"]);
        assert_eq!(verdict(&read, &path), row.verdict, "{text}{read:#?}");
    }
}

#[test]
fn every_key_of_the_specification_has_its_row() {
    let rows = rows();
    for (section, keys) in KEYS {
        let told: BTreeSet<&str> = rows
            .iter()
            .filter(|r| r.section == section && !r.key.starts_with("x-"))
            .map(|r| r.key)
            .collect();
        let known: BTreeSet<&str> = keys.split_whitespace().collect();
        assert_eq!(told, known, "{section}");
    }
}

#[test]
fn the_kernel_settings_that_are_told_are_given() {
    let (_, rest) = TABLES.split_once("## Kernel settings").expect("told");
    let (given, _) = rest.split_once("Others,").expect("an end");
    let mut folder = String::new();
    let mut count = 0;
    for name in given.split('`').skip(1).step_by(2) {
        // The first of each group is written whole, the others stand beside it.
        let full = match name.rsplit_once('.') {
            Some((before, _)) => {
                folder = before.to_string();
                name.to_string()
            }
            None => format!("{folder}.{name}"),
        };
        assert!(types::is_sysctl(&full), "{full}");
        count += 1;
    }
    assert_eq!(count, 21);
}
