//! Figures over time in a file of fixed size: fine for the last hour, coarse for the last week.
//!
//! Three rings of slots, one after the other; a slot's place follows from its time, so writing
//! one is one write, and what is old is written over. A slot says its own time and has a
//! checksum: one that was torn, or is of the round before, is no sample.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::block::Numbers;

/// Step and slots of each ring: an hour of 10 s, a day of 1 min, a week of 10 min.
const RINGS: [(u64, u64); 3] = [(10_000, 360), (60_000, 1_440), (600_000, 1_008)];
/// So far back goes the coarsest ring.
pub const SPAN_MS: u64 = 600_000 * 1_008;
const SLOT: u64 = 8 + 4 + 8 * 8 + 4;

/// What a workload used over a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Mean, of one core, in thousandths.
    pub cpu_millis: u64,
    pub cpu_millis_max: u64,
    /// Mean.
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    /// At its end.
    pub disk_bytes: u64,
    /// Within it.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// At its end.
    pub pids: u64,
}

/// A sample that was kept: from `at_ms` on, for `step_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub at_ms: u64,
    pub step_ms: u64,
    /// Readings that it was made of.
    pub readings: u32,
    pub sample: Sample,
}

/// A slot that is not full yet.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    at_ms: u64,
    readings: u32,
    sum: Sample,
}

#[derive(Debug)]
pub struct Ring {
    file: File,
    open: [Option<Open>; RINGS.len()],
}

fn offset(ring: usize, at_ms: u64) -> u64 {
    let before: u64 = RINGS[..ring].iter().map(|(_, slots)| slots).sum();
    let (step, slots) = RINGS[ring];
    (before + at_ms / step % slots) * SLOT
}

fn encode(open: &Open) -> Vec<u8> {
    let sample = open.mean();
    let mut bytes = Vec::with_capacity(SLOT as usize);
    bytes.extend(open.at_ms.to_le_bytes());
    bytes.extend(open.readings.to_le_bytes());
    for number in [
        sample.cpu_millis,
        sample.cpu_millis_max,
        sample.memory_bytes,
        sample.memory_bytes_max,
        sample.disk_bytes,
        sample.rx_bytes,
        sample.tx_bytes,
        sample.pids,
    ] {
        bytes.extend(number.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, u32, Sample)> {
    let (body, crc) = bytes.split_at_checked(SLOT as usize - 4)?;
    if crc32fast::hash(body) != u32::from_le_bytes(crc.get(..4)?.try_into().ok()?) {
        return None;
    }
    let mut numbers = Numbers(body);
    let (at_ms, readings) = (numbers.u64()?, numbers.u32()?);
    let sample = Sample {
        cpu_millis: numbers.u64()?,
        cpu_millis_max: numbers.u64()?,
        memory_bytes: numbers.u64()?,
        memory_bytes_max: numbers.u64()?,
        disk_bytes: numbers.u64()?,
        rx_bytes: numbers.u64()?,
        tx_bytes: numbers.u64()?,
        pids: numbers.u64()?,
    };
    (readings > 0).then_some((at_ms, readings, sample))
}

impl Open {
    fn mean(&self) -> Sample {
        let count = u64::from(self.readings.max(1));
        Sample {
            cpu_millis: self.sum.cpu_millis / count,
            memory_bytes: self.sum.memory_bytes / count,
            ..self.sum
        }
    }

    fn add(&mut self, now: &Sample) {
        let sum = &mut self.sum;
        self.readings += 1;
        sum.cpu_millis += now.cpu_millis;
        sum.cpu_millis_max = sum.cpu_millis_max.max(now.cpu_millis);
        sum.memory_bytes += now.memory_bytes;
        sum.memory_bytes_max = sum.memory_bytes_max.max(now.memory_bytes);
        sum.disk_bytes = now.disk_bytes;
        sum.rx_bytes += now.rx_bytes;
        sum.tx_bytes += now.tx_bytes;
        sum.pids = now.pids;
    }
}

impl Ring {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        Ok(Self {
            file,
            open: Default::default(),
        })
    }

    /// Adds a reading of `now_ms`; its bytes are those since the reading before. What is not
    /// full yet is written too: a process that is killed loses nothing but the last step.
    pub fn add(&mut self, now_ms: u64, reading: &Sample) -> std::io::Result<()> {
        for (ring, (step, _)) in RINGS.iter().enumerate() {
            let at_ms = now_ms - now_ms % step;
            let known = self.open[ring].filter(|open| open.at_ms == at_ms);
            let mut open = known.unwrap_or_else(|| self.resumed(ring, at_ms));
            open.add(reading);
            let bytes = encode(&open);
            self.open[ring] = Some(open);
            self.file.write_all_at(&bytes, offset(ring, at_ms))?;
        }
        Ok(())
    }

    /// The slot of `at_ms` as a former process left it.
    fn resumed(&self, ring: usize, at_ms: u64) -> Open {
        let mut bytes = [0; SLOT as usize];
        let read = self.file.read_exact_at(&mut bytes, offset(ring, at_ms));
        match read.ok().and_then(|()| decode(&bytes)) {
            Some((at, readings, mut sum)) if at == at_ms => {
                sum.cpu_millis = sum.cpu_millis.saturating_mul(readings.into());
                sum.memory_bytes = sum.memory_bytes.saturating_mul(readings.into());
                Open {
                    at_ms,
                    readings,
                    sum,
                }
            }
            _ => Open {
                at_ms,
                ..Open::default()
            },
        }
    }

    /// What was kept between two times, oldest first, from the finest ring that goes so far
    /// back.
    pub fn read(path: &Path, since_ms: u64, until_ms: u64, now_ms: u64) -> Vec<Kept> {
        let ring = RINGS
            .iter()
            .position(|(step, slots)| since_ms.saturating_add(step * slots) >= now_ms)
            .unwrap_or(RINGS.len() - 1);
        let (step_ms, slots) = RINGS[ring];
        let mut bytes = vec![0; (slots * SLOT) as usize];
        let Ok(file) = File::open(path) else {
            return Vec::new();
        };
        // A file that is not full yet ends early.
        let mut filled = 0;
        while let Ok(more) = file.read_at(&mut bytes[filled..], offset(ring, 0) + filled as u64) {
            filled += more;
            if more == 0 || filled == bytes.len() {
                break;
            }
        }
        let oldest = now_ms.saturating_sub(step_ms * slots).max(since_ms);
        let mut kept: Vec<Kept> = bytes[..filled]
            .chunks_exact(SLOT as usize)
            .filter_map(decode)
            .filter(|(at, ..)| at + step_ms > oldest && *at < until_ms)
            .map(|(at_ms, readings, sample)| Kept {
                at_ms,
                step_ms,
                readings,
                sample,
            })
            .collect();
        kept.sort_by_key(|k| k.at_ms);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn reading(cpu: u64, bytes: u64) -> Sample {
        Sample {
            cpu_millis: cpu,
            memory_bytes: bytes,
            rx_bytes: 10,
            ..Sample::default()
        }
    }

    #[test]
    fn the_last_hour_is_fine_and_the_week_before_coarse() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ring");
        let mut ring = Ring::open(&path).expect("opened");
        let (begin, end) = (100 * DAY, 100 * DAY + 9 * DAY);
        let mut now = begin;
        while now < end {
            ring.add(now, &reading(now / 1000 % 20, 100)).expect("kept");
            now += 5_000;
        }
        let size = std::fs::metadata(&path).expect("there").len();
        assert_eq!(size, (360 + 1_440 + 1_008) * SLOT);
        for (back, step, count) in [
            (60_000, 10_000, 6),
            (3_600_000, 10_000, 360),
            (DAY / 2, 60_000, 720),
            (7 * DAY, 600_000, 1_008),
            (30 * DAY, 600_000, 1_008),
        ] {
            let kept = Ring::read(&path, end - back, u64::MAX, end);
            assert_eq!((kept.len(), kept[0].step_ms), (count, step), "{back}");
            assert!(kept.windows(2).all(|w| w[1].at_ms == w[0].at_ms + step));
            let last = kept[0];
            assert_eq!(last.sample.rx_bytes, step / 5_000 * 10);
            assert_eq!(last.sample.memory_bytes, 100);
            assert!(last.sample.cpu_millis < last.sample.cpu_millis_max);
        }
        assert_eq!(Ring::read(&path, end - 60_000, end - 30_000, end).len(), 3);
        assert_eq!(Ring::read(&folder.path().join("none"), 0, 1, end), []);
    }

    #[test]
    fn a_process_that_was_killed_goes_on_in_the_same_slot() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ring");
        for cpu in [10, 30] {
            let mut ring = Ring::open(&path).expect("opened");
            ring.add(1_000, &reading(cpu, 100)).expect("kept");
        }
        let kept = Ring::read(&path, 0, u64::MAX, 2_000);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].readings, kept[0].sample.cpu_millis), (2, 20));
        assert_eq!(kept[0].sample.rx_bytes, 20);

        // A slot that was torn is no sample.
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[9] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(Ring::read(&path, 0, u64::MAX, 2_000), []);
    }
}
