//! Letting clients in: one thread for each listener.

use super::conn::Conn;
use super::counts::count;
use super::server::Server;
use super::{lock, start, threads};
use crate::limits::{ACCEPT_RETRY, EXHAUSTED_LOG_INTERVAL};
use crate::listen::{self, Accepted};
use crate::proto::{ConnId, Endpoint, Kind, Outbox};
use crate::system;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

impl Server {
    /// Accepts connections until the server stops.
    pub(super) fn accept(self: &Arc<Self>, kind: Kind, listener: &TcpListener) {
        while !lock(&self.connections).stopping {
            match listen::accepted(listener.accept()) {
                Accepted::Connection(stream, peer) => self.welcome(kind, stream, peer),
                // A listener that blocks is never found empty.
                Accepted::Blocked => {}
                Accepted::Failed(e) => {
                    count(&self.counts.accept_errors, 1);
                    log::debug!("a connection was gone before it was accepted: {e}");
                }
                Accepted::Exhausted(e) => self.wait_for_an_end(&e),
            }
        }
    }

    /// Waits, because of that error, until something may be free again.
    fn wait_for_an_end(&self, e: &std::io::Error) {
        if self.counts.accept_errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(EXHAUSTED_LOG_INTERVAL) {
            log::warn!("{e}: newcomers wait until some are free");
        }
        let connections = lock(&self.connections);
        if !connections.stopping {
            drop(self.ended.wait_timeout(connections, ACCEPT_RETRY).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn welcome(self: &Arc<Self>, kind: Kind, stream: TcpStream, peer: SocketAddr) {
        let is_stranger = kind == Kind::Framed && self.session_config.token.is_some();
        if kind == Kind::Framed {
            let mut admission = lock(&self.admission);
            if !admission.admits(peer.ip(), Instant::now(), fastrand::f64()) {
                count(&self.counts.refused, 1);
                return log::debug!("{peer}: not let in");
            }
            if is_stranger {
                admission.stranger_came();
            }
        }
        count(&self.counts.accepted, 1);
        let Some(conn) = self.register(kind, stream, peer) else {
            if is_stranger {
                lock(&self.admission).stranger_went();
            }
            return;
        };
        log::debug!("{peer}: connected, {}", kind.name());
        loop {
            let (server, theirs) = (Arc::clone(self), Arc::clone(&conn));
            match start("reader", move || threads::read(&server, &theirs)) {
                Ok(()) => return,
                // Threads have run out, which is no other than descriptors.
                Err(e) => self.wait_for_an_end(&e),
            }
            if lock(&self.connections).stopping {
                return self.close_connection(&conn, &mut super::post::Post::default());
            }
        }
    }

    /// Gives a connection its identity, as soon as there is room for it; `None`
    /// where the server stops first.
    fn register(&self, kind: Kind, stream: TcpStream, peer: SocketAddr) -> Option<Arc<Conn>> {
        let mut connections = lock(&self.connections);
        if connections.by_id.len() >= self.config.max_connections && !connections.full {
            log::warn!("{} connections, the most allowed: newcomers wait", connections.by_id.len());
            connections.full = true;
        }
        while connections.full && !connections.stopping {
            connections = self.ended.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
        if connections.stopping {
            return None;
        }
        connections.last_id += 1;
        let id = ConnId(connections.last_id);
        // Its time runs from here: it may have waited long.
        let mut out = Outbox::default();
        let session = Endpoint::new(kind, &self.session_config, system::now(), &mut out);
        let conn = Arc::new(Conn::new(id, peer, stream, session, out));
        connections.by_id.insert(id, Arc::clone(&conn));
        Some(conn)
    }
}
