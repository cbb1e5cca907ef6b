//! Keys of Compose that are refused: why, and what to write instead.

/// Why a key of a service is refused, and what to do; `None` if Compose does not know it either.
pub(crate) fn service_key(key: &str) -> Option<(&'static str, &'static str)> {
    const HOST: &str = "containers share nothing with the machine that they run on";
    const LATER: &str = "not supported yet";
    const FIXED: &str = "every container runs under one fixed, restricted profile";
    Some(match key {
        "build" => (
            "images are not built on the network yet",
            "build the image, push it to a registry or `runrig image load` it, and name it in image:",
        ),
        "secrets" | "configs" => (
            LATER,
            "pass settings by environment: (public on the ledger), or put the file into the image or a volume",
        ),
        "privileged"
        | "cap_add"
        | "devices"
        | "device_cgroup_rules"
        | "security_opt"
        | "userns_mode"
        | "cgroup"
        | "cgroup_parent"
        | "credential_spec"
        | "isolation" => (
            FIXED,
            "remove it; a program that needs it cannot run on other people's machines",
        ),
        "cap_drop" => (
            FIXED,
            "remove it: capabilities that reach the machine are dropped already",
        ),
        "network_mode" => (HOST, "remove it and use networks:, ports: and expose:"),
        "pid" | "ipc" | "uts" => (HOST, "remove it"),
        "links" | "external_links" => (
            "services of one project find each other by name already",
            "use the service's name as host name; further names go to networks: aliases",
        ),
        "extra_hosts" | "dns" | "dns_search" | "dns_opt" | "domainname" | "mac_address" => (
            LATER,
            "remove it; names come from the project's own resolver",
        ),
        "volumes_from" => (
            "replicas of two services may be on two machines",
            "declare a named volume in each service",
        ),
        "extends" => (
            "one file is read",
            "use a YAML anchor and <<, or write the service out",
        ),
        "profiles" => (
            LATER,
            "keep services that are not always wanted in a file of their own",
        ),
        "logging" | "log_driver" | "log_opt" => (
            "logs are kept by the host",
            "remove it and read them with `runrig logs`",
        ),
        "platform" => (
            LATER,
            "remove it: hosts of the image's architectures are chosen",
        ),
        "sysctls" | "ulimits" | "shm_size" | "oom_kill_disable" | "oom_score_adj" | "group_add"
        | "runtime" | "storage_opt" | "blkio_config" | "annotations" | "attach" | "provider"
        | "models" | "develop" | "post_start" | "pre_stop" | "use_api_socket" | "label_file"
        | "gpus" => (LATER, "remove it"),
        "cpu_shares" | "cpu_quota" | "cpu_period" | "cpu_count" | "cpu_percent"
        | "cpu_rt_runtime" | "cpu_rt_period" | "cpuset" => (
            "cores are reserved and limited in one number",
            "use cpus: or deploy.resources.limits.cpus",
        ),
        "memswap_limit" | "mem_swappiness" => (
            "replicas do not swap",
            "remove it and set mem_limit: to what the service needs",
        ),
        _ => return None,
    })
}

/// The same for keys under `deploy`.
pub(crate) fn deploy_key(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "update_config" | "rollback_config" => {
            ("releases roll by the network's own rule", "remove it")
        }
        "placement" => (
            "the ledger's scheduler places, replicas on distinct hosts",
            "remove it",
        ),
        "endpoint_mode" => (
            "a service's name stands for its ready replicas",
            "remove it",
        ),
        _ => return None,
    })
}

/// The same for keys at the top of the file.
pub(crate) fn top_key(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "secrets" | "configs" => (
            "not supported yet",
            "pass settings by environment: (public on the ledger), or put the file into the image or a volume",
        ),
        "include" => ("one file is read", "copy what it includes into this file"),
        "models" => ("not supported yet", "run the model's server as a service"),
        _ => return None,
    })
}
