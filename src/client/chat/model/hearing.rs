//! What the server says: events, and answers to what was asked.

use super::{Action, FIRST_PAUSE, Flight, Instant, MAX_PAUSES, Model};
use crate::client::chat::room::{Entered, Print};
use crate::client::error::ServerError;
use crate::talk::entry::{self, Entry};
use crate::talk::event::Incoming;
use crate::wire::ErrorCode;

impl Model {
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
