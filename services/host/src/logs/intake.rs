//! From the shims' files into the journals, a line once.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use journal::{Line, Position, Source};
use types::AllocationId;

use super::Stream;
use crate::durable::container_id;
use crate::machine::now_ms;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_millis(100);
/// Of one allocation at a time; the rest follows at once.
const BYTES_MAX: u64 = 2 << 20;
/// Longest line of a shim's file, with room to spare; what is longer is none.
const LINE_MAX: usize = 256 << 10;

/// Takes in what the containers here print, for as long as it is polled.
pub async fn follow(shared: Arc<Shared>) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let shared = shared.clone();
        let taken = tokio::task::spawn_blocking(move || all(&shared)).await;
        if let Err(error) = taken {
            tracing::error!(%error, "taking in logs");
        }
    }
}

fn all(shared: &Shared) {
    let Some(plan) = shared.plan() else { return };
    for planned in &plan.allocations {
        let instance = shared.instance(planned.allocation);
        if instance == 0 {
            continue;
        }
        let taken = shared.logs.of(planned).and_then(|stream| {
            if stream.has_ended() {
                return Ok(());
            }
            take(shared, &stream, planned.allocation, instance)
        });
        if let Err(error) = taken {
            tracing::warn!(allocation = %planned.allocation, %error, "its log waits where it is");
        }
    }
}

/// Takes in what is there by now of one allocation, if it still works here.
pub fn catch_up(shared: &Shared, stream: &Stream) {
    let id = stream.meta().allocation;
    let instance = shared.instance(id);
    if instance > 0
        && !stream.has_ended()
        && let Err(error) = take(shared, stream, id, instance)
    {
        tracing::warn!(allocation = %id, %error, "its log waits where it is");
    }
}

/// Takes in all that an allocation's containers up to number `instance` have printed, and lets
/// the files of former ones go.
///
/// Errors leave lines where they are: the next call takes them.
pub fn take(
    shared: &Shared,
    stream: &Stream,
    id: AllocationId,
    instance: u32,
) -> std::io::Result<()> {
    let _only = stream.intake.lock().expect("not poisoned");
    loop {
        let mut position = stream.journal.lock().position();
        if position.instance == 0 {
            position.instance = 1;
        }
        let path = shared.engine.log_path(&container_id(id, position.instance));
        let read = read_on(&path, position)?;
        if read.lines.is_empty() && read.position.instance < instance {
            // That container has ended, and all of its lines are in.
            let next = Position {
                instance: position.instance + 1,
                ..Position::default()
            };
            stream.journal.lock().append(&[], next)?;
            remove(&path);
            continue;
        }
        if read.lines.is_empty() {
            return Ok(());
        }
        stream.journal.lock().append(&read.lines, read.position)?;
        stream.changed();
    }
}

/// A shim's file and its predecessor.
pub fn remove(path: &Path) {
    for path in [path.to_path_buf(), rotated(path)] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "old log");
        }
    }
}

fn rotated(path: &Path) -> PathBuf {
    let mut rotated = path.to_path_buf().into_os_string();
    rotated.push(".1");
    rotated.into()
}

struct Read {
    lines: Vec<Line>,
    position: Position,
}

/// Tells a file from others, also from a later one that was given the same inode.
fn identity(file: &std::fs::File) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    let born = metadata.created().ok();
    let born = born.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let born = born.map_or(0, |at| at.as_nanos() as u64);
    Ok(metadata.ino() ^ born.rotate_left(20))
}

/// What was written to `path` since; goes through a rotation without gap. Lines that were
/// rotated away before they were read are told of.
fn read_on(path: &Path, from: Position) -> std::io::Result<Read> {
    let mut read = Read {
        lines: Vec::new(),
        position: from,
    };
    let open = |path: &Path| match std::fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    // The older one first; one that came to be meanwhile is found the next time.
    let current = open(path)?;
    let former = open(&rotated(path))?;
    let now = current.as_ref().map(identity).transpose()?;
    if from.file != 0 && now == Some(from.file) {
        if let Some(file) = current {
            lines(file, &mut read)?;
        }
        return Ok(read);
    }
    let begun = match &former {
        Some(file) => Some(identity(file)?),
        None => None,
    };
    if let (Some(file), Some(begun)) = (former, begun) {
        // Both names may be of one file if it was rotated just now.
        if now != Some(begun) {
            if from.file != begun {
                read.position.file = begun;
                read.position.offset = 0;
            }
            lines(file, &mut read)?;
            if !read.lines.is_empty() {
                return Ok(read);
            }
        }
    }
    if let (Some(file), Some(now)) = (current, now) {
        read.position.file = now;
        read.position.offset = 0;
        lines(file, &mut read)?;
    }
    Ok(read)
}

/// Whole lines from where `read` stands.
fn lines(mut file: std::fs::File, read: &mut Read) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(read.position.offset))?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let (mut line, mut taken) = (Vec::new(), 0);
    while taken < BYTES_MAX {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 || line.last() != Some(&b'\n') {
            break;
        }
        taken += count as u64;
        read.position.offset += count as u64;
        if line.len() > LINE_MAX {
            continue;
        }
        let Ok(parsed) = serde_json::from_slice::<engine::LogLine>(&line) else {
            continue;
        };
        let expected = read.position.number;
        let number = parsed.number.unwrap_or(expected);
        if number > expected {
            read.lines.push(missing(number - expected, parsed.at_ms));
        }
        read.position.number = number.max(expected) + 1;
        read.lines.push(Line {
            at_ms: parsed.at_ms,
            source: Source::named(&parsed.stream).unwrap_or(Source::Stdout),
            text: parsed.text,
        });
    }
    Ok(())
}

fn missing(count: u64, at_ms: u64) -> Line {
    Line {
        at_ms: at_ms.min(now_ms()),
        source: Source::Host,
        text: format!(
            "runrig: {count} lines are missing here: they were printed faster than they could be kept, or while the host's agent was away"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn print(path: &Path, numbers: std::ops::Range<u64>) {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("opened");
        for number in numbers {
            let line = engine::LogLine {
                at_ms: 1_000 + number,
                stream: "stdout".into(),
                text: number.to_string(),
                number: Some(number),
            };
            let text = serde_json::to_string(&line).expect("encodes");
            writeln!(file, "{text}").expect("written");
        }
    }

    fn texts(read: &Read) -> Vec<&str> {
        read.lines.iter().map(|l| l.text.as_str()).collect()
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_and_then_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let start = Position {
            instance: 1,
            ..Position::default()
        };
        let nothing = read_on(&path, start).expect("no file is no error");
        assert!(nothing.lines.is_empty());

        print(&path, 0..2);
        let first = read_on(&path, start).expect("read");
        assert_eq!(texts(&first), ["0", "1"]);
        assert!(
            read_on(&path, first.position)
                .expect("read")
                .lines
                .is_empty()
        );

        // A line that is not whole yet waits.
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut f| f.write_all(b"{\"at_ms\":1"))
            .expect("written");
        assert!(
            read_on(&path, first.position)
                .expect("read")
                .lines
                .is_empty()
        );
        let whole = std::fs::metadata(&path).expect("there").len();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|f| f.set_len(whole - 10))
            .expect("cut");

        print(&path, 2..4);
        std::fs::rename(&path, rotated(&path)).expect("rotated");
        let second = read_on(&path, first.position).expect("read");
        assert_eq!(texts(&second), ["2", "3"]);
        print(&path, 4..5);
        let third = read_on(&path, second.position).expect("read");
        assert_eq!(texts(&third), ["4"]);
        assert_eq!(third.position.number, 5);

        // Rotated twice meanwhile: what is lost is told of, with its number.
        print(&path, 5..7);
        std::fs::rename(&path, rotated(&path)).expect("rotated");
        print(&path, 7..9);
        std::fs::rename(&path, rotated(&path)).expect("rotated");
        print(&path, 9..10);
        let mut at = third.position;
        let mut all = Vec::new();
        loop {
            let read = read_on(&path, at).expect("read");
            if read.lines.is_empty() {
                break;
            }
            at = read.position;
            all.extend(read.lines.into_iter().map(|l| l.text));
        }
        assert!(all[0].starts_with("runrig: 2 lines are missing"), "{all:?}");
        assert_eq!(all[1..], ["7", "8", "9"]);
    }
}
