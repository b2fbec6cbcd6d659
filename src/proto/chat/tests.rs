//! The chat service, with rooms that the test plays.

use super::*;
use crate::proto::rooms::{Deliver, Rooms, tests::decode};
use crate::proto::{ConnId, Now};
use crate::wire::request::{History, Join, Room, Tell};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::IoSlice;

/// A chat service whose rooms are played by the test.
#[derive(Default)]
struct Peer {
    chat: Chat,
    out: Outbox,
}

impl Peer {
    fn request(&mut self, id: Option<u64>, request: Request, body: &str) -> Option<Op> {
        self.chat.request(id, request, Bytes::copy_from_slice(body.as_bytes()), &mut self.out);
        match self.out.effects.pop_front() {
            Some(Effect::Room(op)) => Some(op),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, id: u64, room: &str, kept: Vec<Arc<Message>>) {
        let join = Join { room: room.into(), history: None, after: None };
        self.request(Some(id), Request::Join(join), "").unwrap();
        assert!(self.chat.is_waiting());
        let reply = Reply::Joined { room: room.into(), seq: 9, epoch: "e".into(), members: "[]".into(), kept };
        self.chat.reply(reply, &mut self.out);
    }

    fn live(&mut self, room: &str, seq: u64) {
        let event = ChatEvent::Message { room, seq, at: 0, from: "n", size: 1, replay: None, id: None };
        let frames = crate::wire::frame::encode(&event, b"x").into();
        self.chat.delivery(&Delivery { room: Some(room.into()), frames }, &mut self.out);
    }

    /// Everything queued, as sent to a reader that takes it at once.
    fn sent(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        while !self.out.queue.is_empty() {
            let mut slices = [IoSlice::new(b""); 64];
            let (filled, _) = self.out.queue.slices(&mut slices);
            let chunk: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            self.out.queue.advance(chunk.len());
            bytes.extend(chunk);
            self.chat.pump(&mut self.out);
        }
        decode(&bytes).into_iter().map(|(header, _)| header).collect()
    }

    /// The same, as short texts.
    fn briefs(&mut self) -> Vec<String> {
        let brief = |header: Value| match header["re"].as_str() {
            Some(re) => format!("re {re}"),
            None => {
                let id = if header["replay"] == true { format!(" for {}", header["id"]) } else { String::new() };
                format!("{}#{}{id}", header["room"].as_str().unwrap(), header["seq"])
            }
        };
        self.sent().into_iter().map(brief).collect()
    }
}

fn kept(room: &str, seqs: std::ops::RangeInclusive<u64>, size: usize) -> Vec<Arc<Message>> {
    let message = |seq| {
        let body = Bytes::from(vec![b'x'; size]);
        Arc::new(Message { room: room.into(), seq, at: 0, from: "n".into(), body })
    };
    seqs.map(message).collect()
}

fn room(room: &str) -> Room {
    Room { room: room.into() }
}

#[test]
fn only_what_is_numbered_or_refused_is_answered_to_a_say() {
    let mut peer = Peer::default();
    for id in [None, Some(5)] {
        let op = peer.request(id, Request::Say(room("r")), "hi").unwrap();
        assert_eq!(op, Op::Say { room: "r".into(), body: "hi".into() });
        peer.chat.reply(Reply::Said { room: "r".into(), seq: 3, at: 4 }, &mut peer.out);
        peer.request(id, Request::Tell(Tell { to: "n".into() }), "hi").unwrap();
        peer.chat.reply(Reply::Done, &mut peer.out);
        peer.request(id, Request::Say(room("s")), "hi").unwrap();
        let refusal = Refusal::new(ErrorCode::Forbidden, "no");
        peer.chat.reply(Reply::Refused { refusal, suggestion: None }, &mut peer.out);
    }
    assert_eq!(
        peer.sent(),
        [
            json!({"re": "say", "ok": false, "error": "forbidden", "message": "no"}),
            json!({"re": "say", "id": 5, "ok": true, "room": "r", "seq": 3, "at": 4}),
            json!({"re": "tell", "id": 5, "ok": true}),
            json!({"re": "say", "id": 5, "ok": false, "error": "forbidden", "message": "no"}),
        ]
    );
}

#[test]
fn texts_are_checked_before_anybody_hears_them() {
    let mut peer = Peer::default();
    let long = "x".repeat(MAX_MESSAGE + 1);
    for (body, code) in [("", "bad_request"), (&long, "too_large")] {
        assert_eq!(peer.request(None, Request::Say(room("r")), body), None);
        let sent = peer.sent();
        assert_eq!((sent.len(), &sent[0]["error"]), (1, &json!(code)));
    }
    peer.chat.request(None, Request::Tell(Tell { to: "n".into() }), Bytes::from_static(b"a\xff"), &mut peer.out);
    assert!(peer.out.effects.is_empty());
    assert_eq!(peer.sent()[0]["message"], "the message is not UTF-8 at byte 1; expected 1 to 65536 bytes of UTF-8");
    assert!(peer.request(None, Request::Say(room("r")), &long[1..]).is_some());
}

#[test]
fn a_refusal_carries_the_free_nick() {
    let mut peer = Peer::default();
    peer.request(None, Request::Nick(crate::wire::request::NewNick { nick: "a".into() }), "").unwrap();
    let refusal = Refusal::new(ErrorCode::Exists, "taken");
    peer.chat.reply(Reply::Refused { refusal, suggestion: Some("a-2".into()) }, &mut peer.out);
    assert_eq!(peer.sent()[0]["suggestion"], "a-2");
}

#[test]
fn a_join_is_answered_then_replayed_then_live() {
    let mut peer = Peer::default();
    peer.join(7, "r", kept("r", 1..=2, 1));
    peer.live("r", 3);
    assert_eq!(
        peer.sent()[..2],
        [
            json!({"re": "join", "id": 7, "ok": true, "room": "r", "seq": 9, "epoch": "e", "count": 2, "size": 2}),
            json!({"event": "message", "room": "r", "seq": 1, "at": 0, "from": "n", "size": 1, "replay": true, "id": 7}),
        ]
    );
}

#[test]
fn a_replay_waits_for_its_reader_and_the_room_for_the_replay() {
    let mut peer = Peer::default();
    peer.join(1, "r", kept("r", 1..=40, 10_000));
    peer.join(2, "s", kept("s", 1..=40, 10_000));
    peer.live("r", 41);
    peer.live("s", 41);
    peer.live("t", 1);
    peer.live("r", 42);
    assert!(peer.out.queue.len() < LOW_WATER + 12_000);
    assert!(!peer.chat.is_idle() && peer.chat.held() > 3 * 60);
    let briefs = peer.briefs();
    let place = |what: &str| briefs.iter().position(|b| b == what).unwrap();
    let expected: Vec<String> = (1..=40).map(|n| format!("r#{n} for 1")).collect();
    let replayed: Vec<String> = briefs.iter().filter(|b| b.ends_with("for 1")).cloned().collect();
    assert_eq!(replayed, expected);
    assert!(place("t#1") < place("r#40 for 1"));
    assert_eq!(place("r#41") + 1, place("r#42"));
    assert_eq!(place("r#42") + 1, place("s#1 for 2"));
    assert_eq!(briefs.last().unwrap(), "s#41");
    assert!(peer.chat.is_idle() && peer.chat.held() == 0);
}

#[test]
fn joining_again_or_leaving_first_brings_the_rest_of_the_replay() {
    let mut peer = Peer::default();
    peer.join(1, "r", kept("r", 1..=20, 10_000));
    peer.live("r", 21);
    peer.join(2, "r", kept("r", 20..=21, 10_000));
    peer.live("r", 22);
    peer.request(None, Request::Leave(room("r")), "").unwrap();
    peer.chat.reply(Reply::Done, &mut peer.out);
    let mut expected = vec!["re join".to_owned()];
    expected.extend((1..=20).map(|n| format!("r#{n} for 1")));
    expected.extend(["r#21", "re join", "r#20 for 2", "r#21 for 2", "r#22", "re leave"].map(String::from));
    assert_eq!(peer.briefs(), expected);
}

#[test]
fn many_replays_fill_the_queue_rather_than_wait() {
    let mut peer = Peer::default();
    for id in 0..MAX_REPLAYS as u64 + 3 {
        peer.request(
            Some(id),
            Request::History(History { room: "r".into(), after: None, before: None, limit: None }),
            "",
        )
        .unwrap();
        peer.chat.reply(Reply::History { kept: kept("r", 1..=20, 10_000) }, &mut peer.out);
        peer.live("r", 21 + id);
    }
    assert_eq!((peer.chat.replays.len(), peer.chat.held()), (MAX_REPLAYS, 0));
    assert!(peer.out.queue.len() > 3 * 200_000);
    assert_eq!(peer.sent().iter().filter(|header| header["replay"] == true).count(), 20 * (MAX_REPLAYS + 3));
}

/// What happens between a client, its reader and somebody who talks.
#[derive(Clone, Debug)]
enum Deed {
    Say(&'static str, usize),
    Join(&'static str, u64),
    Leave(&'static str),
    History(&'static str, u64),
    Read(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let room = || prop::sample::select(vec!["r", "s"]);
    prop_oneof![
        4 => (room(), 1usize..9_000).prop_map(|(room, size)| Deed::Say(room, size)),
        2 => (room(), 0u64..40).prop_map(|(room, n)| Deed::Join(room, n)),
        1 => room().prop_map(Deed::Leave),
        1 => (room(), 0u64..40).prop_map(|(room, n)| Deed::History(room, n)),
        2 => (1usize..100_000).prop_map(Deed::Read),
    ]
}

/// Delivers to the one client there is.
struct Client<'a>(&'a mut Chat, &'a mut Outbox);

impl Deliver for Client<'_> {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        if to == ConnId(1) {
            self.0.delivery(delivery, self.1);
        }
    }
}

fn take(out: &mut Outbox, most: usize, sent: &mut Vec<u8>) {
    let mut slices = [IoSlice::new(b""); 64];
    let (filled, _) = out.queue.slices(&mut slices);
    let before = sent.len();
    for slice in &slices[..filled] {
        let left = most - (sent.len() - before);
        sent.extend_from_slice(&slice[..left.min(slice.len())]);
    }
    out.queue.advance(sent.len() - before);
}

/// What a client knows of a room from the frames it got.
#[derive(Default)]
struct View {
    /// Whether it is in; the last number it knows of.
    joined: bool,
    last: u64,
    /// The replay after joining: its request, the next number, how many come.
    replay: (u64, u64, u64),
}

/// Checks every frame against what the protocol promises about its place.
fn check(frames: &[(Value, String)]) -> Result<(), TestCaseError> {
    let mut views = std::collections::BTreeMap::<String, View>::new();
    let mut pages = std::collections::BTreeMap::<u64, u64>::new();
    for (header, _) in frames {
        let (number, text) = (|f: &str| header[f].as_u64(), |f: &str| header[f].as_str().unwrap_or("").to_owned());
        let view = views.entry(text("room")).or_default();
        match (text("re").as_str(), text("event").as_str()) {
            ("join", _) => {
                let (seq, count) = (number("seq").unwrap(), number("count").unwrap());
                prop_assert!(!view.joined || view.last == seq, "live before the answer: {}", header);
                prop_assert_eq!(view.replay.2, 0, "a replay was cut off");
                *view = View { joined: true, last: seq, replay: (number("id").unwrap(), seq - count + 1, count) };
            }
            ("history", _) => drop(pages.insert(number("id").unwrap(), number("count").unwrap_or(0))),
            ("leave", _) if header["ok"] == true => {
                // Whose room that was is in the id.
                let room = if number("id").unwrap() % 2 == 0 { "r" } else { "s" };
                let view = views.entry(room.to_owned()).or_default();
                prop_assert_eq!(view.replay.2, 0, "a replay goes on after leaving");
                view.joined = false;
            }
            (_, "message") if header["replay"] == true => {
                let (id, next, left) = &mut view.replay;
                if *id == number("id").unwrap() && *left > 0 {
                    prop_assert_eq!(*next, number("seq").unwrap());
                    (*next, *left) = (*next + 1, *left - 1);
                } else {
                    *pages.get_mut(&number("id").unwrap()).unwrap() -= 1;
                }
            }
            (_, "message") => {
                prop_assert!(view.joined && view.replay.2 == 0, "{} is out of place", header);
                view.last += 1;
                prop_assert_eq!(view.last, number("seq").unwrap());
            }
            _ => {}
        }
    }
    prop_assert!(views.values().all(|view| view.replay.2 == 0) && pages.values().all(|left| *left == 0));
    Ok(())
}

proptest! {
    // A case is long; this many are enough to find each fault that was tried.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_frame_is_in_its_place_however_slowly_it_is_read(deeds in prop::collection::vec(deed(), 1..120)) {
        let now = Now { instant: std::time::Instant::now(), unix_ms: 1 };
        let (mut rooms, mut chat, mut out) = (Rooms::default(), Chat::default(), Outbox::default());
        let (mut sent, mut id) = (Vec::new(), 0);
        for room in ["r", "s"] {
            let op = Op::Join { room: room.into(), history: None, after: None };
            rooms.apply(now, ConnId(2), op, &mut Client(&mut chat, &mut out));
        }
        for deed in deeds {
            // Even numbers are about one room, odd ones about the other.
            let mut id_for = |room: &str| {
                id += 2;
                Some(id + u64::from(room == "s"))
            };
            let request = match deed {
                Deed::Say(room, size) => {
                    let op = Op::Say { room: room.into(), body: vec![b'x'; size].into() };
                    rooms.apply(now, ConnId(2), op, &mut Client(&mut chat, &mut out));
                    None
                }
                Deed::Read(most) => {
                    rooms.flush(&mut Client(&mut chat, &mut out));
                    take(&mut out, most, &mut sent);
                    chat.pump(&mut out);
                    None
                }
                Deed::Join(room, n) => {
                    let join = Join { room: room.into(), history: Some(n), after: None };
                    Some((id_for(room), Request::Join(join)))
                }
                Deed::Leave(room) => Some((id_for(room), Request::Leave(self::room(room)))),
                Deed::History(room, n) => {
                    let history = History { room: room.into(), after: None, before: None, limit: Some(n) };
                    Some((id_for(room), Request::History(history)))
                }
            };
            let Some((id, request)) = request else { continue };
            chat.request(id, request, Bytes::new(), &mut out);
            let Some(Effect::Room(op)) = out.effects.pop_front() else { panic!("no operation") };
            let reply = rooms.apply(now, ConnId(1), op, &mut Client(&mut chat, &mut out));
            chat.reply(reply, &mut out);
        }
        rooms.flush(&mut Client(&mut chat, &mut out));
        while !out.queue.is_empty() {
            take(&mut out, usize::MAX, &mut sent);
            chat.pump(&mut out);
        }
        prop_assert!(chat.is_idle() && chat.held() == 0);
        check(&decode(&sent))?;
    }
}
