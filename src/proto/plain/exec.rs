//! Commands for clients that know no frames: each text goes to the shell, and
//! is answered by a length and what the command wrote.
//!
//! A driver treats it as a session: the same inputs, effects and questions.

use super::{MAX_MESSAGE, Message, Messages};
use crate::proto::exec::{ChildEvent, JobEffect, Program, SILENCE, Spawn, Spawned, Stream};
use crate::proto::jobs::JobId;
use crate::proto::outbox::HIGH_WATER;
use crate::proto::session::Wants;
use crate::proto::{Effect, Input, Now, Outbox};
use crate::wire::error::Refusal;
use crate::wire::frame::LENGTH_BYTES;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

/// The most output that an answer carries, in bytes. A command that writes
/// more is ended, and answered with that much: the length comes first, so all
/// of an answer must be there before any of it is sent.
pub const MAX_REPLY: usize = 16 << 20;

/// The most commands that wait for the one before them; then no input is read.
pub const MAX_WAITING: usize = 16;

/// A process left behind may go on writing into the answer for so long after
/// its command has ended.
pub const GIVE_UP: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Commands come.
    #[default]
    Open,
    /// The input is at its end; what came is still answered.
    Finishing,
    /// Ended by the server.
    Failed,
}

/// What a message asks for, in its turn.
#[derive(Debug)]
enum Next {
    Run(OsString),
    Refuse(&'static str),
}

#[derive(Debug)]
struct Running {
    job: JobId,
    /// The answer so far, its length yet to be filled in.
    reply: Vec<u8>,
    open: bool,
    exited: bool,
    /// Once it has exited: when its output was silent for long enough, and
    /// when it is over even if somebody goes on writing.
    silence: Option<Instant>,
    give_up: Option<Instant>,
}

/// The commands of one plain client, one at a time.
#[derive(Debug, Default)]
pub struct PlainExec {
    messages: Messages,
    /// Whether the rest of a message that was refused is still coming.
    skipping: bool,
    waiting: VecDeque<Next>,
    /// Whether the driver owes the start of a command.
    starting: bool,
    running: Option<Running>,
    phase: Phase,
}

impl PlainExec {
    /// Takes what happened; never fails.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Bytes(bytes) if self.phase == Phase::Open => self.messages.push(now.instant, bytes),
            Input::Eof if self.phase == Phase::Open => {
                self.messages.end();
                self.phase = Phase::Finishing;
            }
            Input::Spawned(result) => self.spawned(result, out),
            Input::Child(job, event) => self.child(now, job, event, out),
            Input::SlowConsumer => {
                out.queue.drop_unsent_frames();
                self.fail(out);
            }
            Input::Gone | Input::Kicked | Input::Shutdown => self.fail(out),
            // Room in the queue; nothing else was asked for.
            _ => {}
        }
        self.go_on(now, out);
    }

    /// Cuts what came into commands and starts the next one in turn.
    fn go_on(&mut self, now: Now, out: &mut Outbox) {
        while self.phase != Phase::Failed {
            self.take_messages(now);
            if self.is_busy() || out.queue.len() >= HIGH_WATER {
                return;
            }
            if self.is_full() {
                self.messages.listen_from(now.instant);
            }
            match self.waiting.pop_front() {
                None => return,
                Some(Next::Refuse(why)) => refuse(why, out),
                Some(Next::Run(text)) => {
                    self.starting = true;
                    out.effect(Effect::Spawn(Box::new(Spawn {
                        id: 0,
                        program: Program::Shell(text),
                        cwd: None,
                        env: Vec::new(),
                        stdin: false,
                        merge: true,
                        pty: None,
                    })));
                }
            }
        }
    }

    /// Messages are cut while a command runs too: what silence separates must
    /// not become one because the client was ahead.
    fn take_messages(&mut self, now: Now) {
        while !self.is_full()
            && let Some(Message { bytes, cut }) = self.messages.next(now.instant)
        {
            if !std::mem::replace(&mut self.skipping, cut) {
                self.waiting.push_back(if cut {
                    Next::Refuse("the command is longer than 65,536 bytes: put it into a file")
                } else if bytes.contains(&0) {
                    Next::Refuse("the command holds a NUL character, which no command can be given")
                } else {
                    Next::Run(OsString::from_vec(bytes.to_vec()))
                });
            }
        }
    }

    fn spawned(&mut self, result: Result<Spawned, Refusal>, out: &mut Outbox) {
        match (std::mem::take(&mut self.starting), result) {
            (true, Ok(Spawned { job, .. })) => {
                let reply = vec![0; LENGTH_BYTES];
                self.running = Some(Running { job, reply, open: true, exited: false, silence: None, give_up: None });
            }
            (true, Err(refusal)) => refuse(&refusal.message, out),
            // It was abandoned before it began.
            (false, Ok(Spawned { job, .. })) => out.effect(Effect::Job(job, JobEffect::Abandon)),
            (false, Err(_)) => {}
        }
    }

    fn child(&mut self, now: Now, job: JobId, event: ChildEvent<'_>, out: &mut Outbox) {
        let Some(running) = self.running.as_mut().filter(|running| running.job == job) else { return };
        match event {
            ChildEvent::Output(_, bytes) => {
                let room = LENGTH_BYTES + MAX_REPLY - running.reply.len();
                running.reply.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() > room {
                    return self.finish(JobEffect::Abandon, out);
                }
                running.silence = running.silence.map(|_| now.instant + SILENCE);
            }
            ChildEvent::OutputEnd(Stream::Stdout) => running.open = false,
            ChildEvent::Exited(_) => {
                running.exited = true;
                running.silence = Some(now.instant + SILENCE);
                running.give_up = Some(now.instant + GIVE_UP);
            }
            // It has neither, and its output is always read.
            ChildEvent::OutputEnd(Stream::Stderr) | ChildEvent::InputTaken(_) | ChildEvent::Unread(_) => {}
        }
        if running.exited && !running.open {
            self.finish(JobEffect::Release, out);
        }
    }

    /// Answers, in one piece so that it leaves in one write where it fits:
    /// these clients call recv once.
    fn finish(&mut self, end: JobEffect, out: &mut Outbox) {
        let Some(Running { job, reply, .. }) = self.running.take() else { return };
        out.effect(Effect::Job(job, end));
        answer(reply, out);
    }

    fn fail(&mut self, out: &mut Outbox) {
        self.phase = Phase::Failed;
        self.starting = false;
        self.messages = Messages::default();
        self.waiting = VecDeque::new();
        if let Some(running) = self.running.take() {
            out.effect(Effect::Job(running.job, JobEffect::Abandon));
        }
    }

    /// Whether no more commands are taken from what comes.
    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    fn is_busy(&self) -> bool {
        self.starting || self.running.is_some()
    }

    /// When [`PlainExec::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let listens = self.phase == Phase::Open && !self.is_full();
        let message = if listens { self.messages.poll_timeout() } else { None };
        let running = self.running.as_ref().and_then(|running| running.silence.min(running.give_up));
        [message, running].into_iter().flatten().min()
    }

    /// Time went by. Output that could be read must have been read before.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        if self.running.as_ref().is_some_and(|running| due(running.silence) || due(running.give_up)) {
            self.finish(JobEffect::Release, out);
        }
        self.go_on(now, out);
    }

    /// What the driver should read. The socket also while a command runs, so
    /// that a connection that breaks is noticed.
    pub fn wants(&self) -> Wants {
        Wants { socket_read: self.phase == Phase::Open && !self.is_full(), child_read: true }
    }

    /// Whether [`Input::Drained`] would let something go on.
    pub fn wants_drained(&self) -> bool {
        !self.is_busy() && !self.waiting.is_empty()
    }

    /// Whether everything is answered and sent.
    pub fn is_finished(&self, out: &Outbox) -> bool {
        out.queue.is_empty()
            && match self.phase {
                Phase::Open => false,
                Phase::Finishing => !self.is_busy() && self.waiting.is_empty() && self.messages.is_empty(),
                Phase::Failed => true,
            }
    }

    /// Whether the server ended the connection; its driver then drains what
    /// still comes.
    pub fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Bytes held for the peer beside its send queue: the answer under way.
    pub fn held(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.reply.len())
    }
}

/// Queues `reply`, which begins with room for its length.
fn answer(mut reply: Vec<u8>, out: &mut Outbox) {
    let length = (reply.len() - LENGTH_BYTES) as i32;
    reply[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    out.queue.encoded(&Bytes::from(reply));
}

/// Answers a command that does not run as a shell would: with a line that says why.
fn refuse(why: &str, out: &mut Outbox) {
    answer([&[0; LENGTH_BYTES], format!("reactord: {why}\n").as_bytes()].concat(), out);
}

const _: () = assert!(MAX_MESSAGE == 65_536 && MAX_REPLY <= i32::MAX as usize, "what the refusal says, and a length");

#[cfg(test)]
mod tests;
