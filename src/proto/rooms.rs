//! Who is where: nicks, rooms, members, numbering and kept messages.
//!
//! One value of [`Rooms`] serves all connections. Every change goes through
//! [`Rooms::apply`], which answers the one who asked and hands what the others
//! should hear to a [`Deliver`].

use super::{ConnId, Now};
use crate::wire::error::Refusal;
use crate::wire::reply::LeaveReason;
use bytes::Bytes;
use std::sync::Arc;

/// A room operation.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub enum Op {
    /// Names the connection: with this nick, or a free `guest-N`. Where the
    /// connection has a (lazily given) name already, takes the new one.
    Hello {
        nick: Option<String>,
    },
    Nick {
        nick: String,
    },
    Join {
        room: String,
        history: Option<u64>,
        after: Option<u64>,
    },
    Say {
        room: String,
        body: Bytes,
    },
    Tell {
        to: String,
        body: Bytes,
    },
    Leave {
        room: String,
    },
    List,
    Who {
        room: String,
    },
    History {
        room: String,
        after: Option<u64>,
        before: Option<u64>,
        limit: Option<u64>,
    },
    /// The connection is gone: leaves every room and frees the nick. Answered
    /// with [`Reply::Done`].
    Disconnect {
        reason: LeaveReason,
    },
}

/// The answer to an operation.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub enum Reply {
    /// `hello`: the nick in force.
    Named {
        nick: Arc<str>,
    },
    /// `join`: the members as a JSON array, and the messages to replay, oldest first.
    Joined {
        room: Arc<str>,
        seq: u64,
        epoch: Arc<str>,
        members: Bytes,
        kept: Vec<Arc<Message>>,
    },
    Said {
        room: Arc<str>,
        seq: u64,
        at: u64,
    },
    /// `rooms` and `who`: a JSON array.
    Listed(Bytes),
    History {
        kept: Vec<Arc<Message>>,
    },
    /// `tell`, `leave`, `nick`, and the end of a connection.
    Done,
    Refused {
        refusal: Refusal,
        suggestion: Option<String>,
    },
}

/// A kept message.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct Message {
    pub room: Arc<str>,
    pub seq: u64,
    pub at: u64,
    pub from: Arc<str>,
    pub body: Bytes,
}

/// Encoded frames for a connection.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The room they belong to; `None` for a `tell` and for `renamed`.
    pub room: Option<Arc<str>>,
    /// Whole frames.
    pub frames: Bytes,
}

/// Takes what others should hear.
pub trait Deliver {
    /// Hands `delivery` to a connection that is or was lately there.
    fn deliver(&mut self, to: ConnId, delivery: &Delivery);
}

/// Every nick and room of the server.
#[derive(Debug, Default)]
pub struct Rooms {}

impl Rooms {
    /// Carries out `op` for `conn`. What earlier operations gathered for
    /// others is delivered first where order demands it.
    pub fn apply(&mut self, now: Now, conn: ConnId, op: Op, others: &mut impl Deliver) -> Reply {
        match op {
            Op::Hello { .. } => Reply::Named { nick: "stub".into() },
            Op::Disconnect { .. } => Reply::Done,
            _ => unreachable!("{now:?} {conn:?} {op:?} {}", std::mem::size_of_val(others)),
        }
    }

    /// Delivers what is still gathered. Drivers call it before they flush.
    pub fn flush(&mut self, others: &mut impl Deliver) {
        let _ = others;
    }

    /// How many rooms and nicks there are.
    pub fn counts(&self) -> (usize, usize) {
        (0, 0)
    }

    /// The nick of a connection that has one.
    pub fn nick(&self, conn: ConnId) -> Option<&Arc<str>> {
        let _ = conn;
        None
    }
}
