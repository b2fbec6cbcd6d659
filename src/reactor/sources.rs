//! Tokens: which source an event belongs to.
//!
//! The three highest bits say what kind of source it is; the rest belongs to
//! that kind. Connections and children carry a generation beside their slot,
//! so that an event that was fetched before a slot changed hands finds nobody.

use crate::proto::ConnId;
use mio::Token;

const KIND_SHIFT: u32 = 61;
const PAYLOAD: usize = (1 << KIND_SHIFT) - 1;

/// Bits of a connection's slot; the rest of its 61 are its generation.
const SLOT_BITS: u32 = 24;

/// The most connections that a reactor can tell apart.
pub const MAX_SLOTS: usize = 1 << SLOT_BITS;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The listener with that index.
    Listener(usize),
    /// The waker of the worker threads.
    Waker,
    /// The pipe that signal handlers write to.
    Signals,
    /// A connection.
    Connection(ConnId),
    /// A pipe, terminal or pidfd of a child, in that module's own packing.
    Child(usize),
}

impl Source {
    /// The token under which the source is registered.
    pub fn token(self) -> Token {
        let (kind, payload) = match self {
            Source::Listener(index) => (0, index),
            Source::Waker => (1, 0),
            Source::Signals => (2, 0),
            Source::Connection(id) => (3, id.0 as usize),
            Source::Child(packed) => (4, packed),
        };
        debug_assert!(payload <= PAYLOAD);
        Token(kind << KIND_SHIFT | payload)
    }

    /// The source with that token; `None` for a token that was never given out.
    pub fn from_token(token: Token) -> Option<Source> {
        let payload = token.0 & PAYLOAD;
        Some(match token.0 >> KIND_SHIFT {
            0 => Source::Listener(payload),
            1 => Source::Waker,
            2 => Source::Signals,
            3 => Source::Connection(ConnId(payload as u64)),
            4 => Source::Child(payload),
            _ => return None,
        })
    }
}

/// The connection in `slot`, of that generation. Generations count every
/// connection of the server: 37 bits outlast a century of a thousand a minute.
pub fn conn_id(slot: usize, generation: u64) -> ConnId {
    debug_assert!(slot < MAX_SLOTS);
    ConnId(generation << SLOT_BITS | slot as u64)
}

/// The slot of a connection.
pub fn slot_of(id: ConnId) -> usize {
    id.0 as usize & (MAX_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_its_token() {
        for source in [
            Source::Listener(3),
            Source::Waker,
            Source::Signals,
            Source::Connection(conn_id(0, 0)),
            Source::Connection(conn_id(MAX_SLOTS - 1, (1 << 37) - 1)),
            Source::Child(PAYLOAD),
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert_eq!(Source::from_token(Token(usize::MAX)), None);
    }

    #[test]
    fn a_slot_used_again_has_another_token() {
        let (old, new) = (conn_id(7, 1), conn_id(7, 2));
        assert_eq!((slot_of(old), slot_of(new)), (7, 7));
        assert_ne!(Source::Connection(old).token(), Source::Connection(new).token());
    }
}
