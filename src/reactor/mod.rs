//! The event loop: one thread, one poll, and the phases of a turn.
//!
//! ```text
//! poll -> latch events -> accept -> effects left over -> read and feed -> children
//!      -> disk -> console -> deadlines -> deliveries -> flush each connection once -> reap
//! ```
//!
//! Events only latch readiness; what is done about it is bounded for each
//! connection and turn, and whoever has more to do stays on a ready list,
//! which makes the next poll return at once. Whoever has not shown to be a
//! client stands on a list of its own, and has its turn after the others.
//! Services only queue: each connection that has something is written to once,
//! at the end of the turn.

mod accept;
pub mod child;
mod conn;
mod connections;
mod effects;
mod operator;
mod read;
mod send;
mod sources;
mod turn;

use crate::admission::Admission;
use crate::config::Config;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::limits::STOP_TIME;
use crate::process::Warden;
use crate::proto::exec::JobEffect;
use crate::proto::rooms::Rooms;
use crate::proto::{ConnId, Input, Kind, Now, SessionConfig};
use crate::store::Store;
use crate::wire::reply::LeaveReason;
use crate::{limits, system, timers};
use accept::{Accepting, Listening};
use child::Children;
use conn::{Conn, Standing};
use connections::Connections;
use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Waker};
use read::READ_BUDGET;
use sources::Source;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turn::{PHASE_TIME, Phases, SHARE_TIME, is_over};

/// Events fetched by one poll.
const EVENTS: usize = 1_024;

/// The event-loop driver.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    waker: Arc<Waker>,
    listeners: Vec<Listening>,
    signals: UnixStream,
    session_config: Arc<SessionConfig>,
    config: Config,
    conns: Connections,
    rooms: Rooms,
    /// Where the chat's history is kept; `None` where chat is off.
    store: Option<Store>,
    /// When the store wants to be looked after again.
    save_at: Option<Instant>,
    children: Children,
    disk: Disk,
    /// Whether the last turn had no time for all that the disk did.
    disk_waits: bool,
    counters: Counters,
    now: Now,
    started: Instant,
    read_buffer: Vec<u8>,
    accepting: Accepting,
    admission: Admission,
    /// Set once the server stops: by when everything must have ended.
    stop_by: Option<Instant>,
}

impl Reactor {
    /// A reactor that serves the clients of all `listeners`. `signals` becomes
    /// readable when the server is to stop.
    pub fn new(
        config: Config,
        listeners: Vec<(Kind, std::net::TcpListener)>,
        signals: std::os::unix::net::UnixStream,
    ) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
        let mut signals = UnixStream::from_std(signals);
        poll.registry().register(&mut signals, Source::Signals.token(), Interest::READABLE)?;
        let mut listening = Vec::new();
        for (index, (kind, socket)) in listeners.into_iter().enumerate() {
            let mut socket = TcpListener::from_std(socket);
            poll.registry().register(&mut socket, Source::Listener(index).token(), Interest::READABLE)?;
            listening.push(Listening { socket, kind, ready: true });
        }
        let disk = Disk::open(&config.root, wake(&waker))?;
        let now = system::now();
        let (rooms, store) = Store::open_rooms(&config, now).map_err(io::Error::other)?;
        let registry = poll.registry().try_clone()?;
        let admission = Admission::new(config.max_connections);
        let children = Children::new(registry, config.max_jobs, Warden::new("/proc/self/exe"), wake(&waker))?;
        Ok(Reactor {
            poll,
            waker,
            listeners: listening,
            signals,
            session_config: config.session_config(),
            conns: Connections::new(config.output_limit, now),
            rooms,
            store,
            save_at: None,
            children,
            disk,
            disk_waits: false,
            counters: Counters {
                mode: "reactor",
                version: env!("CARGO_PKG_VERSION"),
                max_connections: config.max_connections,
                memory_limit: config.memory_limit,
                ..Counters::default()
            },
            config,
            now,
            started: now.instant,
            read_buffer: vec![0; READ_BUDGET],
            accepting: Accepting::Yes,
            admission,
            stop_by: None,
        })
    }

    /// Serves until a signal asks it to stop, and then until everything has
    /// ended or the time for that is over.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.poll_timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            self.set_now();
            let began = self.now.instant;
            let mut phases = Phases::new(began);
            self.latch(&events);
            self.accept();
            phases.end("accept");
            self.run_postponed();
            phases.end("postponed");
            self.read();
            phases.end("read");
            self.run_children();
            phases.end("children");
            self.run_disk();
            phases.end("disk");
            self.run_console();
            phases.end("console");
            self.run_deadlines();
            phases.end("deadlines");
            self.rooms.flush(&mut self.conns);
            self.end_slow();
            phases.end("deliveries");
            self.flush();
            self.enforce_memory_limit();
            phases.end("flush");
            if let Some(store) = &mut self.store {
                self.save_at = store.save(self.now.instant, &mut self.rooms);
            }
            self.take_turn_time(phases);
            if self.has_stopped() {
                return self.close();
            }
        }
    }

    fn set_now(&mut self) {
        self.now = system::now();
        self.conns.set_now(self.now);
    }

    /// How long the loop may sleep.
    fn poll_timeout(&self) -> Option<Duration> {
        let waiting = self.listeners.iter().any(|listening| listening.ready);
        let ready = self.conns.ready(Standing::Known) + self.conns.ready(Standing::Stranger);
        if ready > 0
            || !self.conns.postponed.is_empty()
            || !self.conns.dirty.is_empty()
            || self.children.is_ready()
            || self.disk_waits
            || (waiting && self.accepting == Accepting::Yes)
        {
            return Some(Duration::ZERO);
        }
        let retry = match self.accepting {
            Accepting::Exhausted(until) if waiting => Some(until),
            _ => None,
        };
        let deadlines = [self.conns.timers.next(), self.children.poll_timeout(), self.save_at, retry, self.stop_by];
        timers::poll_timeout(deadlines.into_iter().flatten().min(), Instant::now())
    }

    /// Takes note of events; does nothing about them yet, so that no slot
    /// changes hands while they are read.
    fn latch(&mut self, events: &Events) {
        self.counters.turns += 1;
        for event in events {
            match Source::from_token(event.token()) {
                Some(Source::Listener(index)) => {
                    // They are gone where the stop stands before in these events.
                    if let Some(listening) = self.listeners.get_mut(index) {
                        listening.ready = true;
                    }
                }
                Some(Source::Connection(id)) => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.latch(event);
                        let is_closing = event.is_read_closed() || event.is_error();
                        let wakes = conn.can_write() || conn.is_ending() || is_closing;
                        self.conns.note_ready(id);
                        if wakes {
                            self.conns.note_dirty(id);
                        }
                    }
                }
                Some(Source::Child(packed)) => self.children.handle_event(packed, event),
                Some(Source::Signals) => self.stop(),
                // What the workers finished is fetched in each turn.
                Some(Source::Waker) | None => {}
            }
        }
    }

    fn run_children(&mut self) {
        self.run_started();
        let now = self.now;
        self.children.handle_timeout(now);
        let mut sink = effects::Sink { now, conns: &mut self.conns, touched: Vec::new() };
        self.children.run(now, &mut sink);
        let touched = sink.touched;
        for id in touched {
            self.settle(id);
        }
    }

    /// Tells those whose commands have started, or could not.
    fn run_started(&mut self) {
        let began = Instant::now();
        for served in 0..self.children.starting() {
            if is_over(began, served, PHASE_TIME) {
                // There may be more.
                return (self.waker())();
            }
            let Some((id, result)) = self.children.poll_started(self.now) else { return };
            match result {
                // It is gone, and cannot let go of it.
                Ok(started) if self.conns.get(id).is_none() => {
                    self.children.effect(self.now, started.job, JobEffect::Abandon);
                }
                result => self.feed(id, Input::Spawned(result)),
            }
        }
    }

    fn run_disk(&mut self) {
        let began = Instant::now();
        while let Some(completion) = self.disk.poll() {
            self.disk_completed(completion);
            self.disk_waits = began.elapsed() > PHASE_TIME;
            if self.disk_waits {
                return;
            }
        }
        self.disk_waits = false;
    }

    fn run_deadlines(&mut self) {
        let (began, now) = (Instant::now(), self.now);
        for served in 0.. {
            // Strangers that were let in together all give up together.
            if is_over(began, served, SHARE_TIME) {
                return;
            }
            let Some((at, id)) = self.conns.timers.pop_due(now.instant) else { return };
            let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.armed == Some(at)) else { continue };
            conn.armed = None;
            if conn.has_stalled(now.instant) {
                self.counters.slow_consumers += 1;
                log::warn!("{}: cut off: it ended its input and takes nothing of its answers", conn.peer);
                self.remove(id, "it took nothing");
                continue;
            }
            if conn.session.poll_timeout().is_some_and(|due| due <= now.instant) {
                let had_failed = conn.session.has_failed();
                conn.session.handle_timeout(now, &mut conn.out);
                if conn.session.has_failed() && !had_failed {
                    self.counters.timeouts += 1;
                }
                if conn.is_stranger {
                    self.look_at_stranger(id);
                }
                self.settle(id);
            }
            self.conns.check_output(id);
            // Armed anew when it was looked after: what is due now would only
            // come up again here, without end.
            self.conns.note_dirty(id);
        }
    }

    /// Ends those that take too little of what others send them.
    fn end_slow(&mut self) {
        while let Some(id) = self.conns.slow.pop() {
            let Some(conn) = self.conns.get(id).filter(|conn| !conn.session.has_failed()) else { continue };
            self.counters.slow_consumers += 1;
            log::warn!("{}: {} bytes were queued for it and not taken: ended", conn.peer, conn.out.queue.len());
            self.feed(id, Input::SlowConsumer);
        }
    }

    /// Takes a connection out, and everything that belongs to it.
    fn remove(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        log::debug!("{}: closed: {why}", conn.peer);
        conn.feed(self.now, Input::Gone);
        self.settle_all(id);
        self.disk.gone(id);
        if let Some(mut conn) = self.conns.remove(id) {
            if conn.is_stranger {
                self.admission.stranger_went();
            }
            if self.children.starting() > 0 {
                // A process that is no program yet has a copy of each descriptor,
                // which would keep the end from the peer.
                conn.shut();
            }
            if let Err(e) = self.poll.registry().deregister(conn.socket_mut()) {
                log::debug!("{}: cannot deregister: {e}", conn.peer);
            }
            self.counters.closed += 1;
        }
        let enough_room = limits::has_room_again(self.conns.len(), self.config.max_connections);
        if enough_room || self.accepting != Accepting::Full {
            self.accepting = Accepting::Yes;
        }
    }

    /// Begins to stop: no new connections, last words to the others.
    fn stop(&mut self) {
        let mut drop_bytes = [0; 64];
        while matches!(self.signals.read(&mut drop_bytes), Ok(n) if n > 0) {}
        if self.stop_by.is_some() {
            return;
        }
        log::info!("stopping: {} connections, {} commands", self.conns.len(), self.children.len());
        self.stop_by = Some(self.now.instant + STOP_TIME);
        for listening in self.listeners.drain(..) {
            // A process that is no program yet would keep it listening (shutdown(2) on Linux).
            if let Err(e) = rustix::net::shutdown(&listening.socket, rustix::net::Shutdown::Both) {
                log::debug!("cannot shut a listener: {e}");
            }
        }
        self.operator_leaves(LeaveReason::ShuttingDown);
        for id in self.conns.ids() {
            self.feed(id, Input::Shutdown);
        }
        self.children.terminate_all(self.now);
    }

    fn has_stopped(&self) -> bool {
        self.stop_by.is_some_and(|by| self.now.instant >= by || (self.conns.is_empty() && self.children.is_empty()))
    }

    /// Writes what must outlive the server.
    fn close(&mut self) -> io::Result<()> {
        let Some(store) = self.store.take() else { return Ok(()) };
        store.close(Instant::now(), &mut self.rooms).map_err(io::Error::other)
    }
}

/// What makes the loop look at what another thread has for it.
fn wake(waker: &Arc<Waker>) -> impl Fn() + Send + Sync + use<> {
    let waker = Arc::clone(waker);
    move || {
        if let Err(e) = waker.wake() {
            log::error!("cannot wake the event loop: {e}");
        }
    }
}
