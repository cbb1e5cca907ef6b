//! Write what operators look for: incidents with their beginning and end, and replicas that had no
//! place, with the causes.

use anyhow::Result;
use api::HandingView;
use ledger::{Event, deployment};
use light::Header;
use sdk::{IncidentChange, IncidentKind};
use types::PublicKey;
use words::Names;

use super::store::{Store, values};
use super::write::Certified;

/// Lineups of so many past epochs are kept.
const SEATS_KEPT: u64 = 2;

/// After the names that its events tell are known.
pub fn take(store: &Store, names: &Names, block: &Certified) -> Result<()> {
    for view in &block.events {
        for note in sdk::incidents(&view.event) {
            let words = &words::event(&view.event, names);
            let at = At {
                height: view.height,
                time_ms: view.time_ms,
            };
            match note.change {
                IncidentChange::Begins { since_ms } => {
                    begin(store, note.kind, &note.subject, at, since_ms, None, words)?;
                }
                IncidentChange::Ends => end(store, note.kind, &note.subject, at.time_ms)?,
                IncidentChange::Moment => {
                    let over = Some(at.time_ms);
                    begin(store, note.kind, &note.subject, at, at.time_ms, over, words)?;
                }
            }
        }
        waits(store, view)?;
    }
    turns(store, block)?;
    if let Some(handing) = &block.view.handing {
        handed(store, block, handing)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct At {
    height: u64,
    time_ms: u64,
}

impl At {
    fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            time_ms: header.time_ms,
        }
    }
}

fn begin(
    store: &Store,
    kind: IncidentKind,
    subject: &str,
    at: At,
    from_ms: u64,
    until_ms: Option<u64>,
    words: &str,
) -> Result<()> {
    store.execute(
        "INSERT INTO incidents VALUES ($1, $2, $3, $4, $5, 1, $6) ON CONFLICT DO NOTHING",
        values![kind.name(), subject, at.height, from_ms, until_ms, words],
    )?;
    Ok(())
}

fn end(store: &Store, kind: IncidentKind, subject: &str, time_ms: u64) -> Result<()> {
    store.execute(
        "UPDATE incidents SET until_ms = $1
         WHERE kind = $2 AND subject = $3 AND until_ms IS NULL",
        values![time_ms, kind.name(), subject],
    )?;
    Ok(())
}

/// A replica without a place waits until it has one, or its deployment is removed.
fn waits(store: &Store, view: &api::EventView) -> Result<()> {
    let Event::Deployment(event) = &view.event else {
        return Ok(());
    };
    match event {
        deployment::Event::Unplaced {
            deployment,
            service,
            replica,
            why,
        } => {
            store.execute(
                "INSERT INTO waits VALUES ($1, $2, $3, $4, $5, NULL, $6)",
                values![
                    view.sequence,
                    deployment.0,
                    service.as_str(),
                    u64::from(*replica),
                    view.time_ms,
                    why.as_str()
                ],
            )?;
            for (cause, hosts) in deployment::causes(why) {
                store.execute(
                    "INSERT INTO causes VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    values![cause, view.sequence, u64::from(hosts)],
                )?;
            }
        }
        deployment::Event::AllocationPlaced {
            deployment,
            service,
            replica,
            ..
        } => {
            store.execute(
                "UPDATE waits SET until_ms = $1 WHERE deployment = $2 AND service = $3
                 AND replica = $4 AND until_ms IS NULL",
                values![
                    view.time_ms,
                    deployment.0,
                    service.as_str(),
                    u64::from(*replica)
                ],
            )?;
        }
        deployment::Event::Removed { deployment } => {
            store.execute(
                "UPDATE waits SET until_ms = $1 WHERE deployment = $2 AND until_ms IS NULL",
                values![view.time_ms, deployment.0],
            )?;
        }
        _ => {}
    }
    Ok(())
}

/// A validator that missed its turn goes on missing until it leads a block.
fn turns(store: &Store, block: &Certified) -> Result<()> {
    let header = &block.header;
    let leader = PublicKey(header.proposer).to_string();
    if header.parent_view + 1 < header.view {
        let rows = store.rows(
            "SELECT validator FROM seats WHERE epoch = $1 ORDER BY place",
            values![header.epoch],
        )?;
        let seats: Vec<String> = rows.iter().map(|r| r.get(0)).collect::<Result<_>>()?;
        let many = seats.len() as u64;
        let leads = light::turn_of(header.epoch, many, header.view);
        // A lineup that does not name this block's leader is not the one that voted.
        if seats.get(leads as usize) == Some(&leader) {
            let first = header.parent_view + 1;
            for (place, missed) in light::turns(header.epoch, many, first, header.view) {
                miss(store, &seats[place as usize], missed, block)?;
            }
        }
    }
    end(store, IncidentKind::Turns, &leader, header.time_ms)
}

fn miss(store: &Store, validator: &str, missed: u64, block: &Certified) -> Result<()> {
    let kind = IncidentKind::Turns.name();
    let known = store.execute(
        "UPDATE incidents SET times = times + $1
         WHERE kind = $2 AND subject = $3 AND until_ms IS NULL",
        values![missed, kind, validator],
    )?;
    if known == 0 {
        let words = format!(
            "Validator {} made no block in its turn",
            words::brief(validator)
        );
        store.execute(
            "INSERT INTO incidents VALUES ($1, $2, $3, $4, NULL, $5, $6) ON CONFLICT DO NOTHING",
            values![
                kind,
                validator,
                block.header.height,
                block.header.time_ms,
                missed,
                words
            ],
        )?;
    }
    Ok(())
}

/// Who votes in the next epoch; and whether the key was handed on to whom the lot fell.
fn handed(store: &Store, block: &Certified, handing: &HandingView) -> Result<()> {
    let header = &block.header;
    let next = header.epoch + 1;
    seat(store, next, &handing.seats)?;
    store.execute(
        "DELETE FROM seats WHERE epoch < $1",
        values![next.saturating_sub(SEATS_KEPT)],
    )?;
    // Who sits no more misses no more.
    store.execute(
        "UPDATE incidents SET until_ms = $1 WHERE kind = $2 AND until_ms IS NULL
         AND subject NOT IN (SELECT validator FROM seats WHERE epoch = $3)",
        values![header.time_ms, IncidentKind::Turns.name(), next],
    )?;
    if handing.done {
        for validator in &handing.revealed {
            let (subject, at) = (validator.to_string(), At::of(header));
            let words = format!(
                "Validator {} did not confirm its share of the key for epoch {next}: it was shown to all. The shares of more than a third make the network's secret",
                words::brief(&subject)
            );
            let (kind, now) = (IncidentKind::Revealed, Some(at.time_ms));
            begin(store, kind, &subject, at, at.time_ms, now, &words)?;
        }
        return store
            .execute(
                "UPDATE incidents SET until_ms = $1 WHERE kind = $2 AND until_ms IS NULL",
                values![header.time_ms, IncidentKind::Ceremony.name()],
            )
            .map(|_| ());
    }
    let at = At::of(header);
    let words = format!(
        "The network's key was not handed on to those drawn for epoch {next}: those who had it go on"
    );
    let (kind, subject) = (IncidentKind::Ceremony, next.to_string());
    begin(store, kind, &subject, at, at.time_ms, None, &words)
}

/// Who votes in `epoch`, in the order in which they lead.
pub fn seat(store: &Store, epoch: u64, seats: &[PublicKey]) -> Result<()> {
    for (place, validator) in seats.iter().enumerate() {
        store.execute(
            "INSERT INTO seats VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![epoch, place, validator.to_string()],
        )?;
    }
    Ok(())
}
