//! What a visit leaves to be done for other connections, once no lock is held.

use super::conn::Conn;
use super::inbox::Owed;
use super::server::{Connections, Server};
use super::{lock, start, threads};
use crate::proto::ConnId;
use crate::proto::rooms::{Deliver, Delivery};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// Whose writers are to be called, and whose inboxes to be emptied. A thread
/// keeps one for all its visits.
#[derive(Debug, Default)]
pub(super) struct Post {
    calls: Vec<Arc<Conn>>,
    visits: Vec<Arc<Conn>>,
}

impl Post {
    /// What the rooms deliver through, for an operation of `me`.
    pub(super) fn deliver<'a>(&'a mut self, server: &'a Server, me: ConnId) -> Delivering<'a> {
        Delivering { server, me, connections: None, post: self }
    }

    /// Has the connection's writer called.
    pub(super) fn call(&mut self, conn: &Arc<Conn>) {
        self.calls.push(Arc::clone(conn));
    }
}

/// Takes deliveries to the inboxes; the table of connections stays locked from
/// the first one on.
pub(super) struct Delivering<'a> {
    server: &'a Server,
    me: ConnId,
    connections: Option<MutexGuard<'a, Connections>>,
    post: &'a mut Post,
}

impl Deliver for Delivering<'_> {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        let connections = self.connections.get_or_insert_with(|| lock(&self.server.connections));
        let Some(conn) = connections.by_id.get(&to) else { return };
        // Before it can be taken out again.
        self.server.queued.fetch_add(delivery.frames.len(), Ordering::Relaxed);
        match conn.inbox.push(delivery.clone()) {
            Owed::Refused => drop(self.server.queued.fetch_sub(delivery.frames.len(), Ordering::Relaxed)),
            // One's own inbox is emptied at once.
            _ if to == self.me => {}
            Owed::Nothing => {}
            Owed::Call => self.post.calls.push(Arc::clone(conn)),
            Owed::Visit => self.post.visits.push(Arc::clone(conn)),
        }
    }
}

impl Server {
    /// Does what the visits left to be done. The caller holds no lock.
    pub(super) fn hand_out(self: &Arc<Self>, post: &mut Post) {
        loop {
            for conn in post.calls.drain(..) {
                self.call_writer(conn);
            }
            let Some(conn) = post.visits.pop() else { break };
            drop(self.work_on(&conn, post, |_, _| {}));
        }
        if self.queued.load(Ordering::Relaxed) > self.config.memory_limit {
            self.enforce_memory_limit(post);
            for conn in post.calls.drain(..) {
                self.call_writer(conn);
            }
        }
    }

    fn call_writer(self: &Arc<Self>, conn: Arc<Conn>) {
        if !conn.inbox.call() {
            return;
        }
        let (server, theirs) = (Arc::clone(self), Arc::clone(&conn));
        if let Err(e) = start("writer", move || threads::write(&server, &theirs)) {
            // Its reader finds the end and closes it.
            log::warn!("{}: ended, because its writer cannot be started: {e}", conn.peer);
            conn.hang_up();
        }
    }
}
