//! The command service of one connection: which commands run, what they may
//! still be given, and when each is over. Processes themselves are the driver's.

use super::command::check_size;
pub use super::command::{ChildEvent, ExitStatus, JobEffect, KILL_GRACE, Program, Spawn, Spawned, Stream};
use super::jobs::JobId;
pub use super::signals::Signal;
use super::{Effect, Now, Outbox};
use crate::wire::MAX_OUTPUT;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::reply::{Plain, Started, StreamEvent};
use crate::wire::request::{self, Hangup};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most commands one connection may run at a time, unless it is told otherwise.
pub const MAX_JOBS_PER_CONNECTION: usize = 256;

/// How long a process left behind must keep an output silent before the
/// command counts as over.
pub const SILENCE: Duration = Duration::from_millis(500);

/// A command with this much input that it has not taken, in bytes, stops its
/// connection's input.
const MAX_PENDING_INPUT: usize = 1 << 20;

/// The longest `timeout_ms` that is told from none: a hundred years.
const MAX_TIMEOUT_MS: u64 = 100 * 366 * 24 * 3_600 * 1_000;

/// Why the server ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Timeout,
    Killed,
}

/// What becomes of a command's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputState {
    /// It may be given more.
    Open,
    /// The client ended it.
    Ended,
    /// It never had one.
    None,
    /// It is a terminal, on which end of file is a character like others.
    Terminal,
}

/// What must be remembered of a request until the process is there.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    input: InputState,
    hangup: Hangup,
    timeout: Option<Duration>,
}

/// A command that runs, or whose outputs are still open.
#[derive(Debug)]
struct Running {
    job: JobId,
    input: InputState,
    hangup: Hangup,
    /// Bytes of input that it has not taken.
    pending: usize,
    /// Whether stdout and stderr are still open.
    open: [bool; 2],
    exited: Option<ExitStatus>,
    ended_by: Option<Reason>,
    /// When its time is up.
    timeout: Option<Instant>,
    /// Once it has exited: when its outputs were silent for long enough.
    silence: Option<Instant>,
    /// Whether nobody listens to them at the moment.
    unread: bool,
    /// Once it has exited and the server ended it: when it is over even if
    /// somebody outside its group goes on writing.
    give_up: Option<Instant>,
}

impl Running {
    fn deadline(&self) -> Option<Instant> {
        let timeout = self.timeout.filter(|_| self.ended_by.is_none());
        let silence = self.silence.filter(|_| !self.unread);
        [timeout, silence, self.give_up].into_iter().flatten().min()
    }

    /// Asks the driver to end it, once.
    fn terminate(&mut self, reason: Reason, out: &mut Outbox) {
        if self.ended_by.is_none() {
            self.ended_by = Some(reason);
            self.give_up = self.silence.map(|at| at + KILL_GRACE);
            out.effect(Effect::Job(self.job, JobEffect::Terminate));
        }
    }

    fn close_input(&mut self, out: &mut Outbox) {
        if self.input == InputState::Open {
            self.input = InputState::Ended;
        }
        out.effect(Effect::Job(self.job, JobEffect::CloseInput));
    }

    fn is_over(&self) -> bool {
        self.exited.is_some() && self.open == [false; 2]
    }
}

/// The command service of one connection.
#[derive(Debug)]
pub struct Exec {
    max_jobs: usize,
    waiting: Option<Waiting>,
    running: BTreeMap<u64, Running>,
    /// Why the `input` under way is refused; it is answered when it is complete.
    refused_input: Option<Refusal>,
}

impl Default for Exec {
    fn default() -> Self {
        Exec::new(MAX_JOBS_PER_CONNECTION)
    }
}

fn unknown(id: u64) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("no command of this connection has the id {id}"))
}

impl Exec {
    /// A service that runs at most `max_jobs` commands at a time.
    pub fn new(max_jobs: usize) -> Self {
        Exec { max_jobs, waiting: None, running: BTreeMap::new(), refused_input: None }
    }

    /// Begins `exec`. Either refuses at once or waits for [`Exec::spawned`].
    pub fn start(&mut self, id: u64, request: request::Exec, out: &mut Outbox) {
        let (hangup, timeout_ms) = (request.hangup, request.timeout_ms);
        let spawn = match self.room().and_then(|()| Spawn::new(id, request)) {
            Ok(spawn) => spawn,
            Err(refusal) => return out.refuse(Some("exec"), Some(id), &refusal),
        };
        let input = match (&spawn.pty, spawn.stdin) {
            (Some(_), _) => InputState::Terminal,
            (None, true) => InputState::Open,
            (None, false) => InputState::None,
        };
        let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.min(MAX_TIMEOUT_MS)));
        self.waiting = Some(Waiting { id, input, hangup, timeout });
        out.effect(Effect::Spawn(Box::new(spawn)));
    }

    fn room(&self) -> Result<(), Refusal> {
        if self.running.len() < self.max_jobs {
            return Ok(());
        }
        let message = format!("this connection runs {} commands, the most allowed: wait for one to end", self.max_jobs);
        Err(Refusal::new(ErrorCode::Limit, message))
    }

    /// The driver's answer to the `exec` in waiting.
    pub fn spawned(&mut self, now: Now, result: Result<Spawned, Refusal>, out: &mut Outbox) {
        let spawned = match (self.waiting.take(), result) {
            (Some(waiting), Ok(spawned)) => (waiting, spawned),
            (Some(waiting), Err(refusal)) => return out.refuse(Some("exec"), Some(waiting.id), &refusal),
            // It was abandoned before it began.
            (None, Ok(spawned)) => return out.effect(Effect::Job(spawned.job, JobEffect::Abandon)),
            (None, Err(_)) => return,
        };
        let (Waiting { id, input, hangup, timeout }, Spawned { job, pid }) = spawned;
        let running = Running {
            job,
            input,
            hangup,
            pending: 0,
            open: [true, input != InputState::Terminal],
            exited: None,
            ended_by: None,
            timeout: timeout.map(|timeout| now.instant + timeout),
            silence: None,
            unread: false,
            give_up: None,
        };
        self.running.insert(id, running);
        out.answer("exec", Some(id), Started { pid, job: job.0 });
    }

    /// The next bytes of an `input`; errors are answered by [`Exec::input_end`].
    pub fn input(&mut self, id: u64, bytes: &[u8], out: &mut Outbox) {
        if self.refused_input.is_some() {
            return;
        }
        match self.takes_input(id) {
            Ok(running) => {
                running.pending += bytes.len();
                let write = JobEffect::Write(Bytes::copy_from_slice(bytes));
                out.effect(Effect::Job(running.job, write));
            }
            Err(refusal) => self.refused_input = Some(refusal),
        }
    }

    /// An `input` is complete.
    pub fn input_end(&mut self, id: u64, eof: bool, out: &mut Outbox) {
        let refused = self.refused_input.take().map_or(Ok(()), Err);
        match refused.and_then(|()| self.takes_input(id)) {
            Ok(running) if eof => running.close_input(out),
            Ok(_) => {}
            Err(refusal) => out.refuse(Some("input"), Some(id), &refusal),
        }
    }

    fn takes_input(&mut self, id: u64) -> Result<&mut Running, Refusal> {
        let running = self.running.get_mut(&id).ok_or_else(|| unknown(id))?;
        let why = match running.input {
            InputState::Open | InputState::Terminal => return Ok(running),
            InputState::Ended => "was ended by an earlier \"eof\":true",
            InputState::None => "is /dev/null, as \"stdin\":false asked",
        };
        Err(Refusal::new(ErrorCode::Conflict, format!("the standard input of command {id} {why}")))
    }

    /// Carries out `signal`.
    pub fn signal(&mut self, id: u64, signal: &str, out: &mut Outbox) {
        let found = self.running.get(&id).ok_or_else(|| unknown(id));
        match found.and_then(|running| Ok((running.job, Signal::parse(signal)?))) {
            Ok((job, signal)) => {
                out.effect(Effect::Job(job, JobEffect::Signal(signal)));
                out.answer("signal", Some(id), Plain {});
            }
            Err(refusal) => out.refuse(Some("signal"), Some(id), &refusal),
        }
    }

    /// Carries out `resize`.
    pub fn resize(&mut self, id: u64, rows: u16, cols: u16, out: &mut Outbox) {
        let refusal = match self.running.get(&id) {
            None => unknown(id),
            Some(Running { input: InputState::Terminal, job, .. }) => match check_size(rows, cols) {
                Ok(()) => return out.effect(Effect::Job(*job, JobEffect::Resize { rows, cols })),
                Err(refusal) => refusal,
            },
            Some(_) => Refusal::new(ErrorCode::Conflict, format!("command {id} has no terminal to resize")),
        };
        out.refuse(Some("resize"), Some(id), &refusal);
    }

    /// Something that a command did. What no running command did is ignored:
    /// it crossed the end on the way.
    pub fn child(&mut self, now: Now, job: JobId, event: ChildEvent<'_>, out: &mut Outbox) {
        let Some((&id, running)) = self.running.iter_mut().find(|(_, running)| running.job == job) else { return };
        match event {
            ChildEvent::Output(stream, bytes) => {
                for bytes in bytes.chunks(MAX_OUTPUT) {
                    let size = bytes.len();
                    let event = match stream {
                        Stream::Stdout => StreamEvent::Stdout { id, size },
                        Stream::Stderr => StreamEvent::Stderr { id, size },
                    };
                    out.queue.frame(&event, bytes);
                }
                if running.silence.is_some() {
                    running.silence = Some(now.instant + SILENCE);
                }
            }
            ChildEvent::OutputEnd(stream) => running.open[stream as usize] = false,
            ChildEvent::InputTaken(n) => running.pending = running.pending.saturating_sub(n),
            ChildEvent::Exited(status) => {
                running.exited = Some(status);
                running.silence = Some(now.instant + SILENCE);
                running.give_up = running.ended_by.map(|_| now.instant + KILL_GRACE);
            }
            ChildEvent::Unread(unread) => {
                running.unread = unread;
                running.silence = running.silence.map(|_| now.instant + SILENCE);
            }
        }
        if running.is_over() {
            self.finish(id, out);
        }
    }

    fn finish(&mut self, id: u64, out: &mut Outbox) {
        let Some(running) = self.running.remove(&id) else { return };
        let (code, signal) = match running.exited {
            Some(ExitStatus::Code(code)) => (Some(code), None),
            Some(ExitStatus::Signal(signal)) => (None, Some(signal.name())),
            None => (None, None),
        };
        let reason = running.ended_by.map(|reason| match reason {
            Reason::Timeout => "timeout",
            Reason::Killed => "killed",
        });
        out.queue.frame(&StreamEvent::Exit { id, code, signal: signal.as_deref(), reason }, b"");
        out.effect(Effect::Job(running.job, JobEffect::Release));
    }

    /// When [`Exec::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.running.values().filter_map(Running::deadline).min()
    }

    /// Time went by. Outputs that can be read are to be read before, or a
    /// command would count as silent that only was not listened to.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        let mut over = Vec::new();
        for (&id, running) in &mut self.running {
            if due(running.timeout) {
                running.terminate(Reason::Timeout, out);
            }
            if (due(running.silence) && !running.unread) || due(running.give_up) {
                over.push(id);
            }
        }
        for id in over {
            self.finish(id, out);
        }
    }

    /// The client ended its sending side: ends the commands that were not
    /// started to outlive that, and the input of the others, for which nothing
    /// more can come.
    pub fn end_of_input(&mut self, out: &mut Outbox) {
        for running in self.running.values_mut() {
            match (running.hangup, running.input) {
                (Hangup::Kill, _) => running.terminate(Reason::Killed, out),
                (Hangup::Finish, InputState::Open | InputState::Terminal) => running.close_input(out),
                (Hangup::Finish, InputState::Ended | InputState::None) => {}
            }
        }
    }

    /// The server stops: ends every command; their `exit` still comes.
    pub fn shutdown(&mut self, out: &mut Outbox) {
        for running in self.running.values_mut() {
            running.terminate(Reason::Killed, out);
        }
    }

    /// Nobody listens any more: abandons every command.
    pub fn abandon(&mut self, out: &mut Outbox) {
        self.waiting = None;
        for running in std::mem::take(&mut self.running).into_values() {
            out.effect(Effect::Job(running.job, JobEffect::Abandon));
        }
    }

    /// Whether an `exec` waits for the driver.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether that id belongs to a running command.
    pub fn is_live(&self, id: u64) -> bool {
        self.running.contains_key(&id) || self.waiting.is_some_and(|waiting| waiting.id == id)
    }

    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.running.is_empty()
    }

    /// Whether the connection's input may be read: no command has 1 MiB or
    /// more of its input untaken.
    pub fn wants_input(&self) -> bool {
        self.running.values().all(|running| running.pending < MAX_PENDING_INPUT)
    }
}

#[cfg(test)]
mod tests;
