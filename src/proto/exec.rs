//! The command service of one connection: which commands run, what they may
//! still be given, and when each is over. Processes themselves are the driver's.

use super::jobs::JobId;
use super::{Effect, Now, Outbox};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request;
use bytes::Bytes;
use std::time::Instant;

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// A program and its arguments, run without a shell; at least one element.
    Argv(Vec<String>),
    /// A text for `/bin/sh -c`.
    Shell(String),
}

/// A command to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Spawn {
    /// The client's number for it.
    pub id: u64,
    /// What to run.
    pub program: Program,
    /// Its working directory: absolute, or relative to the user's home; `None` is the home.
    pub cwd: Option<String>,
    /// Additions to the environment's allow-list.
    pub env: Vec<(String, String)>,
    /// Whether it has a standard input; otherwise that is /dev/null.
    pub stdin: bool,
    /// Its terminal, if it has one.
    pub pty: Option<request::Pty>,
}

/// A command that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// Its number in this server.
    pub job: JobId,
    /// Its process.
    pub pid: u32,
}

/// A signal by number, as the kernel of this machine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

impl Signal {
    /// A signal by its name, with or without SIG.
    pub fn from_name(name: &str) -> Result<Signal, Refusal> {
        unreachable!("{name}")
    }
}

/// One of a command's outputs; a terminal has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(Signal),
}

/// Something that a running command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent<'a> {
    /// It wrote these bytes, at least one.
    Output(Stream, &'a [u8]),
    /// That output is at its end.
    OutputEnd(Stream),
    /// That many bytes of its input left the server's memory: it took them, or
    /// it closed its input and they were dropped.
    InputTaken(usize),
    /// The process has ended; its outputs may still hold bytes.
    Exited(ExitStatus),
}

/// What a session does to one of its commands.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEffect {
    /// Give it these bytes as input.
    Write(Bytes),
    /// End its input, after what was written before (on a terminal: the
    /// end-of-file character).
    CloseInput,
    /// Send its process group a signal.
    Signal(Signal),
    /// Set its terminal's size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
    /// End it: TERM (HUP on a terminal) to the group, KILL after a grace. Its
    /// events keep coming.
    Terminate,
    /// It is over: close what is still open of it. No event follows.
    Release,
    /// End it as `Terminate` does, but close its outputs at once. No event follows.
    Abandon,
}

/// The command service of one connection.
#[derive(Debug, Default)]
pub struct Exec {
    waiting: Option<u64>,
}

impl Exec {
    /// Begins `exec`. Either refuses at once or waits for [`Exec::spawned`].
    pub fn start(&mut self, id: u64, request: request::Exec, out: &mut Outbox) {
        unreachable!("{id} {request:?} {out:?}")
    }

    /// The driver's answer to the `exec` in waiting.
    pub fn spawned(&mut self, now: Now, result: Result<Spawned, Refusal>, out: &mut Outbox) {
        unreachable!("{now:?} {result:?} {out:?}")
    }

    /// The next bytes of an `input`; errors are answered by [`Exec::input_end`].
    pub fn input(&mut self, id: u64, bytes: &[u8], out: &mut Outbox) {
        unreachable!("{id} {bytes:?} {out:?}")
    }

    /// An `input` is complete.
    pub fn input_end(&mut self, id: u64, eof: bool, out: &mut Outbox) {
        unreachable!("{id} {eof:?} {out:?}")
    }

    /// Carries out `signal`.
    pub fn signal(&mut self, id: u64, signal: &str, out: &mut Outbox) {
        unreachable!("{id} {signal:?} {out:?}")
    }

    /// Carries out `resize`.
    pub fn resize(&mut self, id: u64, rows: u16, cols: u16, out: &mut Outbox) {
        unreachable!("{id} {rows} {cols} {out:?}")
    }

    /// Something that a command did.
    pub fn child(&mut self, now: Now, job: JobId, event: ChildEvent<'_>, out: &mut Outbox) {
        unreachable!("{now:?} {job:?} {event:?} {out:?}")
    }

    /// When [`Exec::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        unreachable!("{now:?} {out:?}")
    }

    /// The client ended its sending side: ends the commands that were not
    /// started to outlive that.
    pub fn end_of_input(&mut self, out: &mut Outbox) {
        let _: (&mut Outbox, Option<Effect>, ErrorCode) = (out, None, ErrorCode::Io);
    }

    /// The server stops: ends every command; their `exit` still comes.
    pub fn shutdown(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// Nobody listens any more: abandons every command.
    pub fn abandon(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// Whether an `exec` waits for the driver.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether that id belongs to a running command.
    pub fn is_live(&self, id: u64) -> bool {
        self.waiting == Some(id)
    }

    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Whether the connection's input may be read: no command has 1 MiB or
    /// more of its input untaken.
    pub fn wants_input(&self) -> bool {
        true
    }
}
