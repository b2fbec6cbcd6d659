//! The rooms against an obvious and slow model, in which each message is handed
//! to each member at once.

use super::*;
use proptest::prelude::*;

/// Who is where under which nick, and what each has heard.
#[derive(Default)]
struct Model {
    nicks: BTreeMap<u64, String>,
    rooms: BTreeMap<&'static str, (u64, Vec<u64>)>,
    heard: BTreeMap<u64, Vec<String>>,
}

impl Model {
    fn hear(&mut self, conn: u64, what: String) {
        self.heard.entry(conn).or_default().push(what);
    }

    fn tell_room(&mut self, room: &str, but: u64, what: &str) {
        let members = self.rooms[room].1.clone();
        members.into_iter().filter(|m| *m != but).for_each(|m| self.hear(m, what.to_owned()));
    }

    fn apply(&mut self, conn: u64, deed: &Deed) {
        let nick = self.nicks[&conn].clone();
        match *deed {
            Deed::Join(room) => {
                if !self.rooms.entry(room).or_default().1.contains(&conn) {
                    self.tell_room(room, conn, &format!("joined {room} {nick}"));
                    self.rooms.get_mut(room).unwrap().1.push(conn);
                }
            }
            Deed::Say(room, size) => {
                if self.rooms.get(room).is_some_and(|(_, members)| members.contains(&conn)) {
                    let seq = &mut self.rooms.get_mut(room).unwrap().0;
                    *seq += 1;
                    let what = format!("{room}#{seq} {nick}: {}", "x".repeat(size));
                    self.tell_room(room, conn, &what);
                }
            }
            Deed::Leave(room) => self.leave(conn, room, "left"),
            Deed::Tell(to) => self.hear(to, format!("tell {nick}: t")),
            Deed::Nick(n) => {
                let new = format!("nick-{conn}-{n}");
                let mut others: Vec<u64> =
                    self.rooms.values().filter(|r| r.1.contains(&conn)).flat_map(|r| r.1.clone()).collect();
                others.sort();
                others.dedup();
                others
                    .into_iter()
                    .filter(|o| *o != conn && nick != new)
                    .for_each(|o| self.hear(o, format!("renamed {nick} {new}")));
                self.nicks.insert(conn, new);
            }
            Deed::Return => {
                // The order of rooms is that of joining, which the model does
                // not know; see below.
                let rooms: Vec<&str> = self.rooms.keys().copied().collect();
                rooms.into_iter().for_each(|room| self.leave(conn, room, "timeout"));
                self.nicks.insert(conn, format!("c{conn}"));
            }
            Deed::Flush => {}
        }
    }

    fn leave(&mut self, conn: u64, room: &str, reason: &str) {
        if let Some((_, members)) = self.rooms.get_mut(room)
            && let Some(at) = members.iter().position(|m| *m == conn)
        {
            members.remove(at);
            let nick = &self.nicks[&conn];
            self.tell_room(room, conn, &format!("left {room} {nick} {reason}"));
        }
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Join(&'static str),
    Say(&'static str, usize),
    Leave(&'static str),
    Tell(u64),
    Nick(u8),
    /// The connection ends, and its successor greets under its first nick.
    Return,
    Flush,
}

fn deed() -> impl Strategy<Value = Deed> {
    let room = || prop::sample::select(vec!["a", "b", "\u{fc} \"c\""]);
    prop_oneof![
        4 => room().prop_map(Deed::Join),
        12 => (room(), prop_oneof![9 => 1usize..40, 1 => 20_000usize..65_537]).prop_map(|(r, n)| Deed::Say(r, n)),
        2 => room().prop_map(Deed::Leave),
        1 => (0u64..5).prop_map(Deed::Tell),
        1 => (0u8..3).prop_map(Deed::Nick),
        1 => Just(Deed::Return),
        1 => Just(Deed::Flush),
    ]
}

/// Puts neighbouring `left ... timeout` lines in one order: a connection's
/// rooms hear of its end in the order in which it joined them.
fn settled(mut heard: Vec<String>) -> Vec<String> {
    for run in heard.chunk_by_mut(|a, b| a.ends_with("timeout") && b.ends_with("timeout")) {
        run.sort();
    }
    heard
}

proptest! {
    #[test]
    fn everybody_hears_what_a_delivery_of_each_single_message_would_give(
        deeds in prop::collection::vec((0u64..5, deed()), 1..150),
        history in 0usize..4,
    ) {
        // Rooms must not vanish, or they would be numbered anew.
        let mut world = World::new(Config { history: history + 1, ..Config::default() });
        let mut model = Model::default();
        for conn in 0..5 {
            world.hello(conn, &format!("c{conn}"));
            model.nicks.insert(conn, format!("c{conn}"));
        }
        for room in ["a", "b", "\u{fc} \"c\""] {
            world.join(99, room);
        }
        for (conn, deed) in &deeds {
            let nick = model.nicks[conn].clone();
            prop_assert_eq!(world.rooms.nick(ConnId(*conn)).map(|n| n.to_string()), Some(nick));
            match deed.clone() {
                Deed::Join(room) => drop(world.join(*conn, room)),
                Deed::Say(room, size) => drop(world.say(*conn, room, &"x".repeat(size))),
                Deed::Leave(room) => drop(world.op(*conn, Op::Leave { room: room.into() })),
                Deed::Tell(to) => {
                    let to = model.nicks[&to].clone();
                    world.op(*conn, Op::Tell { to, body: "t".into() });
                }
                Deed::Nick(n) => drop(world.op(*conn, Op::Nick { nick: format!("nick-{conn}-{n}") })),
                Deed::Return => {
                    world.op(*conn, Op::Disconnect { reason: LeaveReason::Timeout });
                    world.hello(*conn, &format!("c{conn}"));
                }
                Deed::Flush => world.rooms.flush(&mut world.ears),
            }
            model.apply(*conn, deed);
        }
        for conn in 0..5 {
            prop_assert_eq!(settled(world.heard(conn)), settled(model.heard.remove(&conn).unwrap_or_default()));
        }
        for (room, (seq, members)) in &model.rooms {
            let mut expected: Vec<String> = members.iter().map(|m| model.nicks[m].clone()).collect();
            expected.push("guest-1".into());
            expected.sort();
            let mut who = world.who(room);
            who.sort();
            prop_assert_eq!(who, expected);
            prop_assert_eq!(joined(world.join(99, room)).0, *seq);
        }
    }
}
