//! One connection: its socket, what is known of its readiness, its session
//! and what is queued for it.

use crate::ending::{Signs, Stage, Step};
use crate::flush::{self, Flushed};
use crate::listen;
use crate::proto::outbox::LOW_WATER;
use crate::proto::{ConnId, Endpoint, Input, Now, Outbox};
use crate::stall::Stall;
use crate::sys;
use crate::wire::MAX_DATA;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

/// Whose turn it is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A client at its work.
    Known,
    /// Somebody who has not shown to be a client, or is one no more.
    Stranger,
}

/// What a read brought.
#[derive(Debug)]
pub enum ReadOutcome {
    /// That many bytes are in the buffer.
    Bytes(usize),
    /// The peer ended its sending side.
    Eof,
    /// Nothing now; an event will say when.
    Blocked,
    /// The connection is broken.
    Broken(io::Error),
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// Its identity.
    pub id: ConnId,
    /// The other side's address.
    pub peer: SocketAddr,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Its protocol state.
    pub session: Endpoint,
    /// What its session wants sent and done.
    pub out: Outbox,
    socket: TcpStream,
    /// Latched readiness: set by events, cleared by the call that would block.
    readable: bool,
    writable: bool,
    /// The end of input was announced: read on to it even after a short read.
    read_closed: bool,
    /// Urgent data was announced, at which a read ends early though more has
    /// come (tcp(7)): read on until nothing is left.
    urgent: bool,
    /// An error was announced, which no further event repeats.
    errored: bool,
    /// Whether the connection stands in the list of that name.
    pub in_ready: bool,
    /// Whether the connection stands in the list of that name.
    pub in_dirty: bool,
    /// Whether the connection stands in the list of that name.
    pub in_postponed: bool,
    /// Set while the disk brings in what the queue's front file needs next.
    pub warming: bool,
    /// What the timers have an entry for.
    pub armed: Option<Instant>,
    /// Whether the peer must authenticate and has not yet.
    pub is_stranger: bool,
    /// Whether the peer has shown that it is a client.
    known: bool,
    /// The memory of its queue, as the total of all counts it.
    pub accounted: usize,
    /// Since when more is queued than the soft limit.
    pub over_soft_since: Option<Instant>,
    /// Set while the peer, which says nothing more, takes nothing either; few
    /// do, and the others need no room for it.
    stall: Option<Box<Stall>>,
    /// Whether the socket is set for a long file.
    sends_long_file: bool,
    stage: Stage,
}

impl Conn {
    /// A connection that was just accepted and registered, with what its
    /// session wants at once.
    pub fn new(id: ConnId, peer: SocketAddr, since: u64, socket: TcpStream, session: Endpoint, out: Outbox) -> Self {
        Conn {
            id,
            peer,
            since,
            out,
            socket,
            // A new socket takes bytes, and the first read costs one call
            // where nothing came yet: both spare waiting for an event.
            readable: true,
            writable: true,
            read_closed: false,
            urgent: false,
            errored: false,
            in_ready: false,
            in_dirty: false,
            in_postponed: false,
            warming: false,
            armed: None,
            is_stranger: !session.is_authenticated(),
            known: false,
            accounted: 0,
            over_soft_since: None,
            stall: None,
            sends_long_file: false,
            session,
            stage: Stage::Serving,
        }
    }

    /// The socket, to deregister it.
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Tells the peer that this is the end, whoever else has the socket open.
    pub fn shut(&self) {
        // It fails only where the peer was faster.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Latches an event.
    pub fn latch(&mut self, event: &mio::event::Event) {
        // An error or a hang-up alone is for the next read or write to tell.
        let errored = event.is_error();
        self.readable |= event.is_readable() || event.is_read_closed() || errored;
        self.writable |= event.is_writable() || event.is_write_closed() || errored;
        self.read_closed |= event.is_read_closed() || errored;
        self.urgent |= event.is_priority();
        self.errored |= errored;
    }

    /// The error of a connection from which nothing is read now, so that no
    /// read would tell: a command that says nothing must not outlive it.
    pub fn unread_error(&mut self) -> Option<io::Error> {
        if !self.errored || self.can_read() {
            return None;
        }
        self.errored = false;
        self.socket.take_error().unwrap_or_else(Some)
    }

    /// Whether a read is possible and wanted.
    pub fn can_read(&self) -> bool {
        self.readable && self.stage.reads(|| self.session.wants(&self.out).socket_read)
    }

    /// Whether a write is possible and something is there to send.
    pub fn can_write(&self) -> bool {
        self.writable && !self.warming && !self.out.queue.is_empty()
    }

    /// Whether the session waits to hear that the queue has room again.
    pub fn can_resume(&self) -> bool {
        self.stage.is_serving() && self.out.queue.len() < LOW_WATER && self.session.wants_drained()
    }

    /// Reads once.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        loop {
            return match self.socket.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    self.read_closed = true;
                    ReadOutcome::Eof
                }
                Ok(n) => {
                    // A short read means that the kernel holds no more, and an
                    // edge announces whatever comes later (epoll(7), "Do I
                    // need to continuously read"); an end of input that was
                    // announced already is not announced again.
                    if n < buffer.len() && !self.read_closed && !self.urgent {
                        self.readable = false;
                    }
                    ReadOutcome::Bytes(n)
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    (self.readable, self.urgent) = (false, false);
                    ReadOutcome::Blocked
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => ReadOutcome::Broken(e),
            };
        }
    }

    /// Sends what is queued, up to the budget of a turn.
    pub fn flush(&mut self, files: &impl flush::Files) -> io::Result<Flushed> {
        let of_file = self.out.queue.file_len();
        let sends_long_file = if self.sends_long_file { of_file > 0 } else { of_file >= MAX_DATA };
        if sends_long_file != self.sends_long_file {
            self.sends_long_file = sends_long_file;
            // Without it the file comes too, only slower.
            if let Err(e) = listen::send_long_file(&self.socket, sends_long_file) {
                log::debug!("{}: cannot set a socket option: {e}", self.peer);
            }
        }
        let before = self.out.queue.len();
        let flushed = flush::flush(&self.socket, &mut self.out.queue, files)?;
        if self.out.queue.len() < before {
            self.stall = None;
        }
        if flushed == Flushed::Blocked {
            self.writable = false;
        }
        Ok(flushed)
    }

    /// Takes note of a peer that says nothing more and whose socket takes
    /// nothing. To be called after each [`Conn::flush`] and each end of input.
    pub fn note_stall(&mut self, now: Instant) {
        let stalls = self.read_closed && !self.writable && self.stage.is_serving() && !self.out.queue.is_empty();
        if !stalls {
            self.stall = None;
        } else if self.stall.is_none() {
            self.stall = Stall::begin(now, self.unacknowledged()).map(Box::new);
        }
    }

    /// Whether such a peer has had its time.
    pub fn has_stalled(&mut self, now: Instant) -> bool {
        let unacknowledged = if self.stall.is_some() { self.unacknowledged() } else { 0 };
        self.stall.as_mut().is_some_and(|stall| stall.is_over(now, unacknowledged))
    }

    fn unacknowledged(&self) -> usize {
        // Where the kernel does not say, whatever is not sent yet must do.
        sys::unacknowledged(self.socket.as_fd()).unwrap_or(self.out.queue.len())
    }

    /// Tells the session.
    pub fn feed(&mut self, now: Now, input: Input<'_>) {
        let is_first = !self.known && matches!(input, Input::Bytes(_));
        self.session.handle_input(now, input, &mut self.out);
        if is_first {
            self.known = self.session.is_known();
        }
    }

    /// Whether it is read from before those that nobody knows yet, and those
    /// whose input is only thrown away.
    pub fn standing(&self) -> Standing {
        if self.known && !self.is_ending() { Standing::Known } else { Standing::Stranger }
    }

    /// Moves on through the end of a connection; says why once nothing remains
    /// but to close it.
    pub fn advance_end(&mut self, now: Instant) -> Option<&'static str> {
        let signs = Signs {
            failed: self.session.has_failed(),
            finished: self.session.is_finished(&self.out),
            unsent: !self.out.queue.is_empty(),
        };
        match self.stage.advance(signs, now) {
            Step::Nothing => None,
            Step::Close(why) => Some(why),
            Step::Shut if self.socket.shutdown(std::net::Shutdown::Write).is_err() => Some("its peer is gone"),
            Step::Shut => {
                self.readable = true;
                None
            }
        }
    }

    /// Whether the session is over and only its end remains.
    pub fn is_ending(&self) -> bool {
        !self.stage.is_serving()
    }

    /// Whether input is only thrown away.
    pub fn is_draining(&self) -> bool {
        self.stage.is_draining()
    }

    /// Takes note of input that was thrown away; `false` where this is not the
    /// time for that.
    pub fn drained(&mut self, n: usize) -> bool {
        self.stage.drained(n)
    }

    /// When the connection needs attention though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let stall = self.stall.as_ref().map(|stall| stall.deadline());
        self.stage.deadline(|| [self.session.poll_timeout(), stall].into_iter().flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::files::FileHandle;
    use crate::proto::session::Services;
    use crate::proto::{Kind, SessionConfig};
    use crate::stall::STALL_TIME;
    use crate::system;
    use bytes::Bytes;
    use std::os::fd::BorrowedFd;
    use std::sync::Arc;

    struct NoFiles;

    impl flush::Files for NoFiles {
        fn file(&self, _: FileHandle) -> Option<BorrowedFd<'_>> {
            None
        }

        fn is_resident(&self, _: FileHandle, _: u64, _: usize) -> bool {
            true
        }
    }

    /// A connection for which more is queued than its socket takes, and its peer.
    fn full() -> (Conn, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let config = SessionConfig { token: None, services: Services::ALL, idle_timeout: None, message_rate: 0 };
        let mut out = Outbox::default();
        let session = Endpoint::new(Kind::Framed, &Arc::new(config), system::now(), &mut out);
        out.queue.encoded(&Bytes::from(vec![7; 64 << 20]));
        let mut conn = Conn::new(ConnId(1), address, 0, TcpStream::from_std(socket), session, out);
        fill(&mut conn);
        (conn, peer)
    }

    fn fill(conn: &mut Conn) {
        while conn.flush(&NoFiles).unwrap() != Flushed::Blocked {}
    }

    #[test]
    fn a_peer_that_ended_its_input_and_takes_nothing_is_cut_off_after_a_minute() {
        let (mut conn, mut peer) = full();
        let mut now = Instant::now();
        // One that may still say something may take its time.
        conn.note_stall(now);
        assert_eq!(conn.deadline(), None);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(conn.read(&mut [0; 10]), ReadOutcome::Eof));
        conn.note_stall(now);
        assert_eq!(conn.deadline(), Some(now + STALL_TIME));
        // What the peer takes may be too little for the socket to say so.
        let before = conn.unacknowledged();
        let mut taken = vec![0; 1 << 20];
        while conn.unacknowledged() == before {
            peer.read_exact(&mut taken).unwrap();
        }
        now += STALL_TIME;
        assert!(!conn.has_stalled(now));
        conn.note_stall(now);
        assert_eq!(conn.deadline(), Some(now + STALL_TIME));
        // Whatever is sent begins another minute.
        let queued = conn.out.queue.len();
        while conn.out.queue.len() == queued {
            peer.read_exact(&mut taken).unwrap();
            fill(&mut conn);
        }
        now += STALL_TIME;
        conn.note_stall(now);
        assert!(!conn.has_stalled(now));
        assert!(!conn.has_stalled(now + STALL_TIME - std::time::Duration::from_millis(1)));
        assert!(conn.has_stalled(now + STALL_TIME));
    }
}
