//! The judge of what a client gets: answers in order and once, streams whole and
//! ended once, rooms without a gap, nothing that was meant for somebody else.

use super::{Client, Manner, ROOMS, Replay, content, nick};
use crate::support::children::pattern;
use crate::support::frames::Frame;
use reactord::proto::exec::Stream;
use serde_json::Value;
use std::collections::BTreeMap;

/// What was said, by room, epoch and number: the same for everybody.
#[derive(Default)]
pub struct Ledger(BTreeMap<(String, String, u64), (String, Vec<u8>)>);

impl Ledger {
    fn check(&mut self, key: (String, String, u64), said: (String, Vec<u8>)) {
        let first = self.0.entry(key.clone()).or_insert_with(|| said.clone());
        assert_eq!(*first, said, "{key:?} is not the same for everybody");
    }
}

impl Client {
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
            // Replays of several requests may take turns; each keeps its own order.
            let at = self.replays.iter().position(|replay| replay.id == frame.id()).expect("a replay asked for");
            let replay = &mut self.replays[at];
            assert!(replay.room.is_empty() || replay.room == room, "{header}");
            assert!(replay.last.is_none_or(|last| last + 1 == seq), "a gap in a replay: {header}");
            replay.last = Some(seq);
            replay.left -= 1;
            if !replay.epoch.is_empty() {
                ledger.check((room.to_owned(), replay.epoch.clone(), seq), said);
            }
            if replay.left == 0 {
                self.replays.remove(at);
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
