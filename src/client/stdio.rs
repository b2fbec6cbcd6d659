//! Standard input and output without a buffer between: bytes pass as they come.
//!
//! The standard library's own streams gather lines, and give up where another
//! program made a shared terminal non-blocking; these wait.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io::{self, Read, Write};

/// One of the three standard streams.
#[derive(Clone, Copy, Debug)]
pub struct Stream(BorrowedFd<'static>);

/// Standard input.
pub fn stdin() -> Stream {
    Stream(rustix::stdio::stdin())
}

/// Standard output.
pub fn stdout() -> Stream {
    Stream(rustix::stdio::stdout())
}

/// Standard error.
pub fn stderr() -> Stream {
    Stream(rustix::stdio::stderr())
}

impl Stream {
    fn retry<T>(self, flags: PollFlags, mut f: impl FnMut(BorrowedFd<'static>) -> Result<T, Errno>) -> io::Result<T> {
        loop {
            match f(self.0) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(self.0, flags)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                },
                other => return other.map_err(io::Error::from),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::IN, |fd| rustix::io::read(fd, &mut *buf))
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, |fd| rustix::io::write(fd, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
