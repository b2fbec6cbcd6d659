//! A command's own thread: what goes in, what comes out, and its end.
//!
//! The thread waits in one `poll` for all of the command's descriptors and for
//! orders, and never anywhere else, so that it keeps every deadline by itself.
//! An output whose reader is behind is left out of the `poll`.

use super::{Command, Order, Pipes};
use crate::blocking::conn::Conn;
use crate::blocking::counts::count;
use crate::blocking::lock;
use crate::blocking::post::Post;
use crate::blocking::server::Server;
use crate::process::{report, terminal};
use crate::proto::Input as Event;
use crate::proto::exec::{ChildEvent, ExitStatus, Signal, Stream};
use crate::wire::MAX_OUTPUT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What is written to a command before its outputs have their turn, in bytes.
const INPUT_BUDGET: usize = 256 << 10;

/// A command as its thread sees it.
pub(super) struct Running<'a> {
    command: &'a Command,
    server: &'a Arc<Server>,
    /// `None` once the session has let go of it.
    conn: Option<Arc<Conn>>,
    pipes: Pipes,
    post: Post,
    buffer: Vec<u8>,
    /// Which output was read last.
    turn: usize,
    /// Whether the pidfd has said that the leader ended.
    exit_ready: bool,
    exited: Option<ExitStatus>,
    killed: bool,
    /// Whether the session knows that outputs are unread.
    unread: bool,
    look: Look,
}

/// How far a look at the outputs is that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    None,
    Wanted,
    /// What could be read is read.
    Done,
}

impl<'a> Running<'a> {
    pub(super) fn new(command: &'a Command, server: &'a Arc<Server>, conn: Arc<Conn>, pipes: Pipes) -> Self {
        Running {
            command,
            server,
            conn: Some(conn),
            pipes,
            post: Post::default(),
            buffer: vec![0; MAX_OUTPUT],
            turn: 1,
            exit_ready: false,
            exited: None,
            killed: false,
            unread: false,
            look: Look::None,
        }
    }

    /// Goes on until nothing is left to look after. `peer` is whom the log
    /// names as its owner.
    pub(super) fn run(&mut self, peer: &str) {
        loop {
            self.take_orders();
            self.feed();
            self.listen();
            self.check_exit();
            if self.look == Look::Done {
                self.say_looked();
            }
            let released = self.conn.is_none();
            self.command.log_end(peer);
            if released && self.is_done() {
                return;
            }
            self.wait();
        }
    }

    fn take_orders(&mut self) {
        let (list, released, kill_at, look) = {
            let mut orders = lock(&self.command.orders);
            let look = std::mem::take(&mut orders.look);
            (std::mem::take(&mut orders.list), orders.released, orders.kill_at, look)
        };
        if look {
            self.look = Look::Wanted;
        }
        if released && self.look != Look::None {
            self.say_looked();
        }
        let mut dropped = 0;
        for order in list {
            match (order, &mut self.pipes.input) {
                (Order::Write(bytes), Some(input)) => input.push(bytes),
                (Order::Write(bytes), None) => dropped += bytes.len(),
                (Order::CloseInput, Some(input)) => input.push_end(),
                (Order::Resize { rows, cols }, Some(input)) => {
                    if let Err(e) = terminal::resize(input, rows, cols) {
                        log::warn!("job {}: cannot resize its terminal: {e}", self.command.job.0);
                    }
                }
                (Order::CloseInput | Order::Resize { .. }, None) => {}
            }
        }
        if dropped > 0 {
            self.tell(ChildEvent::InputTaken(dropped));
        }
        if released && self.conn.take().is_some() {
            self.pipes.input = None;
            self.pipes.outputs = [None, None];
            if self.exited.is_none() {
                self.command.terminate(Instant::now());
            }
        }
        if !self.killed && kill_at.is_some_and(|at| at <= Instant::now()) {
            self.killed = true;
            if let Err(e) = self.command.signal(Signal::KILL) {
                log::warn!("job {}: cannot kill it: {e}", self.command.job.0);
            }
        }
    }

    fn say_looked(&mut self) {
        self.look = Look::None;
        if let Some(conn) = &self.conn {
            self.server.visit(conn, &mut self.post, |state, now| self.server.looked(state, now));
        }
    }

    /// Tells the session.
    fn tell(&mut self, event: ChildEvent<'_>) {
        if let Some(conn) = &self.conn {
            let job = self.command.job;
            self.server.visit(conn, &mut self.post, |state, now| state.tell(now, Event::Child(job, event)));
        }
    }

    /// Gives it input.
    fn feed(&mut self) {
        let Some(input) = &mut self.pipes.input else { return };
        let written = input.write(INPUT_BUDGET);
        let mut taken = written.taken;
        if written.closed {
            taken += input.drop_pending();
            self.pipes.input = None;
            lock(&self.command.orders).input_closed = true;
        }
        if taken > 0 {
            count(&self.command.bytes_in, taken);
            self.tell(ChildEvent::InputTaken(taken));
        }
    }

    /// Passes on what the outputs hold, a stretch of each in turn.
    fn listen(&mut self) {
        for _ in 0..2 {
            self.turn ^= 1;
            let which = self.turn;
            if !self.pipes.outputs[which].as_ref().is_some_and(|output| output.ready) || !self.may_listen() {
                continue;
            }
            let Some(output) = &mut self.pipes.outputs[which] else { continue };
            let mut buffer = std::mem::take(&mut self.buffer);
            let reading = output.read(&mut buffer);
            let stream = [Stream::Stdout, Stream::Stderr][which];
            if reading.bytes > 0 {
                count(&self.command.bytes_out, reading.bytes);
                self.tell(ChildEvent::Output(stream, &buffer[..reading.bytes]));
            }
            self.buffer = buffer;
            if reading.ended {
                self.pipes.outputs[which] = None;
                self.tell(ChildEvent::OutputEnd(stream));
            }
        }
        self.note_unread();
    }

    /// Whether the connection takes output now; where not, `resume` will ring.
    fn may_listen(&self) -> bool {
        let Some(conn) = &self.conn else { return false };
        let state = conn.lock();
        let takes = state.session.wants(&state.out).child_read;
        self.command.stalled.store(!takes, Ordering::Relaxed);
        takes
    }

    /// An output that nobody listens to is not silent.
    fn note_unread(&mut self) {
        let stalled = self.command.stalled.load(Ordering::Relaxed);
        if self.exited.is_some() && self.unread != stalled {
            self.unread = stalled;
            self.tell(ChildEvent::Unread(stalled));
        }
    }

    fn check_exit(&mut self) {
        if self.exited.is_some() || !std::mem::take(&mut self.exit_ready) {
            return;
        }
        self.exited = report::how_ended(&mut lock(&self.command.process), self.command.job);
        let Some(status) = self.exited else { return };
        {
            let mut orders = lock(&self.command.orders);
            if self.conn.is_some() && orders.kill_at.is_none() {
                // What it leaves behind is left alone, also by the warden; before
                // anybody knows, because its place may then be another's at once.
                self.server.commands.spare(self.command.slot);
            }
            orders.exited = self.exited;
        }
        self.tell(ChildEvent::Exited(status));
    }

    /// Whether nothing of it is left to look after.
    fn is_done(&self) -> bool {
        let terminated = lock(&self.command.orders).kill_at.is_some();
        self.exited.is_some() && (!terminated || self.killed || lock(&self.command.process).group_is_gone())
    }

    /// Waits until something can be done.
    fn wait(&mut self) {
        let listens = !self.command.stalled.load(Ordering::Relaxed);
        let pipes = &mut self.pipes;
        let mut fds = Vec::with_capacity(5);
        fds.push(PollFd::new(&*pipes.bell, PollFlags::IN));
        let (mut exit_at, mut input_at, mut output_at) = (None, None, [None; 2]);
        if self.exited.is_none() {
            exit_at = Some(fds.len());
            fds.push(PollFd::new(&pipes.pidfd, PollFlags::IN));
        }
        if let Some(input) = pipes.input.as_ref().filter(|input| input.has_pending()) {
            input_at = Some(fds.len());
            fds.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT));
        }
        for (at, output) in output_at.iter_mut().zip(&pipes.outputs) {
            if let Some(output) = output.as_ref().filter(|_| listens) {
                *at = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
            }
        }
        let kill_at = lock(&self.command.orders).kill_at.filter(|_| !self.killed);
        let left = kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        // A grace of seconds always fits.
        let mut left = left.and_then(|left| Timespec::try_from(left).ok());
        if self.look == Look::Wanted {
            self.look = Look::Done;
            left = Some(Timespec::default());
        }
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return,
            Err(e) => log::error!("job {}: cannot wait for it: {e}", self.command.job.0),
        }
        let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if seen[0].contains(PollFlags::IN) {
            // Only another reader could have been faster, and there is none.
            let _ = rustix::io::read(&*pipes.bell, &mut [0; 8]);
        }
        self.exit_ready = exit_at.is_some_and(|at| !seen[at].is_empty());
        if let (Some(at), Some(input)) = (input_at, &mut pipes.input) {
            input.ready |= !seen[at].is_empty();
        }
        for (at, output) in output_at.into_iter().zip(&mut pipes.outputs) {
            if let (Some(at), Some(output)) = (at, output) {
                output.ready |= !seen[at].is_empty();
                output.hung_up |= seen[at].contains(PollFlags::HUP);
            }
        }
    }
}
