//! Folders that strangers write to: a container's working directory where its image has none,
//! a part of a volume.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::ContainerSpec;
use crate::fault::StartFault;

/// Makes what is missing of `spec.cwd` below `root`, owned by the container's root. Links
/// are followed inside of `root` and never out of it.
///
/// Errors: something else than a directory is in the way.
pub fn make(root: &Path, spec: &ContainerSpec) -> Result<(), StartFault> {
    let cwd = spec.cwd.trim_matches('/');
    let mounted = |target: &str| Path::new(cwd).starts_with(target.trim_matches('/'));
    if cwd.is_empty() || spec.mounts.iter().any(|m| mounted(&m.target)) {
        return Ok(());
    }
    let fault = |error: Errno| StartFault::NoDirectory {
        path: spec.cwd.clone(),
        why: error.desc().to_lowercase(),
    };
    let owner = (spec.uid_base, spec.uid_base);
    make_below(&top(root).map_err(fault)?, cwd, owner)
        .map(drop)
        .map_err(fault)
}

/// What lies at `path` below `directory`, held open, and whether it is a file; a folder of the
/// user that `spec` runs as if nothing is there. Whoever writes to `directory` meanwhile leads
/// nobody out of it.
pub fn part(directory: &Path, path: &str, spec: &ContainerSpec) -> nix::Result<(OwnedFd, bool)> {
    let root = top(directory)?;
    let there = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let found = match open(&root, &there, 0) {
        Err(Errno::ENOENT) => {
            let owner = (spec.uid_base + spec.user.uid, spec.uid_base + spec.user.gid);
            make_below(&root, path, owner)?
        }
        opened => opened?,
    };
    let mode = nix::sys::stat::fstat(&found)?.st_mode;
    match mode & libc::S_IFMT {
        libc::S_IFDIR => Ok((found, false)),
        libc::S_IFREG => Ok((found, true)),
        _ => Err(Errno::EINVAL),
    }
}

fn top(path: &Path) -> nix::Result<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
}

/// The last folder of `path`, every one that is missing made on the way.
fn make_below(root: &OwnedFd, path: &str, (uid, gid): (u32, u32)) -> nix::Result<OwnedFd> {
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let (mut at, mut folder) = (
        String::from("."),
        open(root, &text(".")?, libc::O_DIRECTORY)?,
    );
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        at.push('/');
        at.push_str(part);
        let path = text(&at)?;
        folder = match open(root, &path, libc::O_DIRECTORY) {
            Err(Errno::ENOENT) => {
                let name = text(part)?;
                let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
                match nix::sys::stat::mkdirat(&folder, name.as_c_str(), mode) {
                    // Another replica was first.
                    Err(Errno::EEXIST) => {}
                    made => {
                        made?;
                        let owner = Some(nix::unistd::Uid::from_raw(uid));
                        let group = Some(nix::unistd::Gid::from_raw(gid));
                        let itself = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                        nix::unistd::fchownat(&folder, name.as_c_str(), owner, group, itself)?;
                    }
                }
                open(root, &path, libc::O_DIRECTORY)?
            }
            opened => opened?,
        };
    }
    Ok(folder)
}

/// `path` as it is found by who has `root` for a root.
fn open(root: &OwnedFd, path: &CString, more: i32) -> nix::Result<OwnedFd> {
    // struct open_how: flags, mode, resolve.
    let flags = libc::O_PATH | libc::O_CLOEXEC | more;
    let how = [flags as u64, 0, libc::RESOLVE_IN_ROOT];
    // SAFETY: path and structure live through the call and have the kernel's layout.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            how.as_ptr(),
            std::mem::size_of_val(&how),
        )
    };
    // SAFETY: just made, owned by nobody else.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
