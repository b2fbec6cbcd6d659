//! The reactor's rules without its system calls: readiness latched by edges,
//! a ready list and a dirty list, budgets for each phase of a turn, slots that
//! are used again under new generations, effects in their order. What
//! `src/reactor` does, this does; the sessions, the rooms, the queues and the
//! timers are the real ones.

mod conns;
mod send;

use super::network::{Event, Read, Socket};
use super::rng::Rng;
use crate::support::children::{Children, Did};
use crate::support::disk::Disk;
use conns::{Conns, slot};
use reactord::proto::exec::{JobEffect, Spawn};
use reactord::proto::files::DiskReply;
use reactord::proto::jobs::JobId;
use reactord::proto::rooms::{self, Deliver, Delivery, Rooms};
use reactord::proto::{ConnId, Effect, Input, Now, Session, SessionConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// What a queue may hold beyond the output limit: what its own connection asked for.
const OWN_QUEUE: usize = 8 << 20;

/// Finds that a message was left lying.
struct NothingLeft;

impl Deliver for NothingLeft {
    fn deliver(&mut self, to: ConnId, _: &Delivery) {
        panic!("a message for {to:?} is left lying");
    }
}

/// Something that the world must bring about later.
pub enum Later {
    Start,
    Disk,
    Child(JobId),
    Warm(ConnId),
}

pub struct Server {
    config: Arc<SessionConfig>,
    conns: Conns,
    rooms: Rooms,
    pub disk: Disk,
    pub children: Children,
    /// Commands that wait for the thread that starts them, and how many of
    /// them it has come to.
    starts: VecDeque<(ConnId, Spawn)>,
    pub begun: usize,
    ready_children: VecDeque<JobId>,
    stalled: BTreeMap<ConnId, Vec<JobId>>,
    pub disk_replies: VecDeque<(ConnId, DiskReply)>,
    pub warmed: Vec<ConnId>,
    /// The connection of each client that has one.
    pub ids: BTreeMap<usize, ConnId>,
    /// Clients that wait to be accepted.
    pub backlog: VecDeque<usize>,
    read_budget: usize,
    write_budget: usize,
    pub later: Vec<Later>,
    /// Clients for whom something was written, or whose connection ended.
    pub touched: Vec<usize>,
    stopping: bool,
    /// Turns since something was moved.
    idle_turns: usize,
}

impl Server {
    pub fn new(config: SessionConfig, now: Now, rng: &mut Rng) -> Self {
        let output_limit = rng.pick(&[30_000, 100_000, 1 << 20, 32 << 20]);
        let conns = Conns::new(output_limit, now);
        let history = rng.pick(&[0, 3, 1_000]);
        Server {
            config: Arc::new(config),
            conns,
            rooms: Rooms::new(rooms::Config { history, ..rooms::Config::default() }),
            disk: Disk::default(),
            children: Children::default(),
            starts: VecDeque::new(),
            begun: 0,
            ready_children: VecDeque::new(),
            stalled: BTreeMap::new(),
            disk_replies: VecDeque::new(),
            warmed: Vec::new(),
            ids: BTreeMap::new(),
            backlog: VecDeque::new(),
            read_budget: rng.pick(&[100, 4_096, 64 << 10]),
            write_budget: rng.pick(&[1_000, 1 << 20]),
            later: Vec::new(),
            touched: Vec::new(),
            stopping: false,
            idle_turns: 0,
        }
    }

    /// The earliest moment at which the loop goes on by itself.
    pub fn wakes_at(&self) -> Option<Instant> {
        let busy = self.conns.ready.iter().any(|list| !list.is_empty())
            || !self.conns.dirty.is_empty()
            || !self.ready_children.is_empty()
            || self.begun > 0
            || !self.disk_replies.is_empty()
            || !self.warmed.is_empty()
            || !self.backlog.is_empty();
        if busy { Some(self.conns.now.instant) } else { self.conns.timers.next() }
    }

    pub fn is_empty(&self) -> bool {
        self.conns.slab.is_empty()
    }

    pub fn people(&self) -> usize {
        self.rooms.counts().1
    }

    /// One turn: first the events are latched, then each phase does its part.
    pub fn turn(&mut self, now: Now, events: &[(ConnId, Event)], sockets: &mut [Socket], rng: &mut Rng) {
        self.conns.now = now;
        self.idle_turns = if events.is_empty() { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns < 1_000, "the loop spins");
        for (id, event) in events {
            let Some(conn) = self.conns.get(*id) else { continue };
            conn.readable |= event.readable || event.read_closed || event.error;
            conn.writable |= event.writable || event.error;
            conn.read_closed |= event.read_closed || event.error;
            let wakes = conn.can_write() || !conn.stage.is_serving() || event.read_closed;
            self.conns.note_ready(*id);
            if wakes {
                self.conns.note_dirty(*id);
            }
        }
        self.accept();
        self.read(0, sockets, rng);
        self.read(1, sockets, rng);
        self.run_starts();
        self.run_children(rng);
        for (id, reply) in std::mem::take(&mut self.disk_replies) {
            self.feed(id, Input::Disk(reply));
        }
        for id in std::mem::take(&mut self.warmed) {
            if let Some(conn) = self.conns.get(id) {
                conn.warming = false;
                self.conns.note_dirty(id);
            }
        }
        self.run_deadlines(sockets, rng);
        self.rooms.flush(&mut self.conns);
        while let Some(id) = self.conns.slow.pop() {
            if self.conns.get(id).is_some_and(|conn| !conn.session.has_failed()) {
                self.feed(id, Input::SlowConsumer);
            }
        }
        self.flush(sockets, rng);
    }

    fn accept(&mut self) {
        for client in std::mem::take(&mut self.backlog) {
            let session = Session::new(Arc::clone(&self.config), self.conns.now);
            let id = self.conns.insert(client, session);
            self.ids.insert(client, id);
            self.conns.note_ready(id);
            self.conns.arm(id);
            if self.stopping {
                self.feed(id, Input::Shutdown);
            }
        }
    }

    fn read(&mut self, list: usize, sockets: &mut [Socket], rng: &mut Rng) {
        for served in 0..self.conns.ready[list].len() {
            if served > 0 && rng.chance(if list == 0 { 3 } else { 20 }) {
                return;
            }
            let Some(id) = self.conns.ready[list].pop_front() else { break };
            let Some(conn) = self.conns.get(id) else { continue };
            conn.in_ready = false;
            if !conn.can_read() {
                continue;
            }
            self.idle_turns = 0;
            match sockets[conn.client].read(self.read_budget) {
                Read::Bytes(bytes) => {
                    let short = bytes.len() < self.read_budget;
                    conn.readable = !short || conn.read_closed;
                    if conn.stage.drained(bytes.len()) {
                        self.conns.note_dirty(id);
                    } else {
                        self.feed(id, Input::Bytes(&bytes));
                        if let Some(conn) = self.conns.get(id) {
                            conn.known |= conn.session.is_known();
                        }
                    }
                }
                Read::Eof => {
                    conn.readable = false;
                    conn.read_closed = true;
                    if conn.stage.is_draining() { self.remove(id, sockets) } else { self.feed(id, Input::Eof) }
                }
                Read::Blocked => conn.readable = false,
                Read::Broken => self.remove(id, sockets),
            }
            self.conns.note_ready(id);
        }
    }

    /// The command may have something to do.
    pub fn wake_child(&mut self, job: JobId) {
        self.ready_children.push_back(job);
    }

    fn run_starts(&mut self) {
        for _ in 0..std::mem::take(&mut self.begun) {
            let (id, spawn) = self.starts.pop_front().expect("none is begun that was not asked for");
            self.idle_turns = 0;
            match self.children.spawn(id, "nick", spawn) {
                Ok(spawned) if self.conns.get(id).is_none() => self.children.effect(spawned.job, JobEffect::Abandon),
                result => {
                    self.later.extend(result.iter().map(|spawned| Later::Child(spawned.job)));
                    self.feed(id, Input::Spawned(result));
                }
            }
        }
    }

    fn run_children(&mut self, rng: &mut Rng) {
        for _ in 0..self.ready_children.len() {
            let Some(job) = self.ready_children.pop_front() else { break };
            for _ in 0..4 {
                let Some(owner) = self.children.owner(job) else { break };
                let wants = self.conns.get(owner).is_none_or(|conn| conn.session.wants(&conn.out).child_read);
                let Some((_, did)) = self.children.step(job, wants, rng.size(65_536)) else { break };
                match did {
                    Did::Waits => break,
                    Did::Stalls => {
                        self.stalled.entry(owner).or_default().push(job);
                        break;
                    }
                    _ => {}
                }
                self.idle_turns = 0;
                let event = did.event().expect("it did something");
                self.feed(owner, Input::Child(job, event));
                self.later.push(Later::Child(job));
            }
        }
    }

    fn run_deadlines(&mut self, sockets: &mut [Socket], rng: &mut Rng) {
        let now = self.conns.now;
        assert!(self.conns.timers.len() <= self.conns.slab.len());
        let mut left = 10 * self.conns.timers.len();
        // Where its time is over, what is due now is so in the next turn too.
        while !rng.chance(1)
            && let Some((at, id)) = self.conns.timers.pop_due(now.instant)
        {
            left = left.checked_sub(1).expect("what is due does not come up without end");
            let Some(conn) = self.conns.get(id).filter(|conn| conn.armed == Some(at)) else { continue };
            conn.armed = None;
            let untaken = sockets[conn.client].sent.len();
            if conn.stall.as_mut().is_some_and(|stall| stall.is_over(now.instant, untaken)) {
                self.remove(id, sockets);
                continue;
            }
            if conn.session.poll_timeout().is_some_and(|due| due <= now.instant) {
                conn.session.handle_timeout(now, &mut conn.out);
                let due = conn.session.poll_timeout();
                assert!(due.is_none_or(|due| due > now.instant), "due again at once");
                self.settle(id);
            }
            self.conns.check_output(id);
            self.conns.note_dirty(id);
        }
    }

    pub fn feed(&mut self, id: ConnId, input: Input<'_>) {
        let now = self.conns.now;
        self.idle_turns = 0;
        let Some(conn) = self.conns.get(id) else { return };
        conn.session.handle_input(now, input, &mut conn.out);
        self.settle(id);
    }

    fn settle(&mut self, id: ConnId) {
        let now = self.conns.now;
        while let Some(effect) = self.conns.get(id).and_then(|conn| conn.out.effects.pop_front()) {
            let input = match effect {
                Effect::Room(op) => Input::Room(self.rooms.apply(now, id, op, &mut self.conns)),
                Effect::Spawn(spawn) => {
                    self.starts.push_back((id, *spawn));
                    self.later.push(Later::Start);
                    continue;
                }
                Effect::Job(job, effect) => {
                    let over = matches!(effect, JobEffect::Release | JobEffect::Abandon);
                    self.children.effect(job, effect);
                    if !over {
                        self.later.push(Later::Child(job));
                    }
                    continue;
                }
                Effect::Jobs => Input::Jobs(self.children.list(id)),
                Effect::Kill(job, signal) => {
                    self.later.push(Later::Child(job));
                    Input::Killed(self.children.kill(job, signal))
                }
                Effect::Disk(request) => {
                    self.disk.submit(id, request);
                    self.later.push(Later::Disk);
                    continue;
                }
                Effect::Stats => Input::Stats(b"{}".to_vec()),
            };
            if let Some(conn) = self.conns.get(id) {
                conn.session.handle_input(now, input, &mut conn.out);
            }
        }
        self.conns.note_ready(id);
        self.conns.note_dirty(id);
    }

    fn remove(&mut self, id: ConnId, sockets: &mut [Socket]) {
        self.feed(id, Input::Gone);
        self.disk.gone(id);
        self.stalled.remove(&id);
        let mut conn = self.conns.slab.remove(slot(id));
        self.conns.timers.disarm(id, &mut conn.armed);
        assert_eq!(conn.id, id, "a slot is given back once, by its own connection");
        let socket = &mut sockets[conn.client];
        socket.closed = true;
        socket.cut = !conn.out.queue.is_empty();
        let may_be = socket.broken || !conn.stage.is_serving() || conn.stall.is_some();
        assert!(!socket.cut || may_be, "an answer is thrown away");
        self.ids.remove(&conn.client);
        self.touched.push(conn.client);
    }

    /// Begins to stop.
    pub fn stop(&mut self) {
        self.stopping = true;
        for id in self.conns.slab.iter().map(|(_, conn)| conn.id).collect::<Vec<_>>() {
            self.feed(id, Input::Shutdown);
        }
    }

    /// Before the loop sleeps with no event in sight: nobody who could go on
    /// may be left behind, and nobody may hold too much.
    pub fn check_before_sleep(&mut self, sockets: &[Socket]) {
        self.rooms.flush(&mut NothingLeft);
        let limit = self.conns.output_limit.max(OWN_QUEUE);
        for (_, conn) in &self.conns.slab {
            let socket = &sockets[conn.client];
            let queued = conn.out.queue.len() + conn.session.held();
            assert!(queued <= limit, "{queued} bytes are queued");
            if conn.stage.is_serving() && socket.event == Event::default() {
                let wants = conn.session.wants(&conn.out).socket_read;
                assert!(!wants || !socket.can_be_read() || conn.in_ready, "input is left lying: {:?}", conn.session);
                let stuck = !conn.out.queue.is_empty() && socket.room() > 0 && !conn.warming && !conn.in_dirty;
                assert!(!stuck || socket.broken, "output is left lying");
                assert!(!conn.session.is_finished(&conn.out), "an end is left lying");
                assert!(!conn.stalls() || conn.stall.is_some(), "one who takes nothing may stay for ever");
            }
            let deadline = conn.deadline();
            assert!(deadline.is_none() || conn.armed.is_some_and(|armed| armed <= deadline.unwrap()), "no timer");
        }
    }
}
