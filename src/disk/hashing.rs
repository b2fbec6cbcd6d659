//! A file's checksum, a bounded amount of work at a time, so that a large file
//! keeps no worker from others.

use rustix::fd::AsFd;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Result, pread};

/// Bytes hashed before others get their turn.
const STEP: u64 = 8 << 20;

/// Bytes read at a time.
const READ: usize = 256 << 10;

/// A checksum under way over a file's first bytes.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    pub(super) hasher: blake3::Hasher,
    /// Bytes hashed so far.
    pub(super) at: u64,
}

impl Hashing {
    /// Goes on by at most [`STEP`] bytes and not beyond `stop`; says whether
    /// it is done: at `stop`, or at the end of the file where that comes first.
    pub(super) fn step(&mut self, file: impl AsFd, stop: u64, scratch: &mut Vec<u8>) -> Result<bool> {
        if self.at == 0 {
            // Larger read-ahead; only a hint, which some file systems do not take.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        scratch.resize(READ, 0);
        let pause = stop.min(self.at.saturating_add(STEP));
        while self.at < pause {
            let want = (pause - self.at).min(READ as u64) as usize;
            match pread(&file, &mut scratch[..want], self.at) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    self.hasher.update(&scratch[..n]);
                    self.at += n as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(self.at == stop)
    }
}
