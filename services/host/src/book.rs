//! The counters of one allocation over all its containers, and its chain of usage records.

use std::path::PathBuf;

use anyhow::Result;
use meter::Accumulator;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::{AllocationId, Digest, Resources, Usage, UsageRecord};

use crate::durable;

/// What is on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Page {
    accumulator: Accumulator,
    sequence: u64,
    previous: Digest,
    /// Told to the ledger for good.
    closed: bool,
}

pub struct Book {
    pub allocation: AllocationId,
    path: PathBuf,
    page: Page,
    /// Where the counters of the running container are.
    source: Option<meter::Source>,
    /// Directories that cost storage even while nothing runs.
    directories: Vec<PathBuf>,
    instance: u32,
    pub last_reading: Option<meter::Reading>,
    pub cpu_millis_now: u64,
    last_cpu: Option<(u64, u64)>,
    reported: Usage,
    finished: bool,
    disk_bytes_max: u64,
    over_disk: watch::Sender<Option<u64>>,
}

impl Book {
    /// Continues from disk; else where the ledger says that the lease stands.
    pub fn open(
        allocation: AllocationId,
        path: PathBuf,
        reserved: Resources,
        now_ms: u64,
        ledger_sequence: u64,
        ledger_usage: Usage,
    ) -> Result<Self> {
        let mut page = durable::read::<Page>(&path)?.unwrap_or_else(|| Page {
            accumulator: Accumulator::continuing(reserved, ledger_usage, now_ms),
            sequence: ledger_sequence,
            previous: Digest::default(),
            closed: false,
        });
        page.sequence = page.sequence.max(ledger_sequence);
        Ok(Self {
            allocation,
            path,
            page,
            source: None,
            directories: Vec::new(),
            instance: 0,
            last_reading: None,
            cpu_millis_now: 0,
            last_cpu: None,
            reported: ledger_usage,
            finished: false,
            disk_bytes_max: reserved.disk_bytes,
            over_disk: watch::Sender::new(None),
        })
    }

    /// Counts `source` from now on.
    pub fn attach(&mut self, instance: u32, source: meter::Source) {
        self.directories.clone_from(&source.directories);
        self.instance = instance;
        self.source = Some(source);
        self.last_cpu = None;
    }

    /// Storage only: nothing runs.
    pub fn keep(&mut self, directories: Vec<PathBuf>) {
        self.directories = directories;
    }

    /// Reads the counters once. With `disk` (bytes walked outside of the lock) storage too.
    pub fn sample(&mut self, now_ms: u64, disk: Option<u64>) {
        if let Some(bytes) = disk {
            let more = bytes.saturating_sub(self.disk_bytes_max);
            self.over_disk.send_replace((more > 0).then_some(more));
        }
        let Some(source) = &self.source else {
            self.page.accumulator.idle(now_ms, disk);
            self.cpu_millis_now = 0;
            return;
        };
        match meter::read(source) {
            Ok(mut reading) => {
                reading.disk_bytes = disk
                    .or(self.last_reading.map(|r| r.disk_bytes))
                    .unwrap_or_default();
                if let Some((at, cpu)) = self.last_cpu
                    && now_ms > at
                {
                    let nanos = reading.cpu_ns.saturating_sub(cpu);
                    self.cpu_millis_now = nanos / 1000 / (now_ms - at);
                }
                self.last_cpu = Some((now_ms, reading.cpu_ns));
                self.page.accumulator.add(self.instance, &reading, now_ms);
                self.last_reading = Some(reading);
            }
            Err(error) => {
                tracing::debug!(allocation = %self.allocation, %error, "counters are gone");
            }
        }
    }

    /// The last reading before the cgroup and the interfaces go, of a container that ended
    /// at `ended_ms`. From then on only storage counts.
    pub fn detach(&mut self, ended_ms: u64, disk: Option<u64>) {
        self.sample(ended_ms, disk);
        self.source = None;
        self.page.accumulator.idle(ended_ms, disk);
    }

    /// A container is counted now.
    pub fn runs(&self) -> bool {
        self.source.is_some()
    }

    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// What it holds on disk, as last counted; at most what is reserved.
    pub fn disk_bytes(&self) -> u64 {
        self.page.accumulator.disk_bytes().min(self.disk_bytes_max)
    }

    /// How many bytes more than reserved it held on disk when they were last counted.
    pub fn over_disk(&self) -> watch::Receiver<Option<u64>> {
        self.over_disk.subscribe()
    }

    /// No container will follow: the next record is the last.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    pub fn is_closed(&self) -> bool {
        self.page.closed
    }

    /// The next link of the chain, on disk before it is returned, and whether it is the last;
    /// `None` if nothing was used since the ledger last heard. Its file keeps its name through a
    /// power cut once [`durable::keep_names`] says so.
    pub fn record(&mut self, until_ms: u64) -> Result<Option<(UsageRecord, bool)>> {
        let total = self.page.accumulator.total();
        if self.page.closed || (total == self.reported && !self.finished) {
            return Ok(None);
        }
        let record = UsageRecord {
            allocation: self.allocation,
            sequence: self.page.sequence + 1,
            instance: self.instance,
            until_ms,
            total,
            previous: self.page.previous,
        };
        self.page.sequence = record.sequence;
        self.page.previous = record.digest();
        self.save()?;
        Ok(Some((record, self.finished)))
    }

    /// The ledger has taken `record`.
    pub fn settled(&mut self, record: &UsageRecord, last: bool) -> Result<()> {
        self.reported = record.total;
        // All else was written with the record.
        match last {
            true => {
                self.page.closed = true;
                self.save()
            }
            false => Ok(()),
        }
    }

    pub fn save(&self) -> Result<()> {
        durable::write_whole(&self.path, &self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: Resources = Resources {
        cpu_millis: 1_000,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        bandwidth_kbps: 1_000,
    };

    /// Counters of a container that has used `cpu_ns` and 1000 bytes of memory.
    fn source(folder: &std::path::Path, cpu_ns: u64) -> meter::Source {
        for (name, text) in [
            ("cpuacct.usage", cpu_ns.to_string()),
            ("memory.usage_in_bytes", "1000".into()),
            ("memory.limit_in_bytes", "9000".into()),
            ("memory.stat", "total_inactive_file 0\n".into()),
        ] {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let all = ["cpuacct", "memory"].map(|c| (c.to_string(), folder.to_path_buf()));
        meter::Source {
            cgroups: all.into(),
            interfaces: Vec::new(),
            directories: Vec::new(),
        }
    }

    #[test]
    fn what_ended_while_nobody_looked_counts_up_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("book.json");
        let open = |now| {
            Book::open(
                AllocationId(1),
                path.clone(),
                RESERVED,
                now,
                0,
                Usage::default(),
            )
            .expect("opened")
        };
        let mut book = open(0);
        book.attach(1, source(folder.path(), 0));
        book.sample(0, None);
        book.sample(1_000, None);
        book.save().expect("saved");
        drop(book);

        // The agent is away from 1000 on; the container ends at 3000; it is found at 60000.
        let mut book = open(60_000);
        book.attach(1, source(folder.path(), 700_000_000));
        book.sample(3_000, None);
        book.detach(3_000, None);
        book.sample(60_000, None);
        let (record, _) = book.record(60_000).expect("written").expect("a record");
        assert_eq!(record.total.cpu_ns, 700_000_000);
        assert_eq!(record.total.memory_byte_ms, 3_000 * 1_000);
        assert_eq!(record.total.bandwidth_bits, 3_000 * 1_000);
    }
}
