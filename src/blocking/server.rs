//! What all threads share, and what each of them may do with it: the
//! connections, the rooms, the disk and the commands.

use super::clock::{Clock, Due};
use super::commands::Commands;
use super::conn::{Conn, Next, State};
use super::counts::{Counts, Totals, count};
use super::lock;
use super::post::Post;
use crate::admission::Admission;
use crate::config::Config;
use crate::disk::{Completion, Disk};
use crate::limits;
use crate::memory::{self, Crowd};
use crate::proto::rooms::Rooms;
use crate::proto::{ConnId, Input, Now, SessionConfig};
use crate::store::Store;
use crate::system;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Every connection.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) by_id: HashMap<ConnId, Arc<Conn>>,
    pub(super) last_id: u64,
    /// The most were reached; set until there is some room again.
    pub(super) full: bool,
    /// Nobody is let in any more.
    pub(super) stopping: bool,
    /// What went through those that are closed.
    pub(super) closed: Totals,
    crowd: Crowd,
}

/// The rooms and where their history is kept.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) rooms: Rooms,
    /// `None` where chat is off.
    store: Option<Store>,
    /// Whether the clock will ask for the next save.
    save_is_due: bool,
}

impl Chat {
    /// Hands over what changed, unless the clock is about to ask for that.
    pub(super) fn save(&mut self, now: Instant, clock: &Clock) {
        if !self.save_is_due
            && let Some(store) = &mut self.store
            && let Some(at) = store.save(now, &mut self.rooms)
        {
            self.save_is_due = true;
            clock.save_at(at);
        }
    }
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) session_config: Arc<SessionConfig>,
    pub(super) connections: Mutex<Connections>,
    /// A connection or a command has ended, or the server stops.
    pub(super) ended: Condvar,
    pub(super) chat: Mutex<Chat>,
    pub(super) disk: Mutex<Disk>,
    pub(super) commands: Commands,
    pub(super) admission: Mutex<Admission>,
    pub(super) clock: Clock,
    pub(super) counts: Counts,
    /// The memory of all queues, inboxes and kept input, in bytes.
    pub(super) queued: AtomicUsize,
    pub(super) started: Instant,
}

impl Server {
    pub(super) fn new(config: Config, notify: impl Fn() + Send + Sync + 'static) -> io::Result<Server> {
        let disk = Disk::open(&config.root, notify)?;
        let now = system::now();
        let (rooms, store) = Store::open_rooms(&config, now).map_err(io::Error::other)?;
        Ok(Server {
            session_config: config.session_config(),
            connections: Mutex::default(),
            ended: Condvar::new(),
            chat: Mutex::new(Chat { rooms, store, save_is_due: false }),
            disk: Mutex::new(disk),
            commands: Commands::new(config.max_jobs),
            admission: Mutex::new(Admission::new(config.max_connections)),
            clock: Clock::default(),
            counts: Counts::default(),
            queued: AtomicUsize::new(0),
            started: now.instant,
            config,
        })
    }

    /// The connection of that identity, if it is still there.
    fn find(&self, id: ConnId) -> Option<Arc<Conn>> {
        lock(&self.connections).by_id.get(&id).cloned()
    }

    fn everyone(&self) -> Vec<Arc<Conn>> {
        lock(&self.connections).by_id.values().cloned().collect()
    }

    /// Tells a session something, carries out what it asks for, sends what
    /// goes out at once, and looks after what came of it for others. The
    /// caller holds no lock.
    pub(super) fn visit(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        post: &mut Post,
        work: impl FnOnce(&mut State, Now),
    ) -> Next {
        let state = self.work_on(conn, post, work);
        let next = state.next();
        drop(state);
        self.hand_out(post);
        next
    }

    /// A visit without what comes of it for others; gives the state's lock.
    pub(super) fn work_on<'a>(
        self: &Arc<Self>,
        conn: &'a Arc<Conn>,
        post: &mut Post,
        work: impl FnOnce(&mut State, Now),
    ) -> MutexGuard<'a, State> {
        let now = system::now();
        let mut state = conn.lock();
        if state.is_over() {
            return state;
        }
        self.take_inbox(conn, &mut state, now);
        work(&mut state, now);
        self.settle(conn, &mut state, now, post);
        self.send_at_once(conn, &mut state, now, post);
        self.look_after(conn, &mut state, now, post);
        state
    }

    /// Brings everything that follows from a connection's state up to date.
    pub(super) fn look_after(self: &Arc<Self>, conn: &Arc<Conn>, state: &mut State, now: Now, post: &mut Post) {
        if state.is_stranger {
            self.look_at_stranger(conn, state, now.instant);
        }
        if self.is_slow(state, now.instant) {
            log::warn!("{}: {} bytes were queued for it and not taken: ended", conn.peer, state.out.queue.len());
            self.end_slow(conn, state, now, post);
        }
        conn.advance_end(state, now.instant);
        self.account(conn, state);
        // Whoever is being ended is not ended again for its slowness.
        let since = state.over_soft_since.filter(|_| !state.session.has_failed());
        let soft = since.map(|since| since + limits::SOFT_LIMIT_TIME);
        if !state.awaits_reader
            && let Some(at) = [state.deadline(), soft].into_iter().flatten().min()
        {
            self.clock.arm(conn.id, at, &mut state.armed);
        }
        if !state.out.queue.is_empty() && !state.sending && !state.is_over() {
            post.call(conn);
        }
        conn.notify_reader(state);
    }

    /// Takes note of a stranger that has authenticated, or failed to.
    fn look_at_stranger(&self, conn: &Conn, state: &mut State, now: Instant) {
        let (authenticated, failed) = (state.session.is_authenticated(), state.session.has_failed());
        if !authenticated && !failed {
            return;
        }
        state.is_stranger = false;
        let mut admission = lock(&self.admission);
        admission.stranger_went();
        if failed && !authenticated {
            count(&self.counts.auth_failures, 1);
            admission.failed(conn.peer.ip(), now);
            log::warn!("{}: ended before it had authenticated", conn.peer);
        }
    }

    fn is_slow(&self, state: &mut State, now: Instant) -> bool {
        !state.session.has_failed()
            && state.had_deliveries
            && state.session.hears_others()
            && limits::is_slow(state.queued(), self.config.output_limit, &mut state.over_soft_since, now)
    }

    /// Ends a connection that takes too little.
    fn end_slow(self: &Arc<Self>, conn: &Arc<Conn>, state: &mut State, now: Now, post: &mut Post) {
        count(&self.counts.slow_consumers, 1);
        state.tell(now, Input::SlowConsumer);
        self.settle(conn, state, now, post);
        self.send_at_once(conn, state, now, post);
    }

    /// Brings the total of all queues up to date with this connection's.
    fn account(&self, conn: &Conn, state: &State) {
        let memory = state.out.queue.memory() + state.session.held() + state.session.input_memory();
        let before = conn.memory.swap(memory, Ordering::Relaxed);
        if memory > before {
            self.queued.fetch_add(memory - before, Ordering::Relaxed);
        } else if memory < before {
            self.queued.fetch_sub(before - memory, Ordering::Relaxed);
        }
    }

    /// Ends those that most is queued for, while all together hold more than
    /// the server may. The caller holds no lock.
    pub(super) fn enforce_memory_limit(self: &Arc<Self>, post: &mut Post) {
        while self.queued.load(Ordering::Relaxed) > self.config.memory_limit {
            let live = self.everyone().into_iter().filter(|conn| !conn.failed.load(Ordering::Relaxed));
            let Some(largest) = live.max_by_key(|conn| conn.memory.load(Ordering::Relaxed) + conn.inbox.bytes()) else {
                return;
            };
            log::warn!("{}: ended, because all queues hold too much and it has the most", largest.peer);
            drop(self.work_on(&largest, post, |state, now| {
                count(&self.counts.slow_consumers, 1);
                state.tell(now, Input::SlowConsumer);
            }));
        }
    }

    /// Closes a connection and lets go of everything that belongs to it: the
    /// last that its reader does.
    pub(super) fn close_connection(self: &Arc<Self>, conn: &Arc<Conn>, post: &mut Post) {
        let now = system::now();
        let mut state = conn.lock();
        state.tell(now, Input::Gone);
        while !state.out.effects.is_empty() {
            self.settle(conn, &mut state, now, post);
        }
        state.close();
        self.clock.disarm(conn.id, &mut state.armed);
        self.account(conn, &state);
        if std::mem::take(&mut state.is_stranger) {
            lock(&self.admission).stranger_went();
        }
        drop(state);
        self.queued.fetch_sub(conn.inbox.close(), Ordering::Relaxed);
        lock(&self.disk).gone(conn.id);
        conn.hang_up();
        self.hand_out(post);
        count(&self.counts.closed, 1);
        let mut connections = lock(&self.connections);
        connections.by_id.remove(&conn.id);
        connections.closed.add(conn);
        if limits::has_room_again(connections.by_id.len(), self.config.max_connections) {
            connections.full = false;
        }
        let left = connections.by_id.len();
        let a_crowd_has_gone = connections.crowd.has_gone(left);
        self.ended.notify_all();
        drop(connections);
        if a_crowd_has_gone {
            memory::give_back();
        }
    }

    /// Passes on what a disk worker finished.
    pub(super) fn disk_completed(self: &Arc<Self>, completion: Completion, post: &mut Post) {
        // Nothing is ever asked to be warmed: a thread may as well wait itself.
        let Completion::Reply(id, reply) = completion else { return };
        if let Some(conn) = self.find(id) {
            self.visit(&conn, post, |state, now| state.tell(now, Input::Disk(reply)));
        }
    }

    /// Does what has come due.
    pub(super) fn come_due(self: &Arc<Self>, due: Due, post: &mut Post) {
        match due {
            Due::Save => {
                let mut chat = lock(&self.chat);
                chat.save_is_due = false;
                chat.save(Instant::now(), &self.clock);
            }
            Due::Connection(id, at) => {
                let Some(conn) = self.find(id) else { return };
                self.visit(&conn, post, |state, now| {
                    if state.armed != Some(at) {
                        return;
                    }
                    state.armed = None;
                    if state.looks > 0 || !state.is_due(now) {
                        return;
                    }
                    // What has come was in time, also where its reader did not
                    // get to it: that arms the clock anew.
                    if state.next() == Next::Read && conn.has_input() {
                        state.awaits_reader = true;
                        return;
                    }
                    state.looks = state.commands.len();
                    state.commands.values().for_each(|command| command.look());
                    if state.looks == 0 {
                        self.time_out(state, now);
                    }
                });
            }
        }
    }

    /// Tells a session what has come due.
    fn time_out(&self, state: &mut State, now: Now) {
        let had_failed = state.session.has_failed();
        state.session.handle_timeout(now, &mut state.out);
        if state.session.has_failed() && !had_failed {
            count(&self.counts.timeouts, 1);
        }
    }

    /// One of its commands has nothing unread; after the last of them the
    /// session learns what is due.
    pub(super) fn looked(&self, state: &mut State, now: Now) {
        state.looks = state.looks.saturating_sub(1);
        if state.looks == 0 && state.is_due(now) {
            self.time_out(state, now);
        }
    }

    /// Begins to stop: no new connections, last words to the others.
    pub(super) fn stop(self: &Arc<Self>) {
        lock(&self.connections).stopping = true;
        self.ended.notify_all();
        let conns = self.everyone();
        log::info!("stopping: {} connections, {} commands", conns.len(), self.commands.len());
        let mut post = Post::default();
        for conn in conns {
            self.visit(&conn, &mut post, |state, now| state.tell(now, Input::Shutdown));
        }
        self.commands.terminate_all();
    }

    /// Waits until every connection and every command has ended.
    pub(super) fn wait_until_empty(&self, until: Instant) {
        let mut connections = lock(&self.connections);
        while !connections.by_id.is_empty() || self.commands.len() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            connections = self.ended.wait_timeout(connections, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what must outlive the server, and ends the threads that serve all.
    pub(super) fn close(&self, disk_time: Duration) -> io::Result<()> {
        self.clock.stop();
        if !lock(&self.disk).shutdown(disk_time) {
            log::warn!("the disk's workers are still busy");
        }
        let mut chat = lock(&self.chat);
        let Some(store) = chat.store.take() else { return Ok(()) };
        store.close(Instant::now(), &mut chat.rooms).map_err(io::Error::other)
    }
}
