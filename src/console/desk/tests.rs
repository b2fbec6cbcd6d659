//! Tests of the desk, with the rooms themselves behind it.

use super::*;
use crate::proto::rooms::{Config, Deliver, Delivery, Rooms};
use crate::proto::{ConnId, Now};
use crate::wire::reply::LeaveReason;

const BOB: ConnId = ConnId(7);

/// What the rooms deliver to the operator.
#[derive(Default)]
struct Mail(Vec<Event>);

impl Deliver for Mail {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        if to == ConnId::OPERATOR {
            self.0.push(Event::Frames(delivery.frames.clone()));
        }
    }
}

/// A desk whose driver is this test.
struct Office {
    desk: Desk,
    rooms: Rooms,
    mail: Mail,
    /// Deliveries are left out while this is set.
    deaf: bool,
    shown: Vec<String>,
    others: Vec<Request>,
    finished: bool,
}

fn now() -> Now {
    Now { instant: Instant::now(), unix_ms: 0 }
}

impl Office {
    fn new() -> Office {
        let mut rooms = Rooms::new(Config::default());
        rooms.admit_operator(ConnId::OPERATOR);
        let (shown, others) = (Vec::new(), Vec::new());
        let mut office =
            Office { desk: Desk::new(), rooms, mail: Mail::default(), deaf: false, shown, others, finished: false };
        office.run();
        office
    }

    fn run(&mut self) {
        loop {
            while let Some(output) = self.desk.poll_output() {
                match output {
                    Output::Show(entry, current) => {
                        let line = Style::plain().line(&entry, current.as_deref());
                        self.shown.push(line.replace("1970-01-01 ", ""));
                    }
                    Output::Ask(Request::Room(op)) => {
                        let reply = self.rooms.apply(now(), ConnId::OPERATOR, op, &mut self.mail);
                        self.mail.0.push(Event::Room(reply));
                    }
                    Output::Ask(other) => self.others.push(other),
                    Output::Finish => self.finished = true,
                }
            }
            if self.mail.0.is_empty() {
                return;
            }
            for event in std::mem::take(&mut self.mail.0) {
                if !(self.deaf && matches!(event, Event::Frames(_))) {
                    self.desk.handle_event(event);
                }
            }
        }
    }

    fn types(&mut self, line: &str) -> Vec<String> {
        assert!(self.desk.wants_lines(), "before {line}");
        self.shown.clear();
        self.desk.handle_line(None, line, true);
        self.run();
        std::mem::take(&mut self.shown)
    }

    fn bob(&mut self, op: Op) -> Vec<String> {
        self.rooms.apply(now(), BOB, op, &mut self.mail);
        self.rooms.flush(&mut self.mail);
        self.run();
        std::mem::take(&mut self.shown)
    }

    fn bob_joins(&mut self, room: &str) -> Vec<String> {
        self.bob(Op::Hello { nick: Some("bob".into()) });
        self.bob(Op::Join { room: room.into(), history: None, after: None })
    }

    fn bob_says(&mut self, text: &'static str) -> Vec<String> {
        self.bob(Op::Say { room: "lobby".into(), body: text.into() })
    }

    fn answers(&mut self, event: Event) -> Vec<String> {
        self.desk.handle_event(event);
        self.run();
        std::mem::take(&mut self.shown)
    }
}

#[test]
fn the_operator_is_in_the_lobby_and_hears_and_speaks() {
    let mut office = Office::new();
    assert_eq!(office.shown, ["-- in lobby: operator"]);
    office.shown.clear();
    assert_eq!(office.bob_joins("lobby"), ["-- [lobby] bob joined"]);
    assert_eq!(office.bob_says("hi"), ["[lobby] 00:00 bob: hi"]);
    assert_eq!(office.types("hello"), ["[lobby] 00:00 operator: hello"]);
    assert_eq!(office.desk.neighbours(), ["bob", "operator"]);
    assert_eq!(office.types("/who"), ["-- in lobby: operator, bob"]);
    assert_eq!(office.types("/history 1"), ["[lobby] 00:00 operator: hello"]);
    let told = office.bob(Op::Tell { to: "operator".into(), body: "psst".into() });
    assert_eq!(told, ["00:00 bob tells you: psst"]);
    let left = office.bob(Op::Disconnect { reason: LeaveReason::SlowConsumer });
    assert_eq!(left, ["-- [lobby] bob left (slow_consumer)"]);
}

#[test]
fn what_was_left_out_is_asked_for_again_without_a_gap_or_a_repeat() {
    let mut office = Office::new();
    office.bob_joins("lobby");
    office.bob_says("1");
    office.deaf = true;
    office.bob_says("2");
    office.bob_says("3");
    office.deaf = false;
    // What comes between the loss and the answer is in the answer too.
    office.rooms.apply(now(), BOB, Op::Say { room: "lobby".into(), body: "4".into() }, &mut office.mail);
    office.rooms.flush(&mut office.mail);
    let shown = office.answers(Event::Lost);
    assert_eq!(shown[1..], ["[lobby] 00:00 bob: 2", "[lobby] 00:00 bob: 3", "[lobby] 00:00 bob: 4"]);
    assert_eq!(office.bob_says("5"), ["[lobby] 00:00 bob: 5"]);
}

#[test]
fn rooms_are_entered_and_left() {
    let mut office = Office::new();
    office.bob_joins("b");
    assert_eq!(office.types("/join b"), ["-- in b: bob, operator"]);
    assert_eq!((office.desk.current(), office.desk.rooms()), (Some("b"), vec!["b".into(), "lobby".into()]));
    assert_eq!(office.types("/leave"), ["-- you left b"]);
    assert_eq!(office.desk.current(), Some("lobby"));
    assert!(office.types("/join \u{7}")[0].contains("U+0007"));
    assert_eq!(office.desk.current(), Some("lobby"));
    assert!(office.types("/msg nobody x")[0].contains("nobody here is called `nobody`"));
}

#[test]
fn the_operators_own_commands_go_to_the_driver() {
    let mut office = Office::new();
    office.types("/kick bob");
    assert_eq!(office.others, [Request::Kick("bob".into())]);
    assert!(!office.desk.wants_lines(), "the next line waits for the answer");
    assert_eq!(office.answers(Event::Kicked(false)), ["-- nobody here is called bob, or it is you"]);
    office.types("/clients");
    let client = Client {
        nick: Some("b\u{1b}ob".into()),
        address: "127.0.0.1:9".into(),
        rooms: vec!["lobby".into(), "b".into()],
        queued: 5,
        since: 0,
    };
    let shown = office.answers(Event::Clients(vec![client], 2));
    assert!(
        shown[0].starts_with("-- bob  127.0.0.1:9  since") && shown[0].ends_with("5 bytes queued  rooms: lobby, b")
    );
    assert_eq!(shown[1], format!("-- the first {MAX_CLIENTS} of 2"));
    office.types("/stats");
    assert_eq!(office.answers(Event::Stats(br#"{"turns":3}"#.to_vec())), ["-- turns 3"]);
    office.types("/quit");
    assert_eq!(office.others.last(), Some(&Request::Stop));
}

#[test]
fn the_end_of_input_ends_the_console_and_a_second_interrupt_the_server() {
    let mut office = Office::new();
    let start = Instant::now();
    office.desk.handle_interrupt(start);
    office.desk.handle_interrupt(start + INSIST);
    office.run();
    assert_eq!(office.others, [], "too late to be the second one");
    office.desk.handle_interrupt(start + INSIST + INSIST / 2);
    office.run();
    assert_eq!(office.others, [Request::Stop]);

    let mut office = Office::new();
    office.types("/clients");
    office.desk.handle_end();
    office.run();
    assert!(!office.finished, "what was asked is answered first");
    office.answers(Event::Clients(Vec::new(), 0));
    assert!(office.finished && !office.others.contains(&Request::Stop));
}
