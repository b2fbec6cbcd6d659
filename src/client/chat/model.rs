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

mod hearing;
mod typing;

use super::action::Action;
use super::room::Room;
use crate::client::error::{ClientError, EXIT_CONNECTION, EXIT_REFUSED, EXIT_SIGNAL};
use crate::client::files::link;
use crate::talk::command::{Command, Role};
use crate::talk::entry::Entry;
use crate::wire::ErrorCode;
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
