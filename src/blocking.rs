//! The other driver: blocking sockets and a thread for each connection.
//!
//! It runs the same sessions as the reactor, under the same limits, so that
//! the two can be compared. It is meant as a good server of its kind.
//!
//! ```text
//!   for each connection   reader   read, feed, carry out, send what fits
//!                         writer   send the rest; only while there is one
//!   for each command      one      its input, its outputs, its end
//!   for all               one for each listener, clock, disk, two disk workers
//! ```
//!
//! # Who does what
//!
//! A *reader* blocks in `recv`. What it got it gives to the session under the
//! connection's lock, and sends the answers by itself, so that a request costs
//! two system calls and no switch between threads. What the socket does not
//! take at once is the *writer's*, as is whatever else would wait: deliveries
//! of rooms, and files, which leave by a `sendfile` that may wait for the disk
//! and the peer. It is started when it is first needed and ends after ten
//! idle seconds. A command's thread waits in `poll` for its four descriptors.
//!
//! Any thread may *visit* any connection: lock it, tell its session something,
//! carry out the effects, send what goes out at once. Nobody waits for a peer
//! or a disk under a lock, with one exception: whoever starts a command holds
//! its connection until the program runs, and a program on a slow disk holds up
//! those that visit the connection meanwhile.
//!
//! # Locks
//!
//! In this order, each of them released soon: a connection's state, the rooms,
//! the table of connections, an inbox. No thread holds two connections' states.
//! Whoever speaks in a room puts the message into the members' *inboxes*; what
//! lies in a connection's own inbox goes to its session while the rooms are
//! still locked, before the answer to its own operation, so that answers and
//! messages keep the order of the room. An inbox that fills is emptied into
//! its connection's queue by whoever filled it, once that holds no lock; there
//! it counts against the output limit.
//!
//! # What it costs
//!
//! A thread for each connection, and a second one while it is sent more than
//! its socket takes at once. Each has a stack of [`STACK`] bytes in address
//! space. A greeted, idle connection holds about 21 KiB of resident memory
//! (the loop: less than 1 KiB): what its thread has used of the stack, the
//! thread's own data, its session and a page of its buffer. The kernel keeps
//! another 16 KiB and more for a thread, which no process's figures show. A
//! buffer of 64 KiB is resident as far as the longest read has filled it.
//!
//! A request costs two system calls, `recvfrom` and `sendto`, as the loop's
//! does, and no lock that anybody else wants; but also a thread that is woken
//! and put to sleep, and the scheduler's choice among all of them, where the
//! loop fetches many events at once. The kernel's limits on threads and mappings
//! (`kernel.threads-max`, `vm.max_map_count`: two for each thread) end this
//! mode near 30,000 connections; newcomers then wait.

mod accept;
mod clock;
mod command;
mod commands;
mod conn;
mod counts;
mod effects;
mod inbox;
mod post;
mod send;
mod server;
mod threads;

use crate::config::Config;
use crate::limits::STOP_TIME;
use crate::proto::Kind;
use server::Server;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The stack of a thread, in bytes: sessions need a few KiB, and unoptimized
/// builds several times as much.
pub const STACK: usize = 256 << 10;

/// How long the disk's workers have to end what they are at.
const DISK_TIME: Duration = Duration::from_millis(500);

/// The driver of threads.
#[derive(Debug)]
pub struct Blocking {
    server: Arc<Server>,
    listeners: Vec<(Kind, Arc<TcpListener>)>,
    signals: UnixStream,
}

/// Locks, also where a thread has panicked: sessions are whole between inputs,
/// and one lost connection is no reason to lose all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that is never waited for.
fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).map(drop)
}

impl Blocking {
    /// A driver that serves the clients of all `listeners`. `signals` becomes
    /// readable when the server is to stop.
    pub fn new(config: Config, listeners: Vec<(Kind, TcpListener)>, signals: UnixStream) -> io::Result<Blocking> {
        signals.set_nonblocking(false)?;
        for (_, listener) in &listeners {
            listener.set_nonblocking(false)?;
        }
        let (done, completions) = sync_channel(1);
        let server = Arc::new(Server::new(config, move || match done.try_send(()) {
            // Full means that the disk's thread is about to look anyway.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => log::error!("the disk's thread has ended"),
        })?);
        let shared = Arc::clone(&server);
        start("disk", move || threads::pass_completions_on(&shared, &completions))?;
        let shared = Arc::clone(&server);
        start("clock", move || threads::look_after_time(&shared))?;
        Ok(Blocking {
            server,
            listeners: listeners.into_iter().map(|(kind, listener)| (kind, Arc::new(listener))).collect(),
            signals,
        })
    }

    /// Serves until a signal asks it to stop, and then until everything has
    /// ended or the time for that is over.
    pub fn run(&mut self) -> io::Result<()> {
        for (kind, listener) in &self.listeners {
            let (server, kind, listener) = (Arc::clone(&self.server), *kind, Arc::clone(listener));
            start("accept", move || server.accept(kind, &listener))?;
        }
        loop {
            match self.signals.read(&mut [0; 64]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(_) => break,
            }
        }
        let stop_by = Instant::now() + STOP_TIME;
        for (_, listener) in self.listeners.drain(..) {
            // Wakes the thread that waits there with an error (shutdown(2) on Linux).
            if let Err(e) = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both) {
                log::debug!("cannot shut a listener: {e}");
            }
        }
        self.server.stop();
        self.server.wait_until_empty(stop_by);
        self.server.close(DISK_TIME)
    }
}
