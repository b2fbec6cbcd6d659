//! A client with a random script. What it gets is for its judge.

mod judge;

pub use judge::Ledger;

use super::rng::Rng;
use crate::support::children::pattern;
use crate::support::frames::{FrameReader, frame, raw_frame};
use crate::support::world::TOKEN;
use reactord::proto::exec::Stream;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

const ROOMS: [&str; 3] = ["lobby", "r\u{f6}\u{f6}m", "third"];

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// Greets, asks, and ends its sending side.
    Polite,
    /// Breaks the connection at some moment.
    Resets,
    /// Does not read for a long time.
    Stalls,
    /// Never says a thing.
    Silent,
    /// Sends what is no frame, or not its token, at some moment.
    Rude,
}

/// An answer that is due. Where only a refusal would come, success is silent.
struct Due {
    cmd: &'static str,
    id: Option<u64>,
    refusal_only: bool,
}

struct Download {
    next: u64,
    length: u64,
}

#[derive(Default)]
struct Membership {
    inside: bool,
    epoch: String,
    /// The number of the next message.
    next: u64,
    /// One's own messages that were answered, and how many were not.
    own: BTreeSet<u64>,
    unanswered: u64,
}

struct Replay {
    id: Option<u64>,
    room: String,
    epoch: String,
    left: u64,
    last: Option<u64>,
}

pub struct Client {
    pub number: usize,
    pub manner: Manner,
    pub requests: usize,
    pub started: bool,
    /// Whether it has sent its last byte.
    pub ended: bool,
    pub reader: FrameReader,
    due: VecDeque<Due>,
    next_id: u64,
    running: BTreeMap<u64, [usize; 2]>,
    downloads: BTreeMap<u64, Download>,
    hashes: BTreeSet<u64>,
    uploads: BTreeSet<u64>,
    rooms: BTreeMap<&'static str, Membership>,
    leaving: BTreeMap<u64, &'static str>,
    replays: VecDeque<Replay>,
    pub failed: Option<String>,
}

fn nick(number: usize) -> String {
    format!("c{number}")
}

/// The longest file, in bytes.
pub const MAX_FILE: usize = 700_000;

/// What every file holds.
pub fn content() -> &'static [u8] {
    static CONTENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..MAX_FILE).map(|at| (at * 7 + at / 251) as u8 | 1).collect());
    &CONTENT
}

impl Client {
    pub fn new(number: usize, manner: Manner, requests: usize) -> Self {
        Client {
            number,
            manner,
            requests,
            started: false,
            ended: false,
            reader: FrameReader::default(),
            due: VecDeque::new(),
            next_id: 0,
            running: BTreeMap::new(),
            downloads: BTreeMap::new(),
            hashes: BTreeSet::new(),
            uploads: BTreeSet::new(),
            rooms: BTreeMap::new(),
            leaving: BTreeMap::new(),
            replays: VecDeque::new(),
            failed: None,
        }
    }

    fn expect(&mut self, cmd: &'static str, id: Option<u64>, refusal_only: bool) {
        self.due.push_back(Due { cmd, id, refusal_only });
    }

    /// The next bytes to send.
    pub fn speak(&mut self, clients: usize, rng: &mut Rng) -> Vec<u8> {
        if !std::mem::replace(&mut self.started, true) {
            let token = if self.manner == Manner::Rude && rng.chance(30) { "wrong" } else { TOKEN };
            self.expect("hello", None, false);
            return frame(json!({"cmd": "hello", "version": 1, "token": token, "nick": nick(self.number)}), b"");
        }
        self.requests -= 1;
        if self.manner == Manner::Rude && rng.chance(30) {
            return match rng.below(3) {
                0 => b"GET / HTTP/1.1\r\n".to_vec(),
                1 => raw_frame(b"[]", b""),
                _ => raw_frame(br#"{"cmd":"echo","size":-1}"#, b""),
            };
        }
        self.next_id += 1;
        let id = self.next_id;
        let room = rng.pick(&ROOMS);
        match rng.below(16) {
            0 | 1 => {
                let body = vec![b'e'; if rng.chance(2) { rng.size(300_000) } else { rng.size(300) }];
                self.expect("echo", Some(id), false);
                frame(json!({"cmd": "echo", "id": id}), &body)
            }
            2 | 3 => {
                self.expect("join", Some(id), false);
                let history = if rng.chance(50) { 1_000 } else { rng.below(6) };
                frame(json!({"cmd": "join", "id": id, "room": room, "history": history}), b"")
            }
            4..=6 => {
                let body = format!(
                    "{room}|{}|{id}{}",
                    nick(self.number),
                    "x".repeat(if rng.chance(5) { rng.size(40_000) } else { rng.size(300) })
                );
                let answered = rng.chance(70);
                self.expect("say", answered.then_some(id), !answered);
                let membership = self.rooms.entry(room).or_default();
                membership.unanswered += u64::from(!answered);
                let mut header = json!({"cmd": "say", "room": room});
                if answered {
                    header["id"] = id.into();
                }
                frame(header, body.as_bytes())
            }
            7 => {
                let to = nick(rng.below(clients as u64) as usize);
                self.expect("tell", None, true);
                frame(json!({"cmd": "tell", "to": to}), format!("{to}|{}", nick(self.number)).as_bytes())
            }
            8 => {
                self.expect("leave", Some(id), false);
                self.leaving.insert(id, room);
                frame(json!({"cmd": "leave", "id": id, "room": room}), b"")
            }
            9 => {
                self.expect("history", Some(id), false);
                frame(json!({"cmd": "history", "id": id, "room": room, "limit": rng.below(5)}), b"")
            }
            10 | 11 => self.exec(id, rng),
            12 => {
                let path = rng.pick(&["small", "large", "none"]);
                let offset = rng.below(200);
                self.downloads.insert(id, Download { next: offset, length: 0 });
                self.expect("get", Some(id), false);
                frame(json!({"cmd": "get", "id": id, "path": path, "offset": offset}), b"")
            }
            13 => self.put(id, rng),
            14 => {
                self.hashes.insert(id);
                frame(json!({"cmd": "hash", "id": id, "path": rng.pick(&["small", "none"])}), b"")
            }
            _ => {
                let cmd = rng.pick(&["stat", "list", "rooms", "jobs", "stats"]);
                self.expect(cmd, Some(id), false);
                frame(json!({"cmd": cmd, "id": id, "path": ""}), b"")
            }
        }
    }

    fn exec(&mut self, id: u64, rng: &mut Rng) -> Vec<u8> {
        self.expect("exec", Some(id), false);
        let out = if rng.chance(2) { rng.size(400_000) } else { rng.size(500) };
        let (hangup, timeout) = (rng.pick(&["kill", "finish"]), 1 + rng.below(5_000));
        let script = match rng.below(5) {
            0 => format!("out {out}; err {}; exit {}", rng.size(500), rng.below(100)),
            1 => format!("out {out}; wait"),
            2 => format!("out {out}; hold; exit 1"),
            3 => "none such".to_owned(),
            _ => format!("err {}; cat; exit 2", rng.size(100)),
        };
        let with_input = script.contains("cat");
        let mut exec = json!({"cmd": "exec", "id": id, "shell": script, "hangup": hangup});
        // What ends by itself must do so, and not by a time-out.
        if !script.contains("exit") || with_input {
            exec["timeout_ms"] = timeout.into();
        }
        let mut bytes = frame(exec, b"");
        if with_input && rng.chance(70) {
            self.expect("input", Some(id), true);
            // The pattern of outputs, because `cat` writes it back.
            let input = pattern(Stream::Stdout, 0, rng.size(200));
            bytes.extend(frame(json!({"cmd": "input", "id": id, "eof": rng.chance(80)}), input));
        }
        bytes
    }

    fn put(&mut self, id: u64, rng: &mut Rng) -> Vec<u8> {
        let length = if rng.chance(2) { rng.size(400_000) } else { rng.size(400) };
        let path = format!("up-{}-{}", self.number, rng.below(3));
        let exists = rng.pick(&["fail", "replace"]);
        self.expect("put", Some(id), false);
        self.uploads.insert(id);
        let put = json!({"cmd": "put", "id": id, "path": path, "length": length, "exists": exists});
        let mut bytes = frame(put, b"");
        let sent = if rng.chance(80) { length } else { rng.below(length as u64 + 5) as usize };
        for piece in vec![b'u'; sent].chunks(rng.size(length)) {
            bytes.extend(frame(json!({"cmd": "data", "id": id}), piece));
        }
        match rng.below(10) {
            0 => {}
            1 => {
                self.expect("cancel", Some(id), false);
                bytes.extend(frame(json!({"cmd": "cancel", "id": id}), b""));
            }
            _ => {
                self.expect("end", Some(id), false);
                bytes.extend(frame(json!({"cmd": "end", "id": id}), b""));
            }
        }
        bytes
    }
}
