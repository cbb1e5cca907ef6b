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
pub const CELLS: usize = CPU * MEMORY * DISK * BANDWIDTH;
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

/// The cells that may hold a request, tightest first.
pub fn candidates<'a>(
    occupied: &'a [u64; WORDS],
    request: &Resources,
) -> impl Iterator<Item = usize> + 'a {
    let [cpu, memory, disk, bandwidth] = levels(request);
    (cpu..CPU).flat_map(move |c| {
        (memory..MEMORY).flat_map(move |m| {
            // One plane of disk × bandwidth is 36 bits: at most two words.
            let first = index([c, m, 0, 0]);
            let plane = bits(occupied, first);
            let mask = plane_mask(disk, bandwidth);
            Ones(plane & mask).map(move |bit| first + bit)
        })
    })
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
    (low | high) & ((1 << (DISK * BANDWIDTH)) - 1)
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
                assert_eq!(candidates(&occupied, &of(ask)).collect::<Vec<_>>(), [at]);
            }
        }
    }
}
