//! Keys of Compose that are refused: why, and what to write instead.

/// Why a key of a service is refused, and what to do; `None` if Compose does not know it either.
pub(crate) fn service_key(key: &str) -> Option<(&'static str, &'static str)> {
    const HOST: &str = "containers share nothing with the machine that they run on";
    const FIXED: &str = "every container runs under one fixed, restricted profile";
    const FOREIGN: &str =
        "remove it; a program that needs it cannot run on other people's machines";
    Some(match key {
        "device_cgroup_rules" | "userns_mode" | "cgroup_parent" | "credential_spec" => {
            (FIXED, FOREIGN)
        }
        "devices" | "gpus" => ("hosts offer cores, memory, disk and bandwidth", FOREIGN),
        "pid" | "uts" => (HOST, "remove it"),
        "external_links" => (
            "two projects cannot reach each other, except by published ports",
            "put the services into one project",
        ),
        "mac_address" => ("addresses are given by the host", "remove it"),
        "volumes_from" => (
            "replicas of two services may be on two machines",
            "declare a named volume in each service",
        ),
        "runtime" | "provider" | "models" => (
            "a host runs containers by its own engine",
            "remove it, or run what it names as a service",
        ),
        "blkio_config" => ("disks are shared by the host's own rule", "remove it"),
        "cpu_count" | "cpu_percent" | "cpu_rt_runtime" | "cpu_rt_period" | "cpuset" => (
            "cores are reserved and limited in one number",
            "use cpus: or deploy.resources.limits.cpus",
        ),
        _ => return None,
    })
}

/// The same for keys at the top of the file.
pub(crate) fn top_key(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "models" => ("not supported yet", "run the model's server as a service"),
        _ => return None,
    })
}
