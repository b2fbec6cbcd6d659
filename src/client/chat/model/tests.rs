//! Tests of the conversation, one situation at a time.

mod losses;

use super::*;
use crate::client::error::ServerError;
use crate::talk::event::Incoming;
use crate::wire::MAX_MESSAGE;
use serde_json::{Value, json};

fn settings(interactive: bool) -> Settings {
    Settings { room: "lobby".into(), history: 5, interactive }
}

fn lost() -> ClientError {
    ClientError::Lost { host: "h:1".into(), message: "gone".into() }
}

fn fatal(code: ErrorCode) -> ClientError {
    ClientError::Fatal(ServerError { code: code.as_str().into(), message: "why".into() })
}

fn frame(header: Value, body: &str) -> Incoming {
    Incoming { header: serde_json::from_value(header).unwrap(), body: body.as_bytes().to_vec() }
}

fn message(seq: u64, from: &str, text: &str) -> Incoming {
    frame(json!({"event": "message", "room": "lobby", "seq": seq, "at": 1, "from": from}), text)
}

/// A model, and what it did.
struct Table {
    model: Model,
    now: Instant,
    shown: Vec<Entry>,
    sent: Vec<(Value, String)>,
    connects: Vec<String>,
    hangups: usize,
    finished: Option<u8>,
}

impl Table {
    fn new(interactive: bool) -> Table {
        let (shown, sent, connects) = (Vec::new(), Vec::new(), Vec::new());
        let model = Model::new(settings(interactive));
        Table { model, now: Instant::now(), shown, sent, connects, hangups: 0, finished: None }
    }

    /// A table whose lobby was entered, with `seq` messages said before.
    fn entered(interactive: bool, seq: u64) -> Table {
        let mut table = Table::new(interactive);
        table.connect("me");
        table.enter(seq, 0, "e");
        table
    }

    fn drain(&mut self) {
        while let Some(output) = self.model.poll_output() {
            match output {
                Output::Show(entry, _) => self.shown.push(entry),
                Output::Send(bytes) => {
                    let (length, rest) = bytes.split_first_chunk().unwrap();
                    let (header, body) = rest.split_at(i32::from_le_bytes(*length) as usize);
                    let header = serde_json::from_slice(header).unwrap();
                    self.sent.push((header, String::from_utf8(body.to_vec()).unwrap()));
                }
                Output::Connect { nick, .. } => self.connects.push(nick),
                Output::Hangup => self.hangups += 1,
                Output::Upload { .. } => {}
                Output::Finish(status) => self.finished = Some(status),
            }
        }
    }

    fn connect(&mut self, nick: &str) {
        self.model.handle_connected(self.now, nick);
        self.drain();
    }

    fn lose(&mut self, error: &ClientError) {
        self.model.handle_lost(error, 0.5);
        self.drain();
    }

    fn types(&mut self, line: &str) {
        self.model.handle_line(self.now, None, line, true);
        self.drain();
    }

    fn gets(&mut self, frame: &Incoming) {
        self.model.handle_frame(self.now, frame);
        self.drain();
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.model.handle_timeout(self.now);
        self.drain();
    }

    /// The last request, which must be a `cmd`.
    fn request(&self, cmd: &str) -> (Value, String) {
        let (header, body) = self.sent.last().unwrap_or_else(|| panic!("nothing was sent, not even {cmd}")).clone();
        assert_eq!(header["cmd"], cmd, "{header}");
        (header, body)
    }

    fn answers(&mut self, cmd: &str, fields: Value, body: &str) {
        let (request, _) = self.request(cmd);
        let mut header = json!({"re": cmd, "id": request["id"], "ok": true});
        header.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.gets(&frame(header, body));
    }

    fn refuses(&mut self, cmd: &str, code: &str, suggestion: Option<&str>) {
        let fields = json!({"ok": false, "error": code, "message": "no", "suggestion": suggestion});
        self.answers(cmd, fields, "");
    }

    fn enter(&mut self, seq: u64, count: u64, epoch: &str) -> Value {
        let id = self.request("join").0["id"].clone();
        let fields = json!({"room": "lobby", "seq": seq, "epoch": epoch, "count": count});
        self.answers("join", fields, r#"["me"]"#);
        id
    }

    fn replays(&mut self, id: &Value, seq: u64, from: &str, text: &str) {
        let mut frame = message(seq, from, text);
        frame.header.id = id.as_u64();
        frame.header.replay = Some(true);
        self.gets(&frame);
    }

    fn said(&mut self, seq: u64) {
        self.answers("say", json!({"room": "lobby", "seq": seq, "at": 1}), "");
    }

    fn texts(&self) -> Vec<(u64, &str)> {
        let text = |entry: &'_ Entry| match entry {
            Entry::Message { seq, .. } => Some(*seq),
            _ => None,
        };
        let said = self.shown.iter().filter_map(|entry| Some((text(entry)?, entry)));
        said.map(|(seq, entry)| if let Entry::Message { text, .. } = entry { (seq, text.as_str()) } else { (0, "") })
            .collect()
    }

    /// Whether something shown has `words`.
    fn says(&self, words: &str) -> bool {
        self.shown.iter().any(|entry| match entry {
            Entry::Note { text } | Entry::Error { text } => text.contains(words),
            _ => false,
        })
    }
}

#[test]
fn entering_shows_who_is_there_and_what_was_said() {
    let mut table = Table::new(true);
    table.connect("me");
    assert_eq!((&table.request("join").0["history"], table.request("join").0.get("after")), (&json!(5), None));
    let id = table.enter(9, 2, "e");
    table.replays(&id, 8, "bob", "a");
    table.types("too early to be sent");
    assert_eq!(table.sent.len(), 1);
    table.replays(&id, 9, "bob", "b");
    table.request("say");
    table.gets(&message(10, "bob", "c"));
    assert_eq!(table.texts(), [(8, "a"), (9, "b"), (10, "c")]);
    assert!(!table.says("missing"));
}

#[test]
fn what_we_say_is_shown_once_and_in_its_place() {
    let mut table = Table::entered(true, 0);
    table.types("mine");
    table.types("second");
    assert_eq!(table.sent.len(), 2, "one at a time");
    table.gets(&message(1, "bob", "his"));
    table.said(2);
    table.gets(&message(2, "bob", "a repeat is not shown"));
    table.said(3);
    assert_eq!(table.texts(), [(1, "his"), (2, "mine"), (3, "second")]);
}

#[test]
fn after_a_loss_it_enters_from_what_was_seen_and_says_what_is_missing() {
    let mut table = Table::entered(true, 7);
    table.gets(&message(8, "bob", "a"));
    table.lose(&lost());
    assert_eq!(table.connects, ["me"]);
    table.types("kept");
    assert!(table.says("kept until we are: \"kept\""));
    table.connect("me");
    assert_eq!((&table.request("join").0["after"], table.request("join").0.get("history")), (&json!(8), None));
    let id = table.enter(12, 2, "e");
    assert!(table.says("2 messages of lobby are no longer kept"));
    table.replays(&id, 11, "bob", "b");
    table.replays(&id, 12, "bob", "c");
    assert_eq!(table.request("say").1, "kept");
    table.said(13);
    assert_eq!(table.texts(), [(8, "a"), (11, "b"), (12, "c"), (13, "kept")]);
}

#[test]
fn a_line_in_doubt_is_said_again_only_where_it_had_not_arrived() {
    for arrived in [true, false] {
        let mut table = Table::entered(true, 0);
        table.types("doubt");
        table.types("next");
        table.lose(&lost());
        table.connect("me");
        let id = table.enter(2, 1 + u64::from(arrived), "e");
        table.replays(&id, 1, "bob", "doubt");
        if arrived {
            table.replays(&id, 2, "me", "doubt");
        }
        assert_eq!(table.request("say").1, if arrived { "next" } else { "doubt" });
    }
}

#[test]
fn a_new_numbering_is_asked_for_from_its_beginning() {
    let mut table = Table::entered(true, 100);
    table.lose(&lost());
    table.connect("me");
    let id = table.enter(102, 2, "other");
    table.replays(&id, 101, "bob", "not yet");
    assert_eq!(table.request("join").0["after"], 0);
    let id = table.enter(102, 102, "other");
    (1..=102).for_each(|seq| table.replays(&id, seq, "bob", "x"));
    assert_eq!(table.texts().iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=102).collect::<Vec<_>>());
    assert!(table.says("numbers it anew"));
}

#[test]
fn what_a_new_numbering_kept_of_the_old_is_not_shown_again() {
    let mut table = Table::entered(true, 0);
    table.gets(&message(1, "bob", "a"));
    table.types("b");
    table.said(2);
    table.gets(&message(3, "bob", "lost by the server"));
    table.lose(&lost());
    table.connect("me");
    table.enter(3, 0, "other");
    let id = table.enter(3, 3, "other");
    table.replays(&id, 1, "bob", "a");
    table.replays(&id, 2, "me", "b");
    table.replays(&id, 3, "carol", "new");
    table.gets(&message(4, "bob", "a"));
    assert_eq!(table.texts(), [(1, "a"), (2, "b"), (3, "lost by the server"), (3, "new"), (4, "a")]);
}

#[test]
fn a_server_that_lost_its_last_messages_is_not_taken_for_repeating_them() {
    let mut table = Table::entered(true, 10);
    table.lose(&lost());
    table.connect("me");
    table.enter(8, 0, "e");
    assert!(table.says("lost the last 2 messages"));
    table.gets(&message(9, "bob", "new"));
    assert_eq!(table.texts(), [(9, "new")]);
}

#[test]
fn a_server_that_wants_it_slower_is_obeyed_for_a_while() {
    let mut table = Table::entered(false, 0);
    table.types("a");
    table.types("b");
    for _ in 0..MAX_PAUSES {
        table.refuses("say", "limit", None);
        let sent = table.sent.len();
        table.passes(FIRST_PAUSE / 2);
        assert_eq!(table.sent.len(), sent);
        table.passes(Duration::from_secs(60));
        assert_eq!(table.request("say").1, "a", "the order stays");
    }
    table.refuses("say", "limit", None);
    assert!(table.says("(limit)"));
    assert_eq!(table.request("say").1, "b");
}

#[test]
fn a_pipe_ends_once_everything_was_answered() {
    let mut table = Table::entered(false, 0);
    table.types("a");
    table.types("/fly");
    table.model.handle_end();
    table.drain();
    table.lose(&lost());
    assert_eq!(table.finished, None, "it is not known yet whether it arrived");
    table.connect("me");
    table.enter(0, 0, "e");
    table.said(1);
    assert_eq!(table.finished, Some(EXIT_REFUSED), "because of /fly");

    let mut table = Table::entered(false, 0);
    table.model.handle_end();
    table.drain();
    assert_eq!(table.finished, Some(0));
}

#[test]
fn leaving_without_a_connection_tells_what_was_not_sent() {
    let mut table = Table::entered(true, 0);
    table.lose(&lost());
    table.types("a");
    table.types("b");
    table.types("/quit");
    assert!(table.says("2 lines were not sent"));
    assert_eq!(table.finished, Some(EXIT_REFUSED));
}

#[test]
fn a_kick_is_the_end_and_slowness_is_not() {
    let mut table = Table::entered(true, 0);
    table.lose(&fatal(ErrorCode::SlowConsumer));
    assert_eq!((table.connects.len(), table.finished), (1, None));
    table.connect("me");
    table.lose(&fatal(ErrorCode::Forbidden));
    assert_eq!((table.connects.len(), table.finished), (1, Some(EXIT_CONNECTION)));
}

#[test]
fn a_pipe_gives_up_after_a_while_and_a_terminal_does_not() {
    for (interactive, end) in [(false, Some(EXIT_CONNECTION)), (true, None)] {
        let mut table = Table::entered(interactive, 0);
        (0..=MAX_TRIES).for_each(|_| table.lose(&lost()));
        assert_eq!(table.finished, end);
    }
}

#[test]
fn a_nick_that_is_still_taken_is_asked_for_and_replaced() {
    let mut table = Table::entered(true, 0);
    table.lose(&lost());
    table.connect("guest-4");
    table.enter(0, 0, "e");
    assert_eq!(table.request("nick").0["nick"], "me");
    table.refuses("nick", "exists", Some("me-2"));
    assert_eq!(table.request("nick").0["nick"], "me-2");
    table.answers("nick", json!({}), "");
    table.lose(&lost());
    assert_eq!(table.connects.last().unwrap(), "me-2");
}

#[test]
fn a_server_that_does_not_answer_is_hung_up_on_once() {
    let mut table = Table::entered(true, 0);
    table.types("a");
    table.passes(ANSWER_TIME / 2);
    assert_eq!(table.hangups, 0);
    table.passes(ANSWER_TIME);
    table.passes(ANSWER_TIME / 2);
    assert_eq!(table.hangups, 1);
}

#[test]
fn words_go_to_the_room_in_which_they_were_typed() {
    let mut table = Table::entered(false, 0);
    table.types("/join b");
    assert_eq!(table.model.current(), Some("b"));
    table.types("in b");
    table.types("/leave");
    table.types("in lobby");
    let fields = json!({"room": "b", "seq": 0, "epoch": "x", "count": 0});
    table.answers("join", fields, r#"["me"]"#);
    assert_eq!(table.request("say").0["room"], "b");
    table.answers("say", json!({"room": "b", "seq": 1, "at": 1}), "");
    table.answers("leave", json!({}), "");
    assert_eq!((&table.request("say").0["room"], table.model.rooms()), (&json!("lobby"), vec!["lobby".to_owned()]));
}

#[test]
fn a_refused_room_is_none_and_the_others_stay() {
    let mut table = Table::entered(true, 0);
    table.types("/join \u{7}");
    table.refuses("join", "invalid_name", None);
    assert_eq!((table.model.current(), table.model.rooms()), (Some("lobby"), vec!["lobby".to_owned()]));
    assert!(table.says("invalid_name"));
}

#[test]
fn lines_beyond_the_limit_are_refused_and_not_lost_silently() {
    let mut table = Table::entered(true, 0);
    table.lose(&lost());
    (0..MAX_QUEUE).for_each(|_| table.types("x"));
    assert!(!table.says("not sent"));
    table.types("one more");
    assert!(table.says("not sent: \"one more\""));
    table.types(&"x".repeat(MAX_MESSAGE + 1));
    assert!(table.says("65537 bytes was not sent"));
}
