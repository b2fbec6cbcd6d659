//! Processes for both drivers: starting commands, their terminals, signals to
//! their groups, their end, and the warden that outlives the server.
//!
//! Nothing here knows connections or event loops. Descriptors are handed out
//! as they are (blocking), and whoever started a [`Process`] waits for it.
//!
//! # How a command is started
//!
//! With `posix_spawn`, which shares the server's memory with the child until it
//! runs the program instead of copying page tables, so that the cost does not
//! grow with the server: a fork of one with 500 MB stops the loop for a tenth
//! of a second. The standard library goes that way as long as there is no
//! `pre_exec`, and the program is a path wherever the environment was changed;
//! so names are searched for in PATH here. A command on a terminal leads a
//! session of its own, which the standard library cannot ask for without a
//! fork; it is spawned in `sys`.
//!
//! # Groups
//!
//! Each command leads a process group, and signals go to all of it. Where the
//! kernel can (6.9), they are sent through the leader's pidfd, which means this
//! very group even when its leader is gone. Before that, the leader stays a
//! zombie until the [`Process`] is dropped, which keeps the group's number from
//! being given to another.

mod environment;
mod inheritance;
mod program;
pub mod report;
mod spawn;
pub(crate) mod streams;
pub mod terminal;
pub mod warden;

pub use environment::Environment;
pub use inheritance::restore_defaults;
pub use spawn::{Child, spawn};
pub use warden::Warden;

use crate::proto::exec::{ExitStatus, Signal};
use crate::sys;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// A command's leader, and through it its process group.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    on_terminal: bool,
    /// Whether signals go through the pidfd, or to the group's number, which
    /// the unreaped leader then keeps.
    by_pidfd: bool,
    status: Option<ExitStatus>,
    reaped: bool,
}

impl Process {
    /// Takes charge of a child that leads its group and was not waited for.
    fn new(pid: Pid, on_terminal: bool) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Process { pid, pidfd, on_terminal, by_pidfd: pidfd_means_group(), status: None, reaped: false })
    }

    /// The leader's number, which is the group's too.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// A descriptor that becomes readable when the leader has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it leads a session on a terminal of its own.
    pub fn is_on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// How the leader ended, or `None` while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(WaitIdOptions::NOHANG)
    }

    /// Waits for the leader's end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait_with(WaitIdOptions::empty())? {
                return Ok(status);
            }
        }
    }

    fn wait_with(&mut self, how: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let keep = if self.by_pidfd { WaitIdOptions::empty() } else { WaitIdOptions::NOWAIT };
            let waited = rustix::io::retry_on_intr(|| {
                waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | how | keep)
            })?;
            let Some(waited) = waited else { return Ok(None) };
            self.reaped = keep.is_empty();
            self.status = match waited.terminating_signal() {
                Some(signal) => Some(ExitStatus::Signal(Signal(signal))),
                None => Some(ExitStatus::Code(waited.exit_status().unwrap_or_default())),
            };
        }
        Ok(self.status)
    }

    /// Sends the whole group a signal; a group that is gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.signal_group(signal.0) {
            Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.by_pidfd {
            return sys::signal_group(self.pidfd.as_fd(), signal);
        }
        let named = rustix::process::Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
        Ok(kill_process_group(self.pid, named)?)
    }

    /// Asks the group to end: HUP on a terminal, TERM elsewhere. CONT goes
    /// after it, because a stopped process would act on neither.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(if self.on_terminal { Signal::HUP } else { Signal::TERM })?;
        self.signal(Signal::CONT)
    }

    /// Ends the group without grace and waits for its leader: for a command
    /// that nobody can watch.
    pub fn kill_and_wait(&mut self) {
        let killed = self.signal(Signal::KILL);
        if let Err(e) = killed.and_then(|()| self.wait()) {
            log::error!("cannot end process {}: {e}", self.pid());
        }
    }

    /// Whether the leader has ended and nobody else is known to be left in its
    /// group. Where the kernel cannot tell, somebody may be.
    pub fn group_is_gone(&self) -> bool {
        let gone = |e: io::Error| e.raw_os_error() == Some(Errno::SRCH.raw_os_error());
        self.reaped && sys::signal_group(self.pidfd.as_fd(), 0).is_err_and(gone)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Err(e) = waitid(WaitId::PidFd(self.pidfd.as_fd()), ended) {
                log::warn!("cannot reap process {}: {e}", self.pid());
            }
        }
    }
}

/// Whether this kernel lets a pidfd stand for the group that its process leads.
fn pidfd_means_group() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        let asked = own.map_err(io::Error::from).and_then(|own| sys::signal_group(own.as_fd(), 0));
        !asked.is_err_and(|e| e.raw_os_error() != Some(Errno::SRCH.raw_os_error()))
    })
}

#[cfg(test)]
mod tests;
