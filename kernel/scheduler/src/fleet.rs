//! The hosts and what is free on them, indexed for placement.

use std::sync::Arc;

use imbl::OrdMap;
use types::{AccountId, Digest, HostId, Resources};

use crate::grid::{self, CELLS, PLANE, WORDS};
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
}

/// Price bucket, rank, id: the order inside a cell. The id decides between hosts whose ranks
/// were made to collide.
type Key = (u32, u64, HostId);
type Cell = OrdMap<Key, Arc<Slot>>;

/// Where an available host is found: class, cell and key.
type Spot = (usize, usize, Key);

/// All hosts. Cloning copies pointers, and of what is changed afterwards only the way to it is
/// copied, so the ledger can keep a fleet per unfinished block; where nobody shares it, it is
/// changed in place.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    ids: OrdMap<HostId, Arc<Slot>>,
    /// One per class of architectures: a request for one need not walk past the others.
    grids: [Arc<Grid>; ARCHITECTURES],
    unavailable: u32,
}

#[derive(Clone, Debug)]
struct Grid {
    hosts: u32,
    occupied: [u64; WORDS],
    planes: Vec<Option<Arc<Plane>>>,
}

/// Cells beside each other; an empty one is not occupied.
type Plane = [Cell; PLANE];

impl Grid {
    fn cell(&self, cell: usize) -> Option<&Cell> {
        let plane = self.planes[cell / PLANE].as_ref()?;
        Some(&plane[cell % PLANE])
    }

    fn cell_mut(&mut self, cell: usize) -> &mut Cell {
        let plane = self.planes[cell / PLANE]
            .get_or_insert_with(|| Arc::new(std::array::from_fn(|_| Cell::new())));
        &mut Arc::make_mut(plane)[cell % PLANE]
    }
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
            ids: OrdMap::new(),
            grids: std::array::from_fn(|_| {
                Arc::new(Grid {
                    hosts: 0,
                    occupied: [0; WORDS],
                    planes: vec![None; CELLS / PLANE],
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
        self.ids.iter().map(|(id, slot)| (id, &slot.entry))
    }

    pub fn get(&self, id: &HostId) -> Option<&HostEntry> {
        Some(&self.find(id)?.entry)
    }

    pub(crate) fn find(&self, id: &HostId) -> Option<&Slot> {
        Some(self.ids.get(id)?)
    }

    /// Adds a host or replaces what is known of it.
    pub fn set(&mut self, id: HostId, entry: HostEntry) {
        let rank = self.find(&id).map(|known| known.rank);
        let rank = rank.unwrap_or_else(|| {
            let digest = Digest::of_value("runrig-rank", &(self.seed, id));
            u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"))
        });
        self.put(Slot { id, entry, rank });
    }

    pub fn remove(&mut self, id: &HostId) {
        if let Some(slot) = self.ids.remove(id) {
            self.leave(&slot);
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
        if let Some(known) = self.find(id) {
            let mut slot = known.clone();
            slot.entry.free = free;
            self.put(slot);
        }
    }

    fn put(&mut self, slot: Slot) {
        let slot = Arc::new(slot);
        let before = self.ids.insert(slot.id, slot.clone());
        let spot = slot.spot();
        let stays = before.as_ref().is_some_and(|b| b.spot() == spot);
        if let Some(before) = before.filter(|_| !stays) {
            self.leave(&before);
        }
        let Some((class, cell, key)) = spot else {
            self.unavailable += u32::from(!stays);
            return;
        };
        let grid = Arc::make_mut(&mut self.grids[class]);
        grid.cell_mut(cell).insert(key, slot);
        grid.occupied[cell / 64] |= 1 << (cell % 64);
        grid.hosts += u32::from(!stays);
    }

    fn leave(&mut self, slot: &Slot) {
        let Some((class, cell, key)) = slot.spot() else {
            self.unavailable -= 1;
            return;
        };
        let grid = Arc::make_mut(&mut self.grids[class]);
        grid.hosts -= 1;
        let members = grid.cell_mut(cell);
        members.remove(&key);
        if members.is_empty() {
            grid.occupied[cell / 64] &= !(1 << (cell % 64));
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
                    .filter_map(|near| Some((near.sure, grid.cell(near.cell)?)))
            })
            .map(|(sure, cell)| (sure, cell.values().map(Arc::as_ref)))
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

impl Slot {
    /// `None`: it takes nothing.
    fn spot(&self) -> Option<Spot> {
        let entry = &self.entry;
        let key = (entry.price_multiplier_milli / 100, self.rank, self.id);
        let spot = || (class(&entry.architecture), grid::cell(&entry.free), key);
        entry.available.then(spot)
    }
}
