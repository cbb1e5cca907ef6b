//! `network incidents`: what went wrong, by what the ledger did and by what blocks show.

use std::collections::BTreeMap;

use api::{EventView, TurnsView};
use sdk::{IncidentChange, IncidentKind};
use serde::Serialize;

use crate::context::Session;
use crate::failure::Result;
use crate::network_past::{Since, events_since};
use crate::{output, units};

#[derive(Debug, PartialEq, Serialize)]
struct Incident {
    kind: &'static str,
    subject: String,
    from_ms: u64,
    /// `None`: it goes on.
    until_ms: Option<u64>,
    /// Turns missed; 1 of all else.
    times: u64,
    #[serde(skip)]
    title: &'static str,
}

/// In the order in which they began.
fn fold(events: &[EventView]) -> Vec<Incident> {
    let mut all: Vec<Incident> = Vec::new();
    for event in events {
        for note in sdk::incidents(&event.event) {
            let from_ms = match note.change {
                IncidentChange::Begins { since_ms } => since_ms,
                IncidentChange::Ends => {
                    let open = all.iter_mut().filter(|i| {
                        i.kind == note.kind.name()
                            && i.subject == note.subject
                            && i.until_ms.is_none()
                    });
                    open.for_each(|i| i.until_ms = Some(event.time_ms));
                    continue;
                }
                IncidentChange::Moment => event.time_ms,
            };
            let moment = note.change == IncidentChange::Moment;
            all.push(Incident {
                kind: note.kind.name(),
                title: note.kind.title(),
                subject: note.subject,
                from_ms,
                until_ms: moment.then_some(event.time_ms),
                times: 1,
            });
        }
    }
    all
}

/// Turns missed, keys not handed on and shares shown, in the order in which they began.
fn fold_turns(rows: &[TurnsView]) -> Vec<Incident> {
    let mut all: Vec<Incident> = Vec::new();
    let end = |all: &mut Vec<Incident>, kind: IncidentKind, subject: Option<&str>, at: u64| {
        let open = all.iter_mut().filter(|i| {
            i.kind == kind.name()
                && i.until_ms.is_none()
                && subject.is_none_or(|subject| i.subject == subject)
        });
        open.for_each(|i| i.until_ms = Some(at));
    };
    for row in rows {
        let begun = |kind: IncidentKind, subject: String, times| Incident {
            kind: kind.name(),
            title: kind.title(),
            subject,
            from_ms: row.time_ms,
            until_ms: None,
            times,
        };
        for missed in &row.missed {
            let subject = missed.validator.to_string();
            let known = all.iter_mut().find(|i| {
                i.kind == IncidentKind::Turns.name() && i.subject == subject && i.until_ms.is_none()
            });
            match known {
                Some(known) => known.times += missed.times,
                None => all.push(begun(IncidentKind::Turns, subject, missed.times)),
            }
        }
        for key in &row.over {
            end(
                &mut all,
                IncidentKind::Turns,
                Some(&key.to_string()),
                row.time_ms,
            );
        }
        all.extend(row.revealed.iter().map(|key| Incident {
            until_ms: Some(row.time_ms),
            ..begun(IncidentKind::Revealed, key.to_string(), 1)
        }));
        match row.handed_on {
            Some(true) => end(&mut all, IncidentKind::Ceremony, None, row.time_ms),
            Some(false) => {
                let next = (row.epoch + 1).to_string();
                all.push(begun(IncidentKind::Ceremony, next, 1));
            }
            None => {}
        }
    }
    all
}

pub async fn incidents(session: &Session, since: &Since, json: bool) -> Result {
    let client = &session.client;
    let since_ms = since.ms()?;
    let mut all = fold(&events_since(client, since_ms).await?);
    all.extend(fold_turns(&client.turns(since_ms).await?));
    all.sort_by_key(|incident| incident.from_ms);
    let now = units::now_ms();
    // Those that began before, and go on.
    let hosts = client.hosts().await?;
    for host in hosts.iter().filter(|h| !h.online && !h.closed) {
        let subject = host.host.to_string();
        let silent = IncidentKind::Silent;
        let known = |i: &Incident| i.kind == silent.name() && i.subject == subject;
        if !all.iter().any(|i| known(i) && i.until_ms.is_none()) {
            all.insert(
                0,
                Incident {
                    kind: silent.name(),
                    title: silent.title(),
                    subject,
                    from_ms: host.last_seen_ms,
                    until_ms: None,
                    times: 1,
                },
            );
        }
    }
    if json {
        output::json(&all);
        return Ok(());
    }
    if all.is_empty() {
        output::say(format!("no incident since {}", units::time(since_ms)));
        return Ok(());
    }
    let names: BTreeMap<String, &str> = hosts
        .iter()
        .map(|h| (h.host.to_string(), h.name.as_str()))
        .collect();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|i| {
            let brief = || i.subject.chars().take(12).collect();
            let until = i.until_ms.unwrap_or(now);
            vec![
                i.title.to_string(),
                names
                    .get(&i.subject)
                    .map_or_else(brief, |name| (*name).to_string()),
                units::time(i.from_ms),
                match (i.until_ms, until.saturating_sub(i.from_ms)) {
                    (None, ms) => format!("{}, goes on", units::age(ms)),
                    (Some(_), 0) => "a moment".into(),
                    (Some(_), ms) => units::age(ms),
                },
                i.times.to_string(),
            ]
        })
        .collect();
    output::data(output::table(
        &["INCIDENT", "OF", "FROM", "LASTED", "TIMES"],
        &rows,
        &[4],
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::MissedView;
    use ledger::Event;
    use ledger::host::Event as H;

    use types::{AccountId, PublicKey};

    use super::*;

    fn at(time_ms: u64, event: Event) -> EventView {
        EventView {
            sequence: time_ms,
            height: time_ms,
            index: 0,
            time_ms,
            event,
        }
    }

    #[test]
    fn a_silence_ends_with_the_host_s_return() {
        let host = AccountId([3; 20]);
        let silent = |last_seen_ms| {
            Event::Host(H::HostOffline {
                host,
                last_seen_ms,
                excused: false,
            })
        };
        let back = || Event::Host(H::HostOnline { host });
        let events = [
            at(1, back()),
            at(10, silent(4)),
            at(20, back()),
            at(30, silent(25)),
        ];
        let spans: Vec<_> = fold(&events)
            .iter()
            .map(|i| (i.from_ms, i.until_ms))
            .collect();
        assert_eq!(spans, [(4, Some(20)), (25, None)]);
    }

    #[test]
    fn a_validator_misses_turns_until_it_leads_or_sits_no_more() {
        let (away, gone) = (PublicKey([5; 32]), PublicKey([6; 32]));
        let missed = |validator, times| MissedView { validator, times };
        let row = |time_ms, missed, over, handed_on| TurnsView {
            height: time_ms,
            time_ms,
            epoch: 3,
            missed,
            over,
            handed_on,
            revealed: match time_ms {
                5 => vec![PublicKey([7; 32])],
                _ => Vec::new(),
            },
        };
        let rows = [
            row(1, vec![missed(away, 2), missed(gone, 1)], vec![], None),
            row(2, vec![missed(away, 1)], vec![], None),
            row(3, vec![], vec![away], None),
            row(4, vec![], vec![gone], Some(false)),
            row(5, vec![missed(away, 1)], vec![], Some(true)),
        ];
        let found: Vec<_> = fold_turns(&rows)
            .into_iter()
            .map(|i| (i.kind, i.subject, i.from_ms, i.until_ms, i.times))
            .collect();
        let (away, gone) = (away.to_string(), gone.to_string());
        assert_eq!(
            found,
            [
                ("turns", away.clone(), 1, Some(3), 3),
                ("turns", gone, 1, Some(4), 1),
                ("ceremony", "4".to_string(), 4, Some(5), 1),
                ("turns", away, 5, None, 1),
                ("revealed", PublicKey([7; 32]).to_string(), 5, Some(5), 1),
            ]
        );
    }
}
