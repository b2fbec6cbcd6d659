//! A simulation of whole servers: many sessions and the rooms, on virtual time,
//! with a network, a disk and commands that do whatever a seed says. What must
//! hold is checked throughout: see `client` and `Server::check_before_sleep`.
//!
//! `SIM_SEED=n cargo test --test sim` repeats one run; `SIM_SEEDS=n` says how
//! many there are (10,000; `make sim` runs a million).

#[path = "../support/mod.rs"]
mod support;

mod client;
mod network;
mod rng;
mod server;

use client::{Client, Ledger, Manner, content};
use network::{Event, Socket};
use reactord::proto::{ConnId, Now};
use rng::Rng;
use server::{Later, Server};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Runs of `cargo test`.
const SEEDS: u64 = 10_000;

/// One run in so many has hundreds of clients.
const LARGE: u64 = 1_000;

/// A run that goes on for longer than this many steps goes on for ever.
const MOST_STEPS: usize = 3_000_000;

/// Meaningless events go on until so many connections were counted.
const MOST_NOISE: usize = 60;

/// What happens at a moment; the number is a client's.
enum Action {
    Connect(usize),
    Speak(usize),
    Arrive(usize),
    Drain(usize),
    Reset(usize),
    Later(Later),
    Truncate,
    Stop,
    /// Events that mean nothing, or are for a connection that is gone.
    Noise,
}

struct World {
    rng: Rng,
    start: Instant,
    /// Microseconds since the start.
    time: u64,
    actions: BTreeMap<(u64, u64), Action>,
    scheduled: u64,
    server: Server,
    sockets: Vec<Socket>,
    clients: Vec<Client>,
    draining: BTreeSet<usize>,
    over: Vec<bool>,
    /// Sockets that may have an event.
    stirred: BTreeSet<usize>,
    noise: Vec<(ConnId, Event)>,
    seen: Vec<ConnId>,
    ledger: Ledger,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let start = Instant::now();
        let now = Now { instant: start, unix_ms: 0 };
        let mut server = Server::new(support::world::config(Some(support::world::TOKEN)), now, &mut rng);
        server.disk.put("small", content()[..500].to_vec());
        if rng.chance(10) {
            server.disk.put("large", content().to_vec());
        }
        server.disk.fail_at = rng.chance(30).then(|| 1 + rng.below(20));
        server.children.fail_at = rng.chance(30).then(|| 1 + rng.below(5));
        let count = if seed % LARGE == LARGE - 1 { 100 + rng.size(200) } else { rng.size(5) };
        let mut world = World {
            rng,
            start,
            time: 0,
            actions: BTreeMap::new(),
            scheduled: 0,
            server,
            sockets: Vec::new(),
            clients: Vec::new(),
            draining: BTreeSet::new(),
            over: vec![false; count],
            stirred: BTreeSet::new(),
            noise: Vec::new(),
            seen: Vec::new(),
            ledger: Ledger::default(),
        };
        for number in 0..count {
            let manner = match world.rng.below(20) {
                0..=12 => Manner::Polite,
                13 | 14 => Manner::Resets,
                15 | 16 => Manner::Stalls,
                17 => Manner::Silent,
                _ => Manner::Rude,
            };
            let requests = world.rng.size(12);
            world.clients.push(Client::new(number, manner, requests));
            let capacity = world.rng.pick(&[500, 10_000, 200_000]);
            world.sockets.push(Socket::new(capacity));
            world.after(5_000, Action::Connect(number));
        }
        if world.rng.chance(5) {
            world.after(100_000, Action::Stop);
        }
        if world.rng.chance(10) {
            world.after(20_000, Action::Truncate);
        }
        if world.rng.chance(30) {
            world.after(5_000, Action::Noise);
        }
        world
    }

    /// Something happens within so many microseconds; now and then, much later.
    fn after(&mut self, most: u64, action: Action) {
        let factor = if self.rng.chance(1) { 100 } else { 1 };
        let delay = self.rng.below(most * factor);
        self.at(self.time + delay, action);
    }

    fn at(&mut self, time: u64, action: Action) {
        self.scheduled += 1;
        self.actions.insert((time, self.scheduled), action);
    }

    fn run(&mut self) {
        for _ in 0..MOST_STEPS {
            while let Some(entry) = self.actions.first_entry().filter(|entry| entry.key().0 <= self.time) {
                let action = entry.remove();
                self.act(action);
            }
            let events = self.events();
            let wakes_at = self.server.wakes_at().map(|at| (at - self.start).as_micros() as u64);
            if !events.is_empty() || wakes_at.is_some_and(|at| at <= self.time) {
                self.turn(&events);
                continue;
            }
            self.server.check_before_sleep(&self.sockets);
            // A timer of the loop counts in microseconds here, and never comes early.
            let next = [wakes_at.map(|at| at + 1), self.actions.keys().next().map(|key| key.0)];
            match next.into_iter().flatten().min() {
                Some(next) => self.time = next.max(self.time),
                None => return self.check_end(),
            }
        }
        panic!("it goes on for ever");
    }

    fn events(&mut self) -> Vec<(ConnId, Event)> {
        let mut events = std::mem::take(&mut self.noise);
        for client in std::mem::take(&mut self.stirred) {
            let event = std::mem::take(&mut self.sockets[client].event);
            // Who is accepted later is taken to be readable and writable at first.
            if let Some(id) = self.server.ids.get(&client).filter(|_| event != Event::default()) {
                events.push((*id, event));
            }
        }
        events
    }

    fn turn(&mut self, events: &[(ConnId, Event)]) {
        let instant = self.start + Duration::from_micros(self.time);
        let now = Now { instant, unix_ms: self.time / 1_000 };
        self.server.turn(now, events, &mut self.sockets, &mut self.rng);
        for later in std::mem::take(&mut self.server.later) {
            // A command may be there at once, or long after all else.
            let most = if matches!(later, Later::Start) { self.rng.pick(&[1, 1_000, 1_000_000]) } else { 1_000 };
            self.after(most, Action::Later(later));
        }
        for client in std::mem::take(&mut self.server.touched) {
            self.drain_later(client);
        }
        self.time += self.rng.below(50);
    }

    fn drain_later(&mut self, client: usize) {
        if !self.over[client] && self.draining.insert(client) {
            let stalls = self.clients[client].manner == Manner::Stalls && self.rng.chance(10);
            self.after(if stalls { 90_000_000 } else { 1_000 }, Action::Drain(client));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect(client) => {
                self.server.backlog.push_back(client);
                self.after(2_000, Action::Speak(client));
                if self.clients[client].manner == Manner::Resets {
                    self.after(30_000, Action::Reset(client));
                }
            }
            Action::Speak(client) => self.speak(client),
            Action::Arrive(client) => {
                let most = self.rng.pick(&[3, 1_000, 100_000]);
                let n = self.rng.size(most);
                self.sockets[client].arrive(n);
                self.stirred.insert(client);
                if self.sockets[client].has_under_way() {
                    self.after(500, Action::Arrive(client));
                }
            }
            Action::Drain(client) => self.drain(client),
            Action::Reset(client) => {
                self.over[client] = true;
                self.sockets[client].reset();
                self.stirred.insert(client);
            }
            Action::Later(Later::Start) => self.server.begun += 1,
            Action::Later(Later::Disk) => {
                let pick = self.rng.next() as usize >> 1;
                let reply = self.server.disk.complete(pick);
                self.server.disk_replies.extend(reply);
            }
            Action::Later(Later::Child(job)) => self.server.wake_child(job),
            Action::Later(Later::Warm(id)) => self.server.warmed.push(id),
            Action::Truncate => {
                let length = self.rng.size(400_000);
                self.server.disk.truncate("large", length);
            }
            Action::Stop => self.server.stop(),
            Action::Noise => {
                self.seen.extend(self.server.ids.values());
                self.seen.push(ConnId(0));
                let event = Event { readable: self.rng.chance(50), writable: self.rng.chance(50), ..Event::default() };
                for _ in 0..self.seen.len().min(3) {
                    let id = self.rng.pick(&self.seen);
                    self.noise.push((id, event));
                }
                if self.seen.len() < MOST_NOISE {
                    self.after(5_000, Action::Noise);
                }
            }
        }
    }

    fn speak(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let socket = &mut self.sockets[number];
        if client.manner == Manner::Silent || client.ended || self.over[number] || socket.shut || socket.closed {
            return;
        }
        let was_quiet = !socket.has_under_way();
        if socket.unread() > 200_000 {
            return self.after(50_000, Action::Speak(number));
        }
        if client.started && client.requests == 0 {
            client.ended = true;
            socket.end_under_way = true;
        } else {
            socket.under_way.extend(client.speak(self.over.len(), &mut self.rng));
            self.after(3_000, Action::Speak(number));
        }
        if was_quiet {
            self.after(500, Action::Arrive(number));
        }
    }

    fn drain(&mut self, number: usize) {
        self.draining.remove(&number);
        if self.over[number] {
            return;
        }
        let most = self.rng.pick(&[10, 5_000, 1_000_000]);
        let n = self.rng.size(most);
        let bytes = self.sockets[number].take(n);
        self.stirred.insert(number);
        self.clients[number].hear(&bytes, &mut self.ledger);
        let socket = &mut self.sockets[number];
        if !socket.sent.is_empty() {
            self.drain_later(number);
        } else if socket.shut || socket.closed {
            self.over[number] = true;
            if !socket.cut {
                self.clients[number].finish();
            }
            // Who has read the last words closes too; some only after a while.
            let quiet = !socket.has_under_way();
            socket.end_under_way = true;
            if quiet && !socket.closed && self.rng.chance(70) {
                self.after(500, Action::Arrive(number));
            }
        }
    }

    fn check_end(&self) {
        assert!(self.server.is_empty(), "a connection has not ended");
        assert_eq!(self.server.people(), 0, "nobody is in a room");
        assert_eq!((self.server.disk.open_files(), self.server.children.len()), (0, 0), "nothing is left behind");
        let waiting: Vec<_> = (0..self.over.len()).filter(|client| !self.over[*client]).collect();
        assert!(waiting.is_empty(), "clients {waiting:?} wait for ever");
    }
}

/// Says how to repeat a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat this run: SIM_SEED={} cargo test --test sim", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

#[test]
fn whatever_the_network_does_the_promises_hold() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let seed = Seed(seed);
        World::new(seed.0).run();
    }
}
