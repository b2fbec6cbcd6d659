//! One connection's state machine: bytes in, frames and effects out.
//!
//! The session cuts its input into frames, hands each to its dispatcher
//! and knows when to pause and when to end. It keeps only input that it may
//! not take yet; between requests it holds no buffer.
//!
//! Its methods, grouped: [`Session::handle_input`] and
//! [`Session::handle_timeout`] take what happened; [`Session::poll_timeout`],
//! [`Session::wants`] and [`Session::is_finished`] say, derived from the state
//! alone, what the driver should do next.

use super::dispatch::{Dispatcher, Phase};
use super::outbox::{HIGH_WATER, Outbox};
use super::{Input, Now};
use crate::wire::error::ErrorCode;
use crate::wire::frame::{FrameDecoder, Piece};
use crate::wire::reply::LeaveReason;
use crate::wire::request::RequestHeader;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take to greet, and then to finish a header.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a body must reach at least, in bytes for each second, averaged from
/// its beginning; a peer that sends less is holding the connection open.
pub const BODY_RATE: u64 = 1 << 10;

/// A body may take this long whatever its length.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which services are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "one for each service")]
pub struct Services {
    pub chat: bool,
    pub exec: bool,
    pub file: bool,
}

impl Services {
    /// Every service.
    pub const ALL: Services = Services { chat: true, exec: true, file: true };

    /// The names of those that are on, as `hello` answers them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.chat, "chat"), (self.exec, "exec"), (self.file, "file")];
        all.into_iter().filter_map(|(on, name)| on.then_some(name))
    }
}

/// What all sessions of a server share.
#[derive(Debug)]
pub struct SessionConfig {
    /// The token that `hello` must carry; `None` where none is asked for.
    pub token: Option<String>,
    /// Which services are on.
    pub services: Services,
    /// How long a connection may be without input while nothing of it runs.
    pub idle_timeout: Option<Duration>,
    /// Chat messages that a connection may send each second in the long run;
    /// 0 is no limit.
    pub message_rate: u32,
}

/// What a session wants its driver to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Bytes from the peer.
    pub socket_read: bool,
    /// Output of its commands.
    pub child_read: bool,
}

/// The state of one connection; see the module's page.
#[derive(Debug)]
pub struct Session {
    decoder: FrameDecoder,
    /// Input that came while the session was paused; the part before `taken`
    /// is used up.
    input: Vec<u8>,
    taken: usize,
    /// When the frame that is still incomplete began to come.
    frame_since: Option<Instant>,
    /// When the peer last sent something, or something of it still ran; the
    /// latter only where a silent connection is ended.
    last_active: Instant,
    /// Whether a whole request has come.
    has_asked: bool,
    dispatcher: Dispatcher,
}

impl Session {
    /// A session for a connection accepted at `now`.
    pub fn new(config: Arc<SessionConfig>, now: Now) -> Self {
        let dispatcher = Dispatcher::new(config, now.instant);
        Session {
            decoder: FrameDecoder::new(dispatcher.limits()),
            input: Vec::new(),
            taken: 0,
            frame_since: None,
            last_active: now.instant,
            has_asked: false,
            dispatcher,
        }
    }

    /// Takes what happened. Never fails: an error of the peer becomes an error
    /// frame and the end of the connection.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        self.note_running(now);
        let dispatcher = &mut self.dispatcher;
        dispatcher.now = now.instant;
        let mut fresh = &[][..];
        match input {
            Input::Bytes(bytes) => {
                self.last_active = now.instant;
                fresh = bytes;
            }
            // What rooms send changes nothing for the requests.
            Input::Delivery(delivery) => return dispatcher.delivery(delivery, out),
            Input::Eof => dispatcher.input_ended = true,
            Input::Gone => return dispatcher.gone(out),
            Input::Room(reply) => dispatcher.room_reply(reply, out),
            Input::Spawned(result) => dispatcher.spawned(now, result, out),
            Input::Child(job, event) => dispatcher.child(now, job, event, out),
            Input::Jobs(body) | Input::Stats(body) => dispatcher.listed(body, out),
            Input::Killed(result) => dispatcher.killed(result, out),
            Input::Disk(reply) => dispatcher.disk(reply, out),
            Input::FileShrank(file) => dispatcher.file_shrank(file),
            Input::Drained => {}
            Input::SlowConsumer => {
                out.queue.drop_unsent_frames();
                let message =
                    "the server held too much for this connection: read faster, join fewer rooms, or send less at once";
                dispatcher.fail(ErrorCode::SlowConsumer, message, LeaveReason::SlowConsumer, out);
            }
            Input::Kicked => {
                let message = "the operator ended this connection";
                dispatcher.fail(ErrorCode::Forbidden, message, LeaveReason::Kicked, out);
            }
            Input::Shutdown => {
                let message = "the server is stopping: connect again later";
                dispatcher.fail(ErrorCode::ShuttingDown, message, LeaveReason::ShuttingDown, out);
            }
        }
        self.take_input(now, fresh, out);
    }

    /// Takes kept and fresh input as far as it may, then lets the services go on.
    fn take_input(&mut self, now: Now, fresh: &[u8], out: &mut Outbox) {
        if self.input.is_empty() {
            let mut rest = fresh;
            self.take_frames(&mut rest, out);
            self.input.extend_from_slice(rest);
        } else {
            self.input.extend_from_slice(fresh);
            let input = std::mem::take(&mut self.input);
            let mut rest = &input[self.taken..];
            self.take_frames(&mut rest, out);
            if !rest.is_empty() {
                self.taken = input.len() - rest.len();
                self.input = input;
            } else {
                self.taken = 0;
            }
        }
        if self.dispatcher.phase == Phase::Ending {
            // Whatever still comes is not read as frames any more.
            self.input = Vec::new();
            self.taken = 0;
        }
        if self.input.is_empty() {
            self.dispatcher.maybe_finish(out);
        }
        self.dispatcher.pump(out);
        // A peer is not late with a frame that the session does not want yet.
        if self.decoder.is_between_frames() || !self.wants(out).socket_read {
            self.frame_since = None;
        } else if self.frame_since.is_none() {
            self.frame_since = Some(now.instant);
        }
    }

    fn take_frames(&mut self, input: &mut &[u8], out: &mut Outbox) {
        while !self.is_paused(out) {
            let error = match self.decoder.next(input) {
                Ok(None) => return,
                Ok(Some(Piece::Header(header))) => {
                    let limits = self.dispatcher.limits();
                    match RequestHeader::parse(header, limits) {
                        Ok(header) => {
                            self.decoder.expect_body(header.size);
                            // The time for a body runs from its own beginning.
                            self.frame_since = None;
                            self.dispatcher.header(header, out);
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Ok(Some(Piece::Body(bytes))) => {
                    self.dispatcher.body(bytes, out);
                    self.decoder.set_limits(self.dispatcher.limits());
                    continue;
                }
                Ok(Some(Piece::End)) => {
                    self.has_asked = true;
                    self.frame_since = None;
                    self.dispatcher.end_of_frame(out);
                    self.decoder.set_limits(self.dispatcher.limits());
                    continue;
                }
                Err(error) => error,
            };
            return self.dispatcher.bad_frame(&error, out);
        }
    }

    /// Whether the next request must wait: for an answer that comes before its
    /// own, or for the peer or a command or the disk to take what is queued.
    fn is_paused(&self, out: &Outbox) -> bool {
        out.queue.len() >= HIGH_WATER || self.dispatcher.is_waiting() || self.dispatcher.phase == Phase::Ending
    }

    /// Takes note of the time; call it when [`Session::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if let Some((deadline, message)) = self.deadline()
            && deadline <= now.instant
        {
            self.dispatcher.fail(ErrorCode::Timeout, message, LeaveReason::Timeout, out);
            self.input = Vec::new();
            self.taken = 0;
            return;
        }
        self.note_running(now);
        self.dispatcher.handle_timeout(now, out);
        self.take_input(now, &[], out);
    }

    /// A connection whose long request has just ended is not idle yet, however
    /// long ago it asked for that.
    fn note_running(&mut self, now: Now) {
        if self.dispatcher.config.idle_timeout.is_some() && !self.dispatcher.is_idle() {
            self.last_active = now.instant;
        }
    }

    /// When [`Session::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.deadline().map(|(at, _)| at);
        [own, self.dispatcher.poll_timeout()].into_iter().flatten().min()
    }

    /// The next moment at which the peer's silence ends the connection.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let dispatcher = &self.dispatcher;
        if dispatcher.phase == Phase::Ending || dispatcher.input_ended {
            return None;
        }
        if let Some(at) = dispatcher.greet_by {
            return Some((at, "no hello came within 10 seconds of connecting"));
        }
        if let Some(since) = self.frame_since {
            let left = self.decoder.body_left() as u64;
            if left == 0 {
                return Some((since + HEADER_TIMEOUT, "a header took longer than 10 seconds to arrive"));
            }
            let time = BODY_TIMEOUT + Duration::from_secs(dispatcher.body_size() as u64 / BODY_RATE);
            return Some((since + time, "a body came more slowly than 1,024 bytes a second"));
        }
        let idle = dispatcher.config.idle_timeout?;
        let quiet = self.input.is_empty() && dispatcher.is_idle();
        quiet.then_some((self.last_active + idle, "the connection was idle for longer than this server allows"))
    }

    /// What the driver should read.
    pub fn wants(&self, out: &Outbox) -> Wants {
        Wants {
            socket_read: self.input.is_empty()
                && !self.dispatcher.input_ended
                && !self.is_paused(out)
                && self.dispatcher.wants_input(),
            child_read: out.queue.len() < HIGH_WATER,
        }
    }

    /// Whether [`Input::Drained`] would let something go on.
    pub fn wants_drained(&self) -> bool {
        self.dispatcher.phase != Phase::Ending && (!self.input.is_empty() || self.dispatcher.has_more_to_send())
    }

    /// Whether the connection is over as far as the session is concerned:
    /// everything is answered, and sent.
    pub fn is_finished(&self, out: &Outbox) -> bool {
        out.queue.is_empty()
            && match self.dispatcher.phase {
                Phase::Open => false,
                Phase::Finishing => self.input.is_empty() && self.dispatcher.is_idle(),
                Phase::Ending => true,
            }
    }

    /// Whether the session ended the connection because of an error; its
    /// driver then drains what still comes, so that the peer does get to read
    /// the last words.
    pub fn has_failed(&self) -> bool {
        self.dispatcher.phase == Phase::Ending
    }

    /// Whether the peer has authenticated, or need not.
    pub fn is_authenticated(&self) -> bool {
        self.dispatcher.is_authenticated()
    }

    /// Whether the peer has made a whole request, and has authenticated where
    /// it must.
    pub fn is_known(&self) -> bool {
        self.has_asked && self.is_authenticated()
    }

    /// Bytes held for the peer beside its send queue that count against its
    /// output limit.
    pub fn held(&self) -> usize {
        self.dispatcher.held()
    }

    /// Memory of what the peer sent and nobody has taken yet, in bytes.
    pub fn input_memory(&self) -> usize {
        self.input.capacity() + self.dispatcher.gathered()
    }
}
