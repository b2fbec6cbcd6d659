//! The operator's conversation as a state machine: no I/O, and no driver.
//!
//! One request is out at a time, and lines are taken only in between; so they
//! have their effects in the typed order, and a pipe is read no faster than
//! the server takes it.

use super::port::{Client, Event, MAX_CLIENTS, Request};
use crate::proto::names::OPERATOR;
use crate::proto::rooms::{Message, Op, Reply};
use crate::talk::command::{self, Command, Role};
use crate::talk::entry::{self, Entry, Style};
use crate::talk::event::Incoming;
use crate::wire::MAX_MESSAGE;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// The room that the operator is in from the beginning.
pub const LOBBY: &str = "lobby";

/// A second Ctrl-C within this time stops the server.
const INSIST: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Show it, as seen from that room.
    Show(Entry, Option<String>),
    /// Ask the driver.
    Ask(Request),
    /// The console is over.
    Finish,
}

/// What the request that is out was for.
#[derive(Clone, Debug)]
enum Asked {
    Join(String),
    Say { room: String, text: String, echo: bool },
    Tell { to: String, text: String },
    Leave(String),
    Who(String),
    Rooms,
    History,
    Kick(String),
    Clients,
    Stats,
}

/// A room that the operator is in.
#[derive(Debug, Default)]
struct Room {
    /// The last message shown.
    last: u64,
    members: BTreeSet<String>,
    /// Set while it is asked for again, because something was left out.
    stale: bool,
}

/// The operator's side of the conversation.
#[derive(Debug)]
pub struct Desk {
    rooms: BTreeMap<String, Room>,
    current: Option<String>,
    asked: Option<Asked>,
    /// To be asked before more lines are taken.
    waiting: VecDeque<(Asked, Request)>,
    interrupted: Option<Instant>,
    ending: bool,
    style: Style,
    out: VecDeque<Output>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk::new()
    }
}

impl Desk {
    /// An operator who enters the lobby.
    pub fn new() -> Desk {
        let mut desk = Desk {
            rooms: BTreeMap::new(),
            current: Some(LOBBY.to_owned()),
            asked: None,
            waiting: VecDeque::new(),
            interrupted: None,
            ending: false,
            style: Style::plain(),
            out: VecDeque::new(),
        };
        desk.join(LOBBY.to_owned(), None);
        desk.go_on();
        desk
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The room in which words are said.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The rooms that the operator is in.
    pub fn rooms(&self) -> Vec<String> {
        self.rooms.keys().cloned().collect()
    }

    /// Who is in the current room.
    pub fn neighbours(&self) -> Vec<String> {
        let room = self.current.as_ref().and_then(|current| self.rooms.get(current));
        room.map(|room| room.members.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether a line may be handed over now.
    pub fn wants_lines(&self) -> bool {
        self.asked.is_none() && self.waiting.is_empty() && !self.ending
    }

    fn show(&mut self, entry: Entry) {
        self.out.push_back(Output::Show(entry, self.current.clone()));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.show(Entry::note(text));
    }

    fn ask(&mut self, asked: Asked, request: Request) {
        self.waiting.push_back((asked, request));
    }

    fn ask_rooms(&mut self, asked: Asked, op: Op) {
        self.ask(asked, Request::Room(op));
    }

    fn join(&mut self, room: String, after: Option<u64>) {
        self.ask_rooms(Asked::Join(room.clone()), Op::Join { room, history: None, after });
    }

    fn go_on(&mut self) {
        if self.asked.is_none() {
            if let Some((asked, request)) = self.waiting.pop_front() {
                self.asked = Some(asked);
                self.out.push_back(Output::Ask(request));
            } else if self.ending {
                self.note("the console has ended; the server goes on");
                self.out.push_back(Output::Finish);
            }
        }
    }

    /// No more lines will come: the console ends, and not the server.
    pub fn handle_end(&mut self) {
        self.ending = true;
        self.go_on();
    }

    /// The operator pressed Ctrl-C.
    pub fn handle_interrupt(&mut self, now: Instant) {
        if self.interrupted.is_some_and(|last| now < last + INSIST) {
            return self.out.push_back(Output::Ask(Request::Stop));
        }
        self.interrupted = Some(now);
        self.note("Ctrl-C again, or /quit, stops the server");
    }

    /// A line came that is none.
    pub fn handle_bad_line(&mut self, why: &str) {
        self.show(Entry::error(why));
    }

    /// The operator typed `line` for `room`, or for the current one. `echo`
    /// says whether words are to be shown again once they are said.
    pub fn handle_line(&mut self, room: Option<&str>, line: &str, echo: bool) {
        match Command::parse(line, Role::Operator) {
            Ok(None) => {}
            Ok(Some(command)) => {
                let room = room.map(str::to_owned).or_else(|| self.current.clone());
                self.command(command, room, echo);
            }
            Err(why) => self.show(Entry::error(why)),
        }
        self.go_on();
    }

    fn command(&mut self, command: Command, room: Option<String>, echo: bool) {
        match command {
            Command::Help => command::help(Role::Operator).into_iter().for_each(|line| self.note(line)),
            Command::Quit => self.out.push_back(Output::Ask(Request::Stop)),
            Command::Join(name) => {
                self.current = Some(name.clone());
                if !self.rooms.contains_key(&name) {
                    self.join(name, None);
                }
            }
            Command::Msg { to, text } if is_sayable(&text) => {
                self.ask_rooms(Asked::Tell { to: to.clone(), text: text.clone() }, Op::Tell { to, body: text.into() });
            }
            Command::Rooms => self.ask_rooms(Asked::Rooms, Op::List),
            Command::Kick(nick) => self.ask(Asked::Kick(nick.clone()), Request::Kick(nick)),
            Command::Clients => self.ask(Asked::Clients, Request::Clients),
            Command::Stats => self.ask(Asked::Stats, Request::Stats),
            Command::Leave(Some(room)) => self.ask_rooms(Asked::Leave(room.clone()), Op::Leave { room }),
            Command::Who(Some(room)) => self.ask_rooms(Asked::Who(room.clone()), Op::Who { room }),
            other => {
                let Some(room) = room else { return self.show(Entry::error("you are in no room: /join one")) };
                match other {
                    Command::Leave(_) => self.ask_rooms(Asked::Leave(room.clone()), Op::Leave { room }),
                    Command::Who(_) => self.ask_rooms(Asked::Who(room.clone()), Op::Who { room }),
                    Command::History(limit) => {
                        self.ask_rooms(Asked::History, Op::History { room, after: None, before: None, limit });
                    }
                    Command::Say(text) if is_sayable(&text) => {
                        let body = text.clone().into();
                        self.ask_rooms(Asked::Say { room: room.clone(), text, echo }, Op::Say { room, body });
                    }
                    _ => self.show(Entry::error(format!("too long: a message has at most {MAX_MESSAGE} bytes"))),
                }
            }
        }
    }

    /// The driver told something.
    pub fn handle_event(&mut self, event: Event) {
        match event {
            Event::Frames(frames) => {
                return Incoming::all(&frames).iter().for_each(|frame| self.frame(frame));
            }
            Event::Lost => self.catch_up(),
            Event::Stopping => {
                self.note("the server stops");
                return self.out.push_back(Output::Finish);
            }
            answer => {
                if let Some(asked) = self.asked.take() {
                    self.answer(asked, answer);
                }
            }
        }
        self.go_on();
    }

    /// Asks again for all rooms, from what was seen last on.
    fn catch_up(&mut self) {
        let seen: Vec<_> = self.rooms.iter().map(|(name, room)| (name.clone(), room.last)).collect();
        for (name, last) in seen {
            self.join(name, Some(last));
        }
        self.rooms.values_mut().for_each(|room| room.stale = true);
        self.note("more came than could be shown; asking for it again");
    }

    fn frame(&mut self, frame: &Incoming) {
        let Some(entry) = frame.entry(OPERATOR) else { return };
        match &entry {
            Entry::Message { room, seq, .. } => {
                let seq = *seq;
                // What is asked for again comes with the answer.
                let Some(room) = self.rooms.get_mut(room).filter(|room| !room.stale) else { return };
                if seq <= room.last {
                    return;
                }
                room.last = seq;
            }
            Entry::Joined { room, nick } => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.members.insert(nick.clone());
                }
            }
            Entry::Left { room, nick, .. } => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.members.remove(nick);
                }
            }
            Entry::Renamed { old, new } => {
                for room in self.rooms.values_mut() {
                    if room.members.remove(old) {
                        room.members.insert(new.clone());
                    }
                }
            }
            _ => {}
        }
        self.show(entry);
    }

    fn answer(&mut self, asked: Asked, answer: Event) {
        match (asked, answer) {
            (asked, Event::Room(Reply::Refused { refusal, .. })) => {
                if let Asked::Join(name) = &asked
                    && self.current.as_ref() == Some(name)
                {
                    self.current = self.rooms.keys().next_back().cloned();
                }
                self.show(Entry::error(refusal.message));
            }
            (Asked::Join(typed), Event::Room(Reply::Joined { room, seq, members, kept, .. })) => {
                self.joined(&typed, &room, seq, &members, &kept);
            }
            (Asked::Say { room, text, echo }, Event::Room(Reply::Said { seq, at, .. })) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.last = room.last.max(seq);
                }
                if echo {
                    let from = OPERATOR.to_owned();
                    self.show(Entry::Message { room, seq, at, from, text, own: true, replay: false });
                }
            }
            (Asked::Tell { to, text }, Event::Room(_)) => self.show(Entry::Told { to, text }),
            (Asked::Leave(name), Event::Room(_)) => {
                self.rooms.remove(&name);
                if self.current.as_ref() == Some(&name) {
                    self.current = self.rooms.keys().next_back().cloned();
                }
                self.note(format!("you left {name}"));
            }
            (Asked::Who(room), Event::Room(Reply::Listed(list))) => {
                self.show(Entry::Members { room, nicks: parse(&list) });
            }
            (Asked::Rooms, Event::Room(Reply::Listed(list))) => {
                let rooms: Vec<entry::Room> = parse(&list);
                self.show(Entry::Rooms { rooms });
            }
            (Asked::History, Event::Room(Reply::History { kept })) => {
                kept.iter().for_each(|message| self.show(kept_entry(message)));
            }
            (Asked::Kick(nick), Event::Kicked(true)) => self.note(format!("{nick} was kicked")),
            (Asked::Kick(nick), Event::Kicked(false)) => {
                self.show(Entry::error(format!("nobody here is called {nick}, or it is you")));
            }
            (Asked::Clients, Event::Clients(clients, count)) => self.clients(&clients, count),
            (Asked::Stats, Event::Stats(json)) => {
                let stats: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(&json).unwrap_or_default();
                stats.into_iter().for_each(|(name, value)| self.note(format!("{name} {value}")));
            }
            (asked, answer) => log::warn!("the console asked for {asked:?} and was told {answer:?}"),
        }
    }

    fn joined(&mut self, typed: &str, name: &str, seq: u64, members: &[u8], kept: &[std::sync::Arc<Message>]) {
        let nicks: Vec<String> = parse(members);
        let again = self.rooms.contains_key(name);
        let room = self.rooms.entry(name.to_owned()).or_default();
        room.members = nicks.iter().cloned().collect();
        room.stale = false;
        let last = std::mem::replace(&mut room.last, seq);
        if self.current.as_deref() == Some(typed) {
            self.current = Some(name.to_owned());
        }
        if !again {
            self.show(Entry::Members { room: name.to_owned(), nicks });
        }
        kept.iter().filter(|message| message.seq > last).for_each(|message| self.show(kept_entry(message)));
    }

    fn clients(&mut self, clients: &[Client], count: usize) {
        let now = Timestamp::now();
        for client in clients {
            let nick = client.nick.as_deref().unwrap_or("(not greeted)");
            let (address, queued) = (&client.address, client.queued);
            let since = self.style.time(client.since, now);
            let rooms = client.rooms.join(", ");
            self.note(format!("{nick}  {address}  since {since}  {queued} bytes queued  rooms: {rooms}"));
        }
        if count > clients.len() {
            self.note(format!("the first {MAX_CLIENTS} of {count}"));
        } else {
            self.note(format!("{count} connections"));
        }
    }
}

fn is_sayable(text: &str) -> bool {
    text.len() <= MAX_MESSAGE
}

/// The rooms' JSON, which is our own.
fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Vec<T> {
    serde_json::from_slice(json).unwrap_or_default()
}

fn kept_entry(message: &Message) -> Entry {
    Entry::Message {
        room: message.room.to_string(),
        seq: message.seq,
        at: message.at,
        from: message.from.to_string(),
        text: String::from_utf8_lossy(&message.body).into_owned(),
        own: &*message.from == OPERATOR,
        replay: true,
    }
}

#[cfg(test)]
mod tests;
