//! Taking connections: as many as allowed, and going on when that is possible
//! again.

use super::Reactor;
use super::conn::Conn;
use super::sources::Source;
use super::turn::{SHARE_TIME, is_over};
use crate::limits::{ACCEPT_RETRY, EXHAUSTED_LOG_INTERVAL};
use crate::listen::{self, Accepted};
use crate::proto::{Endpoint, Kind, Outbox};
use mio::Interest;
use mio::net::TcpListener;
use std::net::SocketAddr;
use std::time::Instant;

/// A listener, what its clients speak, and whether somebody may be waiting there.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    pub(super) kind: Kind,
    pub(super) ready: bool,
}

/// Whether connections are taken. An edge-triggered listener announces nobody
/// twice, so the loop itself remembers to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Yes,
    /// There are as many as allowed: not before some have ended.
    Full,
    /// Descriptors have run out: not before one is given back, or then.
    Exhausted(Instant),
}

impl Reactor {
    /// Takes new connections, as many as allowed.
    pub(super) fn accept(&mut self) {
        match self.accepting {
            Accepting::Yes => {}
            Accepting::Exhausted(until) if self.now.instant >= until => self.accepting = Accepting::Yes,
            Accepting::Exhausted(_) | Accepting::Full => return,
        }
        let (began, mut tried) = (Instant::now(), 0);
        let (count, first) = (self.listeners.len(), self.counters.turns as usize);
        // Each turn begins with another listener, so that a flood at one leaves
        // time for the next.
        for index in (0..count).map(|n| (first + n) % count) {
            while self.listeners[index].ready && !is_over(began, tried, SHARE_TIME) {
                if self.conns.len() >= self.config.max_connections {
                    log::warn!("{} connections, the most allowed: newcomers wait", self.conns.len());
                    self.accepting = Accepting::Full;
                    return;
                }
                tried += 1;
                match listen::accepted(self.listeners[index].socket.accept()) {
                    Accepted::Connection(stream, peer) => self.add(self.listeners[index].kind, stream, peer),
                    Accepted::Blocked => self.listeners[index].ready = false,
                    Accepted::Failed(e) => {
                        self.counters.accept_errors += 1;
                        log::debug!("a connection was gone before it was accepted: {e}");
                    }
                    Accepted::Exhausted(e) => {
                        if self.counters.accept_errors.is_multiple_of(EXHAUSTED_LOG_INTERVAL) {
                            log::warn!("{e}: newcomers wait until some are free");
                        }
                        self.counters.accept_errors += 1;
                        self.accepting = Accepting::Exhausted(self.now.instant + ACCEPT_RETRY);
                        return;
                    }
                }
            }
        }
    }

    fn add(&mut self, kind: Kind, mut stream: mio::net::TcpStream, peer: SocketAddr) {
        if kind == Kind::Framed && !self.admission.admits(peer.ip(), self.now.instant, fastrand::f64()) {
            self.counters.refused += 1;
            log::debug!("{peer}: not let in");
            return;
        }
        self.counters.accepted += 1;
        let mut out = Outbox::default();
        let session = Endpoint::new(kind, &self.session_config, self.now, &mut out);
        let is_stranger = !session.is_authenticated();
        let since = self.now.unix_ms;
        let registry = self.poll.registry();
        let added = self.conns.insert(|id| {
            let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
            registry.register(&mut stream, Source::Connection(id).token(), interest)?;
            Ok(Conn::new(id, peer, since, stream, session, out))
        });
        match added {
            Ok(id) => {
                log::debug!("{peer}: connected, {}", kind.name());
                if is_stranger {
                    self.admission.stranger_came();
                }
                self.settle(id);
            }
            Err(e) => log::warn!("{peer}: cannot register the connection: {e}"),
        }
    }
}
