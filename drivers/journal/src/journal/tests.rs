use proptest::prelude::*;

use super::*;
use crate::Source;

fn line(number: u64) -> Line {
    Line {
        at_ms: 1_000 + number,
        source: match number % 3 {
            0 => Source::Stderr,
            _ => Source::Stdout,
        },
        text: format!("line {number} {}", "x".repeat((number % 50) as usize)),
    }
}

fn lines(from: u64, to: u64) -> Vec<Line> {
    (from..to).map(line).collect()
}

/// Position that says how many lines of the source were taken.
fn at(number: u64) -> Position {
    Position {
        instance: 1,
        file: 7,
        offset: number * 3,
        number,
    }
}

/// All that is kept, by pages of `count`.
fn all(shared: &Shared, from: u64, filter: &Filter, count: usize) -> Vec<(u64, Line)> {
    let (mut next, mut all) = (from, Vec::new());
    loop {
        let page = shared.read(next, filter, count);
        assert!(page.lines.len() <= count);
        next = page.next;
        all.extend(page.lines);
        if page.end {
            return all;
        }
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn lines_are_numbered_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path()).expect("opened");
    for step in 0..100 {
        let to = (step + 1) * 1_000;
        let part = lines(step * 1_000, to);
        journal.append(&part, at(to)).expect("kept");
    }
    assert!(journal.segments.len() > 3, "{}", journal.segments.len());
    // Made of text that repeats: much smaller compressed.
    assert!(journal.bytes() < 3 << 20, "{}", journal.bytes());
    drop(journal);

    let shared = Shared::new(Journal::open(folder.path()).expect("opened"));
    assert_eq!(shared.lock().next(), 100_000);
    assert_eq!(shared.lock().position(), at(100_000));
    let found = all(&shared, 0, &Filter::default(), 777);
    assert!(
        found
            .iter()
            .map(|(n, l)| (*n, l.clone()))
            .eq((0..100_000).map(|n| (n, line(n))))
    );

    let filter = Filter::between(Some(51_000), Some(51_100));
    let page = shared.read(0, &filter, 1_000);
    assert!(page.end, "blocks of other times are not read");
    assert_eq!(page.lines.len(), 100);
    assert_eq!(page.lines[0], (50_000, line(50_000)));
    let filter = filter.grep("line [0-9]*7 ").expect("a pattern");
    assert_eq!(all(&shared, 0, &filter, 3).len(), 10);

    for (filter, count, number) in [
        (Filter::default(), 0, 100_000),
        (Filter::default(), 1, 99_999),
        (Filter::default(), 60_000, 40_000),
        (Filter::default(), usize::MAX, 0),
        (filter.clone(), 2, 50_087),
        (filter, 11, 0),
    ] {
        assert_eq!(shared.tail(&filter, count, || true), number, "{count}");
    }
    assert_eq!(shared.read(200_000, &Filter::default(), 1).lines, []);
}

#[test]
fn what_is_too_much_or_too_old_goes_and_numbers_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path()).expect("opened");
    for step in 0..10 {
        journal
            .append(&lines(step * 10, step * 10 + 10), at(step))
            .expect("kept");
        journal.close().expect("closed");
    }
    journal.append(&lines(100, 110), at(11)).expect("kept");
    let bytes = journal.bytes();
    journal.prune(bytes - 1, 0).expect("pruned");
    assert_eq!(journal.first(), 10);
    // Segments with lines at 1000 + n: those all older than 1025 go, one that is partly so stays.
    journal.prune(u64::MAX, 1_025).expect("pruned");
    assert_eq!(journal.first(), 20);
    let shared = Shared::new(journal);
    let page = shared.read(5, &Filter::default(), 2);
    assert_eq!((page.lost, page.lines[0].0), (15, 20));

    shared.lock().prune(0, 0).expect("pruned");
    for _ in 0..2 {
        let journal = Journal::open(folder.path()).expect("opened");
        assert_eq!((journal.first(), journal.next()), (110, 110));
        assert_eq!(journal.position(), at(11));
        assert_eq!(files(folder.path()).len(), 1);
    }
    let mut journal = Journal::open(folder.path()).expect("opened");
    journal.prune(0, u64::MAX).expect("nothing to do");
    journal.append(&lines(110, 111), at(12)).expect("kept");
    let shared = Shared::new(journal);
    assert_eq!(all(&shared, 0, &Filter::default(), 9), [(110, line(110))]);
}

#[test]
fn a_block_that_does_not_hold_is_counted_as_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path()).expect("opened");
    journal.append(&lines(0, 20_000), at(20_000)).expect("kept");
    journal.close().expect("closed");
    let segment = journal.segments[0].clone();
    let place = segment.places[1];
    let mut bytes = std::fs::read(&segment.path).expect("read");
    bytes[place.offset as usize + 100] ^= 1;
    std::fs::write(&segment.path, &bytes).expect("written");

    let shared = Shared::new(journal);
    let page = shared.read(0, &Filter::default(), usize::MAX);
    assert_eq!(page.lost, u64::from(place.count));
    assert_eq!(page.lines.len() as u64 + page.lost, page.next);

    // Without its index a segment is read up to where it is damaged.
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&segment.path, &bytes).expect("written");
    let shared = Shared::new(Journal::open(folder.path()).expect("opened"));
    let page = shared.read(0, &Filter::default(), usize::MAX);
    assert_eq!(page.lines.len() as u64, place.first);
    assert_eq!((page.next, page.lost), (20_000, 20_000 - place.first));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Close,
    Reopen,
    /// Killed while it wrote: so many bytes of the last append did not arrive.
    Torn(u64),
    /// Killed after a segment was written and before its tail was gone.
    TailLeft,
    Prune(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..1_500u64).prop_map(Step::Append),
        1 => Just(Step::Close),
        2 => Just(Step::Reopen),
        3 => (1..400u64).prop_map(Step::Torn),
        1 => Just(Step::TailLeft),
        1 => (0..200_000u64).prop_map(Step::Prune),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Whatever happens to the writer, a source that goes on from the position it is told gets
    /// every line in once: no gap, no repeat.
    #[test]
    fn no_gap_and_no_repeat(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("opened");
        for step in steps {
            // The source goes on where the journal says that it stands.
            let taken = journal.position().number;
            prop_assert_eq!(taken, journal.next());
            match step {
                Step::Append(count) => {
                    let to = taken + count;
                    journal.append(&lines(taken, to), at(to)).expect("kept");
                }
                Step::Close => journal.close().expect("closed"),
                Step::Reopen => journal = Journal::open(folder.path()).expect("opened"),
                Step::Torn(bytes) => {
                    let tail = journal.tail.path.clone();
                    // What is synced stays.
                    let anchor = journal.tail.places.first().filter(|p| p.count == 0);
                    let least = anchor.map_or(0, |p| u64::from(p.length));
                    let length = journal.tail.bytes.saturating_sub(bytes).max(least);
                    drop(journal);
                    let file = File::options().write(true).open(tail).expect("there");
                    file.set_len(length).expect("cut");
                    journal = Journal::open(folder.path()).expect("opened");
                }
                Step::TailLeft => {
                    let tail = journal.tail.path.clone();
                    let bytes = std::fs::read(&tail).expect("read");
                    journal.close().expect("closed");
                    drop(journal);
                    if !bytes.is_empty() {
                        std::fs::write(tail, bytes).expect("written");
                    }
                    journal = Journal::open(folder.path()).expect("opened");
                }
                Step::Prune(bytes) => journal.prune(bytes, 0).expect("pruned"),
            }
        }
        let (first, next) = (journal.first(), journal.next());
        let shared = Shared::new(journal);
        let found = all(&shared, 0, &Filter::default(), 500);
        prop_assert_eq!(found.len() as u64, next - first);
        for ((number, found), expected) in found.into_iter().zip(first..) {
            prop_assert_eq!(number, expected);
            prop_assert_eq!(found, line(expected));
        }
    }
}

/// What this machine takes and finds, beside what its disk takes: `cargo test --release -p
/// journal -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    use std::time::Instant;
    const LINES: u64 = 2_000_000;
    let text = |n: u64| {
        format!(
            "2026-11-21T12:00:{:02}.{:03}Z INFO request id={:016x} path=/api/items/{} status=200 took={}us",
            n / 1000 % 60,
            n % 1000,
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            n % 977,
            n * 7919 % 10_007,
        )
    };
    let all: Vec<Line> = (0..LINES)
        .map(|n| Line {
            at_ms: n,
            source: Source::Stdout,
            text: text(n),
        })
        .collect();
    let bytes: u64 = all.iter().map(|l| l.text.len() as u64).sum();
    let per = |what: &str, lines: u64, bytes: u64, since: Instant| {
        let s = since.elapsed().as_secs_f64();
        println!(
            "{what}: {:.0} lines/s, {:.0} MB/s",
            lines as f64 / s,
            bytes as f64 / s / 1e6
        );
    };
    let folder = tempfile::tempdir().expect("a folder");

    let began = Instant::now();
    let mut file = File::create(folder.path().join("plain")).expect("made");
    for part in all.chunks(1_000) {
        let mut plain = Vec::new();
        for line in part {
            plain.extend(line.text.as_bytes());
            plain.push(b'\n');
        }
        file.write_all(&plain).expect("written");
    }
    file.sync_all().expect("synced");
    per("a plain file, synced", LINES, bytes, began);

    let began = Instant::now();
    let mut journal = Journal::open(&folder.path().join("journal")).expect("opened");
    for (number, part) in all.chunks(1_000).enumerate() {
        journal.append(part, at(number as u64)).expect("kept");
    }
    per("kept in a journal", LINES, bytes, began);
    println!(
        "on disk: {:.2} of the text",
        journal.bytes() as f64 / bytes as f64
    );

    let shared = Shared::new(journal);
    let began = Instant::now();
    assert_eq!(
        self::all(&shared, 0, &Filter::default(), 10_000).len() as u64,
        LINES
    );
    per("read", LINES, bytes, began);

    let began = Instant::now();
    let filter = Filter::default()
        .grep("status=500|took=1000us")
        .expect("a pattern");
    let found = self::all(&shared, 0, &filter, 10_000).len();
    per(
        &format!("searched by a pattern ({found} found)"),
        LINES,
        bytes,
        began,
    );

    let began = Instant::now();
    let filter = Filter::between(Some(LINES / 2), Some(LINES / 2 + 100));
    assert_eq!(self::all(&shared, 0, &filter, 10_000).len(), 100);
    println!(
        "100 lines by their time: {:.2} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
}
