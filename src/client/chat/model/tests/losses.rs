//! Whatever is lost on the way, each line is said once and each message seen
//! once: a conversation with a server that keeps everything.

use super::*;
use proptest::prelude::*;

/// A step of the world around a conversation.
#[derive(Clone, Debug)]
enum Step {
    /// We type another line.
    Type,
    /// The server takes the next request.
    Serve,
    /// The next frame arrives.
    Arrive,
    /// Somebody else says something.
    Other,
    /// The connection is lost, and what was on its way with it.
    Lose,
}

/// A server that keeps everything.
#[derive(Default)]
struct World {
    log: Vec<(String, String)>,
    /// How much had been said when we asked for nothing of it.
    before: usize,
    joined: bool,
    requests: VecDeque<(Value, String)>,
    frames: VecDeque<Incoming>,
}

impl World {
    fn serve(&mut self) {
        let Some((request, body)) = self.requests.pop_front() else { return };
        let id = &request["id"];
        if request["cmd"] == "join" {
            let after = match request["after"].as_u64() {
                Some(after) => after as usize,
                None => {
                    self.before = self.log.len();
                    self.before
                }
            };
            let (seq, count) = (self.log.len(), self.log.len() - after);
            let answer = json!({"re": "join", "id": id, "ok": true, "room": "lobby", "seq": seq, "count": count,
                "epoch": "e"});
            self.frames.push_back(frame(answer, r#"["me"]"#));
            for (index, (from, text)) in self.log.iter().enumerate().skip(after) {
                let mut kept = message(index as u64 + 1, from, text);
                kept.header.id = id.as_u64();
                self.frames.push_back(kept);
            }
            self.joined = true;
        } else {
            self.log.push(("me".into(), body));
            let answer = json!({"re": "say", "id": id, "ok": true, "room": "lobby", "seq": self.log.len(), "at": 1});
            self.frames.push_back(frame(answer, ""));
        }
    }

    fn other(&mut self, text: &str) {
        self.log.push(("bob".into(), text.into()));
        if self.joined {
            self.frames.push_back(message(self.log.len() as u64, "bob", text));
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_each_line_is_said_once_and_each_message_seen_once(
        steps in prop::collection::vec(
            prop_oneof![1 => Just(Step::Type), 3 => Just(Step::Serve), 3 => Just(Step::Arrive), 1 => Just(Step::Other),
                1 => Just(Step::Lose)],
            0..200,
        ),
    ) {
        let mut world = World::default();
        let mut table = Table::new(true);
        table.connect("me");
        let mut typed = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Type => {
                    // Equal lines must be told apart by their order alone.
                    let text = format!("line {}", typed.len() / 2);
                    table.types(&text);
                    typed.push(text);
                }
                Step::Serve => world.serve(),
                Step::Arrive => {
                    if let Some(frame) = world.frames.pop_front() {
                        table.gets(&frame);
                    }
                }
                Step::Other => world.other(&format!("other {index}")),
                Step::Lose => {
                    world = World { log: world.log, before: world.before, ..World::default() };
                    table.lose(&lost());
                    table.connect("me");
                }
            }
            world.requests.extend(table.sent.drain(..));
        }
        while !world.requests.is_empty() || !world.frames.is_empty() {
            world.serve();
            while let Some(frame) = world.frames.pop_front() {
                table.gets(&frame);
            }
            world.requests.extend(table.sent.drain(..));
        }
        let ours: Vec<_> = world.log.iter().filter(|(from, _)| from == "me").map(|(_, text)| text.clone()).collect();
        prop_assert_eq!(&ours, &typed, "each of our lines once, in order");
        let seen = table.texts();
        let said: Vec<_> =
            world.log.iter().enumerate().skip(world.before).map(|(i, (_, text))| (i as u64 + 1, text.as_str())).collect();
        prop_assert_eq!(seen, said, "each message once, in order");
        prop_assert!(!table.says("missing"));
    }
}
