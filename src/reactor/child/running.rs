//! One command that runs: its descriptors, its turn, its end.

use super::ChildSink;
use super::key::{ChildKey, Part};
use crate::process::streams::{Input, Output};
use crate::process::{self, Process, report};
use crate::proto::ConnId;
use crate::proto::exec::{ChildEvent, ExitStatus, Stream};
use crate::proto::jobs::JobId;
use crate::reactor::sources::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

/// What one child may write to us, or take from us, in one turn before the
/// others' turn, in bytes.
const CHILD_BUDGET: usize = 256 << 10;

/// A command.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) key: ChildKey,
    pub(super) conn: ConnId,
    pub(super) job: JobId,
    pub(super) peer: String,
    pub(super) started: Instant,
    pub(super) process: Process,
    pub(super) input: Option<Input>,
    /// stdout and stderr.
    outputs: [Option<Output>; 2],
    /// Which output was read last.
    turn: usize,
    /// Whether the pidfd has said that the leader ended.
    exit_ready: bool,
    pub(super) exited: Option<ExitStatus>,
    /// Bytes of input that came when nobody could take them any more.
    pub(super) dropped: usize,
    /// Whether the session has let go of it.
    pub(super) released: bool,
    /// Whether it is being ended, and whether its grace is over.
    pub(super) terminating: bool,
    pub(super) killed: bool,
    /// Whether it is on the ready list, and whether it waits for its reader.
    pub(super) queued: bool,
    pub(super) stalled: bool,
    /// Whether the session knows that outputs are unread.
    unread: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What a child still wants after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// An event.
    Nothing,
    /// Another turn.
    Turn,
    /// A reader that is not behind.
    Reader,
}

impl Running {
    /// Takes charge of a child that has just been started. Where its
    /// descriptors cannot be watched it is killed.
    pub(super) fn new(
        registry: &Registry,
        key: ChildKey,
        conn: ConnId,
        peer: &str,
        started: Instant,
        child: process::Child,
    ) -> io::Result<Self> {
        let process::Child { mut process, stdin, stdout, stderr } = child;
        let on_terminal = process.is_on_terminal();
        let opened = || -> io::Result<_> {
            register(registry, &process.pidfd(), key, Part::Exit)?;
            let stdout = Output::new(stdout, on_terminal)?;
            register(registry, &stdout, key, Part::Stdout)?;
            let stderr = stderr.map(|fd| Output::new(fd, on_terminal)).transpose()?;
            if let Some(stderr) = &stderr {
                register(registry, stderr, key, Part::Stderr)?;
            }
            Ok((stdin.map(|fd| Input::new(fd, on_terminal)).transpose()?, [Some(stdout), stderr]))
        };
        let (input, outputs) = match opened() {
            Ok(opened) => opened,
            Err(e) => {
                process.kill_and_wait();
                return Err(e);
            }
        };
        Ok(Running {
            key,
            conn,
            job: JobId(0),
            peer: peer.to_owned(),
            started,
            process,
            input,
            outputs,
            turn: 1,
            exit_ready: false,
            exited: None,
            dropped: 0,
            released: false,
            terminating: false,
            killed: false,
            queued: false,
            stalled: false,
            unread: false,
            bytes_in: 0,
            bytes_out: 0,
        })
    }

    /// Takes note of what an event said.
    pub(super) fn latch(&mut self, part: Part, closed: bool) {
        match part {
            Part::Exit => self.exit_ready = true,
            Part::Stdin => {
                if let Some(input) = &mut self.input {
                    input.ready = true;
                }
            }
            Part::Stdout | Part::Stderr => {
                if let Some(output) = &mut self.outputs[usize::from(part == Part::Stderr)] {
                    output.ready = true;
                    output.hung_up |= closed;
                }
            }
        }
    }

    /// Does what can be done now; returns how many bytes that moved, too.
    pub(super) fn run(&mut self, registry: &Registry, buffer: &mut [u8], sink: &mut impl ChildSink) -> (usize, Wants) {
        let taken = self.feed(registry);
        if taken > 0 {
            self.bytes_in += taken as u64;
            sink.event(self.conn, self.job, ChildEvent::InputTaken(taken));
        }
        let before = self.bytes_out;
        let has_reader = self.listen(registry, buffer, sink);
        self.check_exit(sink);
        // Output that is passed on all the time is not silent anyway.
        if self.exited.is_some() && self.unread == has_reader && !self.released {
            self.unread = !has_reader;
            sink.event(self.conn, self.job, ChildEvent::Unread(self.unread));
        }
        let wants = if self.input.as_ref().is_some_and(Input::has_work) {
            Wants::Turn
        } else if !has_reader {
            Wants::Reader
        } else if self.has_output() {
            Wants::Turn
        } else {
            Wants::Nothing
        };
        (taken + (self.bytes_out - before) as usize, wants)
    }

    /// Gives it input; returns how much of that is gone.
    fn feed(&mut self, registry: &Registry) -> usize {
        let mut taken = std::mem::take(&mut self.dropped);
        let Some(input) = &mut self.input else { return taken };
        let written = input.write(CHILD_BUDGET);
        taken += written.taken;
        let mut closed = written.closed;
        // Most commands never fill the pipe, and need no registration.
        if !closed && !input.ready && !input.registered {
            match register(registry, input, self.key, Part::Stdin) {
                Ok(()) => input.registered = true,
                Err(e) => {
                    log::warn!("job {}: cannot watch its input, which ends here: {e}", self.job.0);
                    closed = true;
                }
            }
        }
        if closed {
            taken += input.drop_pending();
            self.close_input(registry);
        }
        taken
    }

    /// Passes its outputs on, in turns; returns whether the reader kept up.
    fn listen(&mut self, registry: &Registry, buffer: &mut [u8], sink: &mut impl ChildSink) -> bool {
        let mut budget = CHILD_BUDGET;
        while budget > 0 && self.has_output() {
            if !sink.wants_output(self.conn) {
                return false;
            }
            self.turn ^= 1;
            let Some(output) = self.outputs[self.turn].as_mut().filter(|output| output.ready) else { continue };
            let stream = [Stream::Stdout, Stream::Stderr][self.turn];
            let reading = output.read(buffer);
            budget = budget.saturating_sub(reading.bytes);
            if reading.bytes > 0 {
                self.bytes_out += reading.bytes as u64;
                sink.event(self.conn, self.job, ChildEvent::Output(stream, &buffer[..reading.bytes]));
            }
            if reading.ended {
                self.close_output(registry, self.turn);
                sink.event(self.conn, self.job, ChildEvent::OutputEnd(stream));
            }
        }
        true
    }

    fn has_output(&self) -> bool {
        self.outputs.iter().flatten().any(|output| output.ready)
    }

    fn check_exit(&mut self, sink: &mut impl ChildSink) {
        if self.exited.is_some() || !std::mem::take(&mut self.exit_ready) {
            return;
        }
        self.exited = report::how_ended(&mut self.process, self.job);
        if let (Some(status), false) = (self.exited, self.released) {
            sink.event(self.conn, self.job, ChildEvent::Exited(status));
        }
    }

    /// Closes what is open of it, except for the pidfd.
    pub(super) fn close(&mut self, registry: &Registry) {
        self.close_input(registry);
        self.close_output(registry, 0);
        self.close_output(registry, 1);
    }

    fn close_input(&mut self, registry: &Registry) {
        if let Some(input) = self.input.take().filter(|input| input.registered) {
            deregister(registry, &input);
        }
    }

    fn close_output(&mut self, registry: &Registry, which: usize) {
        if let Some(output) = self.outputs[which].take() {
            deregister(registry, &output);
        }
    }

    /// Whether nothing of it is left to look after.
    pub(super) fn is_done(&self) -> bool {
        self.released && self.exited.is_some() && (!self.terminating || self.killed || self.process.group_is_gone())
    }
}

fn register(registry: &Registry, fd: &impl AsFd, key: ChildKey, part: Part) -> io::Result<()> {
    let interest = if part == Part::Stdin { Interest::WRITABLE } else { Interest::READABLE };
    registry.register(&mut SourceFd(&fd.as_fd().as_raw_fd()), Source::Child(key.pack(part)).token(), interest)
}

/// Closing alone would not do: the two sides of a terminal are one open file,
/// whose registrations live until the last descriptor of it is closed.
fn deregister(registry: &Registry, fd: &impl AsFd) {
    if let Err(e) = registry.deregister(&mut SourceFd(&fd.as_fd().as_raw_fd())) {
        log::debug!("cannot deregister a command's pipe: {e}");
    }
}
