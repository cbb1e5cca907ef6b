//! What a misspelt key may have meant.

/// Keys of a service, as far as they are obeyed.
const SERVICE: &str = "annotations, attach, build, cap_add, cap_drop, command, configs, container_name, \
    cpus, depends_on, deploy, dns_opt, dns_search, domainname, entrypoint, env_file, environment, \
    expose, extra_hosts, group_add, healthcheck, hostname, image, init, label_file, labels, links, \
    logging, mem_limit, mem_reservation, network_mode, networks, oom_score_adj, pids_limit, platform, \
    ports, post_start, pre_stop, profiles, pull_policy, read_only, restart, scale, secrets, \
    security_opt, shm_size, stop_grace_period, stop_signal, sysctls, tmpfs, tty, ulimits, user, \
    volumes, working_dir";

/// No key is longer.
const LENGTH_MAX: usize = 40;
/// More letters wrong, and it may mean anything.
const DISTANCE_MAX: usize = 2;

/// The one of `known`, apart by commas, that is written most like `name`; of several the first.
pub(crate) fn nearest<'k>(name: &str, known: &'k str) -> Option<&'k str> {
    if name.len() > LENGTH_MAX {
        return None;
    }
    let all = known.split(',').map(str::trim);
    let apart = all.map(|key| (strsim::osa_distance(name, key), key));
    let fits = |(distance, key): &(usize, &str)| {
        // `as` is no misspelt `tty`, though only three letters are.
        *distance <= DISTANCE_MAX && *distance * 3 <= key.len()
    };
    apart
        .filter(fits)
        .min_by_key(|(d, _)| *d)
        .map(|(_, key)| key)
}

/// What to do about a key of a service that is none.
pub(crate) fn service_key(key: &str) -> String {
    match nearest(key, SERVICE) {
        Some(near) => format!("write {near}, or begin its name with x-"),
        None => "correct its spelling, or begin its name with x-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_only_if_it_is_near() {
        for (wrong, right) in [
            ("prots", Some("ports")),
            ("enviroment", Some("environment")),
            ("volume", Some("volumes")),
            ("health_check", Some("healthcheck")),
            ("depend_on", Some("depends_on")),
            ("comand", Some("command")),
            ("imgae", Some("image")),
            ("as", None),
            ("replicas", None),
            ("xyz", None),
        ] {
            assert_eq!(nearest(wrong, SERVICE), right, "{wrong}");
        }
        assert_eq!(nearest(&"a".repeat(10_000), SERVICE), None);
    }

    #[test]
    fn what_is_proposed_is_a_key() {
        for key in SERVICE.split(", ") {
            let text = format!("name: p\nservices:\n  web:\n    image: a\n    {key}: []\n");
            let read = crate::tests::read_files(&[("compose.yaml", &text)], &[], &[]);
            let said = read.err().map_or(Vec::new(), |problems| problems.0);
            let refused = said
                .iter()
                .find(|p| p.what.contains("is not a key") || p.what.contains("is not supported"));
            assert!(refused.is_none(), "{key}: {refused:?}");
        }
    }
}
