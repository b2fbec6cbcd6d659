//! One command that runs, as all threads know it: the orders they give, and
//! how it is ended. What its own thread does is in `running`.

mod running;

use super::conn::Conn;
use super::lock;
use super::server::Server;
use crate::process::streams::{Input, Output};
use crate::process::{Process, report};
use crate::proto::exec::{ExitStatus, KILL_GRACE, Signal};
use crate::proto::jobs::JobId;
use bytes::Bytes;
use running::Running;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What others want of a command's thread.
#[derive(Debug)]
pub(super) enum Order {
    Write(Bytes),
    CloseInput,
    Resize { rows: u16, cols: u16 },
}

#[derive(Debug, Default)]
struct Orders {
    list: Vec<Order>,
    /// Nobody takes input any more.
    input_closed: bool,
    /// Its leader has ended, which the session knows or is about to.
    exited: Option<ExitStatus>,
    /// The session has let go of it.
    released: bool,
    /// Its outputs are to be looked at.
    look: bool,
    /// Its place was given to the next one already.
    is_free: bool,
    is_logged: bool,
    /// It is being ended, and killed then.
    kill_at: Option<Instant>,
}

/// A command, as all threads know it.
#[derive(Debug)]
pub(super) struct Command {
    job: JobId,
    slot: usize,
    started: Instant,
    process: Mutex<Process>,
    orders: Mutex<Orders>,
    /// Readable when there are orders.
    bell: Arc<OwnedFd>,
    /// Its thread does not listen, because the connection takes no more output.
    stalled: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What only its thread uses.
#[derive(Debug)]
pub(super) struct Pipes {
    input: Option<Input>,
    /// stdout and stderr.
    outputs: [Option<Output>; 2],
    pidfd: OwnedFd,
    bell: Arc<OwnedFd>,
}

impl Pipes {
    /// What is needed to look after a child that was just started, with the
    /// server's ends of its input, output and error output.
    pub(super) fn new(process: &Process, ends: (Option<OwnedFd>, OwnedFd, Option<OwnedFd>)) -> io::Result<Pipes> {
        let (stdin, stdout, stderr) = ends;
        let on_terminal = process.is_on_terminal();
        let input = stdin.map(|fd| Input::new(fd, on_terminal)).transpose()?;
        let stderr = stderr.map(|fd| Output::new(fd, on_terminal)).transpose()?;
        Ok(Pipes {
            input,
            outputs: [Some(Output::new(stdout, on_terminal)?), stderr],
            pidfd: process.pidfd().try_clone_to_owned()?,
            bell: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
        })
    }
}

impl Command {
    pub(super) fn new(job: JobId, slot: usize, started: Instant, process: Process, pipes: &Pipes) -> Self {
        let orders = Orders { input_closed: pipes.input.is_none(), ..Orders::default() };
        Command {
            job,
            slot,
            started,
            process: Mutex::new(process),
            orders: Mutex::new(orders),
            bell: Arc::clone(&pipes.bell),
            stalled: AtomicBool::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Gives its thread an order; gives the bytes that nobody will take.
    pub(super) fn order(&self, order: Order) -> usize {
        let mut orders = lock(&self.orders);
        match order {
            Order::Write(bytes) if orders.input_closed => return bytes.len(),
            order => orders.list.push(order),
        }
        drop(orders);
        self.ring();
        0
    }

    /// Sends its group a signal.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        lock(&self.process).signal(signal)
    }

    /// Begins to end it, once.
    pub(super) fn terminate(&self, now: Instant) {
        let mut orders = lock(&self.orders);
        if orders.kill_at.is_some() {
            return;
        }
        orders.kill_at = Some(now + KILL_GRACE);
        drop(orders);
        if let Err(e) = lock(&self.process).terminate() {
            log::warn!("job {}: cannot ask it to end: {e}", self.job.0);
        }
        self.ring();
    }

    /// The session lets go of it: no event follows. Its thread ends it unless
    /// it has ended.
    pub(super) fn release(&self, now: Instant, abandoned: bool) {
        lock(&self.orders).released = true;
        if abandoned {
            self.terminate(now);
        }
        self.ring();
    }

    /// Logs its end, once it has ended and its session knows.
    pub(super) fn log_end(&self, peer: &str) {
        let mut orders = lock(&self.orders);
        if orders.released && orders.exited.is_some() && !std::mem::replace(&mut orders.is_logged, true) {
            let moved = (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed));
            let terminated = orders.kill_at.is_some();
            report::log_end(peer, self.job, orders.exited, terminated, self.started.elapsed(), moved);
        }
    }

    /// The number of its place where that can be given to another command now;
    /// once.
    pub(super) fn free_place(&self) -> Option<usize> {
        let mut orders = lock(&self.orders);
        let spared = orders.kill_at.is_none();
        let is_over = orders.released && orders.exited.is_some() && (spared || lock(&self.process).group_is_gone());
        (is_over && !std::mem::replace(&mut orders.is_free, true)).then_some(self.slot)
    }

    /// The same once its thread has nothing left to look after.
    fn last_place(&self) -> Option<usize> {
        (!std::mem::replace(&mut lock(&self.orders).is_free, true)).then_some(self.slot)
    }

    /// Has its thread look at its outputs and say so, once each time.
    pub(super) fn look(&self) {
        lock(&self.orders).look = true;
        self.ring();
    }

    /// The connection takes output again.
    pub(super) fn resume(&self) {
        if self.stalled.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Ends it without grace, where nobody can look after it.
    pub(super) fn kill_and_wait(&self) {
        lock(&self.process).kill_and_wait();
    }

    fn ring(&self) {
        match rustix::io::write(&self.bell, &1u64.to_ne_bytes()) {
            // Full means that it was not heard yet.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(e) => log::error!("job {}: cannot reach its thread: {e}", self.job.0),
        }
    }

    /// What its thread does, until nothing is left to look after. Gives the
    /// number of its place unless another command has it already.
    pub(super) fn run(&self, server: &Arc<Server>, conn: Arc<Conn>, pipes: Pipes) -> Option<usize> {
        let peer = conn.peer.to_string();
        Running::new(self, server, conn, pipes).run(&peer);
        self.last_place()
    }
}
