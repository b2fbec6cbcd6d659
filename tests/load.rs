//! Many clients at once: each greets, joins a room, talks, runs a command and
//! moves a file; every reply is checked, nobody starves, and when they have
//! gone the server is what it was before they came.
//!
//! The smaller form runs with every test. `make load` runs the full one, with
//! as many clients as REACTORD_LOAD_CLIENTS says and descriptors allow.

mod common;

use common::{Options, Server, frame, noise, wait_for};
use reactord::system::raise_descriptor_limit;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Clients of the smaller form.
const CLIENTS: usize = 500;

/// Members of a room: everybody hears of everybody who joins, so one room for
/// all would be a test of that square alone.
const ROOM: usize = 20;

/// Threads that play the clients. Each runs one command and moves one file at
/// a time, and all its clients' chat at once.
const THREADS: usize = 16;

/// Descriptors of this process that are not clients.
const SPARE: usize = 128;

/// Bytes of each client's file.
const FILE: usize = 20_000;

/// Nobody waits longer for an answer.
const STARVED: Duration = Duration::from_secs(25);

/// What may stay of the memory that a round of clients took: the allocator's
/// own and that of the history's file, once, and so much for each client that
/// came and went, of whose messages the history keeps every other.
const KEPT: usize = 16 << 20;
/// Where each client has a thread, the C library keeps stacks for the next
/// ones (40 MiB of them), and each of its arenas what it once took.
const KEPT_OF_THREADS: usize = 56 << 20;
const KEPT_EACH: usize = 256;

/// A client with one descriptor and no buffer while it is silent.
struct Client {
    n: usize,
    stream: TcpStream,
    unread: Vec<u8>,
    asked: Instant,
    slowest: Duration,
}

impl Client {
    fn connect(server: &Server, n: usize) -> Client {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(STARVED)).unwrap();
        stream.set_write_timeout(Some(STARVED)).unwrap();
        Client { n, stream, unread: Vec::new(), asked: Instant::now(), slowest: Duration::ZERO }
    }

    fn send(&mut self, mut header: Value, body: &[u8]) {
        if !body.is_empty() {
            header["size"] = body.len().into();
        }
        self.asked = Instant::now();
        self.stream.write_all(&frame(header, body)).unwrap_or_else(|e| panic!("client {}: {e}", self.n));
    }

    fn receive(&mut self) -> (Value, Vec<u8>) {
        loop {
            if let Some((length, rest)) = self.unread.split_first_chunk::<4>()
                && let Some(header) = rest.get(..i32::from_le_bytes(*length) as usize)
            {
                let parsed: Value = serde_json::from_slice(header).unwrap();
                let size = parsed["size"].as_u64().unwrap_or(0) as usize;
                if let Some(body) = rest[header.len()..].get(..size) {
                    let body = body.to_vec();
                    self.unread.drain(..4 + header.len() + size);
                    self.unread.shrink_to_fit();
                    return (parsed, body);
                }
            }
            let mut chunk = [0; 16 << 10];
            let n = self.stream.read(&mut chunk).unwrap_or_else(|e| panic!("client {} starved: {e}", self.n));
            assert!(n > 0, "client {}: the server closed the connection", self.n);
            self.unread.extend_from_slice(&chunk[..n]);
        }
    }

    /// The answer to what was sent last; events may come before it.
    fn answer(&mut self, cmd: &str) -> (Value, Vec<u8>) {
        loop {
            let (header, body) = self.receive();
            if header["re"] == cmd {
                assert_eq!(header["ok"], true, "client {}: {header}", self.n);
                self.slowest = self.slowest.max(self.asked.elapsed());
                return (header, body);
            }
            assert!(header["event"] == "joined", "client {}: {header} where {cmd} was due", self.n);
        }
    }

    fn nick(n: usize) -> String {
        format!("client-{n}")
    }

    fn room(&self) -> String {
        format!("room-{}", self.n / ROOM)
    }

    fn words(n: usize) -> String {
        format!("client {n} says this and nothing else")
    }

    /// Its own answer, and the message of every other member once.
    fn hear(&mut self, members: usize) {
        let mut heard = HashSet::new();
        let mut answered = false;
        let mut last = 0;
        while heard.len() + 1 < members || !answered {
            let (header, body) = self.receive();
            let seq = header["seq"].as_u64().unwrap_or_else(|| panic!("client {}: {header}", self.n));
            assert!(seq > last, "client {}: {header} after {last}", self.n);
            last = seq;
            if header["re"] == "say" {
                assert_eq!(header["ok"], true, "{header}");
                answered = true;
                self.slowest = self.slowest.max(self.asked.elapsed());
                continue;
            }
            assert_eq!((&header["event"], &header["room"]), (&json!("message"), &json!(self.room())), "{header}");
            let from: usize = header["from"].as_str().unwrap().strip_prefix("client-").unwrap().parse().unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), Client::words(from));
            assert!(from / ROOM == self.n / ROOM && from != self.n && heard.insert(from), "{header}");
        }
    }

    fn run(&mut self) {
        let words = Client::words(self.n);
        self.send(json!({"cmd": "exec", "id": 5, "argv": ["/bin/echo", words]}), b"");
        self.answer("exec");
        let mut output = Vec::new();
        loop {
            let (header, body) = self.receive();
            assert_eq!(header["id"], 5, "{header}");
            if header["event"] == "exit" {
                assert_eq!((&header["code"], output), (&json!(0), format!("{words}\n").into_bytes()), "{header}");
                self.slowest = self.slowest.max(self.asked.elapsed());
                return;
            }
            output.extend(body);
        }
    }

    fn move_file(&mut self) {
        let content = noise(FILE, self.n as u64);
        let path = format!("file-{}", self.n);
        let sum = blake3::hash(&content).to_hex().to_string();
        self.send(json!({"cmd": "put", "id": 6, "path": path, "length": FILE}), b"");
        self.send(json!({"cmd": "data", "id": 6}), &content);
        self.send(json!({"cmd": "end", "id": 6}), b"");
        self.answer("put");
        assert_eq!(self.answer("end").0["blake3"], sum);
        self.send(json!({"cmd": "get", "id": 7, "path": path}), b"");
        assert_eq!(self.answer("get").0["length"], FILE);
        let mut came = Vec::new();
        loop {
            let (header, body) = self.receive();
            if header["event"] == "end" {
                assert_eq!(header["ok"], true, "{header}");
                break;
            }
            came.extend(body);
        }
        assert!(came == content, "client {} got another file", self.n);
        self.send(json!({"cmd": "remove", "id": 8, "path": path}), b"");
        self.answer("remove");
    }
}

/// Where threads wait for each other; unlike a barrier, not for ever for one
/// that failed.
struct Gate {
    threads: usize,
    arrived: AtomicUsize,
}

impl Gate {
    fn pass(&self, what: &str, time: usize) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        wait_for(what, || (self.arrived.load(Ordering::SeqCst) >= time * self.threads).then_some(()));
    }
}

/// Plays the clients of one thread, and says how long the slowest answer took.
fn play(server: &Server, clients: Range<usize>, gate: &Gate) -> Duration {
    let mut clients: Vec<Client> = clients.map(|n| Client::connect(server, n)).collect();
    for client in &mut clients {
        let hello = json!({"cmd": "hello", "version": 1, "token": server.token, "nick": Client::nick(client.n)});
        client.send(hello, b"");
    }
    for client in &mut clients {
        assert_eq!(client.answer("hello").0["nick"], Client::nick(client.n));
    }
    // From here on all clients of all threads are connected.
    gate.pass("all clients to be greeted", 1);
    for client in &mut clients {
        client.send(json!({"cmd": "join", "room": client.room(), "history": 0}), b"");
    }
    for client in &mut clients {
        let room = client.room();
        assert_eq!(client.answer("join").0["room"], room);
    }
    // Whoever joined before others has still to hear of them.
    for client in &mut clients {
        client.send(json!({"cmd": "echo", "id": 1}), Client::words(client.n).as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.answer("echo").1, Client::words(client.n).into_bytes());
    }
    for client in &mut clients {
        let room = client.room();
        client.send(json!({"cmd": "say", "id": 2, "room": room}), Client::words(client.n).as_bytes());
    }
    let (first, count) = (clients[0].n, clients.len());
    for client in &mut clients {
        let room = (client.n / ROOM * ROOM).max(first)..(client.n / ROOM * ROOM + ROOM).min(first + count);
        client.hear(room.len());
    }
    for client in &mut clients {
        client.run();
        client.move_file();
    }
    // Nobody goes before all have done their part.
    gate.pass("all clients to have done their part", 2);
    clients.iter().map(|client| client.slowest).max().unwrap_or_default()
}

/// One round of so many clients, from the first connection to the last close.
fn round(server: &Server, clients: usize) -> Duration {
    // Whole rooms for each thread, so that a room waits for nobody elsewhere.
    let share = clients.div_ceil(THREADS).next_multiple_of(ROOM);
    let starts: Vec<usize> = (0..clients).step_by(share).collect();
    let gate = Gate { threads: starts.len(), arrived: AtomicUsize::new(0) };
    std::thread::scope(|scope| {
        let threads: Vec<_> = starts
            .iter()
            .map(|&start| {
                let gate = &gate;
                scope.spawn(move || play(server, start..(start + share).min(clients), gate))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

/// The gauges that must be the same before and after.
fn gauges(server: &Server) -> Vec<Value> {
    let stats = wait_for("all other connections to be gone", || {
        let stats = server.stats();
        (stats["connections"] == 1).then_some(stats)
    });
    let gauges = ["connections", "nicks", "jobs", "open_files", "queued_bytes"];
    gauges.iter().map(|gauge| stats[*gauge].clone()).collect()
}

#[test]
fn a_crowd_is_served_and_leaves_nothing_behind() {
    let wanted = std::env::var("REACTORD_LOAD_CLIENTS").map_or(CLIENTS, |n| n.parse().expect("a number of clients"));
    let limit = raise_descriptor_limit();
    let clients = wanted.min(limit.saturating_sub(SPARE));
    println!("{clients} clients of {wanted} wanted; this process may have {limit} descriptors");
    // Few kept messages, so that the second round finds the history full.
    let server = Options::new().args(&["--history", "10"]).start();
    // What is opened at the first use, and kept, is no leak.
    round(&server, ROOM);
    let before = gauges(&server);
    // That of the connection that asked may still be among them.
    let descriptors = server.descriptors();
    let memory = server.memory();
    let of_threads = if common::mode() == "blocking" { KEPT_OF_THREADS } else { 0 };
    let mut allowed = memory + KEPT + of_threads + clients * KEPT_EACH;
    for number in 1..=2 {
        let began = Instant::now();
        let slowest = round(&server, clients);
        let took = began.elapsed();
        assert_eq!(gauges(&server), before, "round {number}");
        let stats = server.stats();
        assert_eq!(stats["files_stored"], number * clients + ROOM);
        wait_for("all descriptors to be given back", || (server.descriptors() <= descriptors).then_some(()));
        // The last of it goes with the last connection, that which asked included.
        let resident = wait_for(&format!("at most {} KiB to be resident", allowed >> 10), || {
            Some(server.memory()).filter(|resident| *resident <= allowed)
        });
        println!(
            "round {number}: {took:.1?}, slowest answer {slowest:.1?}, longest turn {} µs ({}), resident {} KiB, {} before",
            stats["longest_turn_us"],
            stats["longest_turn_phase"],
            resident >> 10,
            memory >> 10
        );
        assert!(slowest < STARVED);
        // Once everything has been used, nothing more is taken.
        allowed = resident + (KEPT + of_threads + clients * KEPT_EACH) / 4;
    }
}
