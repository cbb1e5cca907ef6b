//! `cp`: files into and out of a container, as a tar stream that its own `tar` makes or takes.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use api::ExecFrame;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use sdk::{ExecStream, SdkError};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use types::AllocationId;

use crate::context::Session;
use crate::exec::cut;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::output;

const PIECE: usize = 64 * 1024;
/// Pieces under way.
const QUEUED: usize = 16;
/// Of what `tar` complains.
const WORDS_MAX: usize = 4 * 1024;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig cp web:/etc/nginx/nginx.conf .\n  runrig cp ./page.html shop/web:/usr/share/nginx/html/\n  runrig cp db:/var/lib/data - | tar t"
)]
pub struct Copy {
    /// PATH here, or JOB:PATH in a container; - is a tar stream
    from: Place,
    /// As FROM
    to: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Stream,
    There { job: String, path: String },
}

impl FromStr for Place {
    type Err = String;

    /// As Docker reads it: a colon before any slash parts the job from the path.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        match text.split_once(':') {
            // project/service:/path, but neither ./a:b nor /a:b
            Some((job, path)) if !job.starts_with(['.', '/']) && !job.is_empty() => {
                if path.is_empty() {
                    return Err(format!("\"{text}\" names no path: write {job}:/PATH"));
                }
                Ok(Self::There {
                    job: job.into(),
                    path: path.into(),
                })
            }
            _ if text.is_empty() => Err("write a path".into()),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

pub async fn copy(session: &Session, args: &Copy) -> Result {
    match (&args.from, &args.to) {
        (Place::There { job, path }, to) if !matches!(to, Place::There { .. }) => {
            let id = find(session, job).await?;
            take(session, id, path, to).await
        }
        (from, Place::There { job, path }) if !matches!(from, Place::There { .. }) => {
            let id = find(session, job).await?;
            give(session, id, from, path).await
        }
        (Place::There { .. }, _) => Err(Failure::usage(
            "from one container to another",
            "a copy goes by way of this machine",
            "Copy it here first: `runrig cp JOB:PATH .`",
        )),
        _ => Err(Failure::usage(
            "neither path is in a container",
            "one of them must be JOB:PATH",
            "Write for example `runrig cp web:/etc/hosts .`",
        )),
    }
}

async fn find(session: &Session, job: &str) -> Result<AllocationId> {
    let jobs = Jobs::of(session).await?;
    Ok(jobs.find(job)?.running()?.allocation)
}

/// A command in the container, with its ends.
struct Remote {
    stream: ExecStream,
    command: String,
    /// What it said on stderr.
    words: Vec<u8>,
}

impl Remote {
    async fn start(session: &Session, id: AllocationId, command: &[&str]) -> Result<Self> {
        let mut stream = session.client.exec(&session.key()?, id).await?;
        let start = ExecFrame::Start {
            command: command.iter().map(|word| word.to_string()).collect(),
            env: Vec::new(),
            user: None,
            working_dir: None,
            terminal: false,
            rows: 24,
            columns: 80,
        };
        if !ExecStream::send(&mut stream.input, &start).await {
            return Err(cut());
        }
        let command = command.join(" ");
        let words = Vec::new();
        Ok(Self {
            stream,
            command,
            words,
        })
    }

    /// What it writes next; `Err` is how it ended.
    async fn read(&mut self) -> std::result::Result<Vec<u8>, Result<i32>> {
        loop {
            match ExecStream::receive(&mut self.stream.output).await {
                Some(ExecFrame::Stdout { data }) => {
                    return Ok(BASE64.decode(data).unwrap_or_default());
                }
                Some(ExecFrame::Stderr { data }) => {
                    let room = WORDS_MAX.saturating_sub(self.words.len());
                    let said = BASE64.decode(data).unwrap_or_default();
                    self.words.extend(said.into_iter().take(room));
                }
                Some(ExecFrame::Exit { code }) => return Err(Ok(code)),
                Some(ExecFrame::Failed { problem }) => {
                    return Err(Err(SdkError::Refused(problem).into()));
                }
                Some(_) => {}
                None => return Err(Err(cut())),
            }
        }
    }

    async fn write(&mut self, frame: &ExecFrame) -> bool {
        ExecStream::send(&mut self.stream.input, frame).await
    }

    fn ended(&self, code: i32) -> Result {
        if code == 0 {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&self.words);
        let words = words.trim();
        if code == 127 {
            return Err(Failure::new(
                failure::FAILED,
                "the container has no tar",
                output::printable(words),
                "Use an image that has it, or `runrig exec JOB -- cat FILE > FILE`.",
            ));
        }
        let why = match words.is_empty() {
            true => format!("exit code {code}"),
            false => words.to_string(),
        };
        let exit = match words.contains("No such file") {
            true => failure::NOT_FOUND,
            false => failure::FAILED,
        };
        Err(Failure::new(
            exit,
            format!("`{}` in the container", self.command),
            output::printable(&why),
            "See what is there with `runrig exec JOB -- ls -l PATH`.",
        ))
    }
}

/// Folder and last part of a path in the container.
fn parted(path: &str) -> (&str, &str) {
    let path = match path.trim_end_matches('/') {
        "" => return ("/", "."),
        trimmed => trimmed,
    };
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

// --- out of a container

async fn take(session: &Session, id: AllocationId, path: &str, to: &Place) -> Result {
    let (folder, name) = parted(path);
    let mut remote = Remote::start(session, id, &["tar", "cf", "-", "-C", folder, name]).await?;
    remote.write(&ExecFrame::StdinClosed).await;
    let (pieces, received) = mpsc::channel(QUEUED);
    let to = to.clone();
    let name = name.to_string();
    let mut unpacking = tokio::task::spawn_blocking(move || match to {
        Place::Here(path) => unpack(Pieces::new(received), &name, &path),
        _ => {
            let mut pieces = Pieces::new(received);
            std::io::copy(&mut pieces, &mut std::io::stdout().lock()).map(|_| ())
        }
    });
    let end = loop {
        match remote.read().await {
            // Whoever unpacks may have failed: it says why.
            Ok(piece) => {
                if pieces.send(piece).await.is_err() {
                    break Ok(0);
                }
            }
            Err(end) => break end,
        }
    };
    let code = end?;
    remote.ended(code)?;
    drop(pieces);
    let unpacked = (&mut unpacking).await.map_err(anyhow::Error::from)?;
    unpacked.map_err(|e| {
        Failure::new(
            failure::FAILED,
            format!("write what came from {path}"),
            e.to_string(),
            "Choose another place.",
        )
    })
}

/// A reader over what arrives.
struct Pieces {
    received: mpsc::Receiver<Vec<u8>>,
    rest: std::io::Cursor<Vec<u8>>,
}

impl Pieces {
    fn new(received: mpsc::Receiver<Vec<u8>>) -> Self {
        let rest = std::io::Cursor::new(Vec::new());
        Self { received, rest }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = Read::read(&mut self.rest, buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.received.blocking_recv() {
                Some(piece) => self.rest = std::io::Cursor::new(piece),
                None => return Ok(0),
            }
        }
    }
}

/// Into a folder beside the target first: what a container sends cannot lead elsewhere, and a
/// copy that breaks off leaves the target as it was.
fn unpack(stream: impl Read, name: &str, to: &Path) -> std::io::Result<()> {
    let into = to.is_dir();
    let folder = match to.parent() {
        _ if into => to,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let aside = tempfile::Builder::new()
        .prefix(".runrig-cp-")
        .tempdir_in(folder)?;
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        entry?.unpack_in(aside.path())?;
    }
    if name == "." {
        let target = if into {
            to.to_path_buf()
        } else {
            std::fs::create_dir_all(to)?;
            to.into()
        };
        return merge(aside.path(), &target);
    }
    let source = aside.path().join(name);
    let target = if into {
        to.join(name)
    } else {
        to.to_path_buf()
    };
    merge(&source, &target)
}

/// Moves `from` to `to`; folders that are on both sides become one.
fn merge(from: &Path, to: &Path) -> std::io::Result<()> {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_dir());
    if !is_folder(from) || !is_folder(to) {
        return std::fs::rename(from, to);
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        merge(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

// --- into a container

async fn give(session: &Session, id: AllocationId, from: &Place, path: &str) -> Result {
    let into = path.ends_with('/') || is_folder(session, id, path).await?;
    let (folder, name) = match (from, into) {
        (Place::Here(local), true) => (path, last_part(local)?),
        (Place::Here(_), false) => {
            let (folder, name) = parted(path);
            (folder, name.to_string())
        }
        // A stream has names of its own.
        _ => (path, String::new()),
    };
    let mut remote = Remote::start(session, id, &["tar", "xof", "-", "-C", folder]).await?;
    let (pieces, mut made) = mpsc::channel(QUEUED);
    let source = from.clone();
    let packing = tokio::spawn(async move {
        match source {
            Place::Here(local) => {
                let sink = Sink(pieces);
                let packed = tokio::task::spawn_blocking(move || pack(&local, &name, sink)).await;
                packed.map_err(std::io::Error::other)?
            }
            _ => pour(pieces).await,
        }
    });
    let mut packed = None;
    let code = loop {
        tokio::select! {
            piece = made.recv(), if packed.is_none() => match piece {
                Some(piece) => {
                    let data = BASE64.encode(piece);
                    remote.write(&ExecFrame::Stdin { data }).await;
                }
                None => {
                    remote.write(&ExecFrame::StdinClosed).await;
                    packed = Some(());
                }
            },
            read = remote.read() => match read {
                Ok(_) => {}
                Err(end) => break end?,
            },
        }
    };
    drop(made);
    if packed.is_some() {
        packing.await.map_err(anyhow::Error::from)?.map_err(|e| {
            Failure::usage(
                "read what is to be copied",
                e.to_string(),
                "Name another path.",
            )
        })?;
    }
    remote.ended(code)
}

async fn is_folder(session: &Session, id: AllocationId, path: &str) -> Result<bool> {
    let mut remote = Remote::start(session, id, &["test", "-d", path]).await?;
    remote.write(&ExecFrame::StdinClosed).await;
    loop {
        if let Err(end) = remote.read().await {
            return Ok(end? == 0);
        }
    }
}

/// The name that a path has in its folder; `.` has that of the folder that it is.
fn last_part(path: &Path) -> Result<String> {
    let named = match path.components().next_back() {
        Some(Component::Normal(_)) => path.to_path_buf(),
        _ => path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
    };
    let name = named.file_name().map(|n| n.to_string_lossy().into_owned());
    name.ok_or_else(|| {
        Failure::usage(
            format!("{}", path.display()),
            "it has no name of its own",
            "Say under which name: `runrig cp PATH JOB:/FOLDER/NAME`.",
        )
    })
}

struct Sink(mpsc::Sender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        match self.0.blocking_send(piece.to_vec()) {
            Ok(()) => Ok(piece.len()),
            Err(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(local: &Path, name: &str, sink: Sink) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(PIECE, sink));
    archive.follow_symlinks(false);
    if local.symlink_metadata()?.is_dir() {
        archive.append_dir_all(name, local)?;
    } else {
        archive.append_path_with_name(local, name)?;
    }
    archive.into_inner()?.flush()
}

/// Stdin as it is.
async fn pour(pieces: mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = stdin.read(&mut buffer).await?;
        if count == 0 || pieces.send(buffer[..count].to_vec()).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_docker_reads_them() {
        let there = |job: &str, path: &str| {
            Ok(Place::There {
                job: job.into(),
                path: path.into(),
            })
        };
        assert_eq!("web:/etc/hosts".parse(), there("web", "/etc/hosts"));
        assert_eq!("shop/web:tmp".parse(), there("shop/web", "tmp"));
        assert_eq!("./a:b".parse(), Ok(Place::Here("./a:b".into())));
        assert_eq!("/a:b".parse(), Ok(Place::Here("/a:b".into())));
        assert_eq!("-".parse(), Ok(Place::Stream));
        assert!("web:".parse::<Place>().is_err() && "".parse::<Place>().is_err());
        for (path, expected) in [
            ("/etc/hosts", ("/etc", "hosts")),
            ("/etc/", ("/", "etc")),
            ("/", ("/", ".")),
            ("a", (".", "a")),
            ("a/b", ("a", "b")),
        ] {
            assert_eq!(parted(path), expected, "{path}");
        }
    }

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // `set_path` would refuse what a hostile container may send.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).expect("appended");
        }
        builder.into_inner().expect("an archive")
    }

    #[test]
    fn a_copy_lands_where_docker_puts_it_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let one = archive(&[("hosts", "one")]);
        // To a new name, into a folder, over a file.
        unpack(&one[..], "hosts", &at("renamed")).expect("copied");
        assert_eq!(read(at("renamed")), "one");
        unpack(&one[..], "hosts", folder.path()).expect("copied");
        assert_eq!(read(at("hosts")), "one");
        let two = archive(&[("hosts", "two")]);
        unpack(&two[..], "hosts", folder.path()).expect("copied");
        assert_eq!(read(at("hosts")), "two");
        // A folder joins the one that is there.
        std::fs::create_dir_all(at("etc")).expect("made");
        std::fs::write(at("etc/kept"), "kept").expect("written");
        let etc = archive(&[("etc/hosts", "three"), ("etc/sub/x", "x")]);
        unpack(&etc[..], "etc", folder.path()).expect("copied");
        assert_eq!(read(at("etc/hosts")), "three");
        assert_eq!(read(at("etc/kept")), "kept");
        assert_eq!(read(at("etc/sub/x")), "x");
        // What leads outside is passed over, and nothing is left of the way there.
        let evil = archive(&[("../evil", "evil"), ("/evil", "evil")]);
        let inner = at("inner");
        std::fs::create_dir(&inner).expect("made");
        assert!(unpack(&evil[..], "evil2", &inner.join("evil2")).is_err());
        assert!(!at("evil").exists() && !Path::new("/evil").exists());
        assert_eq!(std::fs::read_dir(&inner).expect("read").count(), 0);
    }
}
