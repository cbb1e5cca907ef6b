//! Log lines of an allocation over all its containers, oldest first, then as they come.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use types::AllocationId;

use crate::durable::container_id;
use crate::shared::Shared;

#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct Query {
    #[serde(default)]
    pub follow: bool,
    pub tail: Option<usize>,
    pub since_ms: Option<u64>,
}

const TAIL_MAX: usize = 100_000;
const POLL: Duration = Duration::from_millis(100);

/// NDJSON of [`api::LogLine`]. A reader that is too slow is waited for, in bounded memory.
pub fn stream(
    shared: Arc<Shared>,
    planned: api::PlannedAllocation,
    query: Query,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pump(&shared, &planned, query, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
}

/// Where reading stands: a container's file and a place in it.
struct Cursor {
    instance: u32,
    offset: u64,
    inode: u64,
}

fn pump(
    shared: &Shared,
    planned: &api::PlannedAllocation,
    query: Query,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let instance = |shared: &Shared| {
        shared
            .current
            .lock()
            .expect("not poisoned")
            .get(&planned.allocation)
            .map_or(0, |c| c.instance)
    };
    let last = instance(shared);
    let mut cursor = Cursor {
        instance: last.max(1),
        offset: 0,
        inode: 0,
    };
    let since = query.since_ms.unwrap_or(0);
    let mut tail = VecDeque::new();
    let keep = query.tail.unwrap_or(TAIL_MAX).min(TAIL_MAX);
    for number in 1..=last {
        let path = shared
            .engine
            .log_path(&container_id(planned.allocation, number));
        let mut rotated = path.clone().into_os_string();
        rotated.push(".1");
        for (path, current) in [(PathBuf::from(rotated), false), (path, number == last)] {
            let Ok(file) = std::fs::File::open(&path) else {
                continue;
            };
            let inode = inode(&file)?;
            let mut offset = 0;
            for line in lines(file, &mut offset)? {
                if line.at_ms >= since {
                    if tail.len() >= keep {
                        tail.pop_front();
                    }
                    if keep > 0 {
                        tail.push_back(line);
                    }
                }
            }
            if current {
                cursor = Cursor {
                    instance: number,
                    offset,
                    inode,
                };
            }
        }
    }
    let lines: Vec<_> = tail.into();
    for chunk in lines.chunks(200) {
        if !send(planned, chunk, sender) {
            return Ok(());
        }
    }
    drop(lines);
    while query.follow && !sender.is_closed() {
        std::thread::sleep(POLL);
        let now = instance(shared).max(1);
        let fresh = read_on(shared, planned.allocation, &mut cursor)?;
        if !fresh.is_empty() {
            if !send(planned, &fresh, sender) {
                return Ok(());
            }
        } else if cursor.instance < now {
            cursor = Cursor {
                instance: cursor.instance + 1,
                offset: 0,
                inode: 0,
            };
        } else if shared.planned(planned.allocation).is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// What was written since; follows a rotation without gap.
fn read_on(
    shared: &Shared,
    allocation: AllocationId,
    cursor: &mut Cursor,
) -> std::io::Result<Vec<engine::LogLine>> {
    let path = shared
        .engine
        .log_path(&container_id(allocation, cursor.instance));
    let Ok(mut file) = std::fs::File::open(&path) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    let now = inode(&file)?;
    if cursor.inode != 0 && cursor.inode != now {
        let mut rotated = path.into_os_string();
        rotated.push(".1");
        if let Ok(mut old) = std::fs::File::open(&rotated)
            && inode(&old)? == cursor.inode
        {
            old.seek(SeekFrom::Start(cursor.offset))?;
            all = lines(old, &mut cursor.offset)?;
        }
        cursor.offset = 0;
    }
    cursor.inode = now;
    file.seek(SeekFrom::Start(cursor.offset))?;
    all.extend(lines(file, &mut cursor.offset)?);
    Ok(all)
}

fn inode(file: &std::fs::File) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.ino())
}

/// Whole lines from where `file` stands; `offset` grows by what was taken.
fn lines(file: std::fs::File, offset: &mut u64) -> std::io::Result<Vec<engine::LogLine>> {
    let mut reader = BufReader::new(file);
    let mut all = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(all);
        }
        *offset += read as u64;
        if let Ok(parsed) = serde_json::from_slice(&line) {
            all.push(parsed);
        }
    }
}

fn send(
    planned: &api::PlannedAllocation,
    lines: &[engine::LogLine],
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> bool {
    let mut bytes = Vec::new();
    for line in lines {
        let line = api::LogLine {
            allocation: planned.allocation,
            service: planned.service.clone(),
            replica: planned.replica,
            at_ms: line.at_ms,
            stream: line.stream.clone(),
            text: line.text.clone(),
        };
        if serde_json::to_writer(&mut bytes, &line).is_ok() {
            bytes.push(b'\n');
        }
    }
    sender.blocking_send(Ok(bytes.into())).is_ok()
}
