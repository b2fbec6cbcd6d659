//! What goes into the rooms and what comes out: operations, answers, messages
//! and deliveries.

use crate::proto::ConnId;
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
    /// The body is UTF-8 of 1 to 65,536 bytes: whoever takes it from a
    /// client has seen to that. It is kept as it is, so it should be no view
    /// into something larger.
    Say {
        room: String,
        body: Bytes,
    },
    /// The same holds for this body.
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

/// How much the rooms remember.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most messages kept for a room.
    pub history: usize,
    /// The most bytes kept in all rooms together; beyond it, the rooms that
    /// were silent longest forget first.
    pub history_bytes: usize,
    /// A text that no two starts of a server share: from it come the epochs
    /// of the rooms that begin.
    pub epoch_seed: String,
}

impl Default for Config {
    /// 1,000 messages a room, 256 MiB in all, and a seed that only tests share.
    fn default() -> Self {
        Config { history: 1_000, history_bytes: 256 << 20, epoch_seed: String::new() }
    }
}
