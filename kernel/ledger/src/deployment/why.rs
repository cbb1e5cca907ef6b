//! Why a replica has no place: the sentences, and what of them can be counted.

use scheduler::Reason;
use types::{HostId, Hours, ServiceSpec};

use super::milli;
use crate::execute::Context;
use crate::host::Host;
use crate::{RejectKind, Rejection};

/// A cause: its data is on a host that cannot take it.
pub const VOLUMES: &str = "host of its volumes";
/// A cause: there are no hosts.
pub const NO_HOSTS: &str = "no hosts";
/// Words of a sentence that [`causes`] reads again.
const DROPPED: &str = "; hosts dropped: ";
const VOLUMES_OF: &str = "the volumes of replica ";
const NONE_DROPPED: &str = "none, there are no hosts";

/// Why a replica has no place: the rules that dropped hosts, and how many each, from the sentence
/// that [`super::Unplaced`] and its event carry.
///
/// [`VOLUMES`] and [`NO_HOSTS`] stand for what is no rule; a sentence that is none of ours has no
/// cause.
pub fn causes(why: &str) -> Vec<(String, u32)> {
    if why.starts_with(VOLUMES_OF) {
        return vec![(VOLUMES.into(), 1)];
    }
    let Some((_, dropped)) = why.split_once(DROPPED) else {
        return Vec::new();
    };
    if dropped == NONE_DROPPED {
        return vec![(NO_HOSTS.into(), 0)];
    }
    let causes = dropped.split(", ").filter_map(|part| {
        let (hosts, rule) = part.split_once(" by ")?;
        Some((rule.to_string(), hosts.parse().ok()?))
    });
    causes.collect()
}

/// Its volumes are on a host that cannot take it now.
pub(super) fn away_from_home(context: &Context, seat: (&str, u32), host: &HostId) -> Rejection {
    let known = context.state.hosts.get(host);
    let name = known.map_or_else(|| host.to_string(), |h| h.name.clone());
    let turn = |h: &Host| Hours::moment(h.turn_ms);
    let state = match known {
        Some(h) if !h.online && h.closed => {
            format!("is silent, outside its hours until {}", turn(h))
        }
        Some(h) if !h.online => "is silent".into(),
        Some(h) if h.draining => "is being drained".into(),
        Some(h) if h.cordoned => "takes no new work".into(),
        Some(h) if h.closed => format!("is outside its hours until {}", turn(h)),
        Some(h) if h.closing => format!("is outside its hours from {}", turn(h)),
        Some(_) => "has no room for it now".to_string(),
        None => "has left".to_string(),
    };
    Rejection::new(
        RejectKind::NoHost,
        format!("service {}", seat.0),
        format!("{VOLUMES_OF}{} are on {name}, which {state}", seat.1),
        "Wait for that host, or give the data up with `runrig down --volumes`.",
    )
}

pub(super) fn no_host(
    (name, replica): (&str, u32),
    service: &ServiceSpec,
    reason: &Reason,
) -> Rejection {
    let counts: Vec<String> = reason
        .dropped
        .iter()
        .map(|d| format!("{} by {}", d.hosts, d.rule))
        .collect();
    let r = &service.resources;
    let why = format!(
        "no host fits replica {replica} ({} CPU, {} MiB memory, {} MiB disk, {} kbit/s){DROPPED}{}",
        milli(r.cpu_millis),
        r.memory_bytes >> 20,
        r.disk_bytes >> 20,
        r.bandwidth_kbps,
        if counts.is_empty() {
            NONE_DROPPED.into()
        } else {
            counts.join(", ")
        },
    );
    let next = match service.build {
        Some(_) => {
            "Only hosts with a builder can build (`runrig host ls` shows them; `apt install buildah` makes one): let one join, or ask for less under build.x-runrig."
        }
        None => {
            "Ask for less under deploy.resources, free something with `runrig down`, or let a host join."
        }
    };
    Rejection::new(RejectKind::NoHost, format!("service {name}"), why, next)
}

#[cfg(test)]
mod tests {
    use scheduler::Dropped;

    use super::*;

    #[test]
    fn causes_are_read_from_the_sentences_that_are_made_here() {
        let service = crate::world::service(500, 1);
        let said = |dropped: &[(&str, u32)]| {
            let dropped = dropped.iter().map(|(rule, hosts)| Dropped {
                rule: (*rule).into(),
                hosts: *hosts,
            });
            let reason = Reason {
                dropped: dropped.collect(),
                ..Reason::default()
            };
            causes(&no_host(("web", 2), &service, &reason).why)
        };
        let owned = |all: &[(&str, u32)]| -> Vec<(String, u32)> {
            all.iter().map(|(rule, n)| ((*rule).into(), *n)).collect()
        };
        let cases: [&[(&str, u32)]; 2] = [
            &[("resources", 3)],
            &[
                ("online", 1),
                ("distinct owners", 2),
                ("spread over regions", 4),
            ],
        ];
        for all in cases {
            assert_eq!(said(all), owned(all));
        }
        assert_eq!(said(&[]), owned(&[(NO_HOSTS, 0)]));
        assert_eq!(causes("something else by 3"), []);
    }

    #[test]
    fn volumes_elsewhere_are_a_cause() {
        let why = format!("{VOLUMES_OF}0 are on host-1, which is silent");
        assert_eq!(causes(&why), [(VOLUMES.to_string(), 1)]);
    }
}
