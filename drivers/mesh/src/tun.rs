//! The interface whose other end is this process: packets go in and out of the kernel.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::unix::AsyncFd;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_queue, libc::SIOCSIFTXQLEN, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Packets that wait to be read; more are lost, as on any link.
const QUEUE: libc::c_int = 1_000;

/// Lives as long as this value; its routes go with it.
#[derive(Debug)]
pub struct Tun(AsyncFd<File>);

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("an interface's name has 1 to 15 letters"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

impl Tun {
    /// An interface `name` that takes packets of up to `mtu` bytes, up and without addresses.
    pub fn open(name: &str, mtu: u16) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut named = request(name)?;
        named.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: `named` outlives the call, and so for the calls below.
        unsafe { set_interface(file.as_raw_fd(), &named)? };
        let control: OwnedFd = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let mut with = request(name)?;
        with.ifr_ifru.ifru_mtu = mtu.into();
        // SAFETY: as above.
        unsafe { set_mtu(control.as_raw_fd(), &with)? };
        with.ifr_ifru.ifru_metric = QUEUE;
        // SAFETY: as above.
        unsafe { set_queue(control.as_raw_fd(), &with)? };
        with.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: as above.
        unsafe { set_flags(control.as_raw_fd(), &with)? };
        // SAFETY: a file owns what it names as long as it lives.
        Ok(Self(unsafe { AsyncFd::register(file)? }))
    }

    /// Waits for packets and gives each to `take`, no more than `max` at once.
    pub async fn read(&self, max: usize, mut take: impl FnMut(&mut [u8])) -> io::Result<()> {
        use std::io::Read;
        let mut buffer = [0; 2_048];
        let mut ready = self.0.readable().await?;
        for _ in 0..max {
            match ready.try_io(|fd| fd.get_ref().read(&mut buffer)) {
                Ok(Ok(read)) => take(&mut buffer[..read]),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// A packet that the kernel has no room for is lost.
    pub fn write(&self, packet: &[u8]) {
        use std::io::Write;
        let _ = self.0.get_ref().write(packet);
    }
}
