//! A command as values: what a session asks a driver to run and to do to it,
//! and what the driver tells of it. Who carries it out is not said here.

use super::jobs::JobId;
use super::signals::Signal;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request;
use bytes::Bytes;
use std::ffi::OsString;
use std::time::Duration;

/// How long a command that is being ended has until it is killed.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// The longest terminal name, in bytes.
const MAX_TERM: usize = 256;

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// A program and its arguments, run without a shell; at least one element.
    Argv(Vec<String>),
    /// A text for `/bin/sh -c`, which need not be UTF-8.
    Shell(OsString),
}

/// A command to be started. No text in it holds a NUL.
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
    /// Whether it has a standard input; otherwise that is /dev/null. On a
    /// terminal it always has one.
    pub stdin: bool,
    /// Whether its standard error goes down the same pipe as its standard
    /// output, in the order of the writes. A terminal does that anyway.
    pub merge: bool,
    /// Its terminal, if it has one; neither side is 0.
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
    /// Whether its outputs hold bytes that were not read because the connection
    /// takes no more. Only of interest once the process has ended: an output is
    /// silent only while it is listened to. At first it is.
    Unread(bool),
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
    /// End it: TERM (HUP on a terminal) to the group, KILL after
    /// [`KILL_GRACE`]. Its events keep coming.
    Terminate,
    /// It is over: close what is still open of it. No event follows.
    Release,
    /// End it as `Terminate` does, but close its outputs at once. No event follows.
    Abandon,
}

impl Spawn {
    /// The command that a request asks for. `bad_request` where it asks for
    /// what no command can be given.
    pub(super) fn new(id: u64, request: request::Exec) -> Result<Self, Refusal> {
        let request::Exec { argv, shell, cwd, env, stdin, pty, timeout_ms, hangup: _ } = request;
        let program = match (argv, shell) {
            (Some(argv), None) => Program::Argv(argv),
            (None, Some(shell)) => {
                no_nul("shell", &shell)?;
                Program::Shell(shell.into())
            }
            (Some(_), Some(_)) => return Err(bad("`argv` and `shell` are both there: expected exactly one of them")),
            (None, None) => return Err(bad("`argv` and `shell` are both missing: expected exactly one of them")),
        };
        if let Program::Argv(argv) = &program {
            if argv.first().is_none_or(String::is_empty) {
                return Err(bad("`argv` names no program: expected a name first, then its arguments"));
            }
            argv.iter().try_for_each(|arg| no_nul("argv", arg))?;
        }
        if let Some(cwd) = &cwd {
            if cwd.is_empty() {
                return Err(bad("`cwd` is empty: expected a directory, or leave it out for the home"));
            }
            no_nul("cwd", cwd)?;
        }
        for (name, value) in &env {
            if name.is_empty() || name.contains('=') {
                return Err(bad("`env`: a name is empty or holds a \"=\": expected {\"NAME\":\"VALUE\"}"));
            }
            no_nul("env", name)?;
            no_nul("env", value)?;
        }
        if let Some(pty) = &pty {
            check_size(pty.rows, pty.cols)?;
            if let Some(term) = &pty.term {
                if term.is_empty() || term.len() > MAX_TERM {
                    return Err(bad(format!("`term` has {} bytes: expected 1 to {MAX_TERM}", term.len())));
                }
                no_nul("term", term)?;
            }
        }
        if timeout_ms == Some(0) {
            return Err(bad("`timeout_ms` is 0: expected 1 or more, or leave it out for no limit"));
        }
        Ok(Spawn { id, program, cwd, env, stdin: stdin.unwrap_or(true), merge: false, pty })
    }
}

/// What a client did wrong, as a refusal.
fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, message)
}

/// The kernel takes texts that end with a NUL (execve(2)); one inside would
/// silently cut them.
fn no_nul(field: &str, text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(bad(format!("`{field}` holds a NUL character, which no command can be given")));
    }
    Ok(())
}

pub(super) fn check_size(rows: u16, cols: u16) -> Result<(), Refusal> {
    if rows == 0 || cols == 0 {
        return Err(bad(format!("a terminal of {rows} rows and {cols} columns: expected at least 1 of each")));
    }
    Ok(())
}
