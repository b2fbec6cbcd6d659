//! How a connection ends, step by step, for every driver: its last words are
//! flushed, its sending side is shut, and what its peer still sends is thrown
//! away for a while, because to close a socket with unread input would reset
//! it, and the peer would lose what it was to read. Sockets are the drivers'.

use crate::limits::{DRAIN_BYTES, DRAIN_TIME, LINGER};
use std::time::Instant;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its session goes on.
    Serving,
    /// The session has failed; what is queued is flushed until then.
    Flushing(Instant),
    /// The sending side is shut; input is thrown away until then.
    Draining {
        /// By when it is closed in any case.
        until: Instant,
        /// How many more bytes are thrown away.
        left: usize,
    },
}

/// What a session and its queue say about the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The session has ended the connection because of an error.
    pub failed: bool,
    /// Everything is answered and sent, and the peer has ended its side.
    pub finished: bool,
    /// Something is still queued.
    pub unsent: bool,
}

/// What a driver does next about the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes or [`Stage::deadline`] is there.
    Nothing,
    /// Shut the sending side, and close where that fails: the peer is gone.
    /// Input is to be looked at again.
    Shut,
    /// Close, for this reason.
    Close(&'static str),
}

impl Stage {
    /// Moves on as far as can be.
    pub fn advance(&mut self, signs: Signs, now: Instant) -> Step {
        if *self == Stage::Serving && signs.failed {
            *self = Stage::Flushing(now + LINGER);
        }
        match *self {
            Stage::Serving if signs.finished => Step::Close("it ended"),
            Stage::Flushing(_) if !signs.unsent => {
                *self = Stage::Draining { until: now + DRAIN_TIME, left: DRAIN_BYTES };
                Step::Shut
            }
            Stage::Flushing(until) if now >= until => Step::Close("it took no last words"),
            Stage::Draining { until, left } if now >= until || left == 0 => Step::Close("its input was drained"),
            _ => Step::Nothing,
        }
    }

    /// Whether its session goes on.
    pub fn is_serving(self) -> bool {
        self == Stage::Serving
    }

    /// Whether input is only thrown away.
    pub fn is_draining(self) -> bool {
        matches!(self, Stage::Draining { .. })
    }

    /// Takes note of input that was thrown away; `false` where this is not the
    /// time for that.
    pub fn drained(&mut self, bytes: usize) -> bool {
        let Stage::Draining { left, .. } = self else { return false };
        *left = left.saturating_sub(bytes);
        true
    }

    /// Whether to read: what comes is the session's, or is thrown away.
    pub fn reads(self, session_wants: impl FnOnce() -> bool) -> bool {
        match self {
            Stage::Serving => session_wants(),
            Stage::Flushing(_) => false,
            Stage::Draining { .. } => true,
        }
    }

    /// When the connection needs attention though nothing happens.
    pub fn deadline(self, session: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        match self {
            Stage::Serving => session(),
            Stage::Flushing(until) | Stage::Draining { until, .. } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Signs = Signs { failed: false, finished: false, unsent: false };
    const FAILED: Signs = Signs { failed: true, ..QUIET };

    #[test]
    fn a_session_that_finished_is_closed_at_once() {
        let mut stage = Stage::Serving;
        assert_eq!(stage.advance(QUIET, Instant::now()), Step::Nothing);
        assert_eq!(stage.advance(Signs { unsent: true, ..QUIET }, Instant::now()), Step::Nothing);
        assert_eq!(stage.advance(Signs { finished: true, ..QUIET }, Instant::now()), Step::Close("it ended"));
    }

    #[test]
    fn last_words_are_sent_then_the_side_is_shut_and_the_rest_drained() {
        let (mut stage, now) = (Stage::Serving, Instant::now());
        assert_eq!(stage.advance(Signs { unsent: true, ..FAILED }, now), Step::Nothing);
        assert_eq!(stage.deadline(|| None), Some(now + LINGER));
        assert!(!stage.reads(|| true) && !stage.drained(1));
        assert_eq!(stage.advance(FAILED, now), Step::Shut);
        assert!(stage.is_draining() && stage.reads(|| false));
        assert_eq!(stage.advance(FAILED, now), Step::Nothing, "it is shut once");
        assert_eq!(stage.deadline(|| None), Some(now + DRAIN_TIME));
        assert!(stage.drained(DRAIN_BYTES - 1));
        assert_eq!(stage.advance(FAILED, now), Step::Nothing);
        assert!(stage.drained(2));
        assert!(matches!(stage.advance(FAILED, now), Step::Close(_)));
    }

    #[test]
    fn neither_flushing_nor_draining_goes_on_for_ever() {
        let (mut stage, now) = (Stage::Serving, Instant::now());
        let unsent = Signs { unsent: true, ..FAILED };
        stage.advance(unsent, now);
        assert!(matches!(stage.advance(unsent, now + LINGER), Step::Close(_)));
        assert_eq!(stage.advance(FAILED, now), Step::Shut);
        assert!(matches!(stage.advance(FAILED, now + DRAIN_TIME), Step::Close(_)));
    }
}
