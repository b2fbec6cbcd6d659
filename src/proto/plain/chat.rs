//! The chat for clients that know no frames, such as netcat and telnet: what
//! they send goes to the lobby, and what is said there comes as lines.
//!
//! A driver treats it as a session: the same inputs, effects and questions.

use super::Messages;
use super::telnet::Telnet;
use crate::proto::outbox::HIGH_WATER;
use crate::proto::rooms::{Delivery, Op, Reply};
use crate::proto::session::Wants;
use crate::proto::{Effect, Input, Now, Outbox};
use crate::wire::reply::LeaveReason;
use crate::wire::{FrameDecoder, Limits, MAX_MESSAGE, Piece};
use icu_properties::CodePointSetData;
use icu_properties::props::BidiControl;
use serde::Deserialize;
use std::time::Instant;

/// The room that plain clients are in.
pub const LOBBY: &str = "lobby";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the lobby, or on the way into it.
    Talking,
    /// The input is at its end; what came is still said.
    Finishing,
    /// On the way out.
    Leaving,
    /// Out of all rooms.
    Gone,
    /// Ended by the server.
    Failed,
}

/// The chat of one plain client.
#[derive(Debug)]
pub struct PlainChat {
    messages: Messages,
    telnet: Telnet,
    phase: Phase,
    /// Whether the rooms owe an answer.
    waiting: bool,
}

impl PlainChat {
    /// A client that just came; enters the lobby as a guest, without a replay,
    /// which it could not tell from what is said now.
    pub fn new(out: &mut Outbox) -> Self {
        let mut chat = PlainChat {
            messages: Messages::default(),
            telnet: Telnet::default(),
            phase: Phase::Talking,
            waiting: false,
        };
        chat.ask(Op::Join { room: LOBBY.to_owned(), history: Some(0), after: None }, out);
        chat
    }

    /// Takes what happened; never fails.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Bytes(bytes) => {
                let mut text = Vec::new();
                self.telnet.strip(bytes, &mut text);
                self.messages.push(now.instant, &text);
            }
            Input::Eof => {
                self.messages.end();
                if self.phase == Phase::Talking {
                    self.phase = Phase::Finishing;
                }
            }
            Input::Room(reply) => self.answered(&reply, out),
            Input::Delivery(delivery) if matches!(self.phase, Phase::Talking | Phase::Finishing) => {
                return show(delivery, out);
            }
            Input::Gone => self.fail(None, LeaveReason::Disconnected, out),
            Input::Kicked => self.fail(Some("the operator ended this connection"), LeaveReason::Kicked, out),
            Input::Shutdown => self.fail(Some("the server is stopping"), LeaveReason::ShuttingDown, out),
            Input::SlowConsumer => {
                out.queue.drop_unsent_frames();
                self.fail(Some("more was said than this connection took"), LeaveReason::SlowConsumer, out);
            }
            // Nothing else was asked for.
            _ => {}
        }
        self.go_on(now, out);
    }

    fn answered(&mut self, reply: &Reply, out: &mut Outbox) {
        self.waiting = false;
        match (self.phase, reply) {
            (Phase::Leaving, _) => self.phase = Phase::Gone,
            (Phase::Talking | Phase::Finishing, Reply::Refused { refusal, .. }) => notice(&refusal.message, out),
            _ => {}
        }
    }

    /// Says what is complete, a message at a time: the rooms answer each.
    fn go_on(&mut self, now: Now, out: &mut Outbox) {
        while matches!(self.phase, Phase::Talking | Phase::Finishing) && !self.waiting {
            let Some(message) = self.messages.next(now.instant) else {
                if self.phase == Phase::Finishing {
                    self.phase = Phase::Leaving;
                    self.ask(Op::Disconnect { reason: LeaveReason::Disconnected }, out);
                }
                return;
            };
            let mut text = String::new();
            for c in String::from_utf8_lossy(message.bytes).chars().filter(|c| !is_hidden(*c)) {
                // What was no UTF-8 has grown.
                if text.len() + c.len_utf8() > MAX_MESSAGE {
                    break;
                }
                text.push(c);
            }
            if !text.is_empty() {
                self.ask(Op::Say { room: LOBBY.to_owned(), body: text.into() }, out);
            }
        }
    }

    fn ask(&mut self, op: Op, out: &mut Outbox) {
        self.waiting = true;
        out.effect(Effect::Room(op));
    }

    fn fail(&mut self, why: Option<&str>, reason: LeaveReason, out: &mut Outbox) {
        if self.phase == Phase::Failed {
            return;
        }
        if let Some(why) = why {
            notice(why, out);
        }
        if !matches!(self.phase, Phase::Leaving | Phase::Gone) {
            self.ask(Op::Disconnect { reason }, out);
        }
        self.phase = Phase::Failed;
    }

    /// When [`PlainChat::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Talking && !self.waiting { self.messages.poll_timeout() } else { None }
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.go_on(now, out);
    }

    /// What the driver should read.
    pub fn wants(&self, out: &Outbox) -> Wants {
        let reads = self.phase == Phase::Talking && !self.waiting && out.queue.len() < HIGH_WATER;
        Wants { socket_read: reads, child_read: false }
    }

    /// Whether everything is said, answered and sent.
    pub fn is_finished(&self, out: &Outbox) -> bool {
        matches!(self.phase, Phase::Gone | Phase::Failed) && out.queue.is_empty()
    }

    /// Whether the server ended the connection; its driver then drains what
    /// still comes.
    pub fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }
}

/// A line from the server itself, which no nick begins like.
fn notice(text: &str, out: &mut Outbox) {
    out.queue.raw(format!("* {text}\n").as_bytes());
}

/// The fields of an event that are shown.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    size: usize,
}

/// Queues what is said as lines. The frames are taken apart here, so that they
/// cost nothing more where nobody is plain.
fn show(delivery: &Delivery, out: &mut Outbox) {
    let mut decoder = FrameDecoder::new(Limits::FULL);
    let mut frames = &delivery.frames[..];
    let mut event = None;
    while let Ok(Some(piece)) = decoder.next(&mut frames) {
        match piece {
            Piece::Header(header) => {
                // Our own frames: one that cannot be read would be a defect.
                let Ok(header) = serde_json::from_slice::<Event>(header) else { return };
                decoder.expect_body(header.size);
                event = Some(header);
            }
            Piece::Body(body) => {
                let Some(Event { event, from, .. }) = &event else { return };
                if event == "message" || event == "tell" {
                    let shown = |c: char| if c == '\n' { Some(' ') } else { Some(c).filter(|c| !is_hidden(*c)) };
                    let text: String = String::from_utf8_lossy(body).chars().filter_map(shown).collect();
                    out.queue.raw(format!("{from}: {text}\n").as_bytes());
                }
            }
            Piece::End => {}
        }
    }
}

/// Whether `c` would do something to a terminal instead of being shown there.
fn is_hidden(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && CodePointSetData::new::<BidiControl>().contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ConnId;
    use crate::proto::plain::SILENCE;
    use crate::proto::rooms::{Config, Deliver, Rooms, tests::decode};
    use std::io::IoSlice;

    /// One plain client and one that knows frames, in the same rooms.
    struct Lobby {
        rooms: Rooms,
        plain: PlainChat,
        out: Outbox,
        now: Now,
        heard: Vec<String>,
    }

    const PLAIN: ConnId = ConnId(1);
    const FRAMED: ConnId = ConnId(2);

    /// Keeps deliveries, to be fed once the rooms are no longer borrowed.
    #[derive(Default)]
    struct Later(Vec<(ConnId, Delivery)>);

    impl Deliver for Later {
        fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
            self.0.push((to, delivery.clone()));
        }
    }

    impl Lobby {
        fn new() -> Self {
            let mut out = Outbox::default();
            let plain = PlainChat::new(&mut out);
            let now = Now { instant: Instant::now(), unix_ms: 5 };
            let mut lobby = Lobby { rooms: Rooms::new(Config::default()), plain, out, now, heard: Vec::new() };
            lobby.op(FRAMED, Op::Hello { nick: Some("anna".into()) });
            lobby.op(FRAMED, Op::Join { room: LOBBY.into(), history: None, after: None });
            lobby.carry_out();
            lobby.heard.clear();
            lobby
        }

        fn op(&mut self, conn: ConnId, op: Op) -> Reply {
            let mut later = Later::default();
            let reply = self.rooms.apply(self.now, conn, op, &mut later);
            self.rooms.flush(&mut later);
            for (to, delivery) in later.0 {
                if to == PLAIN {
                    self.plain.handle_input(self.now, Input::Delivery(&delivery), &mut self.out);
                } else {
                    for (header, body) in decode(&delivery.frames) {
                        let event = header["event"].as_str().unwrap();
                        self.heard.push(if event == "message" { body } else { event.to_owned() });
                    }
                }
            }
            reply
        }

        fn carry_out(&mut self) {
            while let Some(effect) = self.out.effects.pop_front() {
                let Effect::Room(op) = effect else { panic!("{effect:?}") };
                let reply = self.op(PLAIN, op);
                self.plain.handle_input(self.now, Input::Room(reply), &mut self.out);
            }
        }

        fn input(&mut self, input: Input<'_>) {
            self.plain.handle_input(self.now, input, &mut self.out);
            self.carry_out();
        }

        /// What the framed client heard of these bytes, at once and after silence.
        fn send(&mut self, bytes: &[u8]) -> Vec<String> {
            self.input(Input::Bytes(bytes));
            self.silence();
            std::mem::take(&mut self.heard)
        }

        fn silence(&mut self) {
            self.now.instant += SILENCE;
            if self.plain.poll_timeout().is_some_and(|due| due <= self.now.instant) {
                self.plain.handle_timeout(self.now, &mut self.out);
            }
            self.carry_out();
            assert_eq!(self.plain.poll_timeout(), None);
        }

        fn say(&mut self, text: &str) {
            self.op(FRAMED, Op::Say { room: LOBBY.into(), body: text.to_owned().into() });
        }

        fn shown(&mut self) -> String {
            let queue = std::mem::take(&mut self.out.queue);
            let mut slices = [IoSlice::new(b""); 16];
            let (filled, more) = queue.slices(&mut slices);
            assert!(!more);
            slices[..filled].iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect()
        }
    }

    #[test]
    fn lines_and_what_silence_ends_are_said_in_the_lobby() {
        let mut lobby = Lobby::new();
        assert_eq!(lobby.send(b"one\r\ntwo\n\n\nthree"), ["one", "two", "three"]);
        lobby.input(Input::Bytes(b"un"));
        lobby.input(Input::Bytes(b"finished"));
        assert_eq!(lobby.heard, [""; 0]);
        assert!(lobby.plain.poll_timeout().is_some());
        lobby.silence();
        assert_eq!(lobby.heard, ["unfinished"]);
        assert_eq!(lobby.shown(), "");
    }

    #[test]
    fn commands_of_telnet_and_characters_that_act_are_stripped() {
        let mut lobby = Lobby::new();
        assert_eq!(lobby.send(b"\xff\xfb\x1f\xff\xfa\x1fa\nb\xff\xffc\xff\xf0hi\xff\xf1 you\r\0\n"), ["hi you"]);
        assert_eq!(lobby.send(b"\xff"), [""; 0]);
        assert_eq!(lobby.send(b"\xfd"), [""; 0]);
        assert_eq!(lobby.send(b"\x01after"), ["after"]);
        assert_eq!(lobby.send("\u{1b}[31mred\u{202e}\u{7}\u{9b}\t!\n".as_bytes()), ["[31mred!"]);
        assert_eq!(lobby.send(b"\x01\x02\n"), [""; 0]);
        assert_eq!(lobby.send(b"caf\xe9\n"), ["caf\u{fffd}"]);
        let grown = lobby.send(&[0xe9; MAX_MESSAGE]);
        assert_eq!((grown.len(), grown[0].len()), (1, MAX_MESSAGE - MAX_MESSAGE % 3));
    }

    #[test]
    fn what_others_say_comes_as_one_line_each() {
        let mut lobby = Lobby::new();
        lobby.say("hello\r\nthere \u{1b}]0;x\u{7}\u{202e}");
        lobby.say("again");
        lobby.op(FRAMED, Op::Tell { to: "guest-1".into(), body: "psst".into() });
        lobby.op(FRAMED, Op::Nick { nick: "Anna B".into() });
        lobby.say("\u{e9}");
        assert_eq!(lobby.shown(), "anna: hello there ]0;x\nanna: again\nanna: psst\nAnna B: \u{e9}\n");
    }

    #[test]
    fn the_end_of_input_says_what_came_and_leaves() {
        let mut lobby = Lobby::new();
        lobby.input(Input::Bytes(b"first\nlast words"));
        lobby.input(Input::Eof);
        assert_eq!(lobby.heard, ["first", "last words", "left"]);
        assert!(lobby.plain.is_finished(&lobby.out) && !lobby.plain.has_failed());
        assert_eq!(lobby.rooms.nick(PLAIN), None);
        lobby.input(Input::Gone);
        assert_eq!(lobby.heard.len(), 3);
    }

    #[test]
    fn a_client_that_the_server_ends_is_told_and_leaves_once() {
        for (input, why) in [(Input::Shutdown, "* the server is stopping\n"), (Input::Gone, "")] {
            let mut lobby = Lobby::new();
            lobby.input(input);
            lobby.input(Input::Gone);
            lobby.input(Input::Bytes(b"too late\n"));
            assert_eq!(lobby.shown(), why);
            assert_eq!(lobby.heard, ["left"]);
            assert!(lobby.plain.has_failed() && lobby.plain.is_finished(&lobby.out));
        }
    }

    #[test]
    fn who_does_not_read_is_not_read() {
        let mut lobby = Lobby::new();
        assert!(lobby.plain.wants(&lobby.out).socket_read);
        (0..HIGH_WATER / 60_000 + 1).for_each(|_| lobby.say(&"x".repeat(60_000)));
        assert!(!lobby.plain.wants(&lobby.out).socket_read);
        lobby.input(Input::SlowConsumer);
        assert_eq!(lobby.shown(), "* more was said than this connection took\n");
        assert_eq!(lobby.heard, ["left"]);
    }
}
