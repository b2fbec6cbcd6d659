//! One pipe of a child, or one side of its terminal, with its latched
//! readiness. Who waits for that readiness, and how, is left to the drivers.

use super::terminal;
use bytes::{Buf, Bytes};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::fcntl_setpipe_size;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The size of a pipe that has shown to be busy, in bytes: four times what the
/// kernel gives, and a fifth more through it. Still larger ones are slower,
/// because what they hold does not stay in the processor's cache.
const GROWN_PIPE: usize = 256 << 10;

/// What is still to be given to a child.
#[derive(Debug)]
enum Pending {
    Bytes(Bytes),
    End,
}

/// Where a child's input is written to.
#[derive(Debug)]
pub(crate) struct Input {
    fd: OwnedFd,
    on_terminal: bool,
    pending: VecDeque<Pending>,
    /// Whether a write may succeed; only an event says so after one did not.
    pub(crate) ready: bool,
    /// Whether events come for it.
    pub(crate) registered: bool,
}

/// What became of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes that left the queue, whether the child got them or never will.
    pub(crate) taken: usize,
    /// Whether the input is at its end: ended by us or closed by the child.
    pub(crate) closed: bool,
}

impl Input {
    pub(crate) fn new(fd: OwnedFd, on_terminal: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Input { fd, on_terminal, pending: VecDeque::new(), ready: true, registered: false })
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.pending.push_back(Pending::Bytes(bytes));
    }

    pub(crate) fn push_end(&mut self) {
        self.pending.push_back(Pending::End);
    }

    /// Whether something waits to be written.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether some of it can be written now, as far as is known.
    pub(crate) fn has_work(&self) -> bool {
        self.ready && self.has_pending()
    }

    /// Writes until the pipe is full, nothing is left, or `budget` bytes went.
    pub(crate) fn write(&mut self, budget: usize) -> Written {
        let mut taken = 0;
        while self.ready && taken < budget {
            let bytes = match self.pending.front_mut() {
                None => break,
                Some(Pending::End) => {
                    self.pending.pop_front();
                    if !self.on_terminal {
                        return Written { taken, closed: true };
                    }
                    self.write_end_of_file_character();
                    continue;
                }
                Some(Pending::Bytes(bytes)) => bytes,
            };
            match write(&self.fd, bytes) {
                Ok(n) => {
                    taken += n;
                    bytes.advance(n);
                    if bytes.is_empty() {
                        self.pending.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.ready = false,
                // A child that closes its input early does so by right.
                Err(_) => return Written { taken: taken + self.drop_pending(), closed: true },
            }
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        Written { taken, closed: false }
    }

    /// Writes the character at once and not through the queue, whose bytes are
    /// counted as the client's.
    fn write_end_of_file_character(&mut self) {
        match terminal::end_of_file(&self.fd) {
            Ok(Some(character)) => {
                match retry_on_intr(|| write(&self.fd, &[character])) {
                    Ok(_) => {}
                    Err(Errno::AGAIN) => {
                        self.pending.push_front(Pending::End);
                        self.ready = false;
                    }
                    // The next write of bytes finds that nobody is there.
                    Err(e) => log::debug!("no end-of-file character for a terminal: {e}"),
                }
            }
            Ok(None) => {}
            Err(e) => log::debug!("cannot ask a terminal for its end-of-file character: {e}"),
        }
    }

    /// Forgets what is pending and returns how many bytes that were.
    pub(crate) fn drop_pending(&mut self) -> usize {
        let length = |pending| if let Pending::Bytes(bytes) = pending { bytes.len() } else { 0 };
        std::mem::take(&mut self.pending).into_iter().map(length).sum()
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where a child's output is read from.
#[derive(Debug)]
pub(crate) struct Output {
    fd: OwnedFd,
    on_terminal: bool,
    /// Whether a read may give something; only an event says so after one did not.
    pub(crate) ready: bool,
    /// Whether the last event said that the other side is closed. No other
    /// event follows that one, so the end must be read then.
    pub(crate) hung_up: bool,
    /// Whether it has shown that it says much.
    grown: bool,
}

/// What reading gave: so many bytes, and whether the output is at its end
/// behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) bytes: usize,
    pub(crate) ended: bool,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd, on_terminal: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Output { fd, on_terminal, ready: false, hung_up: false, grown: on_terminal })
    }

    /// Fills `buffer` as far as there is something.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Reading {
        let reading = self.fill(buffer);
        if reading.bytes == buffer.len() && !std::mem::replace(&mut self.grown, true) {
            self.grow();
        }
        reading
    }

    /// Gives the pipe of a command that says much room to run ahead. Short
    /// ones keep what the kernel gives. The kernel refuses where the user has
    /// too much in pipes already (pipe(7)), and then it stays as it is.
    fn grow(&self) {
        if let Err(e) = fcntl_setpipe_size(&self.fd, GROWN_PIPE) {
            log::debug!("a command's pipe stays small: {e}");
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Reading {
        let mut bytes = 0;
        while bytes < buffer.len() {
            match read(&self.fd, &mut buffer[bytes..]) {
                Ok(0) => return Reading { bytes, ended: true },
                Ok(n) => {
                    bytes += n;
                    // A pipe that gives less than it was asked for is empty
                    // (epoll(7)), and whatever comes next brings an event. A
                    // terminal gives a line or 4 KiB at a time.
                    if bytes < buffer.len() && !self.on_terminal && !self.hung_up {
                        self.ready = false;
                        break;
                    }
                }
                Err(Errno::AGAIN) => {
                    self.ready = false;
                    break;
                }
                Err(Errno::INTR) => {}
                // How Linux says that nobody has the terminal open any more.
                Err(Errno::IO) if self.on_terminal => return Reading { bytes, ended: true },
                Err(e) => {
                    log::warn!("cannot read a command's output: {e}");
                    return Reading { bytes, ended: true };
                }
            }
        }
        Reading { bytes, ended: false }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
