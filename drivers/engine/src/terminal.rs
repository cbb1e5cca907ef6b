//! Pseudo terminals of a container: made in its own `/dev/pts`, so that it knows their names.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::pty::Winsize;

use crate::handover;

/// What the container's `/dev/pts` is mounted as.
const PTMX: &str = "/dev/pts/ptmx";
/// How long a runtime may take to hand the terminal over.
const HAND_OVER: Duration = Duration::from_secs(10);

pub fn window(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows.max(1),
        ws_col: columns.max(1),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A terminal that is gone has no size.
pub fn resize(master: &impl AsRawFd, rows: u16, columns: u16) {
    let size = window(rows, columns);
    // SAFETY: passes a window size that lives through the call.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// The other end of `master`, whatever name it has and wherever.
///
/// Errors: `master` is no terminal's.
pub fn slave(master: &impl AsRawFd) -> std::io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: asks about a descriptor of ours; `unlocked` lives through the call.
    let fd = unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked);
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the terminal to the user that will work at it.
pub fn own(slave: &OwnedFd, uid: u32, gid: u32) -> std::io::Result<()> {
    std::os::unix::fs::fchown(slave, Some(uid), Some(gid))?;
    nix::sys::stat::fchmod(slave, nix::sys::stat::Mode::from_bits_truncate(0o620))?;
    Ok(())
}

/// A new terminal of the file system that we are in: master and slave.
pub fn open_here() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use std::os::unix::fs::OpenOptionsExt;
    // Whatever a container put there: a pipe would not block, a link is not followed, and
    // only a real one has another end.
    let master = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(PTMX)?;
    let master = OwnedFd::from(master);
    // SAFETY: clears a flag of a descriptor of ours.
    unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) };
    let slave = slave(&master)?;
    Ok((master, slave))
}

/// Makes `slave` the terminal of a session that we begin: input, output and error of ours.
pub fn enter(slave: &OwnedFd) {
    // SAFETY: plain requests about this process and open descriptors of ours.
    unsafe {
        libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0);
        for fd in 0..3 {
            libc::dup2(slave.as_raw_fd(), fd);
        }
    }
}

/// Waits for a terminal; `None` if the other side closes without one.
pub fn receive(from: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    Ok(handover::receive(from, &mut [0; 64])?.1)
}

/// Where a runtime hands the terminal over that it made inside of the container.
pub struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    pub fn bind(path: &Path) -> Result<Self, String> {
        UnixListener::bind(path)
            .map(Self)
            .map_err(|e| format!("wait for a terminal at {}: {e}", path.display()))
    }

    /// After the runtime has created the container.
    pub fn take(self) -> Result<OwnedFd, String> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let failed = |why: String| format!("take the terminal over: {why}");
        let limit = PollTimeout::try_from(HAND_OVER).map_err(|e| failed(e.to_string()))?;
        let waits = |fd: std::os::fd::BorrowedFd<'_>| -> Result<(), String> {
            let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
            match poll(&mut fds, limit) {
                Ok(1..) => Ok(()),
                Ok(_) => Err(failed("the runtime gave none".into())),
                Err(error) => Err(failed(error.to_string())),
            }
        };
        waits(self.0.as_fd())?;
        let (stream, _) = self.0.accept().map_err(|e| failed(e.to_string()))?;
        waits(stream.as_fd())?;
        receive(&stream)
            .map_err(|e| failed(e.to_string()))?
            .ok_or_else(|| failed("the runtime gave none".into()))
    }
}
