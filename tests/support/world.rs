//! Sessions without sockets: the smallest driver there can be, which does one
//! thing after another in an order that no timing changes.
//!
//! Input goes in while a session wants it; only then is one command started,
//! then the disk does one operation, then a command one step; and only when
//! nothing else is left are the queues emptied. However the input is cut, the
//! same happens.

use super::children::{Children, MAX_STEP};
use super::disk::Disk;
use super::frames::{Frame, FrameReader, frame};
use reactord::proto::exec::{ChildEvent, JobEffect, Spawn};
use reactord::proto::files::FileHandle;
use reactord::proto::jobs::JobId;
use reactord::proto::outbox::LOW_WATER;
use reactord::proto::rooms::{self, Deliver, Delivery, Rooms};
use reactord::proto::session::Services;
use reactord::proto::{ConnId, Effect, Input, Now, Outbox, Session, SessionConfig};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The token of every world that asks for one.
pub const TOKEN: &str = "0123456789abcdef";

/// A configuration with every service.
pub fn config(token: Option<&str>) -> SessionConfig {
    SessionConfig { token: token.map(str::to_owned), services: Services::ALL, idle_timeout: None, message_rate: 0 }
}

/// One connection.
pub struct Peer {
    pub session: Session,
    pub out: Outbox,
    /// Pieces of input that the session has not wanted yet; `None` is the end.
    input: VecDeque<Option<Vec<u8>>>,
    reader: FrameReader,
    frames: Vec<Frame>,
    /// Whether the peer takes what is queued.
    reads: bool,
    pub closed: bool,
    /// Whether it was closed before everything was sent.
    reset: bool,
}

/// The connections, which hear of each other.
#[derive(Default)]
struct Peers(BTreeMap<ConnId, Peer>, Option<Now>);

impl Deliver for Peers {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        let now = self.1.expect("the world has a time");
        if let Some(peer) = self.0.get_mut(&to) {
            peer.session.handle_input(now, Input::Delivery(delivery), &mut peer.out);
        }
    }
}

/// Everything together.
pub struct World {
    pub config: Arc<SessionConfig>,
    pub now: Now,
    pub rooms: Rooms,
    pub disk: Disk,
    pub children: Children,
    /// Commands that are asked for and not started yet.
    starts: VecDeque<(ConnId, String, Spawn)>,
    peers: Peers,
    connections: u64,
}

impl World {
    pub fn new(config: SessionConfig) -> Self {
        Self::with_rooms(config, rooms::Config::default())
    }

    pub fn with_rooms(config: SessionConfig, rooms: rooms::Config) -> Self {
        World {
            config: Arc::new(config),
            now: Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 },
            rooms: Rooms::new(rooms),
            disk: Disk::default(),
            children: Children::default(),
            starts: VecDeque::new(),
            peers: Peers::default(),
            connections: 0,
        }
    }

    /// A connection that has said nothing yet.
    pub fn connect(&mut self) -> ConnId {
        self.connections += 1;
        let id = ConnId(self.connections);
        let peer = Peer {
            session: Session::new(Arc::clone(&self.config), self.now),
            out: Outbox::default(),
            input: VecDeque::new(),
            reader: FrameReader::default(),
            frames: Vec::new(),
            reads: true,
            closed: false,
            reset: false,
        };
        self.peers.0.insert(id, peer);
        id
    }

    /// A greeted connection.
    pub fn client(&mut self, nick: &str) -> ConnId {
        let id = self.connect();
        let hello = serde_json::json!({"cmd": "hello", "version": 1, "token": TOKEN, "nick": nick});
        let answer = self.call(id, hello);
        assert_eq!(answer.header["ok"], true, "{}", answer.header);
        id
    }

    pub fn peer(&self, id: ConnId) -> &Peer {
        &self.peers.0[&id]
    }

    /// Whether the connection is over, its last byte sent.
    pub fn is_closed(&self, id: ConnId) -> bool {
        self.peers.0[&id].closed
    }

    /// Whether the connection was closed before everything was sent.
    pub fn is_reset(&self, id: ConnId) -> bool {
        self.peers.0[&id].reset
    }

    /// Stops or resumes taking what is queued for a connection.
    pub fn set_reading(&mut self, id: ConnId, reads: bool) {
        self.peers.0.get_mut(&id).unwrap().reads = reads;
    }

    /// Hands bytes to a connection, to be fed in these pieces.
    pub fn send_pieces<'a>(&mut self, id: ConnId, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let input = &mut self.peers.0.get_mut(&id).unwrap().input;
        input.extend(pieces.into_iter().filter(|piece| !piece.is_empty()).map(|piece| Some(piece.to_vec())));
    }

    pub fn send(&mut self, id: ConnId, header: Value, body: &[u8]) {
        self.send_pieces(id, [&frame(header, body)[..]]);
    }

    /// The peer ends its sending side.
    pub fn finish(&mut self, id: ConnId) {
        self.peers.0.get_mut(&id).unwrap().input.push_back(None);
    }

    /// Sends a request and returns the next frame.
    pub fn call(&mut self, id: ConnId, header: Value) -> Frame {
        self.send(id, header, b"");
        self.run();
        let frames = &mut self.peers.0.get_mut(&id).unwrap().frames;
        assert!(!frames.is_empty(), "no answer");
        frames.remove(0)
    }

    /// Everything that the peer got and that was not looked at before.
    pub fn received(&mut self, id: ConnId) -> Vec<Frame> {
        self.run();
        std::mem::take(&mut self.peers.0.get_mut(&id).unwrap().frames)
    }

    /// Tells a session something at once.
    pub fn feed(&mut self, id: ConnId, input: Input<'_>) {
        let now = self.now;
        let Some(peer) = self.peers.0.get_mut(&id).filter(|peer| !peer.closed) else { return };
        peer.session.handle_input(now, input, &mut peer.out);
        self.settle(id);
    }

    /// Carries out what a session asks for.
    fn settle(&mut self, id: ConnId) {
        let now = self.now;
        self.peers.1 = Some(now);
        while let Some(effect) = self.peers.0.get_mut(&id).and_then(|peer| peer.out.effects.pop_front()) {
            let input = match effect {
                Effect::Room(op) => Input::Room(self.rooms.apply(now, id, op, &mut self.peers)),
                Effect::Spawn(spawn) => {
                    let nick = self.rooms.nick(id).map_or("-".to_owned(), |nick| nick.to_string());
                    self.starts.push_back((id, nick, *spawn));
                    continue;
                }
                Effect::Job(job, effect) => {
                    self.children.effect(job, effect);
                    continue;
                }
                Effect::Jobs => Input::Jobs(self.children.list(id)),
                Effect::Kill(job, signal) => Input::Killed(self.children.kill(job, signal)),
                Effect::Disk(request) => {
                    self.disk.submit(id, request);
                    continue;
                }
                Effect::Stats => Input::Stats(b"{}".to_vec()),
            };
            if let Some(peer) = self.peers.0.get_mut(&id) {
                peer.session.handle_input(now, input, &mut peer.out);
            }
        }
    }

    /// Goes on until nothing happens any more.
    pub fn run(&mut self) {
        while self.run_input() || self.run_start() || self.run_disk() || self.run_children() || self.run_output() {}
    }

    /// One piece of input to each session that wants some.
    pub fn run_input(&mut self) -> bool {
        let mut ran = false;
        for id in self.ids() {
            let peer = self.peers.0.get_mut(&id).unwrap();
            if peer.closed || !peer.session.wants(&peer.out).socket_read {
                continue;
            }
            match peer.input.pop_front() {
                Some(Some(bytes)) => self.feed(id, Input::Bytes(&bytes)),
                Some(None) => self.feed(id, Input::Eof),
                None => continue,
            }
            ran = true;
        }
        ran
    }

    /// One command starts, or cannot.
    pub fn run_start(&mut self) -> bool {
        let Some((id, nick, spawn)) = self.starts.pop_front() else { return false };
        match self.children.spawn(id, &nick, spawn) {
            Ok(spawned) if self.is_closed(id) => self.children.effect(spawned.job, JobEffect::Abandon),
            result => self.feed(id, Input::Spawned(result)),
        }
        true
    }

    /// One disk operation.
    pub fn run_disk(&mut self) -> bool {
        let Some((id, reply)) = self.disk.complete(0) else { return false };
        self.feed(id, Input::Disk(reply));
        true
    }

    /// One step of the first command that can make one.
    pub fn run_children(&mut self) -> bool {
        self.children.ids().into_iter().any(|job| self.run_child(job, usize::MAX))
    }

    /// One step of a command, of at most `portion` bytes.
    pub fn run_child(&mut self, job: JobId, portion: usize) -> bool {
        let Some(conn) = self.children.owner(job) else { return false };
        let Some(peer) = self.peers.0.get(&conn) else { return false };
        let wants = peer.session.wants(&peer.out).child_read;
        let Some((_, did)) = self.children.step(job, wants, portion.min(MAX_STEP)) else { return false };
        let Some(event) = did.event() else { return false };
        self.feed(conn, Input::Child(job, event));
        true
    }

    /// Tells a session of something that a command did.
    pub fn child_event(&mut self, id: ConnId, job: JobId, event: ChildEvent<'_>) {
        self.feed(id, Input::Child(job, event));
    }

    /// Empties the queues of those who read, and ends the connections that are over.
    pub fn run_output(&mut self) -> bool {
        self.peers.1 = Some(self.now);
        self.rooms.flush(&mut self.peers);
        let mut ran = false;
        for id in self.ids() {
            ran |= self.peers.0[&id].reads && !self.peers.0[&id].closed && self.flush(id, usize::MAX);
            let peer = &self.peers.0[&id];
            if !peer.closed && peer.session.is_finished(&peer.out) {
                self.close(id);
                ran = true;
            }
        }
        ran
    }

    /// Takes at most `budget` bytes out of a queue; whether there were any.
    pub fn flush(&mut self, id: ConnId, budget: usize) -> bool {
        let peer = self.peers.0.get_mut(&id).unwrap();
        let mut left = budget.min(peer.out.queue.len());
        let took = left > 0;
        while left > 0 {
            let peer = self.peers.0.get_mut(&id).unwrap();
            match take(&mut peer.out, &self.disk, left) {
                Ok(bytes) => {
                    left -= bytes.len();
                    peer.reader.push(&bytes);
                    peer.frames.extend(std::iter::from_fn(|| peer.reader.next_frame()));
                }
                Err(file) => {
                    peer.out.queue.replace_front_file_by_zeros();
                    self.feed(id, Input::FileShrank(file));
                }
            }
        }
        let peer = &self.peers.0[&id];
        if took && peer.out.queue.len() < LOW_WATER && peer.session.wants_drained() {
            self.feed(id, Input::Drained);
        }
        took
    }

    /// [`World::flush`], where the connection still stands.
    pub fn flush_open(&mut self, id: ConnId, budget: usize) -> bool {
        !self.is_closed(id) && self.flush(id, budget)
    }

    /// The connection is gone, in whatever state.
    pub fn close(&mut self, id: ConnId) {
        let failed = self.peers.0[&id].session.has_failed();
        self.feed(id, Input::Gone);
        let left_open = self.disk.gone(id);
        // What was on its way to a session that failed is the driver's to close.
        assert!(failed || left_open == 0, "{left_open} files were left open");
        let peer = self.peers.0.get_mut(&id).unwrap();
        (peer.closed, peer.reset) = (true, !peer.out.queue.is_empty());
    }

    /// Lets time pass, with whatever falls due meanwhile at its moment.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            self.run();
            let open = self.peers.0.iter().filter(|(_, peer)| !peer.closed);
            let due = open.filter_map(|(id, peer)| Some((peer.session.poll_timeout()?, *id))).min();
            let Some((at, id)) = due.filter(|(at, _)| *at <= end) else { break };
            self.set_time(at.max(self.now.instant));
            self.time_out(id);
        }
        self.set_time(end);
    }

    /// Tells a session that its time has come.
    pub fn time_out(&mut self, id: ConnId) {
        let now = self.now;
        let peer = self.peers.0.get_mut(&id).unwrap();
        peer.session.handle_timeout(now, &mut peer.out);
        // A driver arms a timer for it: due at once would mean due for ever.
        assert!(peer.session.poll_timeout().is_none_or(|due| due > now.instant), "due again at once");
        self.settle(id);
    }

    pub fn set_time(&mut self, at: Instant) {
        self.now.unix_ms += (at - self.now.instant).as_millis() as u64;
        self.now.instant = at;
    }

    pub fn ids(&self) -> Vec<ConnId> {
        self.peers.0.keys().copied().collect()
    }

    /// Whether what the peer got so far ends with a whole frame.
    pub fn is_clean(&self, id: ConnId) -> bool {
        self.peers.0[&id].reader.is_clean()
    }
}

/// Takes at most `most` bytes from the front of a queue, or names the file
/// there that is shorter than announced.
pub fn take(out: &mut Outbox, disk: &Disk, most: usize) -> Result<Vec<u8>, FileHandle> {
    let bytes = if let Some((file, offset, length)) = out.queue.front_file() {
        let bytes = disk.read(file, offset, length.min(most)).to_vec();
        if bytes.is_empty() {
            return Err(file);
        }
        bytes
    } else {
        let mut slices = [IoSlice::new(b""); 4];
        let (n, _) = out.queue.slices(&mut slices);
        let mut bytes = Vec::new();
        for slice in &slices[..n] {
            bytes.extend_from_slice(&slice[..slice.len().min(most - bytes.len())]);
        }
        bytes
    };
    out.queue.advance(bytes.len());
    Ok(bytes)
}
