//! The root that the builder sees: its program and the libraries that this needs, copied from
//! this machine's packages, and nothing else of the machine.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use types::Digest;

use super::Builder;

/// Where the program lies in the root.
pub const PROGRAM: &str = "/usr/bin/buildah";

const FOLDERS: [&str; 15] = [
    "usr/bin",
    "etc/containers",
    "etc/ssl/certs",
    "context",
    "contexts",
    "dev",
    "from",
    "out",
    "proc",
    "recipe",
    "root",
    "run",
    "sys",
    "tmp",
    "var/tmp",
];

/// Images are verified by digest before the builder sees them.
const FILES: [(&str, &str); 5] = [
    (
        "etc/containers/policy.json",
        "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n",
    ),
    (
        "etc/containers/registries.conf",
        "unqualified-search-registries = [\"docker.io\"]\n",
    ),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// So that what the builder fetches by itself is from whom it says.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Makes it, or finds it made; those of other versions go.
pub fn make(folder: &Path, builder: &Builder, uid_base: u32) -> Result<PathBuf> {
    let meta = builder
        .program
        .metadata()
        .with_context(|| format!("look at {}", builder.program.display()))?;
    let version = (builder.version.as_str(), meta.len(), meta.mtime(), uid_base);
    let name = format!(
        "root-{}",
        &Digest::of_value("runrig-builder", &version).hex()[..12]
    );
    let root = folder.join(&name);
    if root.is_dir() {
        return Ok(root);
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("root-") {
            super::remove(&entry.path())?;
        }
    }
    let fresh = folder.join("root-new");
    std::fs::create_dir(&fresh).with_context(|| format!("make {}", fresh.display()))?;
    for path in FOLDERS {
        std::fs::create_dir_all(fresh.join(path))?;
    }
    for (path, text) in FILES {
        std::fs::write(fresh.join(path), text)?;
    }
    if Path::new("/").join(AUTHORITIES).exists() {
        std::fs::copy(Path::new("/").join(AUTHORITIES), fresh.join(AUTHORITIES))?;
    }
    copy(
        &builder.program,
        &fresh.join(PROGRAM.trim_start_matches('/')),
    )?;
    for library in libraries(&builder.program)? {
        let inside = library.strip_prefix("/").context("a whole path")?;
        copy(&library, &fresh.join(inside))?;
    }
    give(&fresh, uid_base)?;
    std::fs::rename(&fresh, &root).with_context(|| format!("make {}", root.display()))?;
    Ok(root)
}

/// A folder of the containers' root.
pub fn own_folder(path: &Path, uid_base: u32) -> Result<()> {
    std::fs::create_dir_all(path)
        .and_then(|()| chown(path, Some(uid_base), Some(uid_base)))
        .with_context(|| format!("make {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a file has a folder")?;
    std::fs::create_dir_all(parent)?;
    std::fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn give(path: &Path, uid_base: u32) -> Result<()> {
    chown(path, Some(uid_base), Some(uid_base))?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), uid_base)?;
        }
    }
    Ok(())
}

/// The libraries that the loader would give `program`, and the loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("not found") {
        bail!(
            "a library of {} is missing: install it again",
            program.display()
        );
    }
    Ok(paths(&text))
}

/// `libc.so.6 => /lib/x/libc.so.6 (0x7f…)`, `/lib64/ld-linux.so.2 (0x7f…)`; a program that
/// needs none says so.
fn paths(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let place = line.split("=>").last()?.split_whitespace().next()?;
        place.starts_with('/').then(|| PathBuf::from(place))
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_the_loader_says() {
        let text = "\tlinux-vdso.so.1 (0x00007f85a8daf000)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f85a8ad8000)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f85a8daf000)\n";
        let found = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths(text), found.map(PathBuf::from));
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }
}
