//! Cold stretches of files: whether a stretch is in the page cache, and how
//! to get it there. `sendfile` waits for the disk where it is not.

use super::OpenFile;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use std::io::IoSliceMut;
use std::num::NonZeroU64;

/// The distance between the bytes that are probed: half of what the kernel
/// reads ahead at once where nobody set another amount (128 KiB).
const PROBE_STEP: u64 = 64 << 10;

/// Behind a cold stretch this many bytes more are asked for, because a
/// download goes on.
const READ_AHEAD: u64 = 2 << 20;

/// Whether `sendfile` of that stretch would most likely not wait: a byte of
/// every 64 KiB and the last one are there for a read that may not wait
/// (RWF_NOWAIT, preadv2(2)). False where nobody can tell.
pub(super) fn is_resident(file: &OpenFile, offset: u64, length: usize) -> bool {
    if file.in_memory || length == 0 {
        return true;
    }
    let last = offset + length as u64 - 1;
    let probe = |at: u64| match preadv2(&file.fd, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
        // Behind the end of the file there is nothing to wait for.
        Ok(_) => true,
        Err(Errno::INTR) => false,
        Err(_) => false,
    };
    (offset..=last).step_by(PROBE_STEP as usize).all(probe) && probe(last)
}

/// Reads a stretch for its effect on the page cache. What fails here fails
/// again, and is seen, when the stretch is sent.
pub(super) fn warm(file: &OpenFile, offset: u64, length: usize, scratch: &mut Vec<u8>) {
    // A hint; the reads below do not rely on it.
    let _ = fadvise(&file.fd, offset, NonZeroU64::new(length as u64 + READ_AHEAD), Advice::WillNeed);
    scratch.resize(scratch.len().max(64 << 10), 0);
    let stop = offset + length as u64;
    let mut at = offset;
    while at < stop {
        let want = (stop - at).min(scratch.len() as u64) as usize;
        match pread(&file.fd, &mut scratch[..want], at) {
            Ok(0) => return,
            Ok(n) => at += n as u64,
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
