//! A conversation as a state machine: which rooms, what was seen, what waits
//! to be said, and what to do when a connection is lost. No I/O, no clock.
//!
//! What happens goes in through `handle_*`; what to do comes out of
//! [`Model::poll_output`], and [`Model::poll_timeout`] says when
//! [`Model::handle_timeout`] is due.
//!
//! Whatever was typed waits in one queue and goes out one at a time, the next
//! when the last was answered. So the order is the typed one, a server that
//! wants us slower is obeyed, and of what was under way when a connection was
//! lost, at most one line is in doubt: the replay after entering the room
//! again shows whether it had arrived, and otherwise it is said again.

use super::action::Action;
use super::room::{Entered, Print, Room};
use crate::client::error::{ClientError, EXIT_CONNECTION, EXIT_REFUSED, EXIT_SIGNAL, ServerError};
use crate::client::files::link;
use crate::talk::command::{self, Command, Role};
use crate::talk::entry::{self, Entry};
use crate::talk::event::Incoming;
use crate::wire::{ErrorCode, MAX_MESSAGE};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Typed lines that may wait.
pub const MAX_QUEUE: usize = 1_000;

/// Lines that may wait before no more are taken from a pipe.
const PIPE_QUEUE: usize = 16;

/// Uploads at a time.
pub const MAX_UPLOADS: usize = 4;

/// Tries to connect again before a conversation without a terminal ends.
pub const MAX_TRIES: u32 = 20;

/// How long an answer may take before the connection counts as dead.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The first wait where the server wants us slower; each further one for the
/// same line is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How often the same line is tried before it counts as refused.
const MAX_PAUSES: u32 = 6;

/// A second Ctrl-C within this time leaves at once.
const INSIST: Duration = Duration::from_secs(2);

/// The exit status after that: that of a program ended by SIGINT.
const EXIT_INTERRUPTED: u8 = EXIT_SIGNAL + 2;

/// What the one who talks wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The room to begin in.
    pub room: String,
    /// Messages to replay on entering a room for the first time.
    pub history: u64,
    /// At a terminal: somebody who can wait, and can leave.
    pub interactive: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Show it, as seen from that room.
    Show(Entry, Option<String>),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Connect again under this nick, after the wait.
    Connect {
        /// How long to wait before.
        wait: Duration,
        /// The nick to ask for.
        nick: String,
    },
    /// Give the connection up; its loss is to be told.
    Hangup,
    /// Put this local file on the server.
    Upload {
        /// The room that will be told.
        room: String,
        /// The path here.
        path: String,
    },
    /// The conversation is over, with this exit status.
    Finish(u8),
}

/// The request whose answer is awaited.
#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    action: Action,
    since: Instant,
    /// Messages still to come after the answer to `history`.
    left: Option<u64>,
}

/// The conversation.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    nick: String,
    rooms: Vec<Room>,
    current: Option<String>,
    connected: bool,
    /// Whether we have said that the connection was lost, and why.
    lost: Option<String>,
    tries: u32,
    next_id: u64,
    queue: VecDeque<Action>,
    flight: Option<Flight>,
    /// When the line at the queue's front may be tried again, and how often it was.
    pause: Option<Instant>,
    pauses: u32,
    uploads: usize,
    interrupted: Option<Instant>,
    ending: bool,
    failed: bool,
    finished: bool,
    out: VecDeque<Output>,
}

impl Model {
    /// A conversation that is not connected yet.
    pub fn new(settings: Settings) -> Model {
        let room = Room::new(&settings.room);
        Model {
            current: Some(room.name.clone()),
            rooms: vec![room],
            settings,
            nick: String::new(),
            connected: false,
            lost: None,
            tries: 0,
            next_id: 1,
            queue: VecDeque::new(),
            flight: None,
            pause: None,
            pauses: 0,
            uploads: 0,
            interrupted: None,
            ending: false,
            failed: false,
            finished: false,
            out: VecDeque::new(),
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The room in which words are said.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The rooms that we are in, or want to be in.
    pub fn rooms(&self) -> Vec<String> {
        self.wanted()
    }

    /// Who is in the current room.
    pub fn neighbours(&self) -> impl Iterator<Item = &str> {
        let current = self.rooms.iter().find(|room| Some(&room.name) == self.current.as_ref());
        current.into_iter().flat_map(|room| room.members.iter().map(String::as_str))
    }

    /// Whether more lines should be taken from who cannot be told to wait
    /// otherwise.
    pub fn wants_lines(&self) -> bool {
        !self.ending && self.queue.len() < PIPE_QUEUE
    }

    fn show(&mut self, entry: Entry) {
        if matches!(entry, Entry::Error { .. }) {
            self.failed = true;
        }
        self.out.push_back(Output::Show(entry, self.current.clone()));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.show(Entry::note(text));
    }

    fn error(&mut self, text: impl Into<String>) {
        self.show(Entry::error(text));
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn room(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.name == name)
    }

    fn is_settled(&self) -> bool {
        self.connected && self.rooms.iter().all(Room::is_settled)
    }

    /// A connection stands, under this nick.
    pub fn handle_connected(&mut self, now: Instant, nick: &str) {
        self.connected = true;
        if self.nick.is_empty() {
            self.nick = nick.to_owned();
            self.note(format!("you are {nick}; /help lists the commands"));
        } else if self.nick != nick {
            let wanted = std::mem::replace(&mut self.nick, nick.to_owned());
            self.queue.push_front(Action::Nick { nick: wanted, again: true });
        }
        for index in 0..self.rooms.len() {
            self.enter(index);
        }
        self.go_on(now);
    }

    fn enter(&mut self, index: usize) {
        let id = self.take_id();
        match self.rooms[index].enter(id, Some(self.settings.history)) {
            Ok(bytes) => self.out.push_back(Output::Send(bytes)),
            Err(error) => self.refuse_room(index, error.to_string()),
        }
    }

    fn refuse_room(&mut self, index: usize, why: String) {
        let room = self.rooms.remove(index);
        self.error(format!("/join {}: {why}", room.name));
        self.left(&room.name);
    }

    /// `name` is no longer one of the rooms.
    fn left(&mut self, name: &str) {
        if self.current.as_deref() == Some(name) {
            self.current = self.wanted().pop();
        }
    }

    /// The rooms that we shall be in once all that was typed is done.
    fn wanted(&self) -> Vec<String> {
        let mut names: Vec<String> = self.rooms.iter().map(|room| room.name.clone()).collect();
        for action in self.flight.iter().map(|flight| &flight.action).chain(&self.queue) {
            match action {
                Action::Leave(gone) => names.retain(|name| name != gone),
                Action::Join(name) if !names.contains(name) => names.push(name.clone()),
                _ => {}
            }
        }
        names
    }

    /// A connection ended, or did not come about; `jitter` is from 0 to 1.
    pub fn handle_lost(&mut self, error: &ClientError, jitter: f64) {
        self.connected = false;
        self.rooms.iter_mut().for_each(Room::lose);
        if let Some(flight) = self.flight.take() {
            self.take_back(flight.action);
        }
        if !can_be_mended(error) {
            self.error(error.to_string());
            return self.finish(EXIT_CONNECTION);
        }
        if self.tries >= MAX_TRIES && !self.settings.interactive {
            self.error(format!("{error}; given up after {MAX_TRIES} tries"));
            return self.finish(EXIT_CONNECTION);
        }
        let why = error.to_string();
        if self.lost.as_ref() != Some(&why) {
            self.note(format!("{why}; trying again until it works"));
            self.lost = Some(why);
        }
        let wait = link::wait(self.tries, jitter);
        self.tries += 1;
        self.out.push_back(Output::Connect { wait, nick: self.nick.clone() });
        self.finish_if_done();
    }

    /// What was under way when the connection was lost.
    fn take_back(&mut self, action: Action) {
        match action {
            Action::Say { room, text, echo, .. } => {
                self.queue.push_front(Action::Say { room, text, echo, unsure: Some(self.nick.clone()) });
            }
            // Nothing will show whether it arrived.
            Action::Tell { .. } => {
                self.error(format!("it is not known whether this arrived: {}", action.name()));
            }
            Action::Leave(room) => self.forget(&room),
            other => self.queue.push_front(other),
        }
    }

    fn forget(&mut self, name: &str) {
        self.rooms.retain(|room| room.name != name);
        self.left(name);
    }

    fn finish(&mut self, status: u8) {
        if self.finished {
            return;
        }
        self.finished = true;
        let unsent = self.queue.iter().filter(|action| matches!(action, Action::Say { .. } | Action::Tell { .. }));
        match unsent.count() {
            0 => {}
            1 => self.error("one line was not sent"),
            n => self.error(format!("{n} lines were not sent")),
        }
        self.out.push_back(Output::Finish(status));
    }

    fn finish_if_done(&mut self) {
        if !self.ending {
            return;
        }
        let idle = self.queue.is_empty() && self.flight.is_none() && self.uploads == 0;
        let failed = self.failed && !self.settings.interactive;
        if idle && (self.is_settled() || !self.connected) {
            self.finish(if failed { EXIT_REFUSED } else { 0 });
        } else if !self.connected && self.settings.interactive {
            self.finish(EXIT_REFUSED);
        }
    }

    /// No more lines will come: leaves when everything was answered.
    pub fn handle_end(&mut self) {
        self.ending = true;
        self.finish_if_done();
    }

    /// A line came that is none.
    pub fn handle_bad_line(&mut self, why: &str) {
        self.error(why);
    }

    /// Somebody pressed Ctrl-C.
    pub fn handle_interrupt(&mut self, now: Instant) {
        if self.interrupted.is_some_and(|last| now < last + INSIST) {
            return self.finish(EXIT_INTERRUPTED);
        }
        self.interrupted = Some(now);
        self.note("Ctrl-C again, or /quit, leaves");
    }

    /// Somebody typed `line` for `room`, or for the current one. `echo` says
    /// whether words are to be shown again once they are said.
    pub fn handle_line(&mut self, now: Instant, room: Option<&str>, line: &str, echo: bool) {
        match Command::parse(line, Role::Guest) {
            Ok(None) => {}
            Ok(Some(command)) => {
                let room = room.map(str::to_owned).or_else(|| self.current.clone());
                self.command(command, room, echo);
            }
            Err(why) => self.error(why),
        }
        self.go_on(now);
    }

    fn command(&mut self, command: Command, room: Option<String>, echo: bool) {
        let action = match command {
            Command::Help => return command::help(Role::Guest).into_iter().for_each(|line| self.note(line)),
            Command::Quit => return self.handle_end(),
            Command::Join(name) => {
                self.current = Some(name.clone());
                Action::Join(name)
            }
            Command::Msg { to, text } => Action::Tell { to, text },
            Command::Nick(nick) => Action::Nick { nick, again: false },
            Command::Rooms => Action::Rooms,
            Command::Leave(Some(room)) => Action::Leave(room),
            Command::Who(Some(room)) => Action::Who(room),
            other => {
                let Some(room) = room else { return self.error("you are in no room: /join one") };
                match other {
                    Command::Leave(_) => Action::Leave(room),
                    Command::Who(_) => Action::Who(room),
                    Command::History(limit) => Action::History { room, limit },
                    Command::Send(path) => return self.upload(room, path),
                    Command::Say(text) => Action::Say { room, text, echo, unsure: None },
                    _ => return self.error("that is the operator's"),
                }
            }
        };
        let leaves = if let Action::Leave(room) = &action { Some(room.clone()) } else { None };
        self.enqueue(action);
        if let Some(room) = leaves {
            self.left(&room);
        }
    }

    fn enqueue(&mut self, action: Action) {
        if let Action::Say { text, .. } | Action::Tell { text, .. } = &action
            && text.len() > MAX_MESSAGE
        {
            let length = text.len();
            return self.error(format!("a message of {length} bytes was not sent: at most {MAX_MESSAGE} can be"));
        }
        if self.queue.len() >= MAX_QUEUE {
            return self.error(format!("{MAX_QUEUE} lines wait already; not sent: {}", action.name()));
        }
        if self.lost.is_some() {
            self.note(format!("not connected; kept until we are: {}", action.name()));
        }
        self.queue.push_back(action);
    }

    fn upload(&mut self, room: String, path: String) {
        if self.uploads >= MAX_UPLOADS {
            return self.error(format!("{MAX_UPLOADS} files are on their way: wait for one before /send {path}"));
        }
        self.uploads += 1;
        self.note(format!("sending {path}"));
        self.out.push_back(Output::Upload { room, path });
    }

    /// An upload ended: with the file's name on the server, or not.
    pub fn handle_uploaded(&mut self, now: Instant, room: String, result: Result<String, ClientError>) {
        self.uploads -= 1;
        match result {
            Ok(name) => {
                let text = format!("sent a file: {name} (reactorctl get {name})");
                self.enqueue(Action::Say { room, text, echo: true, unsure: None });
            }
            Err(error) => self.error(error.to_string()),
        }
        self.go_on(now);
    }

    /// Sends the next line where the last one was answered.
    fn go_on(&mut self, now: Instant) {
        while self.flight.is_none() && self.is_settled() && self.pause.is_none() {
            if self.lost.take().is_some() {
                let kept = self.queue.len();
                let nick = &self.nick;
                let also = if kept > 0 { format!("; sending what was kept ({kept})") } else { String::new() };
                self.note(format!("connected again as {nick}{also}"));
            }
            self.tries = 0;
            let Some(action) = self.queue.pop_front() else { break };
            self.start(now, action);
        }
        self.finish_if_done();
    }

    fn start(&mut self, now: Instant, action: Action) {
        if let Action::Join(name) = &action {
            if self.room(name).is_none() {
                self.rooms.push(Room::new(name));
                self.enter(self.rooms.len() - 1);
            }
            return;
        }
        let id = self.take_id();
        match action.encode(id) {
            Some(Ok(bytes)) => {
                self.out.push_back(Output::Send(bytes));
                self.flight = Some(Flight { id, action, since: now, left: None });
            }
            Some(Err(error)) => self.error(error.to_string()),
            None => {}
        }
    }

    /// When [`Model::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pause.or_else(|| self.flight.as_ref().map(|flight| flight.since + ANSWER_TIME))
    }

    /// Looks at the time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
        }
        if let Some(flight) = &mut self.flight
            && flight.since + ANSWER_TIME <= now
        {
            // Once is enough: the loss will be told.
            flight.since = now;
            self.note(format!("no answer within {} s", ANSWER_TIME.as_secs()));
            self.out.push_back(Output::Hangup);
        }
        self.go_on(now);
    }

    /// A frame came.
    pub fn handle_frame(&mut self, now: Instant, frame: &Incoming) {
        match frame.entry(&self.nick) {
            Some(entry) => self.event(entry, frame.header.id),
            None if frame.header.event.is_none() && frame.header.id.is_some() => self.answer(now, frame),
            // A newer server may have more to tell, and nothing is asked without an id.
            None => {}
        }
        self.go_on(now);
    }

    fn event(&mut self, entry: Entry, id: Option<u64>) {
        match &entry {
            Entry::Message { .. } => return self.message(entry, id),
            Entry::Joined { room, nick } => {
                if let Some(room) = self.room(room) {
                    room.members.insert(nick.clone());
                }
            }
            Entry::Left { room, nick, .. } => {
                if let Some(room) = self.room(room) {
                    room.members.remove(nick);
                }
            }
            Entry::Renamed { old, new } => self.renamed(old, new),
            _ => {}
        }
        self.show(entry);
    }

    fn renamed(&mut self, old: &str, new: &str) {
        for room in &mut self.rooms {
            if room.members.remove(old) {
                room.members.insert(new.to_owned());
            }
        }
    }

    fn message(&mut self, entry: Entry, id: Option<u64>) {
        let Entry::Message { room, seq, at, from, text, .. } = &entry else { return };
        if let Some(flight) = self.flight.as_mut().filter(|flight| Some(flight.id) == id)
            && let Some(left) = &mut flight.left
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.flight = None;
            }
            return self.show(entry);
        }
        let print = Print { seq: *seq, at: *at, from, text };
        let Some(missing) = self.room(room).and_then(|known| known.take(print, id)) else { return };
        if missing > 0 {
            self.note(format!("{missing} messages of {room} are missing here"));
        }
        match self.had_arrived(&entry) {
            Some(false) => {}
            Some(true) | None => self.show(entry),
        }
    }

    /// Whether `entry` is the line of which that was not sure, and if so
    /// whether it is to be shown.
    fn had_arrived(&mut self, entry: &Entry) -> Option<bool> {
        let Entry::Message { room, from, text, .. } = entry else { return None };
        // Our nick's claim may stand before it.
        let index = self.queue.iter().position(|action| matches!(action, Action::Say { .. }))?;
        let Action::Say { room: said_in, text: said, echo, unsure: Some(nick) } = &self.queue[index] else {
            return None;
        };
        if said_in != room || said != text || nick != from {
            return None;
        }
        let echo = *echo;
        self.queue.remove(index);
        Some(echo)
    }

    fn answer(&mut self, now: Instant, frame: &Incoming) {
        let id = frame.header.id;
        if let Some(index) = self.rooms.iter().position(|room| room.awaits(id)) {
            return self.entered(index, frame);
        }
        let Some(flight) = self.flight.take_if(|flight| Some(flight.id) == id && flight.left.is_none()) else { return };
        match refusal(frame) {
            Some(error) if error.is(ErrorCode::Limit) && self.pauses < MAX_PAUSES => {
                self.pause = Some(now + FIRST_PAUSE * (1 << self.pauses));
                self.pauses += 1;
                self.queue.push_front(flight.action);
            }
            Some(error) => {
                self.pauses = 0;
                self.refused(flight.action, &error.to_string(), frame.header.suggestion.as_deref());
            }
            None => {
                self.pauses = 0;
                self.done(flight, frame);
            }
        }
    }

    fn refused(&mut self, action: Action, why: &str, suggestion: Option<&str>) {
        match (action, suggestion) {
            (Action::Nick { nick, again: true }, Some(free)) => {
                self.note(format!("{nick} is still taken; /nick {nick} later has it back"));
                self.queue.push_front(Action::Nick { nick: free.to_owned(), again: false });
            }
            (action, Some(free)) => self.error(format!("{}: {why}; {free} is free", action.name())),
            (action, None) => self.error(format!("{}: {why}", action.name())),
        }
    }

    fn done(&mut self, flight: Flight, frame: &Incoming) {
        let header = &frame.header;
        match flight.action {
            Action::Say { room, text, echo, .. } => {
                let (seq, at) = (header.seq.unwrap_or(0), header.at.unwrap_or(0));
                let from = self.nick.clone();
                let print = Print { seq, at, from: &from, text: &text };
                let fresh = self.room(&room).and_then(|known| known.take(print, None)).is_some();
                if echo && fresh {
                    self.show(Entry::Message { room, seq, at, from, text, own: true, replay: false });
                }
            }
            Action::Tell { to, text } => self.show(Entry::Told { to, text }),
            Action::Leave(room) => {
                self.forget(&room);
                self.note(format!("you left {room}"));
            }
            Action::Nick { nick, .. } => {
                self.note(format!("you are now {nick}"));
                self.renamed(&self.nick.clone(), &nick);
                self.nick = nick;
            }
            Action::Who(room) => {
                let nicks = self.list(frame);
                self.show(Entry::Members { room, nicks });
            }
            Action::Rooms => {
                let rooms: Vec<entry::Room> = self.list(frame);
                self.show(Entry::Rooms { rooms });
            }
            Action::History { .. } => match header.count.unwrap_or(0) {
                0 => self.note("nothing is kept"),
                count => self.flight = Some(Flight { left: Some(count), ..flight }),
            },
            Action::Join(_) => {}
        }
    }

    fn list<T: serde::de::DeserializeOwned>(&mut self, frame: &Incoming) -> Vec<T> {
        serde_json::from_slice(&frame.body).unwrap_or_else(|e| {
            self.error(format!("the server's list cannot be read: {e}"));
            Vec::new()
        })
    }

    /// The answer to `join`.
    fn entered(&mut self, index: usize, frame: &Incoming) {
        if let Some(error) = refusal(frame) {
            return self.refuse_room(index, error.to_string());
        }
        let header = &frame.header;
        let nicks: Vec<String> = self.list(frame);
        let room = &mut self.rooms[index];
        let typed = room.name.clone();
        if let Some(name) = &header.room {
            room.name.clone_from(name);
        }
        let name = room.name.clone();
        room.members = nicks.iter().cloned().collect();
        let epoch = header.epoch.as_deref().unwrap_or_default();
        let entered = room.entered(header.id.unwrap_or(0), header.seq.unwrap_or(0), header.count.unwrap_or(0), epoch);
        if self.current.as_ref() == Some(&typed) {
            self.current = Some(name.clone());
        }
        match entered {
            Entered::First => self.show(Entry::Members { room: name, nicks }),
            Entered::Again { missing: 0 } => {}
            Entered::Again { missing } => {
                self.note(format!("{missing} messages of {name} are no longer kept: they are missing here"));
            }
            Entered::Receded { lost } => {
                self.note(format!("the server lost the last {lost} messages of {name} that you saw"));
            }
            Entered::Anew => {
                self.note(format!("the server lost what was said last in {name}, or all of it, and numbers it anew"));
                self.enter(index);
            }
        }
    }
}

/// Why the server refused; `None` where it did not.
fn refusal(frame: &Incoming) -> Option<ServerError> {
    let header = &frame.header;
    (header.ok == Some(false)).then(|| ServerError {
        code: header.error.clone().unwrap_or_default(),
        message: header.message.clone().unwrap_or_else(|| "no reason was given".to_owned()),
    })
}

/// Whether another connection may help.
fn can_be_mended(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } => true,
        ClientError::Fatal(e) if e.is(ErrorCode::SlowConsumer) => true,
        error => error.is_lost(),
    }
}

#[cfg(test)]
mod tests;
