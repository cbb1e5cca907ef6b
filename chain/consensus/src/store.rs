//! Finalised blocks and the last saved state, on disk.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use light::{Duty, Header};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

use crate::boundary::{Floor, Piece};

const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");
const SAVED: TableDefinition<&str, &[u8]> = TableDefinition::new("saved");
/// Pieces of whole states by height and number: what newcomers start from.
const PIECES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("pieces");
/// Pieces of states to start from, by height and number; complete is the one that `SAVED` names.
const STATES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("states");
/// Bytes of a state in one transaction, which the next block waits for.
const STATE_PIECE_BYTES: usize = 4 << 20;
/// States kept for newcomers: one who fetches the older one may end though an epoch does.
const STATES_KEPT: usize = 2;
/// How blocks are written; another number when that changes.
const FORM: &[u8] = &[6];

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
    /// Blocks before this height are gone, but those that [`stays`].
    pruned: AtomicU64,
    /// Of the state saved last: blocks after it are needed to start.
    saved: AtomicU64,
    /// Height of the first block that was here when it was opened.
    first: u64,
}

/// Blocks forgotten with each that comes: more than one, so that a smaller number is reached.
const FORGOTTEN_MAX: u64 = 4;

/// Does it say who sits, what was drawn or from what?
fn stays(record: &Record, epoch_blocks: u64) -> Result<bool> {
    let header = Header::from_bytes(&record.header)?;
    let duty = Duty::from_bytes(&header, &record.duty)?;
    Ok(duty.snapshot.is_some()
        || duty.candidates.is_some()
        || duty.beacon.is_some()
        || header.height % epoch_blocks.max(1) == epoch_blocks / 2)
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
        write.open_table(STATES)?;
        let (pruned, saved) = {
            let table = write.open_table(SAVED)?;
            let pruned = table.get("pruned")?;
            let pruned = pruned
                .map(|bytes| u64::try_from_slice(bytes.value()))
                .transpose()?;
            (pruned.unwrap_or_default(), state_height(&table)?)
        };
        let first = {
            let blocks = write.open_table(BLOCKS)?;
            blocks.first()?.map_or(0, |(height, _)| height.value())
        };
        write.commit()?;
        Ok(Self {
            database,
            pruned: AtomicU64::new(pruned),
            saved: AtomicU64::new(saved.unwrap_or_default()),
            first,
        })
    }

    /// From this height on all blocks are kept; 0 if the genesis, which is not, comes before them.
    pub fn begun(&self) -> u64 {
        let first = Some(self.first).filter(|first| *first > 1);
        first.unwrap_or_default().max(self.pruned())
    }

    /// Whether it holds what was followed, and no engine has voted on it since.
    pub fn is_following(&self) -> Result<bool> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(SAVED)?.get("follows")?.is_some())
    }

    pub fn set_following(&self) -> Result<()> {
        let write = self.database.begin_write()?;
        write.open_table(SAVED)?.insert("follows", &[1][..])?;
        write.commit()?;
        Ok(())
    }

    /// From now on an engine votes on it that begins at `floor`, whose block is kept.
    pub fn set_voting(&self, floor: &Floor) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut saved = write.open_table(SAVED)?;
            saved.insert("floor", borsh::to_vec(floor)?.as_slice())?;
            saved.remove("follows")?;
        }
        write.commit()?;
        Ok(())
    }

    /// Height of the state saved last; 0 if none is.
    pub fn saved(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    /// Height before which blocks are gone.
    pub fn pruned(&self) -> u64 {
        self.pruned.load(Ordering::Relaxed)
    }

    /// Whether the engine beside it keeps only a part.
    pub fn forgets(&self) -> Result<bool> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(SAVED)?.get("forgets")?.is_some())
    }

    /// From the first start on the engine beside it keeps only a part.
    pub fn may_forget(&self) -> Result<()> {
        if self.forgets()? {
            return Ok(());
        }
        let begun = self.floor()?.map(|floor| floor.height);
        ensure!(
            self.latest()? == begun,
            "it has kept all blocks so far, and the engine's own cannot be taken apart. To keep only the last: stop it, move all of its folder but `seat` and `vault` away, and start it again with the same number to keep; it takes the blocks from the others. Or start it without"
        );
        let write = self.database.begin_write()?;
        write.open_table(SAVED)?.insert("forgets", &[1][..])?;
        write.commit()?;
        Ok(())
    }

    /// Forgets some of the blocks before `below`.
    fn forget(&self, write: &WriteTransaction, below: u64, epoch_blocks: u64) -> Result<u64> {
        let mut blocks = write.open_table(BLOCKS)?;
        let first = blocks.first()?.map_or(below, |(height, _)| height.value());
        let from = self.pruned().max(first);
        let to = below.min(from + FORGOTTEN_MAX);
        let read = |bytes: Option<redb::AccessGuard<'_, &[u8]>>| {
            bytes
                .map(|bytes| Record::try_from_slice(bytes.value()))
                .transpose()
        };
        for height in from..to {
            // What has no certificate of its own is proved by the blocks after it.
            let before = match height.checked_sub(1) {
                Some(before) => read(blocks.get(before)?)?,
                None => None,
            };
            let needed = before.is_some_and(|record| record.certificate.is_none());
            let Some(record) = read(blocks.get(height)?)? else {
                continue;
            };
            if height > 0 && !needed && !stays(&record, epoch_blocks)? {
                blocks.remove(height)?;
            }
        }
        write
            .open_table(SAVED)?
            .insert("pruned", borsh::to_vec(&to)?.as_slice())?;
        Ok(to)
    }

    /// Durable when it returns. `state`: all of the state after this block, to start from;
    /// `pieces`: the same for newcomers; `keep`: how many blocks are kept, and how many an epoch has.
    pub fn put(
        &self,
        height: u64,
        record: &Record,
        state: Option<&[u8]>,
        pieces: &[Piece],
        keep: Option<(u64, u64)>,
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
        }
        let mut saved = self.saved();
        if let Some(state) = state {
            save_state(&write, height, state)?;
            saved = height;
        }
        let pruned = match keep {
            Some((keep, epoch_blocks)) if height > keep => {
                let below = saved.min(height + 1 - keep);
                Some(self.forget(&write, below, epoch_blocks)?)
            }
            _ => None,
        };
        write.commit()?;
        self.saved.fetch_max(saved, Ordering::Relaxed);
        if let Some(pruned) = pruned {
            self.pruned.store(pruned, Ordering::Relaxed);
        }
        Ok(())
    }

    /// All of the state after block `height`, to start from. Durable when it returns; nothing if a
    /// later one is saved. Blocks may be put meanwhile.
    pub fn save(&self, height: u64, state: &[u8]) -> Result<()> {
        let pieces: Vec<_> = (0..).zip(state.chunks(STATE_PIECE_BYTES)).collect();
        for (number, piece) in &pieces {
            let write = self.database.begin_write()?;
            write
                .open_table(STATES)?
                .insert((height, *number), *piece)?;
            write.commit()?;
        }
        let write = self.database.begin_write()?;
        let newer = name_state(&write, height)?;
        write.commit()?;
        if newer {
            self.saved.fetch_max(height, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The first block of a validator that does not begin with the genesis.
    pub fn begin(&self, record: &Record, state: Vec<u8>, floor: &Floor) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut blocks = write.open_table(BLOCKS)?;
            blocks.insert(floor.height, record.encode()?.as_slice())?;
            save_state(&write, floor.height, &state)?;
            let mut saved = write.open_table(SAVED)?;
            saved.insert("floor", borsh::to_vec(floor)?.as_slice())?;
        }
        write.commit()?;
        self.saved.fetch_max(floor.height, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps transactions that wait, instead of those kept before. Durable when it returns.
    pub fn put_waiting(&self, transactions: &[Bytes]) -> Result<()> {
        let list: Vec<&[u8]> = transactions.iter().map(|bytes| bytes.as_ref()).collect();
        let write = self.database.begin_write()?;
        write
            .open_table(SAVED)?
            .insert("waiting", borsh::to_vec(&list)?.as_slice())?;
        write.commit()?;
        Ok(())
    }

    /// What [`Self::put_waiting`] kept, once.
    pub fn take_waiting(&self) -> Result<Vec<Bytes>> {
        let write = self.database.begin_write()?;
        let list = {
            let mut saved = write.open_table(SAVED)?;
            let kept = saved.remove("waiting")?;
            kept.map(|bytes| Vec::<Vec<u8>>::try_from_slice(bytes.value()))
                .transpose()?
        };
        if list.is_some() {
            write.commit()?;
        }
        Ok(list.into_iter().flatten().map(Bytes::from).collect())
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
        let Some(height) = state_height(&read.open_table(SAVED)?)? else {
            return Ok(None);
        };
        let mut state = Vec::new();
        for piece in read
            .open_table(STATES)?
            .range((height, 0)..=(height, u32::MAX))?
        {
            state.extend_from_slice(piece?.1.value());
        }
        Ok(Some((height, state)))
    }
}

fn state_height(saved: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<u64>> {
    let state = saved.get("state")?;
    state
        .map(|bytes| Ok(u64::try_from_slice(bytes.value())?))
        .transpose()
}

fn save_state(write: &WriteTransaction, height: u64, state: &[u8]) -> Result<()> {
    {
        let mut states = write.open_table(STATES)?;
        for (number, piece) in (0..).zip(state.chunks(STATE_PIECE_BYTES)) {
            states.insert((height, number), piece)?;
        }
    }
    name_state(write, height)?;
    Ok(())
}

/// Makes the state whose pieces are there the one to start from, unless a later one is; forgets
/// the pieces of all others. Whether it is now.
fn name_state(write: &WriteTransaction, height: u64) -> Result<bool> {
    let mut saved = write.open_table(SAVED)?;
    let named = state_height(&saved)?.map_or(height, |named| named.max(height));
    saved.insert("state", borsh::to_vec(&named)?.as_slice())?;
    let mut states = write.open_table(STATES)?;
    states.retain_in(..(named, 0), |_, _| false)?;
    states.retain_in((named + 1, 0).., |_, _| false)?;
    Ok(named == height)
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

    fn record(height: u64, epoch_blocks: u64) -> Record {
        let epoch = light::epoch_of(height, epoch_blocks);
        let ends = height == light::epoch_end(epoch, epoch_blocks);
        let duty = Duty {
            snapshot: ends.then(|| types::Digest::of(b"state")),
            ..Duty::default()
        };
        let none = types::Digest::default();
        let header = Header {
            network: none,
            epoch,
            height,
            view: height + 1,
            parent_view: height,
            time_ms: height,
            parent: none,
            proposer: [0; 32],
            payload_root: none,
            duty: duty.digest(),
            outcomes_root: none,
            events_root: none,
            state_root: none,
        };
        Record {
            header: header.to_bytes(),
            seal: [0; 64],
            certificate: (height % 10 != 7).then(|| vec![1]),
            duty: duty.to_bytes(),
            transactions: vec![vec![7; 20_000]],
            outcomes: Vec::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn a_leaders_second_block_is_found_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("blocks.redb")).expect("made");
        for height in 0..=100 {
            let record = record(height, 16);
            store.put(height, &record, None, &[], None).expect("kept");
        }
        let seen = crate::sightings::Sightings::of(&store, 100).expect("read");
        let seal = |height, block| {
            let record = record(height, 16);
            let header = Header::from_bytes(&record.header).expect("a header");
            let block = if block {
                header.digest()
            } else {
                header.parent
            };
            crate::block::sealed(&header, block, record.seal).expect("no genesis")
        };
        for (height, block, good) in [(100, true, true), (90, false, false), (10, false, true)] {
            let (leader, seal) = seal(height, block);
            assert_eq!(seen.note(leader, seal), good, "block {height}");
        }
        assert_eq!(seen.doubles().len(), 1);
    }

    #[test]
    fn old_blocks_go_what_says_who_sat_stays_and_the_file_grows_no_more() {
        const EPOCH: u64 = 16;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks.redb");
        let store = Store::open(&path).expect("made");
        store.may_forget().expect("it is new");
        let keep = Some((4 * EPOCH, EPOCH));
        let put = |store: &Store, height| {
            let record = record(height, EPOCH);
            let state = (height % 8 == 0).then_some(&[1][..]);
            store.put(height, &record, state, &[], keep).expect("kept");
        };
        let length = || std::fs::metadata(&path).expect("there").len();
        (0..=200).for_each(|height| put(&store, height));
        let early = length();
        (201..=1_000).for_each(|height| put(&store, height));
        assert_eq!(store.pruned(), 1_001 - 4 * EPOCH);
        let stays = |height: u64| height % EPOCH == EPOCH - 1 || height % EPOCH == EPOCH / 2;
        for height in 0..=1_000 {
            let there = store.block(height).expect("reads").is_some();
            let before = height >= 1 && (height - 1) % 10 == 7;
            let before = before && store.block(height - 1).expect("reads").is_some();
            let wanted = height == 0 || height >= store.pruned() || stays(height) || before;
            assert_eq!(there, wanted, "{height}");
        }
        // An eighth of the old ones stays in epochs as short as these.
        assert!(length() < 3 * early, "{} then {early}", length());
        drop(store);
        let again = Store::open(&path).expect("opens");
        assert_eq!(again.pruned(), 1_001 - 4 * EPOCH);
        again.may_forget().expect("it did before");
    }

    #[test]
    fn what_follows_the_saved_state_stays_and_no_older_one_takes_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks.redb");
        let store = Store::open(&path).expect("made");
        store.may_forget().expect("it is new");
        let put = |heights: std::ops::RangeInclusive<u64>| {
            heights.for_each(|height| {
                let record = record(height, 16);
                let kept = store.put(height, &record, None, &[], Some((64, 16)));
                kept.expect("kept");
            });
        };
        put(0..=300);
        assert_eq!((store.saved(), store.pruned()), (0, 0));
        let large = vec![2; 2 * STATE_PIECE_BYTES + 1];
        store.save(280, &large).expect("saved");
        store.save(250, &[1]).expect("too late, and no harm");
        put(301..=500);
        assert_eq!((store.saved(), store.pruned()), (280, 280));
        assert!((280..=500).all(|height| store.block(height).expect("reads").is_some()));
        drop(store);
        let again = Store::open(&path).expect("opens");
        assert_eq!(again.saved(), 280);
        assert_eq!(again.state().expect("reads"), Some((280, large)));
    }

    #[test]
    fn what_waits_is_kept_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks.redb");
        let store = Store::open(&path).expect("made");
        assert!(store.take_waiting().expect("reads").is_empty());
        let waiting = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        store
            .put_waiting(&[Bytes::from_static(b"older")])
            .expect("kept");
        store.put_waiting(&waiting).expect("kept");
        drop(store);
        let again = Store::open(&path).expect("opens");
        assert_eq!(again.take_waiting().expect("reads"), waiting);
        assert!(again.take_waiting().expect("reads").is_empty());
    }

    #[test]
    fn what_has_kept_all_says_how_to_keep_less() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("blocks.redb")).expect("made");
        (0..3).for_each(|height| {
            let kept = store.put(height, &record(height, 16), None, &[], None);
            kept.expect("kept");
        });
        let why = store.may_forget().expect_err("refused").to_string();
        assert!(why.contains("`seat` and `vault`"), "{why}");
    }

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
