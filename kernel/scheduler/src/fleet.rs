//! The hosts and what is free on them, indexed for placement.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::{AccountId, Digest, HostId, Resources};

use crate::grid::{self, CELLS, WORDS};
use crate::place::Request;

/// What placement knows of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    pub owner: AccountId,
    /// Digest of its machine's boot id.
    pub machine: Digest,
    /// As in images: `amd64`, `arm64`.
    pub architecture: String,
    pub region: String,
    /// Takes services that build images.
    pub builds: bool,
    pub capacity: Resources,
    /// At most the capacity.
    pub free: Resources,
    /// What it asks, in thousandths of the network's rates.
    pub price_multiplier_milli: u32,
    /// Online and not cordoned.
    pub available: bool,
    /// How long it served well, and what speaks against that, in milliseconds of service.
    pub good_ms: u64,
    pub bad_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub id: HostId,
    pub entry: HostEntry,
    /// Orders equal hosts: a permutation drawn by the seed.
    pub rank: u64,
    cell: Option<usize>,
}

/// Price bucket, rank, id, slot: the order inside a cell. The id decides between hosts whose
/// ranks were made to collide: slots depend on the order of arrival, which a restart forgets.
type Member = (u32, u64, HostId, u32);

const CHUNK: usize = 64;

/// All hosts. Cloning copies pointers only; what is changed afterwards is copied in pieces,
/// so that the ledger can keep a fleet per unfinished block.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    chunks: Vec<Arc<Vec<Option<Slot>>>>,
    ids: imbl::OrdMap<HostId, u32>,
    vacant: imbl::Vector<u32>,
    /// One per class of architectures: a request for one need not walk past the others.
    grids: [Arc<Grid>; ARCHITECTURES],
    unavailable: u32,
}

#[derive(Clone, Debug)]
struct Grid {
    hosts: u32,
    occupied: [u64; WORDS],
    cells: Vec<Option<Arc<BTreeSet<Member>>>>,
}

/// `amd64`, `arm64` and the rest.
const ARCHITECTURES: usize = 3;

fn class(architecture: &str) -> usize {
    match architecture {
        "amd64" => 0,
        "arm64" => 1,
        _ => 2,
    }
}

impl Fleet {
    /// `seed` permutes the order of equal hosts.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            chunks: Vec::new(),
            ids: imbl::OrdMap::new(),
            vacant: imbl::Vector::new(),
            grids: std::array::from_fn(|_| {
                Arc::new(Grid {
                    hosts: 0,
                    occupied: [0; WORDS],
                    cells: vec![None; CELLS],
                })
            }),
            unavailable: 0,
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Hosts that take nothing now.
    pub fn unavailable(&self) -> u32 {
        self.unavailable
    }

    pub fn iter(&self) -> impl Iterator<Item = (&HostId, &HostEntry)> {
        self.ids
            .iter()
            .filter_map(|(id, at)| Some((id, &self.slot(*at)?.entry)))
    }

    pub fn get(&self, id: &HostId) -> Option<&HostEntry> {
        Some(&self.find(id)?.entry)
    }

    pub(crate) fn find(&self, id: &HostId) -> Option<&Slot> {
        self.slot(*self.ids.get(id)?)
    }

    pub(crate) fn slot(&self, at: u32) -> Option<&Slot> {
        self.chunks
            .get(at as usize / CHUNK)?
            .get(at as usize % CHUNK)?
            .as_ref()
    }

    /// Adds a host or replaces what is known of it.
    pub fn set(&mut self, id: HostId, entry: HostEntry) {
        let at = match self.ids.get(&id) {
            Some(at) => {
                let at = *at;
                self.leave_cell(at);
                at
            }
            None => {
                let at = self.vacant.pop_back().unwrap_or_else(|| {
                    let next = self.chunks.len() * CHUNK;
                    self.chunks.push(Arc::new(vec![None; CHUNK]));
                    for spare in (next + 1..next + CHUNK).rev() {
                        self.vacant.push_back(spare as u32);
                    }
                    next as u32
                });
                self.ids.insert(id, at);
                at
            }
        };
        let digest = Digest::of_value("runrig-rank", &(self.seed, id));
        let rank = u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"));
        *self.slot_mut(at) = Some(Slot {
            id,
            entry,
            rank,
            cell: None,
        });
        self.enter_cell(at);
    }

    pub fn remove(&mut self, id: &HostId) {
        if let Some(at) = self.ids.remove(id) {
            self.leave_cell(at);
            *self.slot_mut(at) = None;
            self.vacant.push_back(at);
        }
    }

    /// Takes `resources` from what is free; `false`, and no change, if they do not fit.
    pub fn reserve(&mut self, id: &HostId, resources: &Resources) -> bool {
        let Some(free) = self.get(id).and_then(|e| e.free.checked_sub(resources)) else {
            return false;
        };
        self.refill(id, free);
        true
    }

    /// Gives back what was reserved, up to the capacity.
    pub fn release(&mut self, id: &HostId, resources: &Resources) {
        let Some(entry) = self.get(id) else { return };
        let (free, most) = (&entry.free, &entry.capacity);
        let back = Resources {
            cpu_millis: free
                .cpu_millis
                .saturating_add(resources.cpu_millis)
                .min(most.cpu_millis),
            memory_bytes: free
                .memory_bytes
                .saturating_add(resources.memory_bytes)
                .min(most.memory_bytes),
            disk_bytes: free
                .disk_bytes
                .saturating_add(resources.disk_bytes)
                .min(most.disk_bytes),
            bandwidth_kbps: free
                .bandwidth_kbps
                .saturating_add(resources.bandwidth_kbps)
                .min(most.bandwidth_kbps),
        };
        self.refill(id, back);
    }

    fn refill(&mut self, id: &HostId, free: Resources) {
        let Some(at) = self.ids.get(id).copied() else {
            return;
        };
        let moved = self
            .slot(at)
            .is_some_and(|s| s.cell.is_some_and(|c| c != grid::cell(&free)));
        if moved {
            self.leave_cell(at);
        }
        if let Some(slot) = self.slot_mut(at) {
            slot.entry.free = free;
        }
        if moved {
            self.enter_cell(at);
        }
    }

    fn slot_mut(&mut self, at: u32) -> &mut Option<Slot> {
        let chunk = Arc::make_mut(&mut self.chunks[at as usize / CHUNK]);
        &mut chunk[at as usize % CHUNK]
    }

    fn enter_cell(&mut self, at: u32) {
        let Some(slot) = self.slot(at) else { return };
        if !slot.entry.available {
            self.unavailable += 1;
            return;
        }
        let cell = grid::cell(&slot.entry.free);
        let (member, class) = (member(slot, at), class(&slot.entry.architecture));
        if let Some(slot) = self.slot_mut(at) {
            slot.cell = Some(cell);
        }
        let grid = Arc::make_mut(&mut self.grids[class]);
        Arc::make_mut(grid.cells[cell].get_or_insert_default()).insert(member);
        grid.occupied[cell / 64] |= 1 << (cell % 64);
        grid.hosts += 1;
    }

    fn leave_cell(&mut self, at: u32) {
        let Some(slot) = self.slot(at) else { return };
        let Some(cell) = slot.cell else {
            self.unavailable -= 1;
            return;
        };
        let (member, class) = (member(slot, at), class(&slot.entry.architecture));
        let grid = Arc::make_mut(&mut self.grids[class]);
        grid.hosts -= 1;
        if let Some(members) = &mut grid.cells[cell] {
            Arc::make_mut(members).remove(&member);
            if members.is_empty() {
                grid.cells[cell] = None;
                grid.occupied[cell / 64] &= !(1 << (cell % 64));
            }
        }
        if let Some(slot) = self.slot_mut(at) {
            slot.cell = None;
        }
    }

    /// Available hosts that may take `request`, cell by cell in canonical order; and whether
    /// all hosts of the cell have the resources.
    pub(crate) fn cells<'a>(
        &'a self,
        request: &'a Request,
    ) -> impl Iterator<Item = (bool, impl Iterator<Item = &'a Slot>)> {
        let wanted = request.architecture.as_deref().map(class);
        self.grids
            .iter()
            .enumerate()
            .filter(move |(class, _)| wanted.is_none_or(|wanted| wanted == *class))
            .flat_map(|(_, grid)| {
                grid::candidates(&grid.occupied, &request.resources)
                    .filter_map(|near| Some((near.sure, grid.cells[near.cell].as_deref()?)))
            })
            .map(|(sure, members)| (sure, members.iter().filter_map(|(.., at)| self.slot(*at))))
    }

    /// Available hosts of the architectures that are never walked for `request`.
    pub(crate) fn of_other_classes(&self, request: &Request) -> u32 {
        let Some(wanted) = request.architecture.as_deref().map(class) else {
            return 0;
        };
        let others = (0..ARCHITECTURES).filter(|class| *class != wanted);
        others.map(|class| self.grids[class].hosts).sum()
    }
}

fn member(slot: &Slot, at: u32) -> Member {
    (
        slot.entry.price_multiplier_milli / 100,
        slot.rank,
        slot.id,
        at,
    )
}
