//! What a container says, line by line, in a file that does not grow without end.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::LogLine;
use crate::shim::now_ms;

/// Longer lines are cut into several.
const LINE_MAX: usize = 16 << 10;

/// One stream of a container, being read.
pub struct Output {
    pub from: OwnedFd,
    pub stream: &'static str,
    line: Vec<u8>,
    pub open: bool,
}

impl Output {
    pub fn new(from: OwnedFd, stream: &'static str) -> Self {
        Self {
            from,
            stream,
            line: Vec::new(),
            open: true,
        }
    }

    /// Takes what is there; blocks if nothing is.
    pub fn pump(&mut self, log: &mut Log) {
        let mut buffer = [0u8; 32 << 10];
        // SAFETY: reads into a buffer of ours.
        let read = unsafe {
            libc::read(
                self.from.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        if read <= 0 {
            let again = [Some(libc::EINTR), Some(libc::EAGAIN)];
            self.open = read < 0 && again.contains(&std::io::Error::last_os_error().raw_os_error());
            return;
        }
        for byte in &buffer[..read as usize] {
            if *byte == b'\n' {
                log.write(self.stream, &self.line);
                self.line.clear();
            } else {
                self.line.push(*byte);
                if self.line.len() >= LINE_MAX {
                    self.flush(log);
                }
            }
        }
    }

    /// What has no line end yet is a line.
    pub fn flush(&mut self, log: &mut Log) {
        if !self.line.is_empty() {
            log.write(self.stream, &self.line);
            self.line.clear();
        }
    }
}

/// The file and its predecessor: at most twice [`crate::LOG_BYTES_MAX`] on disk.
pub struct Log {
    path: PathBuf,
    file: Option<std::fs::File>,
    bytes: u64,
    /// Lines so far.
    count: u64,
}

impl Log {
    pub fn open(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .ok();
        let bytes = file
            .as_ref()
            .and_then(|f| f.metadata().ok())
            .map_or(0, |m| m.len());
        Self {
            path: path.into(),
            file,
            bytes,
            count: 0,
        }
    }

    /// A full disk costs log lines, never the container.
    pub fn write(&mut self, stream: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let line = LogLine {
            at_ms: now_ms(),
            stream: stream.into(),
            text,
            number: Some(self.count),
        };
        // Also of a line that the disk does not take: whoever reads sees that one is missing.
        self.count += 1;
        let Ok(mut bytes) = serde_json::to_vec(&line) else {
            return;
        };
        bytes.push(b'\n');
        if self.bytes + bytes.len() as u64 > crate::LOG_BYTES_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = std::fs::rename(&self.path, old);
            let count = self.count;
            *self = Self::open(&self.path);
            self.count = count;
        }
        if let Some(file) = &mut self.file
            && file.write_all(&bytes).is_ok()
        {
            self.bytes += bytes.len() as u64;
        }
    }
}
