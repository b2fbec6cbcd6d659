//! One room: its members, its numbering and its kept messages.

use super::{Deliver, Delivery, Message};
use crate::proto::ConnId;
use crate::proto::history::History;
use crate::wire::reply::ChatEvent;
use crate::wire::{MAX_BODY, frame};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;

/// Who is in a room. The nick stands here too, so that listing members and
/// handing them frames looks nothing up.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) conn: ConnId,
    pub(super) nick: Arc<str>,
}

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: Arc<str>,
    pub(super) epoch: Arc<str>,
    /// The last number used; 0 where nothing was said yet.
    pub(super) seq: u64,
    pub(super) members: Vec<Member>,
    pub(super) history: History,
    /// When something was said here last, counted in messages of all rooms.
    pub(super) spoken: u64,
    /// Whether there is something to save.
    pub(super) unsaved: bool,
    /// The last number that was handed out to be saved; 0 where nothing of
    /// this room was.
    pub(super) saved: u64,
}

impl Room {
    /// Whether there is nobody to hear and nothing to remember.
    pub(super) fn is_void(&self) -> bool {
        self.members.is_empty() && self.history.is_empty()
    }

    /// Hands frames to every member except one.
    pub(super) fn deliver(&self, frames: Bytes, except: ConnId, others: &mut impl Deliver) {
        let delivery = Delivery { room: Some(self.name.clone()), frames };
        for member in &self.members {
            if member.conn != except {
                others.deliver(member.conn, &delivery);
            }
        }
    }

    /// Hands an event to every member except one.
    pub(super) fn announce(&self, event: &ChatEvent<'_>, except: ConnId, others: &mut impl Deliver) {
        if self.members.iter().any(|member| member.conn != except) {
            self.deliver(frame::encode(event, b"").into(), except, others);
        }
    }

    /// Numbers a message and hands it back; keeping it is the caller's.
    pub(super) fn next(&mut self, at: u64, from: Arc<str>, body: Bytes) -> Arc<Message> {
        self.seq += 1;
        Arc::new(Message { room: self.name.clone(), seq: self.seq, at, from, body })
    }
}

/// A JSON array of `items`, cut where it would be longer than a body may be.
pub(super) fn json_array<T: Serialize>(items: impl Iterator<Item = T>) -> Bytes {
    let mut out = vec![b'['];
    for item in items {
        let end = out.len();
        if end > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &item).expect("plain data serializes into memory");
        if out.len() >= MAX_BODY {
            out.truncate(end);
            break;
        }
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_before_it_is_longer_than_a_body() {
        assert_eq!(json_array(["a\"", "b"].iter()), r#"["a\"","b"]"#);
        assert_eq!(json_array(std::iter::empty::<u8>()), "[]");
        let item = "x".repeat(1_021);
        let list = json_array(std::iter::repeat_n(&item, 2_000));
        assert!(list.len() <= MAX_BODY);
        assert_eq!(serde_json::from_slice::<Vec<String>>(&list).unwrap().len(), 1_023);
    }
}
