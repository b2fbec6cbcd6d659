//! The unsafe code of this crate: what no safe library offers. Everything
//! else goes through rustix, nix and the standard library.
#![allow(unsafe_code, reason = "the one place for it; each block says why it is sound")]

mod spawn;

pub(crate) use spawn::on_terminal as spawn_on_terminal;

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// pidfd_send_signal(2), since Linux 6.9: to the process group that the pidfd's
/// process leads or led.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Signals the process group led by that pidfd's process, also after the leader
/// was reaped: the descriptor stands for the group itself, so no other group
/// that got the same number can be hit. `ESRCH` where the group is empty,
/// `EINVAL` where the kernel is older than 6.9. Signal 0 only asks.
pub(crate) fn signal_group(leader: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for as long as it is borrowed, and a null
    // siginfo is allowed; the kernel writes to no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            leader.as_raw_fd(),
            signal as libc::c_int,
            info,
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that a TCP socket was given and its peer has not acknowledged (tcp(7),
/// SIOCOUTQ, which is TIOCOUTQ by another name).
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the
    // kernel writes one integer, for which there is room.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result == 0 { Ok(bytes as usize) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that a TCP socket's peer has acknowledged so far (tcp(7), TCP_INFO),
/// since Linux 4.1.
pub(crate) fn acknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // As far as tcpi_bytes_acked, which stands at byte 120 (linux/tcp.h).
    let mut info = [0u64; 16];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the
    // kernel writes no more than `length` bytes, for which there is room.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    match result {
        0 if length as usize == size_of_val(&info) => Ok(info[15]),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor but 0, 1 and 2 on exec. `ENOSYS` or `EINVAL` where
/// the kernel is older than 5.11.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    let (first, last): (libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX);
    // SAFETY: nothing is closed here, so no descriptor that is in use becomes
    // invalid; close_range(2) touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the heap's unused pages back to the system, where the C library can.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is safe to call from any thread at any time; no
    // memory that is in use is touched. Its result says only whether any was
    // given back.
    unsafe {
        libc::malloc_trim(0);
    }
}
