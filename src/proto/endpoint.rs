//! What speaks with a connection's peer: a session, or one of the state
//! machines of the plain listeners. Drivers hold an [`Endpoint`] and need not
//! know which it is.

use super::plain::{PlainChat, PlainExec, PlainFile};
use super::session::{Session, SessionConfig, Wants};
use super::{Input, Now, Outbox};
use std::sync::Arc;
use std::time::Instant;

/// What the clients of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The protocol's frames.
    Framed,
    /// Text, to the lobby.
    PlainChat,
    /// Text, to the shell.
    PlainExec,
    /// A header and raw bytes.
    PlainFile,
}

impl Kind {
    /// The listener's name, as options and the server's output have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Framed => "framed",
            Kind::PlainChat => "plain-chat",
            Kind::PlainExec => "plain-exec",
            Kind::PlainFile => "plain-file",
        }
    }
}

/// The state of one connection; its methods are those of [`Session`]. Nearly
/// all are sessions, so these alone are held in place.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are sessions, which a box would cost a cache miss each")]
pub enum Endpoint {
    /// A client that speaks frames.
    Framed(Session),
    /// A client of the plain chat.
    PlainChat(Box<PlainChat>),
    /// A client of the plain commands.
    PlainExec(Box<PlainExec>),
    /// A client of the plain files.
    PlainFile(Box<PlainFile>),
}

impl Endpoint {
    /// What speaks with a connection accepted at `now`. It may have effects at once.
    pub fn new(kind: Kind, config: &Arc<SessionConfig>, now: Now, out: &mut Outbox) -> Self {
        match kind {
            Kind::Framed => Endpoint::Framed(Session::new(Arc::clone(config), now)),
            Kind::PlainChat => Endpoint::PlainChat(Box::new(PlainChat::new(out))),
            Kind::PlainExec => Endpoint::PlainExec(Box::default()),
            Kind::PlainFile => Endpoint::PlainFile(Box::default()),
        }
    }

    /// Takes what happened; never fails.
    #[inline]
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match self {
            Endpoint::Framed(session) => session.handle_input(now, input, out),
            Endpoint::PlainChat(chat) => chat.handle_input(now, input, out),
            Endpoint::PlainExec(exec) => exec.handle_input(now, input, out),
            Endpoint::PlainFile(file) => file.handle_input(input, out),
        }
    }

    /// Takes note of the time; call it when [`Endpoint::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        match self {
            Endpoint::Framed(session) => session.handle_timeout(now, out),
            Endpoint::PlainChat(chat) => chat.handle_timeout(now, out),
            Endpoint::PlainExec(exec) => exec.handle_timeout(now, out),
            Endpoint::PlainFile(_) => {}
        }
    }

    /// When [`Endpoint::handle_timeout`] is due next.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Endpoint::Framed(session) => session.poll_timeout(),
            Endpoint::PlainChat(chat) => chat.poll_timeout(),
            Endpoint::PlainExec(exec) => exec.poll_timeout(),
            Endpoint::PlainFile(_) => None,
        }
    }

    /// What the driver should read.
    #[inline]
    pub fn wants(&self, out: &Outbox) -> Wants {
        match self {
            Endpoint::Framed(session) => session.wants(out),
            Endpoint::PlainChat(chat) => chat.wants(out),
            Endpoint::PlainExec(exec) => exec.wants(),
            Endpoint::PlainFile(file) => file.wants(out),
        }
    }

    /// Whether [`Input::Drained`] would let something go on.
    #[inline]
    pub fn wants_drained(&self) -> bool {
        match self {
            Endpoint::Framed(session) => session.wants_drained(),
            Endpoint::PlainChat(_) => false,
            Endpoint::PlainExec(exec) => exec.wants_drained(),
            Endpoint::PlainFile(file) => file.wants_drained(),
        }
    }

    /// Whether the connection is over: everything is answered, and sent.
    #[inline]
    pub fn is_finished(&self, out: &Outbox) -> bool {
        match self {
            Endpoint::Framed(session) => session.is_finished(out),
            Endpoint::PlainChat(chat) => chat.is_finished(out),
            Endpoint::PlainExec(exec) => exec.is_finished(out),
            Endpoint::PlainFile(file) => file.is_finished(out),
        }
    }

    /// Whether the server ended the connection; its driver then drains what
    /// still comes, so that the peer does get to read the last words.
    #[inline]
    pub fn has_failed(&self) -> bool {
        match self {
            Endpoint::Framed(session) => session.has_failed(),
            Endpoint::PlainChat(chat) => chat.has_failed(),
            Endpoint::PlainExec(exec) => exec.has_failed(),
            Endpoint::PlainFile(file) => file.has_failed(),
        }
    }

    /// Whether the peer has authenticated, or need not.
    #[inline]
    pub fn is_authenticated(&self) -> bool {
        match self {
            Endpoint::Framed(session) => session.is_authenticated(),
            _ => true,
        }
    }

    /// Whether the peer has shown that it is a client: by a whole request, and
    /// by its token where it must; without frames any byte will do.
    pub fn is_known(&self) -> bool {
        match self {
            Endpoint::Framed(session) => session.is_known(),
            _ => true,
        }
    }

    /// Bytes held for the peer beside its send queue.
    #[inline]
    pub fn held(&self) -> usize {
        match self {
            Endpoint::Framed(session) => session.held(),
            Endpoint::PlainExec(exec) => exec.held(),
            Endpoint::PlainChat(_) | Endpoint::PlainFile(_) => 0,
        }
    }

    /// Memory of what the peer sent and nobody has taken yet, in bytes; that of
    /// a plain client is one message at most, and is not counted.
    pub fn input_memory(&self) -> usize {
        match self {
            Endpoint::Framed(session) => session.input_memory(),
            Endpoint::PlainChat(_) | Endpoint::PlainExec(_) | Endpoint::PlainFile(_) => 0,
        }
    }

    /// Whether others queue for the peer, who might be too slow for them. A
    /// client that is only answered may take its time.
    pub fn hears_others(&self) -> bool {
        matches!(self, Endpoint::Framed(_) | Endpoint::PlainChat(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_no_larger_for_not_being_alone() {
        assert_eq!(size_of::<Endpoint>(), size_of::<Session>());
    }
}
