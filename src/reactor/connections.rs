//! Every connection, in a slab, and the lists of those that need attention.

use super::conn::{Conn, Standing};
use super::sources::{conn_id, slot_of};
use crate::console::Port;
use crate::limits::{self, SOFT_LIMIT_TIME};
use crate::memory::{self, Crowd};
use crate::proto::rooms::{Deliver, Delivery};
use crate::proto::{ConnId, Input, Now};
use crate::timers::Timers;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Instant;

/// The connections of a reactor.
#[derive(Debug)]
pub struct Connections {
    slab: Slab<Conn>,
    generation: u64,
    /// Those with latched readiness, each [`Standing`] round robin.
    ready: [VecDeque<ConnId>; 2],
    /// Those whose effects were not all carried out, round robin.
    pub postponed: VecDeque<ConnId>,
    /// Those to be flushed, or looked at for their end, in this turn.
    pub dirty: Vec<ConnId>,
    /// Those that more is queued for than is allowed.
    pub slow: Vec<ConnId>,
    /// Their deadlines.
    pub timers: Timers,
    /// The operator's console, where there is one.
    pub operator: Option<Port>,
    /// The most that may be queued for a connection by others, in bytes.
    output_limit: usize,
    /// The memory of all queues, in bytes.
    queued: usize,
    crowd: Crowd,
    now: Now,
}

impl Connections {
    /// No connection yet.
    pub fn new(output_limit: usize, now: Now) -> Self {
        Connections {
            slab: Slab::new(),
            generation: 0,
            ready: Default::default(),
            postponed: VecDeque::new(),
            dirty: Vec::new(),
            slow: Vec::new(),
            timers: Timers::default(),
            operator: None,
            output_limit,
            queued: 0,
            crowd: Crowd::default(),
            now,
        }
    }

    /// The time of this turn.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Adds the connection that `make` makes of its identity.
    pub fn insert(&mut self, make: impl FnOnce(ConnId) -> std::io::Result<Conn>) -> std::io::Result<ConnId> {
        let entry = self.slab.vacant_entry();
        self.generation += 1;
        let id = conn_id(entry.key(), self.generation);
        entry.insert(make(id)?);
        Ok(id)
    }

    /// The connection of that identity, if it is still there.
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slab.get(slot_of(id)).filter(|conn| conn.id == id)
    }

    /// The connection of that identity, if it is still there.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slab.get_mut(slot_of(id)).filter(|conn| conn.id == id)
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        let mut conn = self.slab.remove(slot_of(id));
        self.timers.disarm(id, &mut conn.armed);
        self.queued -= conn.accounted;
        let emptied = self.slab.is_empty() && self.slab.capacity() >= memory::CROWD;
        if self.crowd.has_gone(self.slab.len()) || emptied {
            // The slab only as far as those allow that are left.
            self.slab.shrink_to_fit();
            self.ready.iter_mut().for_each(VecDeque::shrink_to_fit);
            self.dirty.shrink_to_fit();
            memory::give_back();
        }
        Some(conn)
    }

    /// The identities of all.
    pub fn ids(&self) -> Vec<ConnId> {
        self.slab.iter().map(|(_, conn)| conn.id).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slab.iter().map(|(_, conn)| conn)
    }

    /// Puts a connection on the ready list if it has something to read.
    pub fn note_ready(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        if !conn.in_ready && conn.can_read() {
            conn.in_ready = true;
            let standing = conn.standing();
            self.ready[standing as usize].push_back(id);
        }
    }

    /// How many of that standing have something to read.
    pub fn ready(&self, standing: Standing) -> usize {
        self.ready[standing as usize].len()
    }

    /// The next of that standing that has something to read.
    pub fn next_ready(&mut self, standing: Standing) -> Option<ConnId> {
        self.ready[standing as usize].pop_front()
    }

    /// Puts a connection on the list of those with effects left to carry out.
    pub fn postpone(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        if !conn.in_postponed {
            conn.in_postponed = true;
            self.postponed.push_back(id);
        }
    }

    /// Puts a connection on the list of those to flush and to look after.
    pub fn note_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        if !conn.in_dirty {
            conn.in_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Arms the timers for the connection's next deadline.
    pub fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(slot_of(id)).filter(|conn| conn.id == id) else { return };
        // Whoever is being ended is not ended again for its slowness.
        let since = conn.over_soft_since.filter(|_| !conn.session.has_failed());
        let soft = since.map(|since| since + SOFT_LIMIT_TIME);
        if let Some(at) = [conn.deadline(), soft].into_iter().flatten().min() {
            self.timers.arm(id, at, &mut conn.armed);
        }
    }

    /// The memory of all queues and kept input, in bytes, as of the last [`Connections::account`] of each.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Brings the total of all queues up to date with this connection's.
    pub fn account(&mut self, id: ConnId) {
        let Some(conn) = self.slab.get_mut(slot_of(id)).filter(|conn| conn.id == id) else { return };
        let memory = conn.out.queue.memory() + conn.session.held() + conn.session.input_memory();
        self.queued = self.queued - conn.accounted + memory;
        conn.accounted = memory;
    }

    /// The connection for which most is queued.
    pub fn largest(&self) -> Option<ConnId> {
        let live = self.iter().filter(|conn| !conn.session.has_failed());
        live.max_by_key(|conn| conn.accounted).map(|conn| conn.id)
    }

    /// Takes note of how much is queued for a connection, which others may
    /// have queued.
    pub fn check_output(&mut self, id: ConnId) {
        let now = self.now.instant;
        let limit = self.output_limit;
        let Some(conn) = self.get_mut(id) else { return };
        if is_slow(conn, limit, now) {
            self.slow.push(id);
        }
    }
}

/// Whether a connection is to be ended because it takes too little.
fn is_slow(conn: &mut Conn, limit: usize, now: Instant) -> bool {
    let queued = conn.out.queue.len() + conn.session.held();
    if !conn.session.hears_others() {
        conn.over_soft_since = None;
        return false;
    }
    limits::is_slow(queued, limit, &mut conn.over_soft_since, now)
}

impl Deliver for Connections {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        if to == ConnId::OPERATOR {
            return self.operator.iter_mut().for_each(|port| port.deliver(delivery));
        }
        let now = self.now;
        let Some(conn) = self.slab.get_mut(slot_of(to)).filter(|conn| conn.id == to) else { return };
        conn.feed(now, Input::Delivery(delivery));
        if !conn.in_dirty {
            conn.in_dirty = true;
            self.dirty.push(to);
        }
        if is_slow(conn, self.output_limit, now.instant) && self.slow.last() != Some(&to) {
            self.slow.push(to);
        }
    }
}
