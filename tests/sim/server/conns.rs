//! The connections and the lists of those that need attention, as
//! `src/reactor/connections.rs` has them.

use reactord::ending::Stage;
use reactord::limits::{self, SOFT_LIMIT_TIME};
use reactord::proto::rooms::{Deliver, Delivery};
use reactord::proto::{ConnId, Input, Now, Outbox, Session};
use reactord::stall::Stall;
use reactord::timers::Timers;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Instant;

const SLOT_BITS: u32 = 24;

pub(super) struct Conn {
    pub(super) id: ConnId,
    /// The client at the other end.
    pub(super) client: usize,
    pub(super) session: Session,
    pub(super) out: Outbox,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) read_closed: bool,
    /// Whether it has shown to be a client.
    pub(super) known: bool,
    pub(super) in_ready: bool,
    pub(super) in_dirty: bool,
    pub(super) warming: bool,
    pub(super) armed: Option<Instant>,
    pub(super) over_soft_since: Option<Instant>,
    pub(super) stall: Option<Stall>,
    pub(super) stage: Stage,
}

impl Conn {
    pub(super) fn can_read(&self) -> bool {
        self.readable && self.stage.reads(|| self.session.wants(&self.out).socket_read)
    }

    pub(super) fn can_write(&self) -> bool {
        self.writable && !self.warming && !self.out.queue.is_empty()
    }

    /// Whether its peer says nothing more, and takes nothing now.
    pub(super) fn stalls(&self) -> bool {
        self.read_closed && !self.writable && self.stage.is_serving() && !self.out.queue.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let stall = self.stall.map(|stall| stall.deadline());
        self.stage.deadline(|| [self.session.poll_timeout(), stall].into_iter().flatten().min())
    }
}

/// The connections and the lists of those that need attention.
pub(super) struct Conns {
    pub(super) slab: Slab<Conn>,
    pub(super) generation: u64,
    /// Those that are known, and the others, who come after them.
    pub(super) ready: [VecDeque<ConnId>; 2],
    pub(super) dirty: Vec<ConnId>,
    pub(super) slow: Vec<ConnId>,
    pub(super) timers: Timers,
    pub(super) output_limit: usize,
    pub(super) now: Now,
}

pub(super) fn slot(id: ConnId) -> usize {
    (id.0 & ((1 << SLOT_BITS) - 1)) as usize
}

impl Conns {
    pub(super) fn new(output_limit: usize, now: Now) -> Self {
        Conns {
            slab: Slab::new(),
            generation: 0,
            ready: Default::default(),
            dirty: Vec::new(),
            slow: Vec::new(),
            timers: Timers::default(),
            output_limit,
            now,
        }
    }

    /// Adds a client's connection.
    pub(super) fn insert(&mut self, client: usize, session: Session) -> ConnId {
        let entry = self.slab.vacant_entry();
        self.generation += 1;
        let id = ConnId(self.generation << SLOT_BITS | entry.key() as u64);
        entry.insert(Conn {
            id,
            client,
            session,
            out: Outbox::default(),
            readable: true,
            writable: true,
            read_closed: false,
            known: false,
            in_ready: false,
            in_dirty: false,
            warming: false,
            armed: None,
            over_soft_since: None,
            stall: None,
            stage: Stage::Serving,
        });
        id
    }

    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slab.get_mut(slot(id)).filter(|conn| conn.id == id)
    }

    pub(super) fn note_ready(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if !conn.in_ready && conn.can_read() {
            conn.in_ready = true;
            let is_stranger = !conn.known || !conn.stage.is_serving();
            self.ready[usize::from(is_stranger)].push_back(id);
        }
    }

    pub(super) fn note_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if !std::mem::replace(&mut conn.in_dirty, true) {
            self.dirty.push(id);
        }
    }

    pub(super) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(slot(id)).filter(|conn| conn.id == id) else { return };
        let since = conn.over_soft_since.filter(|_| !conn.session.has_failed());
        let at = [conn.deadline(), since.map(|since| since + SOFT_LIMIT_TIME)].into_iter().flatten().min();
        if let Some(at) = at {
            self.timers.arm(id, at, &mut conn.armed);
        }
    }

    pub(super) fn check_output(&mut self, id: ConnId) {
        let (limit, now) = (self.output_limit, self.now.instant);
        let Some(conn) = self.get(id) else { return };
        let queued = conn.out.queue.len() + conn.session.held();
        if limits::is_slow(queued, limit, &mut conn.over_soft_since, now) {
            self.slow.push(id);
        }
    }
}

impl Deliver for Conns {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        let now = self.now;
        let Some(conn) = self.get(to) else { return };
        conn.session.handle_input(now, Input::Delivery(delivery), &mut conn.out);
        self.note_dirty(to);
        self.check_output(to);
    }
}
