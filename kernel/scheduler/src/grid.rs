//! Which cells of free resources hold hosts, as bits.
//!
//! A cell is a level per resource; levels are half-octaves for CPU and memory, two octaves
//! for disk and bandwidth. The top level is open, so the grid covers the largest host. A
//! cell at a request's own level may hold hosts that are a little too small: whoever walks
//! the grid checks each host exactly.

use types::Resources;

const CPU: usize = 24;
const MEMORY: usize = 24;
const DISK: usize = 6;
const BANDWIDTH: usize = 6;
/// Cells of one level of CPU and memory.
pub const PLANE: usize = DISK * BANDWIDTH;
pub const CELLS: usize = CPU * MEMORY * PLANE;
pub const WORDS: usize = CELLS.div_ceil(64);

/// 2 × log2, rounded down to halves; 0 and 1 are level 0.
fn half_octave(value: u64) -> usize {
    if value < 2 {
        return 0;
    }
    let log = value.ilog2() as usize;
    let half = (value >> (log - 1)) & 1;
    2 * log + half as usize - 1
}

fn levels(of: &Resources) -> [usize; 4] {
    [
        // From 50 millicores to beyond 100 cores.
        half_octave(u64::from(of.cpu_millis) / 50).min(CPU - 1),
        // From 64 MiB to beyond 256 GiB.
        half_octave(of.memory_bytes >> 26).min(MEMORY - 1),
        // From 1 GiB.
        (half_octave(of.disk_bytes >> 30) / 4).min(DISK - 1),
        // From 1 Mbit/s.
        (half_octave(u64::from(of.bandwidth_kbps) / 1000) / 4).min(BANDWIDTH - 1),
    ]
}

fn index([c, m, d, b]: [usize; 4]) -> usize {
    ((c * MEMORY + m) * DISK + d) * BANDWIDTH + b
}

/// The cell of a host with so much free.
pub fn cell(free: &Resources) -> usize {
    index(levels(free))
}

/// A cell that may hold a request.
pub struct Near {
    pub cell: usize,
    /// All of its hosts have the resources.
    pub sure: bool,
}

/// The cells that may hold a request, tightest first.
pub fn candidates<'a>(
    occupied: &'a [u64; WORDS],
    request: &Resources,
) -> impl Iterator<Item = Near> + 'a {
    let own = levels(request);
    // A cell above these in every resource is sure.
    let sure = sure_from(request, own);
    let [cpu, memory, disk, bandwidth] = own;
    (cpu..CPU).flat_map(move |c| {
        (memory..MEMORY).flat_map(move |m| {
            // One plane of disk × bandwidth is 36 bits: at most two words.
            let first = index([c, m, 0, 0]);
            let plane = bits(occupied, first);
            let mask = plane_mask(disk, bandwidth);
            let above = c >= sure[0] && m >= sure[1];
            Ones(plane & mask).map(move |bit| Near {
                cell: first + bit,
                sure: above && bit / BANDWIDTH >= sure[2] && bit % BANDWIDTH >= sure[3],
            })
        })
    })
}

/// The lowest levels whose hosts all have enough: the request's own where it asks for no more
/// than the level begins with, else the next.
fn sure_from(request: &Resources, own: [usize; 4]) -> [usize; 4] {
    let less = levels(&Resources {
        cpu_millis: request.cpu_millis.saturating_sub(1),
        memory_bytes: request.memory_bytes.saturating_sub(1),
        disk_bytes: request.disk_bytes.saturating_sub(1),
        bandwidth_kbps: request.bandwidth_kbps.saturating_sub(1),
    });
    let nothing = [
        request.cpu_millis == 0,
        request.memory_bytes == 0,
        request.disk_bytes == 0,
        request.bandwidth_kbps == 0,
    ];
    std::array::from_fn(|i| own[i] + usize::from(less[i] == own[i] && !nothing[i]))
}

/// The 36 bits from `first` on.
fn bits(occupied: &[u64; WORDS], first: usize) -> u64 {
    let (word, shift) = (first / 64, first % 64);
    let low = occupied[word] >> shift;
    let high = if shift > 28 && word + 1 < WORDS {
        occupied[word + 1] << (64 - shift)
    } else {
        0
    };
    (low | high) & ((1 << PLANE) - 1)
}

fn plane_mask(disk: usize, bandwidth: usize) -> u64 {
    let row = ((1u64 << BANDWIDTH) - 1) & !((1 << bandwidth) - 1);
    (disk..DISK).fold(0, |mask, d| mask | row << (d * BANDWIDTH))
}

struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_with_the_value() {
        let mut last = 0;
        for value in 0..100_000 {
            let level = half_octave(value);
            assert!(level >= last, "{value}");
            last = level;
        }
        assert_eq!(half_octave(u64::MAX), 126);
    }

    #[test]
    fn a_dominating_cell_is_always_a_candidate() {
        let sizes = [0u64, 1, 3, 7, 20, 100, 5_000];
        for free in sizes {
            for ask in sizes.into_iter().filter(|a| *a <= free) {
                let of = |n: u64| Resources {
                    cpu_millis: (n * 50) as u32,
                    memory_bytes: n << 26,
                    disk_bytes: n << 30,
                    bandwidth_kbps: (n * 1000) as u32,
                };
                let mut occupied = [0; WORDS];
                let at = cell(&of(free));
                occupied[at / 64] |= 1 << (at % 64);
                let near: Vec<Near> = candidates(&occupied, &of(ask)).collect();
                assert_eq!(near.iter().map(|n| n.cell).collect::<Vec<_>>(), [at]);
                let less = Resources {
                    cpu_millis: (of(ask).cpu_millis).saturating_sub(1),
                    ..of(free)
                };
                let miss = candidates(&occupied, &of(ask)).find(|n| n.cell == cell(&less));
                assert!(ask == 0 || miss.is_none_or(|n| !n.sure), "{ask} {free}");
            }
        }
    }
}
