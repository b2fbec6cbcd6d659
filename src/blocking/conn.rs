//! One connection: its socket, its state behind a lock, and its inbox. What
//! threads do with it is the server's.

use super::command::Command;
use super::inbox::Inbox;
use super::lock;
use crate::ending::{Signs, Stage, Step};
use crate::proto::jobs::JobId;
use crate::proto::outbox::LOW_WATER;
use crate::proto::{ConnId, Endpoint, Input, Now, Outbox};
use crate::stall::Stall;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a reader that reads nothing looks whether its peer is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a connection's reader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    /// The session takes no input now: wait until something has changed.
    Wait,
    Close,
}

/// What only one thread at a time may touch.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Endpoint,
    pub(super) out: Outbox,
    stage: Stage,
    /// Nothing remains but to close it, which its reader does.
    over: bool,
    /// The writer sends or waits for the peer, without the lock.
    pub(super) sending: bool,
    /// Whether the reader waits on `changed`: a signal to nobody is a system
    /// call too.
    reader_waits: bool,
    /// Whether the peer must authenticate and has not yet.
    pub(super) is_stranger: bool,
    /// What the clock has an entry for.
    pub(super) armed: Option<Instant>,
    /// Since when more is queued than the soft limit.
    pub(super) over_soft_since: Option<Instant>,
    /// Set while the peer, which says nothing more, takes nothing either.
    pub(super) stall: Option<Stall>,
    /// What that peer had acknowledged when its reader looked last, in bytes.
    acknowledged: u64,
    /// Whether others ever put in something for it: what a connection queues
    /// for itself is no slowness.
    pub(super) had_deliveries: bool,
    /// Something is due, but not before its reader has read what has come.
    pub(super) awaits_reader: bool,
    /// Commands whose outputs are looked at before it is told that its time is
    /// up: what can be read is no silence.
    pub(super) looks: usize,
    /// Its running commands.
    pub(super) commands: HashMap<JobId, Arc<Command>>,
}

/// What went through a connection; each has its own, so that no two threads
/// write to the same cache line.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) peer: SocketAddr,
    /// Blocks.
    pub(super) socket: TcpStream,
    state: Mutex<State>,
    changed: Condvar,
    pub(super) inbox: Inbox,
    pub(super) traffic: Traffic,
    /// The memory of its queue, in bytes, as the total of all counts it.
    pub(super) memory: AtomicUsize,
    /// Whether its session has failed; for those who choose whom to end.
    pub(super) failed: AtomicBool,
}

impl Conn {
    pub(super) fn new(id: ConnId, peer: SocketAddr, socket: TcpStream, session: Endpoint, out: Outbox) -> Self {
        let state = State {
            out,
            stage: Stage::Serving,
            over: false,
            sending: false,
            reader_waits: false,
            is_stranger: !session.is_authenticated(),
            armed: None,
            over_soft_since: None,
            stall: None,
            acknowledged: 0,
            had_deliveries: false,
            awaits_reader: false,
            looks: 0,
            commands: HashMap::new(),
            session,
        };
        Conn {
            id,
            peer,
            socket,
            state: Mutex::new(state),
            changed: Condvar::new(),
            inbox: Inbox::default(),
            traffic: Traffic::default(),
            memory: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Tells the reader, where it waits, that the state has changed.
    pub(super) fn notify_reader(&self, state: &State) {
        if state.reader_waits && state.next() != Next::Wait {
            self.changed.notify_one();
        }
    }

    /// What the reader does while the session takes no input; calls `stalled`
    /// where the peer is cut off because it takes nothing.
    pub(super) fn wait_for_change(&self, stalled: impl Fn()) -> Next {
        let mut state = self.lock();
        while state.next() == Next::Wait {
            state.reader_waits = true;
            let waited = self.changed.wait_timeout(state, LOOK_AGAIN);
            let (locked, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = locked;
            if !result.timed_out() {
                continue;
            }
            if self.is_broken() {
                self.break_off(&mut state, "its peer is gone");
            } else if self.has_stalled(&mut state, Instant::now()) {
                log::warn!("{}: cut off: it ended its input and takes nothing of its answers", self.peer);
                stalled();
                self.break_off(&mut state, "it took nothing");
            }
        }
        state.reader_waits = false;
        state.next()
    }

    /// Whether the peer is known to be gone, though nothing is read from it: a
    /// command that says nothing must not outlive it.
    fn is_broken(&self) -> bool {
        // Errors and hang-ups are told unasked.
        self.says(PollFlags::empty())
    }

    /// Whether the peer says nothing more, and has taken nothing either for as
    /// long as it may. Only the reader asks, each time that it looks.
    fn has_stalled(&self, state: &mut State, now: Instant) -> bool {
        let waits = state.sending && !state.over && state.stage.is_serving();
        if !waits || !self.says(PollFlags::RDHUP) {
            state.stall = None;
            return false;
        }
        // One `sendfile` may last for minutes and send more meanwhile, so that as
        // much as before may be on its way. 0 where the kernel does not say.
        let acknowledged = sys::acknowledged(self.socket.as_fd()).unwrap_or(0);
        if std::mem::replace(&mut state.acknowledged, acknowledged) != acknowledged {
            state.stall = None;
        }
        // Where the kernel does not say, whatever is not sent yet must do.
        let unacknowledged = sys::unacknowledged(self.socket.as_fd()).unwrap_or(state.out.queue.len());
        match &mut state.stall {
            Some(stall) => stall.is_over(now, unacknowledged),
            none => {
                *none = Stall::begin(now, unacknowledged);
                false
            }
        }
    }

    /// Whether a read would give something, if only the end.
    pub(super) fn has_input(&self) -> bool {
        self.says(PollFlags::IN)
    }

    /// Asks the socket. Where even that fails, the next one who asks is told.
    fn says(&self, flags: PollFlags) -> bool {
        poll(&mut [PollFd::new(&self.socket, flags)], Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    /// Ends the connection both ways: whoever waits for the socket wakes.
    pub(super) fn break_off(&self, state: &mut State, why: &str) {
        if !state.is_over() {
            log::debug!("{}: closed: {why}", self.peer);
            self.failed.store(true, Ordering::Relaxed);
            state.over = true;
        }
        self.hang_up();
    }

    /// Shuts the socket both ways.
    pub(super) fn hang_up(&self) {
        // It fails only where the peer was faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Moves on through the end of the connection.
    pub(super) fn advance_end(&self, state: &mut State, now: Instant) {
        if state.is_over() {
            return;
        }
        let signs = Signs {
            failed: state.session.has_failed(),
            finished: state.session.is_finished(&state.out),
            unsent: !state.out.queue.is_empty(),
        };
        if signs.failed {
            self.failed.store(true, Ordering::Relaxed);
        }
        match state.stage.advance(signs, now) {
            Step::Nothing => {}
            Step::Shut if self.socket.shutdown(Shutdown::Write).is_ok() => {}
            Step::Shut => self.break_off(state, "it failed, and its peer is gone"),
            Step::Close(why) => self.break_off(state, why),
        }
    }
}

impl State {
    /// Whether nothing is to be done for the connection but to close it.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Tells the session.
    pub(super) fn tell(&mut self, now: Now, input: Input<'_>) {
        self.session.handle_input(now, input, &mut self.out);
    }

    /// Tells the session what came from the peer, or throws it away where that
    /// is all that is left to do.
    pub(super) fn receive(&mut self, now: Now, bytes: &[u8]) {
        self.awaits_reader = false;
        let thrown_away = if bytes.is_empty() { usize::MAX } else { bytes.len() };
        if self.stage.drained(thrown_away) {
            return;
        }
        self.tell(now, if bytes.is_empty() { Input::Eof } else { Input::Bytes(bytes) });
    }

    /// Lets go of what a closed connection needs no more.
    pub(super) fn close(&mut self) {
        self.over = true;
        self.out = Outbox::default();
        self.commands = HashMap::new();
    }

    /// What the reader does next.
    pub(super) fn next(&self) -> Next {
        if self.over {
            return Next::Close;
        }
        match self.stage.reads(|| self.session.wants(&self.out).socket_read) {
            true => Next::Read,
            false => Next::Wait,
        }
    }

    /// Whether the session waits to hear that the queue has room again.
    pub(super) fn can_resume(&self) -> bool {
        !self.over && self.stage.is_serving() && self.out.queue.len() < LOW_WATER && self.session.wants_drained()
    }

    /// Bytes that wait for the peer and count against its output limit.
    pub(super) fn queued(&self) -> usize {
        self.out.queue.len() + self.session.held()
    }

    /// Whether the session has a deadline that has come.
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.session.poll_timeout().is_some_and(|due| due <= now.instant)
    }

    /// When the connection needs attention though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.over { None } else { self.stage.deadline(|| self.session.poll_timeout()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flush::{Flushed, flush};
    use crate::proto::session::Services;
    use crate::proto::{Kind, SessionConfig};
    use crate::stall::STALL_TIME;
    use crate::system;
    use bytes::Bytes;
    use std::io::Read;

    /// A connection whose writer waits, because more is queued for it than its
    /// socket takes, and its peer.
    fn full() -> (Conn, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        let config = SessionConfig { token: None, services: Services::ALL, idle_timeout: None, message_rate: 0 };
        let mut out = Outbox::default();
        let session = Endpoint::new(Kind::Framed, &Arc::new(config), system::now(), &mut out);
        out.queue.encoded(&Bytes::from(vec![7; 64 << 20]));
        let conn = Conn::new(ConnId(1), address, socket, session, out);
        fill(&conn, &mut conn.lock());
        conn.lock().sending = true;
        (conn, peer)
    }

    /// Sends until neither the socket nor the peer's kernel takes more. What that
    /// has acknowledged it may say up to 40 ms later (tcp(7), TCP_QUICKACK).
    fn fill(conn: &Conn, state: &mut State) {
        let mut before = None;
        loop {
            while flush(&conn.socket, &mut state.out.queue, &super::super::send::Later).unwrap() != Flushed::Blocked {}
            let now = (state.out.queue.len(), sys::unacknowledged(conn.socket.as_fd()).unwrap());
            if before.replace(now) == Some(now) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[test]
    fn a_peer_that_ended_its_input_and_takes_nothing_is_cut_off_after_a_minute() {
        let (conn, peer) = full();
        let mut state = conn.lock();
        let start = Instant::now();
        // One that may still say something may take its time.
        assert!(!conn.has_stalled(&mut state, start) && !conn.has_stalled(&mut state, start + STALL_TIME * 2));
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(!conn.has_stalled(&mut state, start) && !conn.has_stalled(&mut state, start + STALL_TIME / 2));
        assert!(conn.has_stalled(&mut state, start + STALL_TIME));
        // What was sent meanwhile begins another minute.
        state.stall = None;
        assert!(!conn.has_stalled(&mut state, start + STALL_TIME));
    }

    #[test]
    fn what_is_taken_counts_though_one_long_sendfile_fills_the_socket_up_again() {
        let (conn, mut peer) = full();
        let mut state = conn.lock();
        peer.shutdown(Shutdown::Write).unwrap();
        let start = Instant::now();
        assert!(!conn.has_stalled(&mut state, start));
        let unacknowledged = || sys::unacknowledged(conn.socket.as_fd()).unwrap();
        let (before, mut taken) = (unacknowledged(), vec![0; 1 << 20]);
        loop {
            peer.read_exact(&mut taken).unwrap();
            fill(&conn, &mut state);
            if unacknowledged() >= before {
                break;
            }
        }
        assert!(!conn.has_stalled(&mut state, start + STALL_TIME));
        assert!(conn.has_stalled(&mut state, start + STALL_TIME * 2), "nothing more was taken");
    }
}
