//! Turns in which no block was made, and ceremonies that failed, as blocks show them: a part of
//! the index.

use anyhow::{Context as _, Result};
use api::{MissedView, TurnsView};
use borsh::{BorshDeserialize, BorshSerialize};
use consensus::{Handing, Record};
use light::Header;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use types::PublicKey;

/// Height → [`Row`]; only of blocks that show something.
const TURNS: TableDefinition<u64, &[u8]> = TableDefinition::new("turns");
/// Epoch → keys of those who vote in it, in the order in which they lead, one after the other.
const SEATS: TableDefinition<u64, &[u8]> = TableDefinition::new("seats");
/// Who has missed a turn and led no block since.
const MISSING: TableDefinition<[u8; 32], ()> = TableDefinition::new("missing");

/// Lineups of so many past epochs are kept.
const SEATS_KEPT: u64 = 2;

#[derive(Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Row {
    time_ms: u64,
    epoch: u64,
    missed: Vec<([u8; 32], u64)>,
    over: Vec<[u8; 32]>,
    handed_on: Option<bool>,
    revealed: Vec<[u8; 32]>,
}

pub fn make(write: &WriteTransaction) -> Result<()> {
    write.open_table(TURNS)?;
    write.open_table(SEATS)?;
    write.open_table(MISSING)?;
    Ok(())
}

/// Are its tables there? An index of before has none.
pub fn is_made(read: &ReadTransaction) -> bool {
    read.open_table(TURNS).is_ok()
}

/// Notes who votes in the epoch after `record`'s, if that says so: the genesis, or an epoch's last
/// block.
pub fn seat(write: &WriteTransaction, record: &Record) -> Result<()> {
    let header = Header::from_bytes(&record.header)?;
    if let Some(handing) = consensus::handing(record)? {
        let next = if header.height == 0 {
            0
        } else {
            header.epoch + 1
        };
        note_seats(write, next, &handing)?;
    }
    Ok(())
}

fn note_seats(write: &WriteTransaction, epoch: u64, handing: &Handing) -> Result<()> {
    let mut seats = write.open_table(SEATS)?;
    seats.insert(epoch, handing.seats.concat().as_slice())?;
    seats.retain(|known, _| known + SEATS_KEPT >= epoch)?;
    Ok(())
}

/// Adds what a block shows, after all before it.
pub fn add(write: &WriteTransaction, header: &Header, record: &Record) -> Result<()> {
    let mut row = Row {
        time_ms: header.time_ms,
        epoch: header.epoch,
        missed: missed(write, header)?,
        ..Row::default()
    };
    let mut missing = write.open_table(MISSING)?;
    for (key, _) in &row.missed {
        missing.insert(*key, ())?;
    }
    if missing.remove(header.proposer)?.is_some() {
        row.over.push(header.proposer);
    }
    if let Some(handing) = consensus::handing(record)? {
        row.handed_on = Some(handing.done);
        // Of a ceremony that failed the old shares go on, shown or not when they were made.
        if handing.done {
            row.revealed.clone_from(&handing.revealed);
        }
        let goes = |key: &[u8; 32]| !handing.seats.contains(key);
        for gone in missing.extract_if(|key, ()| goes(&key))? {
            row.over.push(gone?.0.value());
        }
        note_seats(write, header.epoch + 1, &handing)?;
    }
    let shows = !row.missed.is_empty() || !row.over.is_empty() || row.handed_on.is_some();
    if shows {
        let bytes = borsh::to_vec(&row)?;
        write.open_table(TURNS)?.insert(header.height, &bytes[..])?;
    }
    Ok(())
}

/// Nobody, where the lineup is not known: after a start with a later state, up to the epoch's end.
fn missed(write: &WriteTransaction, header: &Header) -> Result<Vec<([u8; 32], u64)>> {
    let first = header.parent_view + 1;
    if first >= header.view {
        return Ok(Vec::new());
    }
    let known = write.open_table(SEATS)?;
    let Some(keys) = known.get(header.epoch)? else {
        return Ok(Vec::new());
    };
    let (seats, _) = keys.value().as_chunks::<32>();
    let many = seats.len() as u64;
    let leads = light::turn_of(header.epoch, many, header.view);
    // A lineup that does not name this block's leader is not the one that voted.
    if seats.get(leads as usize) != Some(&header.proposer) {
        return Ok(Vec::new());
    }
    let missed = light::turns(header.epoch, many, first, header.view);
    Ok(missed
        .map(|(place, times)| (seats[place as usize], times))
        .collect())
}

/// Takes out what blocks before `begins` showed.
pub fn forget(write: &WriteTransaction, begins: u64) -> Result<()> {
    let mut turns = write.open_table(TURNS)?;
    turns.retain(|height, _| height >= begins)?;
    Ok(())
}

/// The newest of `since_ms` and later, of blocks up to `until` (a height), at most `most`, in order.
pub fn rows(
    read: &ReadTransaction,
    since_ms: u64,
    until: u64,
    most: usize,
) -> Result<Vec<TurnsView>> {
    let mut rows = Vec::new();
    for found in read.open_table(TURNS)?.range(..=until)?.rev().take(most) {
        let (height, bytes) = found?;
        let row = Row::try_from_slice(bytes.value()).context("a row of turns")?;
        if row.time_ms < since_ms {
            break;
        }
        let missed = row.missed.into_iter().map(|(key, times)| MissedView {
            validator: PublicKey(key),
            times,
        });
        rows.push(TurnsView {
            height: height.value(),
            time_ms: row.time_ms,
            epoch: row.epoch,
            missed: missed.collect(),
            over: row.over.into_iter().map(PublicKey).collect(),
            handed_on: row.handed_on,
            revealed: row.revealed.into_iter().map(PublicKey).collect(),
        });
    }
    rows.reverse();
    Ok(rows)
}
