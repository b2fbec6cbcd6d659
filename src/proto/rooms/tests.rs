//! The rooms through their one door: what is answered, and what everybody hears.

mod model;

use super::*;
use crate::wire::reply::LeaveReason;
use crate::wire::{FrameDecoder, Limits, Piece};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// Keeps what each connection hears, decoded.
#[derive(Default)]
struct Ears {
    heard: BTreeMap<ConnId, Vec<(Value, String)>>,
    deliveries: usize,
}

impl Deliver for Ears {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        self.deliveries += 1;
        for (header, body) in decode(&delivery.frames) {
            match header["event"].as_str().unwrap() {
                "tell" | "renamed" => assert_eq!(delivery.room, None),
                _ => assert_eq!(delivery.room.as_deref(), header["room"].as_str()),
            }
            self.heard.entry(to).or_default().push((header, body));
        }
    }
}

pub(in crate::proto) fn decode(mut frames: &[u8]) -> Vec<(Value, String)> {
    let mut decoder = FrameDecoder::new(Limits::FULL);
    let mut decoded: Vec<(Value, String)> = Vec::new();
    while let Some(piece) = decoder.next(&mut frames).unwrap() {
        match piece {
            Piece::Header(header) => {
                let header: Value = serde_json::from_slice(header).unwrap();
                let size = header["size"].as_u64().unwrap_or(0) as usize;
                decoded.push((header, String::new()));
                decoder.expect_body(size);
            }
            Piece::Body(body) => decoded.last_mut().unwrap().1 += std::str::from_utf8(body).unwrap(),
            Piece::End => {}
        }
    }
    assert!(decoder.is_between_frames(), "whole frames only");
    decoded
}

/// Rooms and what is heard of them; `at` counts up with each operation.
#[derive(Default)]
struct World {
    rooms: Rooms,
    ears: Ears,
    at: u64,
}

impl World {
    fn new(config: Config) -> Self {
        World { rooms: Rooms::new(config), ..World::default() }
    }

    fn op(&mut self, conn: u64, op: Op) -> Reply {
        self.at += 1;
        let now = Now { instant: Instant::now(), unix_ms: self.at };
        self.rooms.apply(now, ConnId(conn), op, &mut self.ears)
    }

    fn hello(&mut self, conn: u64, nick: &str) -> Reply {
        self.op(conn, Op::Hello { nick: Some(nick.into()) })
    }

    fn join(&mut self, conn: u64, room: &str) -> Reply {
        self.op(conn, Op::Join { room: room.into(), history: None, after: None })
    }

    fn say(&mut self, conn: u64, room: &str, body: &str) -> Reply {
        self.op(conn, Op::Say { room: room.into(), body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    fn who(&mut self, room: &str) -> Vec<String> {
        match self.op(0, Op::Who { room: room.into() }) {
            Reply::Listed(list) => serde_json::from_slice(&list).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What `conn` heard since the last look, as short texts.
    fn heard(&mut self, conn: u64) -> Vec<String> {
        self.rooms.flush(&mut self.ears);
        let heard = self.ears.heard.remove(&ConnId(conn)).unwrap_or_default();
        heard.iter().map(|(header, body)| brief(header, body)).collect()
    }
}

fn brief(header: &Value, body: &str) -> String {
    let text = |field: &str| header[field].as_str().unwrap_or("?").to_owned();
    match header["event"].as_str().unwrap() {
        "message" => format!("{}#{} {}: {body}", text("room"), header["seq"], text("from")),
        "tell" => format!("tell {}: {body}", text("from")),
        "joined" => format!("joined {} {}", text("room"), text("nick")),
        "left" => format!("left {} {} {}", text("room"), text("nick"), text("reason")),
        "renamed" => format!("renamed {} {}", text("old"), text("new")),
        other => panic!("{other}"),
    }
}

fn code(reply: Reply) -> ErrorCode {
    match reply {
        Reply::Refused { refusal, .. } => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn joined(reply: Reply) -> (u64, Arc<str>, Vec<String>, Vec<u64>) {
    match reply {
        Reply::Joined { seq, epoch, members, kept, .. } => {
            (seq, epoch, serde_json::from_slice(&members).unwrap(), kept.iter().map(|m| m.seq).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_hear_each_other_and_not_themselves() {
    let mut world = World::default();
    for (conn, nick) in [(1, "anna"), (2, "ben"), (3, "cleo")] {
        world.hello(conn, nick);
        world.join(conn, "r");
    }
    for text in ["a", "b"] {
        let Reply::Said { seq, at, .. } = world.say(1, "r", text) else { panic!() };
        assert_eq!((seq, at), (if text == "a" { 1 } else { 2 }, world.at));
    }
    world.say(2, "r", "c");
    assert_eq!(world.heard(1), ["joined r ben", "joined r cleo", "r#3 ben: c"]);
    assert_eq!(world.heard(2), ["joined r cleo", "r#1 anna: a", "r#2 anna: b"]);
    assert_eq!(world.heard(3), ["r#1 anna: a", "r#2 anna: b", "r#3 ben: c"]);
}

#[test]
fn what_one_author_says_is_handed_over_once_for_each_member() {
    let mut world = World::default();
    (1..=5).for_each(|conn| drop(world.join(conn, "r")));
    let before = world.ears.deliveries;
    (0..100).for_each(|_| drop(world.say(1, "r", "x")));
    world.rooms.flush(&mut world.ears);
    world.rooms.flush(&mut world.ears);
    assert_eq!(world.ears.deliveries, before + 4);
    let long = "y".repeat(segment::FULL / 2);
    (0..4).for_each(|_| drop(world.say(1, "r", &long)));
    assert_eq!(world.ears.deliveries, before + 4 + 8);
}

#[test]
fn only_members_may_speak_and_leave() {
    let mut world = World::default();
    world.join(1, "r");
    world.join(2, "s");
    assert_eq!(code(world.say(2, "r", "x")), ErrorCode::Forbidden);
    assert_eq!(code(world.say(3, "r", "x")), ErrorCode::Forbidden);
    assert_eq!(code(world.say(1, "nowhere", "x")), ErrorCode::Forbidden);
    assert_eq!(code(world.op(2, Op::Leave { room: "r".into() })), ErrorCode::NotFound);
    assert_eq!(code(world.op(2, Op::Who { room: "t".into() })), ErrorCode::NotFound);
    let history = Op::History { room: "t".into(), after: None, before: None, limit: None };
    assert_eq!(code(world.op(2, history)), ErrorCode::NotFound);
    assert_eq!(code(world.join(2, " t")), ErrorCode::InvalidName);
    world.say(1, "r", "kept");
    world.op(1, Op::Leave { room: "r".into() });
    assert_eq!(code(world.say(1, "r", "x")), ErrorCode::Forbidden);
}

#[test]
fn a_room_is_found_in_any_normal_form() {
    let mut world = World::default();
    world.join(1, "caf\u{e9}");
    world.join(2, "cafe\u{301}");
    world.say(2, "cafe\u{301}", "x");
    assert_eq!(world.heard(1), ["joined caf\u{e9} guest-2", "caf\u{e9}#1 guest-2: x"]);
}

#[test]
fn joining_again_replays_again_and_announces_nothing() {
    let mut world = World::default();
    world.join(1, "r");
    world.join(2, "r");
    (0..60).for_each(|_| drop(world.say(1, "r", "x")));
    world.heard(1);
    let (seq, epoch, members, kept) = joined(world.join(2, "r"));
    assert_eq!((seq, members.len(), kept), (60, 2, (11..=60).collect()));
    let again = Op::Join { room: "r".into(), history: None, after: Some(3) };
    let (_, same, _, kept) = joined(world.op(2, again));
    assert_eq!((same, kept), (epoch, (4..=60).collect::<Vec<_>>()));
    let some = Op::Join { room: "r".into(), history: Some(2), after: Some(3) };
    assert_eq!(joined(world.op(2, some)).3, [59u64, 60]);
    let none = Op::Join { room: "r".into(), history: Some(0), after: None };
    assert!(joined(world.op(2, none)).3.is_empty());
    assert_eq!(world.heard(1), [""; 0]);
    assert_eq!(world.heard(2).len(), 60);
}

#[test]
fn a_rename_is_heard_once_by_whoever_shares_a_room() {
    let mut world = World::default();
    world.hello(1, "anna");
    for (conn, rooms) in [(1, &["r", "s"][..]), (2, &["r", "s"]), (3, &["s"]), (4, &["t"])] {
        rooms.iter().for_each(|room| drop(world.join(conn, room)));
    }
    (1..=4).for_each(|conn| drop(world.heard(conn)));
    assert!(matches!(world.op(1, Op::Nick { nick: "Anna B".into() }), Reply::Done));
    assert_eq!(world.heard(1), [""; 0]);
    assert_eq!(world.heard(2), ["renamed anna Anna B"]);
    assert_eq!(world.heard(3), ["renamed anna Anna B"]);
    assert_eq!(world.heard(4), [""; 0]);
    assert_eq!(world.who("r"), ["Anna B", "guest-1"]);
    assert!(matches!(world.op(1, Op::Nick { nick: "Anna B".into() }), Reply::Done));
    assert_eq!(world.heard(2), [""; 0]);
    world.say(1, "s", "x");
    assert_eq!(world.heard(3), ["s#1 Anna B: x"]);
}

#[test]
fn a_taken_nick_is_refused_with_a_free_one_until_its_bearer_goes() {
    let mut world = World::default();
    world.hello(1, "anna");
    let Reply::Refused { refusal, suggestion } = world.hello(2, "ANNA") else { panic!() };
    assert_eq!((refusal.code, suggestion.as_deref()), (ErrorCode::Exists, Some("ANNA-2")));
    assert_eq!(world.rooms.nick(ConnId(2)), None);
    assert_eq!(code(world.hello(2, "\u{202e}x")), ErrorCode::InvalidName);
    world.op(1, Op::Disconnect { reason: LeaveReason::Disconnected });
    assert!(matches!(world.hello(2, "ANNA"), Reply::Named { nick } if &*nick == "ANNA"));
}

#[test]
fn the_operator_is_the_console_alone() {
    let mut world = World::default();
    assert_eq!(&*world.rooms.admit_operator(ConnId(9)), "operator");
    let Reply::Refused { refusal, suggestion } = world.hello(1, "OPERATOR") else { panic!() };
    assert_eq!((refusal.code, suggestion.as_deref()), (ErrorCode::Exists, Some("guest-1")));
    world.join(9, "r");
    world.op(1, Op::Tell { to: "Operator".into(), body: "hi".into() });
    assert_eq!(world.heard(9), ["tell guest-2: hi"]);
    assert_eq!(world.rooms.bearer("operator"), Some(ConnId(9)));
}

#[test]
fn tells_reach_one_in_order_with_what_was_said_before() {
    let mut world = World::default();
    world.hello(1, "anna");
    world.hello(2, "ben");
    world.join(1, "r");
    world.join(2, "r");
    world.say(1, "r", "one");
    assert!(matches!(world.op(1, Op::Tell { to: "BEN".into(), body: "two".into() }), Reply::Done));
    world.say(1, "r", "three");
    world.op(1, Op::Tell { to: "anna".into(), body: "note to self".into() });
    assert_eq!(world.heard(2), ["r#1 anna: one", "tell anna: two", "r#2 anna: three"]);
    assert_eq!(world.heard(1), ["joined r ben", "tell anna: note to self"]);
    assert_eq!(code(world.op(1, Op::Tell { to: "cleo".into(), body: "x".into() })), ErrorCode::NotFound);
}

#[test]
fn the_end_of_a_connection_leaves_each_room_once() {
    let mut world = World::default();
    for conn in 1..=3 {
        world.join(conn, "r");
        world.join(conn, "s");
    }
    world.say(1, "r", "last words");
    world.heard(2);
    world.say(1, "r", "really");
    world.op(1, Op::Disconnect { reason: LeaveReason::SlowConsumer });
    world.op(1, Op::Disconnect { reason: LeaveReason::Left });
    let heard = ["r#2 guest-1: really", "left r guest-1 slow_consumer", "left s guest-1 slow_consumer"];
    assert_eq!(world.heard(2), heard);
    assert_eq!(world.heard(1), ["joined r guest-2", "joined s guest-2", "joined r guest-3", "joined s guest-3"]);
    assert_eq!(world.who("r"), ["guest-3", "guest-2"]);
    assert_eq!(world.rooms.nick(ConnId(1)), None);
}

#[test]
fn who_asks_without_a_name_is_given_none() {
    let mut world = World::default();
    world.join(1, "r");
    world.op(2, Op::List);
    world.op(2, Op::Who { room: "r".into() });
    world.op(2, Op::Disconnect { reason: LeaveReason::Disconnected });
    assert_eq!(world.rooms.nick(ConnId(2)), None);
}

#[test]
fn an_empty_room_stays_as_long_as_something_is_kept() {
    let mut world = World::new(Config { history: 2, ..Config::default() });
    world.join(1, "kept");
    let (_, old_epoch, ..) = joined(world.join(1, "gone"));
    (0..3).for_each(|_| drop(world.say(1, "kept", "x")));
    world.op(1, Op::Disconnect { reason: LeaveReason::Left });
    let Reply::Listed(list) = world.op(2, Op::List) else { panic!() };
    assert_eq!(list, r#"[{"room":"kept","members":0}]"#);
    let Reply::History { kept } =
        world.op(2, Op::History { room: "kept".into(), after: Some(0), before: None, limit: None })
    else {
        panic!()
    };
    assert_eq!(kept.iter().map(|m| m.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(joined(world.join(2, "kept")).0, 3);
    assert_ne!(joined(world.join(2, "gone")).1, old_epoch);
}

#[test]
fn rooms_silent_longest_forget_first() {
    let mut world = World::new(Config { history_bytes: 64 << 10, ..Config::default() });
    ["old", "quiet", "new"].iter().for_each(|room| drop(world.join(1, room)));
    world.say(1, "old", &"x".repeat(20_000));
    world.op(1, Op::Leave { room: "old".into() });
    world.say(1, "quiet", &"x".repeat(20_000));
    (0..3).for_each(|_| drop(world.say(1, "new", &"x".repeat(10_000))));
    assert!(world.rooms.kept <= 64 << 10);
    assert_eq!(code(world.op(1, Op::Who { room: "old".into() })), ErrorCode::NotFound);
    let Reply::Joined { kept, .. } = world.join(2, "quiet") else { panic!() };
    assert_eq!(kept.len(), 1);
    (0..5).for_each(|_| drop(world.say(1, "new", &"x".repeat(10_000))));
    let (seq, _, _, kept) = joined(world.join(2, "quiet"));
    assert_eq!((seq, kept.len()), (1, 0));
    let total: usize = world.rooms.rooms.iter().map(|(_, room)| room.history.bytes()).sum();
    assert_eq!(world.rooms.kept, total);
}

#[test]
fn rooms_and_memberships_are_limited() {
    let mut world = World::default();
    for room in 0..MAX_ROOMS {
        assert!(matches!(world.join((room / MAX_ROOMS_JOINED) as u64, &room.to_string()), Reply::Joined { .. }));
    }
    assert_eq!(code(world.join(0, "100")), ErrorCode::Limit);
    assert!(matches!(world.join(0, "99"), Reply::Joined { .. }));
    assert_eq!(code(world.join(5_000, "more")), ErrorCode::Limit);
    world.say(0, "5", "kept");
    world.op(0, Op::Leave { room: "5".into() });
    assert!(matches!(world.join(5_000, "more"), Reply::Joined { .. }));
    assert_eq!(code(world.op(0, Op::Who { room: "5".into() })), ErrorCode::NotFound);
    assert_eq!(world.rooms.rooms.len(), MAX_ROOMS);
}
