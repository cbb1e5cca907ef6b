//! Finalised blocks and the last saved state, on disk.

use std::path::Path;

use anyhow::{Context, Result, bail};
use borsh::{BorshDeserialize, BorshSerialize};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition,
};

use crate::boundary::{Floor, Piece};

const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");
const SAVED: TableDefinition<&str, &[u8]> = TableDefinition::new("saved");
/// Pieces of whole states by height and number: what newcomers start from.
const PIECES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("pieces");
/// States kept for newcomers: one who fetches the older one may end though an epoch does.
const STATES_KEPT: usize = 2;
/// How blocks are written; another number when that changes.
const FORM: &[u8] = &[4];

/// A finalised block and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Record {
    /// Canonical bytes of the [`light::Header`].
    pub header: Vec<u8>,
    /// Its leader's, by which he answers for it; see [`types::Seal`].
    pub seal: [u8; 64],
    /// `None` if only a descendant's certificate was seen.
    pub certificate: Option<Vec<u8>>,
    /// Canonical bytes of the [`light::Duty`].
    pub duty: Vec<u8>,
    pub transactions: Vec<Vec<u8>>,
    pub outcomes: Vec<Vec<u8>>,
    pub events: Vec<Vec<u8>>,
}

impl Record {
    fn encode(&self) -> std::io::Result<Vec<u8>> {
        let lists = [&self.transactions, &self.outcomes, &self.events];
        let bytes = lists.into_iter().flatten().map(|item| item.len() + 4);
        // A full block has megabytes: written once, not grown and moved again and again.
        let mut encoded = Vec::with_capacity(1_024 + bytes.sum::<usize>());
        self.serialize(&mut encoded)?;
        Ok(encoded)
    }
}

pub struct Store {
    database: Database,
}

/// Opens or makes the database at `path`, with `cache_bytes` of memory.
///
/// Errors: also a file that was cut or overwritten, which the database itself takes for a
/// fault of its program.
pub fn open_database(path: &Path, cache_bytes: usize) -> Result<Database> {
    let open = || Database::builder().set_cache_size(cache_bytes).create(path);
    match std::panic::catch_unwind(open) {
        Ok(opened) => opened.with_context(|| format!("open {}", path.display())),
        Err(_) => bail!("{} is damaged", path.display()),
    }
}

impl Store {
    pub fn open(path: &Path) -> Result<Self> {
        Self::with(open_database(path, 8 << 20)?)
    }

    /// On a simulated disk, which outlives it.
    #[cfg(feature = "simulation")]
    pub(crate) fn on(medium: &crate::medium::Medium) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(8 << 20);
        Self::with(builder.create_with_backend(medium.open())?)
    }

    fn with(database: Database) -> Result<Self> {
        let write = database.begin_write()?;
        {
            let blocks = write.open_table(BLOCKS)?;
            let mut saved = write.open_table(SAVED)?;
            let form = saved.get("form")?.map(|form| form.value().to_vec());
            match form {
                Some(form) if form == FORM => {}
                None if blocks.is_empty()? => {
                    saved.insert("form", FORM)?;
                }
                _ => bail!(
                    "it was written by another version of runrig, whose blocks this one cannot read: run that version, or make the network anew in an empty folder"
                ),
            }
        }
        write.open_table(PIECES)?;
        write.commit()?;
        Ok(Self { database })
    }

    /// Durable when it returns. `state`: all of the state after this block, to start from;
    /// `pieces`: the same for newcomers.
    pub fn put(
        &self,
        height: u64,
        record: &Record,
        state: Option<Vec<u8>>,
        pieces: &[Piece],
    ) -> Result<()> {
        let write = self.database.begin_write()?;
        if !pieces.is_empty() {
            let mut table = write.open_table(PIECES)?;
            for (number, piece) in (0..).zip(pieces) {
                table.insert((height, number), borsh::to_vec(piece)?.as_slice())?;
            }
            if let Some(oldest) = offered(&table)?.get(STATES_KEPT - 1) {
                table.retain_in((0, 0)..(oldest.0, 0), |_, _| false)?;
            }
        }
        {
            let mut blocks = write.open_table(BLOCKS)?;
            blocks.insert(height, record.encode()?.as_slice())?;
            if let Some(state) = state {
                let mut saved = write.open_table(SAVED)?;
                saved.insert("state", borsh::to_vec(&(height, state))?.as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// The first block of a validator that does not begin with the genesis.
    pub fn begin(&self, record: &Record, state: Vec<u8>, floor: &Floor) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut blocks = write.open_table(BLOCKS)?;
            blocks.insert(floor.height, record.encode()?.as_slice())?;
            let mut saved = write.open_table(SAVED)?;
            saved.insert("state", borsh::to_vec(&(floor.height, state))?.as_slice())?;
            saved.insert("floor", borsh::to_vec(floor)?.as_slice())?;
        }
        write.commit()?;
        Ok(())
    }

    /// Where the engine begins; `None`: with the genesis.
    pub fn floor(&self) -> Result<Option<Floor>> {
        let read = self.database.begin_read()?;
        let saved = read.open_table(SAVED)?;
        let floor = saved.get("floor")?;
        floor
            .map(|bytes| Ok(Floor::try_from_slice(bytes.value())?))
            .transpose()
    }

    /// Heights of the states kept for newcomers, the newest first, and how many pieces each has.
    pub fn offered(&self) -> Result<Vec<(u64, u32)>> {
        let read = self.database.begin_read()?;
        offered(&read.open_table(PIECES)?)
    }

    /// Canonical bytes of a [`Piece`].
    pub fn piece(&self, height: u64, number: u32) -> Result<Option<Vec<u8>>> {
        let read = self.database.begin_read()?;
        let found = read.open_table(PIECES)?.get((height, number))?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    pub fn block(&self, height: u64) -> Result<Option<Record>> {
        let read = self.database.begin_read()?;
        let blocks = read.open_table(BLOCKS)?;
        let Some(bytes) = blocks.get(height)? else {
            return Ok(None);
        };
        Ok(Some(Record::try_from_slice(bytes.value())?))
    }

    pub fn latest(&self) -> Result<Option<u64>> {
        let read = self.database.begin_read()?;
        let blocks = read.open_table(BLOCKS)?;
        Ok(blocks.last()?.map(|(height, _)| height.value()))
    }

    /// Height and bytes of the state saved last.
    pub fn state(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let read = self.database.begin_read()?;
        let saved = read.open_table(SAVED)?;
        let Some(bytes) = saved.get("state")? else {
            return Ok(None);
        };
        Ok(Some(BorshDeserialize::try_from_slice(bytes.value())?))
    }
}

fn offered(table: &impl ReadableTable<(u64, u32), &'static [u8]>) -> Result<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    let mut below = u64::MAX;
    while let Some(entry) = table.range(..(below, 0))?.next_back() {
        let (height, last) = entry?.0.value();
        found.push((height, last + 1));
        below = height;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_file_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks.redb");
        drop(Store::open(&path).expect("made"));
        drop(Store::open(&path).expect("opened again"));
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        let file = file.expect("opens");
        let length = file.metadata().expect("metadata").len();
        for left in [length - 3, length / 2, 10, 1] {
            file.set_len(left).expect("cut");
            let error = Store::open(&path).err().expect("refused");
            assert!(error.to_string().contains("blocks.redb"), "{error}");
        }
    }
}
