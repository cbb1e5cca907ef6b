//! Descriptors that go from process to process, each with a few words.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Hands `fd` over, and `words` with it: one byte at least.
pub fn send(to: &impl AsRawFd, words: &[u8], fd: &impl AsRawFd) -> std::io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let data = [IoSlice::new(words)];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<UnixAddr>(to.as_raw_fd(), &data, &rights, flags, None) {
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Waits for words and a descriptor: how many came into `words`, and the last that was handed
/// over. No words: the other side has closed.
pub fn receive(from: &impl AsRawFd, words: &mut [u8]) -> std::io::Result<(usize, Option<OwnedFd>)> {
    let mut data = [IoSliceMut::new(words)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<UnixAddr>(from.as_raw_fd(), &mut data, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut found = None;
    for rights in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = rights {
            for fd in fds {
                // SAFETY: the kernel has just made it for us; each is taken once.
                found = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, found))
}
