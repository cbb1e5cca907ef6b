//! What events say of incidents: hosts that fall silent, are flagged or leave, validators that are
//! convicted, epochs without a beacon.

use ledger::{Event, host, lots, validator, witness};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IncidentKind {
    /// A host gives no sign of life.
    Silent,
    /// Witnesses got no answer from what a host said was running.
    Flagged,
    /// A host left the network.
    Left,
    /// A validator sealed two blocks for one view.
    Convicted,
    /// No beacon was told in time: no lot fell, and those who sat go on.
    Beacon,
    /// The network's key was not handed on.
    Ceremony,
    /// A validator's share of the network's key was shown to all while it was made.
    Revealed,
    /// A validator made no block in its turn.
    Turns,
}

impl IncidentKind {
    pub const ALL: [Self; 8] = [
        Self::Silent,
        Self::Flagged,
        Self::Left,
        Self::Convicted,
        Self::Beacon,
        Self::Ceremony,
        Self::Revealed,
        Self::Turns,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Flagged => "flagged",
            Self::Left => "left",
            Self::Convicted => "convicted",
            Self::Beacon => "beacon",
            Self::Ceremony => "ceremony",
            Self::Revealed => "revealed",
            Self::Turns => "turns",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Silent => "Host silent",
            Self::Flagged => "Host flagged by witnesses",
            Self::Left => "Host gone",
            Self::Convicted => "Evidence, bond lost",
            Self::Beacon => "No beacon in time",
            Self::Ceremony => "Key not handed on",
            Self::Revealed => "Share of the key shown",
            Self::Turns => "Turns missed",
        }
    }
}

/// How an event changes what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentChange {
    /// It began then and goes on.
    Begins { since_ms: u64 },
    /// If one went on, it is over.
    Ends,
    /// It was over in a moment.
    Moment,
}

/// Of a host, a validator (by its key) or an epoch (by its number).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentNote {
    pub kind: IncidentKind,
    pub subject: String,
    pub change: IncidentChange,
}

/// What `event` says; mostly nothing.
pub fn incidents(event: &Event) -> Vec<IncidentNote> {
    use IncidentChange::{Begins, Ends, Moment};
    let note = |kind, subject: String, change| IncidentNote {
        kind,
        subject,
        change,
    };
    match event {
        Event::Host(
            host::Event::HostOffline {
                host,
                last_seen_ms: since_ms,
                excused: false,
            }
            | host::Event::HostOpened {
                host,
                missed_ms: Some(since_ms),
                ..
            },
        ) => {
            let since_ms = *since_ms;
            vec![note(
                IncidentKind::Silent,
                host.to_string(),
                Begins { since_ms },
            )]
        }
        Event::Host(host::Event::HostOnline { host })
        | Event::Host(host::Event::HostRegistered { host, .. }) => {
            vec![note(IncidentKind::Silent, host.to_string(), Ends)]
        }
        Event::Host(host::Event::HostLeft { host, .. }) => vec![
            note(IncidentKind::Silent, host.to_string(), Ends),
            note(IncidentKind::Left, host.to_string(), Moment),
        ],
        Event::Witness(witness::Event::HostFlagged { host, .. }) => {
            vec![note(IncidentKind::Flagged, host.to_string(), Moment)]
        }
        Event::Validator(validator::Event::ValidatorConvicted { key, .. }) => {
            vec![note(IncidentKind::Convicted, key.to_string(), Moment)]
        }
        Event::Lots(lots::Event::Drawn {
            epoch,
            beacon: None,
            ..
        }) => vec![note(IncidentKind::Beacon, epoch.to_string(), Moment)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use super::*;

    #[test]
    fn a_host_is_missed_only_in_its_hours() {
        let host = AccountId([7; 20]);
        let away = Event::Host(host::Event::HostOffline {
            host,
            last_seen_ms: 5,
            excused: true,
        });
        assert!(incidents(&away).is_empty());
        let opened = |missed_ms| {
            let opened = host::Event::HostOpened {
                host,
                until_ms: None,
                missed_ms,
            };
            let notes = incidents(&Event::Host(opened)).into_iter();
            notes.map(|n| (n.kind, n.change)).collect::<Vec<_>>()
        };
        assert_eq!(opened(None), []);
        let begins = IncidentChange::Begins { since_ms: 9 };
        assert_eq!(opened(Some(9)), [(IncidentKind::Silent, begins)]);
    }

    #[test]
    fn a_host_that_fell_silent_and_left_is_silent_no_more() {
        let host = AccountId([7; 20]);
        let silent = Event::Host(host::Event::HostOffline {
            host,
            last_seen_ms: 5,
            excused: false,
        });
        let begins = IncidentChange::Begins { since_ms: 5 };
        assert_eq!(
            incidents(&silent)
                .iter()
                .map(|n| (n.kind, n.change))
                .collect::<Vec<_>>(),
            [(IncidentKind::Silent, begins)]
        );
        let left = Event::Host(host::Event::HostLeft {
            host,
            bond: types::Amount::ZERO,
            owner: host,
        });
        let said: Vec<_> = incidents(&left)
            .into_iter()
            .map(|n| (n.kind, n.change))
            .collect();
        assert_eq!(
            said,
            [
                (IncidentKind::Silent, IncidentChange::Ends),
                (IncidentKind::Left, IncidentChange::Moment)
            ]
        );
    }
}
