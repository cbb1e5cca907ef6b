//! Make a container's working directory where its image has none.

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
    let text = |text: &str| CString::new(text).map_err(|_| fault(Errno::EINVAL));
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(root, flags, nix::sys::stat::Mode::empty()).map_err(fault)?;
    let (mut at, mut folder) = (String::from("."), open(&root, &text(".")?).map_err(fault)?);
    for part in cwd.split('/').filter(|p| !p.is_empty() && *p != ".") {
        at.push('/');
        at.push_str(part);
        let path = text(&at)?;
        folder = match open(&root, &path) {
            Err(Errno::ENOENT) => {
                let name = text(part)?;
                let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
                nix::sys::stat::mkdirat(&folder, name.as_c_str(), mode).map_err(fault)?;
                let owner = Some(nix::unistd::Uid::from_raw(spec.uid_base));
                let group = Some(nix::unistd::Gid::from_raw(spec.uid_base));
                let itself = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                nix::unistd::fchownat(&folder, name.as_c_str(), owner, group, itself)
                    .map_err(fault)?;
                open(&root, &path).map_err(fault)?
            }
            opened => opened.map_err(fault)?,
        };
    }
    Ok(())
}

/// `path` as it is found by who has `root` for a root.
fn open(root: &OwnedFd, path: &CString) -> nix::Result<OwnedFd> {
    // struct open_how: flags, mode, resolve.
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
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
