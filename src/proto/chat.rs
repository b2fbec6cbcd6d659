//! The chat service of one connection: turns requests into room operations,
//! answers them, and paces replays to the reader.
//!
//! A replay waits its turn behind earlier ones and is queued only while the
//! send queue is low. What a room says meanwhile is held behind its replay, so
//! that the reader sees old before new. A request that ends a replay's sense
//! (leaving its room, or joining it again) has the rest of it queued at once,
//! so that everything comes in the order of the requests and each announced
//! count is kept.

#[cfg(test)]
mod tests;

use super::outbox::LOW_WATER;
use super::rooms::{Delivery, Message, Op, Reply};
use super::{Effect, Outbox};
use crate::wire::MAX_MESSAGE;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::reply::{Answer, ChatEvent, Joined, Plain, Refused, Said};
use crate::wire::request::Request;
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Replays that wait at a time; beyond it the first is queued at once, and the
/// full queue keeps further requests waiting.
const MAX_REPLAYS: usize = 16;

/// The chat service of one connection.
#[derive(Debug, Default)]
pub struct Chat {
    waiting: Option<Waiting>,
    replays: VecDeque<Replay>,
    /// Bytes in the replays' `held`.
    held: usize,
}

/// The request that the rooms are about to answer.
#[derive(Debug)]
struct Waiting {
    cmd: &'static str,
    id: Option<u64>,
    /// Whether success is to be answered.
    answered: bool,
}

#[derive(Debug)]
struct Replay {
    id: Option<u64>,
    messages: std::vec::IntoIter<Arc<Message>>,
    /// The room joined, whose live frames are held; `None` for `history`.
    live: Option<Arc<str>>,
    held: Vec<Bytes>,
}

/// The answer to `history`.
#[derive(Serialize)]
struct Counted {
    count: usize,
}

impl Chat {
    /// Carries out `join`, `say`, `tell`, `leave`, `nick`, `rooms`, `who` and
    /// `history`. `body` is empty but for `say` and `tell`. Either refuses at
    /// once or waits for [`Chat::reply`].
    pub fn request(&mut self, id: Option<u64>, request: Request, body: Bytes, out: &mut Outbox) {
        let cmd = request.command();
        let spoken = matches!(request, Request::Say(_) | Request::Tell(_));
        if let Err(refusal) = if spoken { check_message(&body) } else { Ok(()) } {
            return out.refuse(Some(cmd), id, &refusal);
        }
        let op = match request {
            Request::Join(join) => {
                self.finish_replay_of(&join.room, out);
                Op::Join { room: join.room, history: join.history, after: join.after }
            }
            Request::Say(to) => Op::Say { room: to.room, body },
            Request::Tell(tell) => Op::Tell { to: tell.to, body },
            Request::Leave(from) => {
                self.finish_replay_of(&from.room, out);
                Op::Leave { room: from.room }
            }
            Request::Nick(new) => Op::Nick { nick: new.nick },
            Request::Rooms => Op::List,
            Request::Who(at) => Op::Who { room: at.room },
            Request::History(h) => Op::History { room: h.room, after: h.after, before: h.before, limit: h.limit },
            _ => {
                let refusal = Refusal::new(ErrorCode::UnknownCommand, format!("`{cmd}` is no chat command"));
                return out.refuse(Some(cmd), id, &refusal);
            }
        };
        self.waiting = Some(Waiting { cmd, id, answered: !spoken || id.is_some() });
        out.effect(Effect::Room(op));
    }

    /// The rooms' answer to the request in waiting.
    pub fn reply(&mut self, reply: Reply, out: &mut Outbox) {
        let Some(Waiting { cmd, id, answered }) = self.waiting.take() else { return };
        match reply {
            Reply::Refused { refusal, suggestion } => {
                let mut refused = Refused::new(Some(cmd), id, &refusal);
                if let Some(nick) = &suggestion {
                    refused = refused.with_suggestion(nick);
                }
                out.queue.frame(&refused, b"");
            }
            _ if !answered => {}
            Reply::Said { room, seq, at } => out.answer(cmd, id, Said { room: &room, seq, at }),
            Reply::Joined { room, seq, epoch, members, kept } => {
                let fields = Joined { room: &room, seq, epoch: &epoch, count: kept.len(), size: members.len() };
                out.queue.frame_shared(&Answer::new(cmd, id, fields), members);
                self.replay(id, kept, Some(room), out);
            }
            Reply::History { kept } => {
                out.answer(cmd, id, Counted { count: kept.len() });
                self.replay(id, kept, None, out);
            }
            Reply::Listed(list) => out.answer_body(cmd, id, list),
            Reply::Done | Reply::Named { .. } => out.answer(cmd, id, Plain {}),
        }
    }

    fn replay(&mut self, id: Option<u64>, messages: Vec<Arc<Message>>, live: Option<Arc<str>>, out: &mut Outbox) {
        if messages.is_empty() {
            return;
        }
        self.replays.push_back(Replay { id, messages: messages.into_iter(), live, held: Vec::new() });
        if self.replays.len() > MAX_REPLAYS {
            self.finish(0, out);
        }
        self.pump(out);
    }

    /// Frames from a room or another nick: queued at once, or behind the
    /// replay of that room which is still under way.
    pub fn delivery(&mut self, delivery: &Delivery, out: &mut Outbox) {
        if !self.replays.is_empty() && delivery.room.is_some() {
            // There is at most one for each room: joining again finishes it.
            if let Some(replay) = self.replays.iter_mut().find(|replay| replay.live == delivery.room) {
                self.held += delivery.frames.len();
                return replay.held.push(delivery.frames.clone());
            }
        }
        if delivery.room.is_none() && self.held > 0 {
            // Somebody is named anew, and that must not overtake what is held
            // of a room where the old name came in: the replays go out at once.
            while !self.replays.is_empty() {
                self.finish(0, out);
            }
        }
        out.queue.encoded(&delivery.frames);
    }

    /// Queues more of the replays, while the queue is low.
    pub fn pump(&mut self, out: &mut Outbox) {
        while let Some(replay) = self.replays.front_mut() {
            if out.queue.len() >= LOW_WATER {
                return;
            }
            match replay.messages.next() {
                Some(message) => queue_kept(&message, replay.id, out),
                None => self.finish(0, out),
            }
        }
        // An idle connection holds no memory.
        self.replays = VecDeque::new();
    }

    /// Queues at once what is left of the replay after joining `room`.
    fn finish_replay_of(&mut self, room: &str, out: &mut Outbox) {
        let is_of = |replay: &Replay| replay.live.as_ref().is_some_and(|live| **live == *super::names::nfc(room));
        if let Some(index) = self.replays.iter().position(is_of) {
            self.finish(index, out);
        }
    }

    /// Queues what is left of a replay, and what was held behind it. That is
    /// no more than a room keeps and a slow reader may be owed.
    fn finish(&mut self, index: usize, out: &mut Outbox) {
        let Some(replay) = self.replays.remove(index) else { return };
        replay.messages.for_each(|message| queue_kept(&message, replay.id, out));
        for frames in replay.held {
            self.held -= frames.len();
            out.queue.encoded(&frames);
        }
    }

    /// Whether a request waits for the rooms.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether no replay is under way.
    pub fn is_idle(&self) -> bool {
        self.replays.is_empty()
    }

    /// Bytes of live messages held back behind replays; they count against the
    /// reader's output limit.
    pub fn held(&self) -> usize {
        self.held
    }
}

fn queue_kept(message: &Message, id: Option<u64>, out: &mut Outbox) {
    let event = ChatEvent::Message {
        room: &message.room,
        seq: message.seq,
        at: message.at,
        from: &message.from,
        size: message.body.len(),
        replay: Some(true),
        id,
    };
    out.queue.frame_shared(&event, message.body.clone());
}

fn check_message(body: &[u8]) -> Result<(), Refusal> {
    let refuse = |code, found: String| {
        Err(Refusal::new(code, format!("the message {found}; expected 1 to {MAX_MESSAGE} bytes of UTF-8")))
    };
    if body.is_empty() {
        return refuse(ErrorCode::BadRequest, "is empty".to_owned());
    }
    if body.len() > MAX_MESSAGE {
        return refuse(ErrorCode::TooLarge, format!("is {} bytes long", body.len()));
    }
    match std::str::from_utf8(body) {
        Ok(_) => Ok(()),
        Err(e) => refuse(ErrorCode::BadRequest, format!("is not UTF-8 at byte {}", e.valid_up_to())),
    }
}
