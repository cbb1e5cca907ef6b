//! Bytes on disk under some directories.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Entries looked at in one walk. A larger tree is counted up to there.
const ENTRIES_MAX: usize = 500_000;

/// Blocks in use, hard links once; other file systems mounted inside are left out.
pub fn disk_bytes(directories: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    let mut stack: Vec<(PathBuf, u64)> = directories
        .iter()
        .filter_map(|d| Some((d.clone(), d.symlink_metadata().ok()?.dev())))
        .collect();
    let mut bytes = 0;
    let mut left = ENTRIES_MAX;
    while let Some((directory, device)) = stack.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if left == 0 {
                return bytes;
            }
            left -= 1;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != device
                || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert((device, meta.ino())))
            {
                continue;
            }
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                stack.push((entry.path(), device));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("sub")).expect("made");
        let file = dir.path().join("sub/file");
        std::fs::write(&file, vec![1; 1 << 20]).expect("written");
        let all = [dir.path().to_path_buf()];
        let before = disk_bytes(&all);
        assert!(
            ((1 << 20)..(1 << 20) + (64 << 10)).contains(&before),
            "{before}"
        );
        std::fs::hard_link(&file, dir.path().join("link")).expect("linked");
        assert_eq!(disk_bytes(&all), before);
        assert_eq!(disk_bytes(&["/no/such/folder".into()]), 0);
    }
}
