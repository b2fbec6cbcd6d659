//! The chat service of one connection: turns requests into room operations,
//! answers them, and paces replays to the reader.

use super::{Outbox, rooms};
use crate::wire::request::Request;
use bytes::Bytes;

/// The chat service of one connection.
#[derive(Debug, Default)]
pub struct Chat {}

impl Chat {
    /// Carries out `join`, `say`, `tell`, `leave`, `nick`, `rooms`, `who` and
    /// `history`. `body` is empty but for `say` and `tell`. Either refuses at
    /// once or waits for [`Chat::reply`].
    pub fn request(&mut self, id: Option<u64>, request: Request, body: Bytes, out: &mut Outbox) {
        unreachable!("{id:?} {request:?} {body:?} {out:?}")
    }

    /// The rooms' answer to the request in waiting.
    pub fn reply(&mut self, reply: rooms::Reply, out: &mut Outbox) {
        unreachable!("{reply:?} {out:?}")
    }

    /// Frames from a room or another nick: queued at once, or behind the
    /// replay of that room which is still under way.
    pub fn delivery(&mut self, delivery: &rooms::Delivery, out: &mut Outbox) {
        unreachable!("{delivery:?} {out:?}")
    }

    /// Queues more of the replays, while the queue is low.
    pub fn pump(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// Whether a request waits for the rooms.
    pub fn is_waiting(&self) -> bool {
        false
    }

    /// Whether no replay is under way.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Bytes of live messages held back behind replays; they count against the
    /// reader's output limit.
    pub fn held(&self) -> usize {
        0
    }
}
