//! A client with a random script, and the judge of what it gets: answers in
//! order and once, streams whole and ended once, rooms without a gap, nothing
//! that was meant for somebody else.

use super::rng::Rng;
use crate::support::children::pattern;
use crate::support::frames::{Frame, FrameReader, frame, raw_frame};
use crate::support::world::TOKEN;
use reactord::proto::exec::Stream;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

const ROOMS: [&str; 3] = ["lobby", "r\u{f6}\u{f6}m", "third"];

/// What was said, by room, epoch and number: the same for everybody.
#[derive(Default)]
pub struct Ledger(BTreeMap<(String, String, u64), (String, Vec<u8>)>);

impl Ledger {
    fn check(&mut self, key: (String, String, u64), said: (String, Vec<u8>)) {
        let first = self.0.entry(key.clone()).or_insert_with(|| said.clone());
        assert_eq!(*first, said, "{key:?} is not the same for everybody");
    }
}

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

    /// Takes what the server sent.
    pub fn hear(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        self.reader.push(bytes);
        while let Some(frame) = self.reader.next_frame() {
            assert!(self.failed.is_none(), "client {}: {} comes behind the last words", self.number, frame.header);
            if frame.is_event() { self.event(&frame, ledger) } else { self.answer(&frame) }
        }
    }

    fn answer(&mut self, frame: &Frame) {
        let (cmd, id, ok) = (frame.kind().to_owned(), frame.id(), frame.header["ok"] == true);
        if cmd == "hash" {
            assert!(self.hashes.remove(&id.unwrap()), "no hash with that id: {}", frame.header);
            return;
        }
        if cmd == "data" {
            assert!(!ok && self.uploads.contains(&id.unwrap()), "{}", frame.header);
            return;
        }
        loop {
            let due = self.due.pop_front().unwrap_or_else(|| panic!("nobody asked for {}", frame.header));
            if due.cmd == cmd && due.id == id && !(due.refusal_only && ok) {
                break;
            }
            assert!(due.refusal_only, "client {}: {} {:?} was due, not {}", self.number, due.cmd, due.id, frame.header);
        }
        self.answered(&cmd, id, ok, frame);
    }

    fn answered(&mut self, cmd: &str, id: Option<u64>, ok: bool, frame: &Frame) {
        let header = &frame.header;
        let number = |name: &str| header[name].as_u64().unwrap_or_else(|| panic!("{name} in {header}"));
        match cmd {
            "exec" if ok => drop(self.running.insert(id.unwrap(), [0; 2])),
            "get" if ok => self.downloads.get_mut(&id.unwrap()).unwrap().length = number("length"),
            "get" => drop(self.downloads.remove(&id.unwrap())),
            "say" if ok => {
                let room = header["room"].as_str().unwrap();
                self.rooms.get_mut(room).unwrap().own.insert(number("seq"));
            }
            "leave" if ok => {
                let room = self.leaving[&id.unwrap()];
                self.rooms.get_mut(room).unwrap().inside = false;
            }
            "join" if ok => {
                let (room, epoch) = (header["room"].as_str().unwrap(), header["epoch"].as_str().unwrap());
                let name = ROOMS.iter().find(|name| **name == room).unwrap();
                let membership = self.rooms.entry(name).or_default();
                membership.inside = true;
                membership.next = number("seq") + 1;
                membership.epoch = epoch.to_owned();
                membership.own.retain(|seq| *seq >= membership.next);
                let members: Vec<String> = serde_json::from_slice(&frame.body).unwrap();
                assert!(members.contains(&nick(self.number)));
                self.replay(id, room, epoch, number("count"));
            }
            "history" if ok => self.replay(id, "", "", number("count")),
            _ => {}
        }
    }

    fn replay(&mut self, id: Option<u64>, room: &str, epoch: &str, left: u64) {
        if left > 0 {
            self.replays.push_back(Replay { id, room: room.to_owned(), epoch: epoch.to_owned(), left, last: None });
        }
    }

    fn event(&mut self, frame: &Frame, ledger: &mut Ledger) {
        let header = &frame.header;
        match frame.kind() {
            "message" => self.message(frame, ledger),
            "tell" => {
                let expected = format!("{}|{}", nick(self.number), header["from"].as_str().unwrap());
                assert_eq!(frame.body, expected.as_bytes(), "a tell for somebody else");
            }
            "stdout" | "stderr" => {
                let stream = if frame.kind() == "stdout" { Stream::Stdout } else { Stream::Stderr };
                let received = self.running.get_mut(&frame.id().unwrap()).expect("output of a running command");
                let from = &mut received[stream as usize];
                assert!(!frame.body.is_empty() && frame.body.len() <= 65_536);
                assert_eq!(frame.body, pattern(stream, *from, frame.body.len()), "{header}");
                *from += frame.body.len();
            }
            "exit" => {
                assert!(self.running.remove(&frame.id().unwrap()).is_some(), "a second exit: {header}");
                assert!(header.get("code").is_some() != header.get("signal").is_some());
            }
            "data" => {
                let download = self.downloads.get_mut(&frame.id().unwrap()).expect("data of a download");
                let expected = &content()[download.next as usize..][..frame.body.len()];
                // Of a file that shrank, zeros are sent; no byte of a file is one.
                let shrank = |(at, byte): (usize, &u8)| *byte == expected[at] || *byte == 0;
                assert!(frame.body == expected || frame.body.iter().enumerate().all(shrank), "{header}");
                download.next += frame.body.len() as u64;
                download.length -= frame.body.len() as u64;
            }
            "end" => {
                let download = self.downloads.remove(&frame.id().unwrap()).expect("one end of a download");
                assert!(header["ok"] == false || download.length == 0, "{} bytes are missing", download.length);
            }
            "joined" | "left" => {
                assert!(self.is_inside(header), "news of a room left: {header}");
                assert_ne!(header["nick"], nick(self.number), "news of oneself");
            }
            "error" => self.failed = Some(frame.error().unwrap().to_owned()),
            other => panic!("an event {other}"),
        }
    }

    fn is_inside(&self, header: &Value) -> bool {
        self.rooms.get(header["room"].as_str().unwrap()).is_some_and(|membership| membership.inside)
    }

    fn message(&mut self, frame: &Frame, ledger: &mut Ledger) {
        let header = &frame.header;
        let (room, from) = (header["room"].as_str().unwrap(), header["from"].as_str().unwrap());
        let seq = header["seq"].as_u64().unwrap();
        assert!(frame.body.starts_with(format!("{room}|{from}|").as_bytes()), "{header}");
        let said = (from.to_owned(), frame.body.clone());
        if header.get("replay").is_some() {
            let replay = self.replays.front_mut().expect("a replay is under way");
            assert_eq!((replay.id, replay.room.is_empty() || replay.room == room), (frame.id(), true), "{header}");
            assert!(replay.last.is_none_or(|last| last + 1 == seq), "a gap in a replay: {header}");
            replay.last = Some(seq);
            replay.left -= 1;
            if !replay.epoch.is_empty() {
                ledger.check((room.to_owned(), replay.epoch.clone(), seq), said);
            }
            if replay.left == 0 {
                self.replays.pop_front();
            }
            return;
        }
        assert!(self.is_inside(header), "a message of a room that was left: {header}");
        assert_ne!(from, nick(self.number), "one's own message");
        assert!(self.replays.iter().all(|replay| replay.room != room), "it comes before what is older: {header}");
        let membership = self.rooms.get_mut(room).unwrap();
        while membership.next < seq {
            let next = membership.next;
            if !membership.own.remove(&next) {
                assert!(membership.unanswered > 0, "message {next} is missing before {header}");
                membership.unanswered -= 1;
            }
            membership.next += 1;
        }
        assert_eq!(membership.next, seq, "{header} is old");
        membership.next += 1;
        ledger.check((room.to_owned(), membership.epoch.clone(), seq), said);
    }

    /// The server ended the connection, and everything it sent is here.
    pub fn finish(&mut self) {
        assert!(self.reader.is_clean(), "client {}: the last frame is whole", self.number);
        match self.failed.as_deref() {
            None => {
                let missing = self.due.iter().find(|due| !due.refusal_only);
                assert!(
                    missing.is_none(),
                    "client {}: {:?} was not answered",
                    self.number,
                    missing.map(|d| (d.cmd, d.id))
                );
                assert!(self.running.is_empty(), "client {}: no exit of {:?}", self.number, self.running);
                assert!(self.downloads.is_empty() && self.hashes.is_empty() && self.replays.is_empty());
                assert!(self.ended, "client {}: ended for no reason", self.number);
            }
            Some("unauthorized" | "bad_frame") => assert_eq!(self.manner, Manner::Rude),
            Some("timeout" | "slow_consumer" | "shutting_down") => {}
            Some(other) => panic!("client {}: ended with {other}", self.number),
        }
    }
}
