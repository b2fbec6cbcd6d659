//! What each complete request leads to, and the only place that knows the
//! services. Whether a request is admitted is decided as it comes in.

mod incoming;

use super::chat::Chat;
use super::exec::{ChildEvent, Exec, Signal, Spawned};
use super::files::{DiskReply, FileHandle, Files};
use super::flood::Flood;
use super::jobs::JobId;
use super::outbox::{LOW_WATER, Outbox};
use super::session::{HEADER_TIMEOUT, SessionConfig};
use super::{Effect, Now, rooms};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::frame::{FrameError, Limits};
use crate::wire::reply::{LeaveReason, Plain, Refused, Welcome};
use crate::wire::request::{Hello, Request};
use crate::wire::{MAX_BODY, MAX_HEADER, PROTOCOL_VERSION};
use bytes::Bytes;
use incoming::Incoming;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// What the server calls itself in its greeting.
const SERVER: &str = concat!("reactord/", env!("CARGO_PKG_VERSION"));

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests come.
    Open,
    /// The peer ended its sending side; what it asked for is still answered.
    Finishing,
    /// The last words are queued; nothing more is taken or begun.
    Ending,
}

/// An answer that the driver owes, to a request of the session's own.
#[derive(Debug)]
enum Waiting {
    Hello(Option<u64>),
    Listing(&'static str, Option<u64>),
    Kill(Option<u64>),
    /// The rooms' acknowledgement that the connection left them.
    Leaving,
}

/// The requests of one connection and the services that carry them out.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) config: Arc<SessionConfig>,
    /// When the input came that is being taken.
    pub(super) now: Instant,
    flood: Flood,
    pub(super) phase: Phase,
    pub(super) input_ended: bool,
    incoming: Option<Incoming>,
    /// Until when the peer must have authenticated.
    pub(super) greet_by: Option<Instant>,
    greeted: bool,
    left_rooms: bool,
    waiting: Option<Waiting>,
    chat: Option<Box<Chat>>,
    exec: Option<Box<Exec>>,
    files: Option<Box<Files>>,
}

impl Dispatcher {
    pub(super) fn new(config: Arc<SessionConfig>, now: Instant) -> Self {
        Dispatcher {
            greet_by: config.token.is_some().then_some(now + HEADER_TIMEOUT),
            config,
            now,
            flood: Flood::default(),
            phase: Phase::Open,
            input_ended: false,
            incoming: None,
            greeted: false,
            left_rooms: false,
            waiting: None,
            chat: None,
            exec: None,
            files: None,
        }
    }

    /// Services are made when first used: most connections use one of them.
    fn chat(&mut self) -> &mut Chat {
        self.chat.get_or_insert_default()
    }

    fn exec(&mut self) -> &mut Exec {
        self.exec.get_or_insert_default()
    }

    fn files(&mut self) -> &mut Files {
        self.files.get_or_insert_default()
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.greet_by.is_none()
    }

    /// The authentication decides how much a peer may announce.
    pub(super) fn limits(&self) -> Limits {
        if self.is_authenticated() { Limits::FULL } else { Limits::UNAUTHENTICATED }
    }

    /// Carries out a request whose body is complete.
    fn dispatch(&mut self, incoming: Incoming, body: &[u8], out: &mut Outbox) {
        let Incoming { id, request, .. } = incoming;
        let request = match request {
            Ok(request) => request,
            Err(malformed) => {
                out.refuse(malformed.re.as_deref(), id, &malformed.refusal);
                if let (Some("put"), Some(id), true) = (malformed.re.as_deref(), id, self.config.services.file) {
                    self.files().put_failed(id, malformed.refusal);
                }
                return;
            }
        };
        match (request, id) {
            (Request::Hello(hello), _) => self.hello(id, hello, out),
            (Request::Echo, _) => out.queue.sized_answer("echo", id, body),
            (Request::Stats, _) => {
                self.waiting = Some(Waiting::Listing("stats", id));
                out.effect(Effect::Stats);
            }
            (Request::Jobs, _) => {
                self.waiting = Some(Waiting::Listing("jobs", id));
                out.effect(Effect::Jobs);
            }
            (Request::Kill(kill), _) => match Signal::parse(kill.signal.as_deref().unwrap_or("TERM")) {
                Ok(signal) => {
                    self.waiting = Some(Waiting::Kill(id));
                    out.effect(Effect::Kill(JobId(kill.job), signal));
                }
                Err(refusal) => out.refuse(Some("kill"), id, &refusal),
            },
            (Request::Exec(exec), Some(id)) => self.exec().start(id, *exec, out),
            (Request::Input(input), Some(id)) => self.exec().input_end(id, input.eof, out),
            (Request::Signal(signal), Some(id)) => self.exec().signal(id, &signal.signal, out),
            (Request::Resize(size), Some(id)) => self.exec().resize(id, size.rows, size.cols, out),
            (Request::Data, Some(id)) => self.files().data_end(id, out),
            (
                request @ (Request::Join(_)
                | Request::Say(_)
                | Request::Tell(_)
                | Request::Leave(_)
                | Request::Nick(_)
                | Request::Rooms
                | Request::Who(_)
                | Request::History(_)),
                _,
            ) => self.chat().request(id, request, Bytes::copy_from_slice(body), out),
            (request, _) => self.files().request(id, request, out),
        }
    }

    fn hello(&mut self, id: Option<u64>, hello: Hello, out: &mut Outbox) {
        if let Some(token) = &self.config.token {
            let given = hello.token.as_deref();
            let right = given.map(|given| bool::from(given.as_bytes().ct_eq(token.as_bytes())));
            if right == Some(false) || (right.is_none() && !self.is_authenticated()) {
                let message = match given {
                    Some(_) => "the token is not this server's: read its token file again",
                    None => "hello carried no token: this server asks for the one in its token file",
                };
                return self.fail(ErrorCode::Unauthorized, message, LeaveReason::Disconnected, out);
            }
        }
        self.greet_by = None;
        if self.greeted {
            let refusal = Refusal::new(ErrorCode::Conflict, "this connection has greeted already");
            return out.refuse(Some("hello"), id, &refusal);
        }
        if hello.version != PROTOCOL_VERSION {
            let message = format!("protocol version {}: this server speaks {PROTOCOL_VERSION}", hello.version);
            let refusal = Refusal::new(ErrorCode::BadRequest, message);
            let refused = Refused::new(Some("hello"), id, &refusal).with_versions(&[PROTOCOL_VERSION]);
            return out.queue.frame(&refused, b"");
        }
        self.waiting = Some(Waiting::Hello(id));
        out.effect(Effect::Room(rooms::Op::Hello { nick: hello.nick }));
    }

    pub(super) fn room_reply(&mut self, reply: rooms::Reply, out: &mut Outbox) {
        let Some(waiting) = self.waiting.take() else {
            if self.phase != Phase::Ending {
                self.chat().reply(reply, out);
            }
            return;
        };
        let Waiting::Hello(id) = waiting else { return };
        match reply {
            rooms::Reply::Named { nick } => {
                self.greeted = true;
                let services: Vec<&str> = self.config.services.names().collect();
                let welcome = Welcome {
                    version: PROTOCOL_VERSION,
                    server: SERVER,
                    nick: &nick,
                    services: &services,
                    max_header: MAX_HEADER,
                    max_body: MAX_BODY,
                    features: [],
                };
                out.answer("hello", id, welcome);
            }
            rooms::Reply::Refused { refusal, suggestion } => {
                let mut refused = Refused::new(Some("hello"), id, &refusal);
                if let Some(nick) = &suggestion {
                    refused = refused.with_suggestion(nick);
                }
                out.queue.frame(&refused, b"");
            }
            other => debug_assert!(false, "hello was answered with {other:?}"),
        }
    }

    pub(super) fn listed(&mut self, body: Vec<u8>, out: &mut Outbox) {
        if let Some(Waiting::Listing(cmd, id)) = self.waiting.take() {
            out.answer_body(cmd, id, Bytes::from(body));
        }
    }

    pub(super) fn killed(&mut self, result: Result<(), Refusal>, out: &mut Outbox) {
        let Some(Waiting::Kill(id)) = self.waiting.take() else { return };
        match result {
            Ok(()) => out.answer("kill", id, Plain {}),
            Err(refusal) => out.refuse(Some("kill"), id, &refusal),
        }
    }

    pub(super) fn delivery(&mut self, delivery: &rooms::Delivery, out: &mut Outbox) {
        if self.phase != Phase::Ending {
            self.chat().delivery(delivery, out);
        }
    }

    pub(super) fn spawned(&mut self, now: Now, result: Result<Spawned, Refusal>, out: &mut Outbox) {
        if self.phase != Phase::Ending {
            return self.exec().spawned(now, result, out);
        }
        if let Ok(spawned) = result {
            out.effect(Effect::Job(spawned.job, super::exec::JobEffect::Abandon));
        }
    }

    pub(super) fn child(&mut self, now: Now, job: JobId, event: ChildEvent<'_>, out: &mut Outbox) {
        if self.phase != Phase::Ending {
            self.exec().child(now, job, event, out);
        }
    }

    pub(super) fn disk(&mut self, reply: DiskReply, out: &mut Outbox) {
        if self.phase != Phase::Ending {
            self.files().disk(reply, out);
        }
    }

    pub(super) fn file_shrank(&mut self, file: FileHandle) {
        self.files().file_shrank(file);
    }

    /// Lets paced transfers and replays queue more.
    pub(super) fn pump(&mut self, out: &mut Outbox) {
        if self.phase == Phase::Ending || out.queue.len() >= LOW_WATER {
            return;
        }
        if let Some(chat) = &mut self.chat {
            chat.pump(out);
        }
        if let Some(files) = &mut self.files {
            files.pump(out);
        }
    }

    /// Acts on the end of input once all of the input is taken.
    pub(super) fn maybe_finish(&mut self, out: &mut Outbox) {
        if !self.input_ended || self.phase != Phase::Open || self.is_waiting() {
            return;
        }
        self.phase = Phase::Finishing;
        self.incoming = None;
        if let Some(exec) = &mut self.exec {
            exec.end_of_input(out);
        }
        if let Some(files) = &mut self.files {
            files.end_of_input(out);
        }
    }

    pub(super) fn bad_frame(&mut self, error: &FrameError, out: &mut Outbox) {
        self.fail(ErrorCode::BadFrame, &error.to_string(), LeaveReason::Disconnected, out);
    }

    /// Ends the connection: completed answers go out, what runs ends without
    /// a further frame, and the last words follow.
    pub(super) fn fail(&mut self, code: ErrorCode, message: &str, reason: LeaveReason, out: &mut Outbox) {
        if self.phase == Phase::Ending {
            return;
        }
        self.phase = Phase::Ending;
        self.incoming = None;
        if let Some(exec) = &mut self.exec {
            exec.abandon(out);
        }
        if let Some(files) = &mut self.files {
            // Stretches of downloads that are queued need their files until
            // they are sent; `gone` closes them.
            files.end_of_input(out);
        }
        self.leave_rooms(reason, out);
        out.fatal(code, message);
    }

    /// The connection is gone: lets go of everything.
    pub(super) fn gone(&mut self, out: &mut Outbox) {
        self.phase = Phase::Ending;
        self.incoming = None;
        if let Some(mut exec) = self.exec.take() {
            exec.abandon(out);
        }
        if let Some(mut files) = self.files.take() {
            files.abandon(out);
        }
        self.chat = None;
        self.leave_rooms(LeaveReason::Disconnected, out);
    }

    fn leave_rooms(&mut self, reason: LeaveReason, out: &mut Outbox) {
        if !self.left_rooms {
            self.left_rooms = true;
            self.waiting = Some(Waiting::Leaving);
            out.effect(Effect::Room(rooms::Op::Disconnect { reason }));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.phase != Phase::Ending
            && let Some(exec) = &mut self.exec
        {
            exec.handle_timeout(now, out);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Ending {
            return None;
        }
        self.exec.as_ref().and_then(|exec| exec.poll_timeout())
    }

    /// Whether an answer is due that must come before the next request's.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
            || self.chat.as_ref().is_some_and(|chat| chat.is_waiting())
            || self.exec.as_ref().is_some_and(|exec| exec.is_waiting())
            || self.files.as_ref().is_some_and(|files| files.is_waiting())
    }

    /// Whether commands and the disk take what the peer sends.
    pub(super) fn wants_input(&self) -> bool {
        self.exec.as_ref().is_none_or(|exec| exec.wants_input())
            && self.files.as_ref().is_none_or(|files| files.wants_input())
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_waiting()
            && self.chat.as_ref().is_none_or(|chat| chat.is_idle())
            && self.exec.as_ref().is_none_or(|exec| exec.is_idle())
            && self.files.as_ref().is_none_or(|files| files.is_idle())
    }

    pub(super) fn has_more_to_send(&self) -> bool {
        self.chat.as_ref().is_some_and(|chat| !chat.is_idle())
            || self.files.as_ref().is_some_and(|files| !files.is_idle())
    }

    pub(super) fn held(&self) -> usize {
        self.chat.as_ref().map_or(0, |chat| chat.held())
    }
}
