//! From a send queue to a socket: vectored writes, and files by sendfile.

use crate::proto::SendQueue;
use crate::proto::files::FileHandle;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

/// Segments in one write; more are rarely queued, and the kernel's limit
/// (IOV_MAX) is 1,024.
const MAX_SLICES: usize = 64;

/// What one connection may send in one turn before the others' turn, in bytes.
const WRITE_BUDGET: usize = 1 << 20;

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is sent.
    Empty,
    /// The socket takes no more now.
    Blocked,
    /// The turn's budget is used up.
    Budget,
    /// The file in front is not in the kernel's cache.
    Cold(FileHandle, u64, usize),
    /// The file in front is shorter than announced.
    Shrank(FileHandle),
}

/// Gives the driver's open files.
pub trait Files {
    /// The descriptor of an open file.
    fn file(&self, file: FileHandle) -> Option<BorrowedFd<'_>>;
    /// Whether sending that stretch would not wait for a disk.
    fn is_resident(&self, file: FileHandle, offset: u64, length: usize) -> bool;
}

/// Sends until the queue is empty, the socket is full or the budget is used.
/// Never waits, except in `sendfile` where the socket itself blocks: a driver
/// of such sockets says that no file is resident and sends them by itself.
pub fn flush(socket: &impl AsFd, queue: &mut SendQueue, files: &impl Files) -> io::Result<Flushed> {
    let mut budget = WRITE_BUDGET;
    while !queue.is_empty() {
        if budget == 0 {
            return Ok(Flushed::Budget);
        }
        let sent = if let Some((file, offset, length)) = queue.front_file() {
            let length = length.min(budget);
            if !files.is_resident(file, offset, length) {
                return Ok(Flushed::Cold(file, offset, length));
            }
            let Some(fd) = files.file(file) else { return Ok(Flushed::Shrank(file)) };
            let mut offset = offset;
            match rustix::fs::sendfile(socket, fd, Some(&mut offset), length) {
                Ok(0) => return Ok(Flushed::Shrank(file)),
                other => other,
            }
        } else {
            let mut slices = [IoSlice::new(b""); MAX_SLICES];
            let (n, more) = queue.slices(&mut slices);
            // A header is not worth a packet of its own where a file follows.
            let flags =
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL | if more { SendFlags::MORE } else { SendFlags::empty() };
            let wanted: usize = slices[..n].iter().map(|slice| slice.len()).sum();
            // Most turns have one stretch, which needs no vector: the kernel then
            // copies neither that nor a message header.
            let sent = match &slices[..n] {
                [one] => rustix::net::send(socket, one, flags),
                several => rustix::net::sendmsg(socket, several, &mut SendAncillaryBuffer::default(), flags),
            };
            if let Ok(sent) = sent
                && sent < wanted
            {
                queue.advance(sent);
                return Ok(Flushed::Blocked);
            }
            sent
        };
        match sent {
            Ok(n) => {
                queue.advance(n);
                budget = budget.saturating_sub(n);
            }
            Err(Errno::AGAIN) => return Ok(Flushed::Blocked),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Flushed::Empty)
}
