//! Who is where: nicks, rooms, members, numbering and kept messages.
//!
//! One value of [`Rooms`] serves all connections. Every change goes through
//! [`Rooms::apply`], which answers the one who asked and hands what the others
//! should hear to a [`Deliver`].
//!
//! What one author says to one room is gathered in a *segment*, encoded once,
//! and handed to the members together: by [`Rooms::flush`], or as soon as
//! anything else happens. Only one segment is ever open, so the order that
//! members see is the order of the operations. A message then costs the same
//! however many hear it.

mod people;
mod presence;
mod room;
mod saving;
mod segment;
#[cfg(test)]
pub(super) mod tests;
mod values;

use super::history::History;
use super::names::{self, Nick};
use super::{ConnId, Now};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::frame;
use crate::wire::reply::ChatEvent;
use bytes::Bytes;
use people::People;
use room::{Room, json_array};
use saving::Pending;
pub use saving::{SavedMessage, SavedRoom, Unsaved, UnsavedRoom};
use segment::{Segment, Speaker};
use serde::Serialize;
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;
pub use values::{Config, Deliver, Delivery, Message, Op, Reply};

/// The most rooms there are at a time; beyond it, the one that was silent
/// longest among those without members makes way.
pub const MAX_ROOMS: usize = 10_000;

/// The most rooms one connection is in at a time.
pub const MAX_ROOMS_JOINED: usize = 100;

/// Messages that `join` replays where it does not say how many.
pub const DEFAULT_REPLAY: usize = 50;

/// The most messages that one `history` gives.
pub const MAX_PAGE: usize = 1_000;

/// Every nick and room of the server.
#[derive(Debug, Default)]
pub struct Rooms {
    config: Config,
    people: People,
    rooms: Slab<Room>,
    by_name: HashMap<Arc<str>, usize>,
    segment: Segment,
    /// What the kept messages of all rooms cost, in bytes.
    kept: usize,
    /// Messages said since the start, in all rooms.
    said: u64,
    /// Rooms that began since the start.
    begun: u64,
    unsaved: Pending,
}

/// A refusal, with a free nick where one helps.
struct Refused(Refusal, Option<String>);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused(refusal, None)
    }
}

fn refuse<T>(code: ErrorCode, message: String) -> Result<T, Refused> {
    Err(Refusal::new(code, message).into())
}

impl Rooms {
    /// No rooms and nobody.
    pub fn new(config: Config) -> Self {
        Rooms { config, ..Rooms::default() }
    }

    /// Carries out `op` for `conn`. What earlier operations gathered for
    /// others is delivered first where order demands it; what of that is for
    /// `conn` itself belongs before the answer.
    pub fn apply(&mut self, now: Now, conn: ConnId, op: Op, others: &mut impl Deliver) -> Reply {
        if !matches!(op, Op::Say { .. }) {
            self.close_segment(others);
        }
        let result = match op {
            Op::Say { room, body } => self.say(now, conn, &room, body, others),
            Op::Hello { nick: None } => Ok(Reply::Named { nick: self.people.ensure(conn).nick.clone() }),
            Op::Hello { nick: Some(nick) } => self.rename(conn, &nick, others).map(|nick| Reply::Named { nick }),
            Op::Nick { nick } => self.rename(conn, &nick, others).map(|_| Reply::Done),
            Op::Join { room, history, after } => self.join(conn, &room, history, after, others),
            Op::Tell { to, body } => self.tell(now, conn, &to, &body, others),
            Op::Leave { room } => self.leave(conn, &room, others),
            Op::List => Ok(self.list()),
            Op::Who { room } => self.who(&room),
            Op::History { room, after, before, limit } => self.page(&room, after, before, limit),
            Op::Disconnect { reason } => Ok(self.disconnect(conn, reason, others)),
        };
        result.unwrap_or_else(|Refused(refusal, suggestion)| Reply::Refused { refusal, suggestion })
    }

    /// Delivers what is still gathered. Drivers call it before they flush.
    pub fn flush(&mut self, others: &mut impl Deliver) {
        let Some(frames) = self.segment.take() else { return };
        if let Some(speaker) = self.segment.speaker() {
            self.rooms[speaker.room].deliver(frames, speaker.conn, others);
        }
    }

    fn close_segment(&mut self, others: &mut impl Deliver) {
        self.flush(others);
        self.segment.close();
    }

    /// The nick of a connection that has one.
    pub fn nick(&self, conn: ConnId) -> Option<&Arc<str>> {
        self.people.get(conn).map(|person| &person.nick)
    }

    /// How many rooms and nicks there are, and the bytes of kept messages.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.rooms.len(), self.people.len(), self.kept)
    }

    /// The connection that bears `nick`, in whatever spelling.
    pub fn bearer(&self, nick: &str) -> Option<ConnId> {
        self.people.bearer(nick)
    }

    /// Gives `conn`, the server's console, the nick that nobody else gets.
    pub fn admit_operator(&mut self, conn: ConnId) -> Arc<str> {
        self.people.name(conn, &Nick::operator())
    }

    /// The names of the rooms that a connection is in.
    pub fn rooms_of(&self, conn: ConnId) -> impl Iterator<Item = &str> {
        let seats = self.people.get(conn).map_or(&[][..], |person| &person.seats);
        seats.iter().map(|seat| &*self.rooms[seat.room].name)
    }

    /// The room that a client means; no name that is not allowed means one.
    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).or_else(|| self.by_name.get(names::nfc(name).as_str())).copied()
    }

    fn existing(&self, name: &str) -> Result<usize, Refused> {
        match self.find(name) {
            Some(room) => Ok(room),
            None => refuse(ErrorCode::NotFound, format!("there is no room `{}`", names::excerpt(name))),
        }
    }

    /// Where `conn` sits in the room of that name: the room, and which of its
    /// seats that is.
    fn seat(&self, conn: ConnId, name: &str) -> Option<(usize, usize)> {
        let room = self.find(name)?;
        let seats = &self.people.get(conn)?.seats;
        seats.iter().position(|seat| seat.room == room).map(|index| (room, index))
    }

    fn say(
        &mut self,
        now: Now,
        conn: ConnId,
        name: &str,
        body: Bytes,
        others: &mut impl Deliver,
    ) -> Result<Reply, Refused> {
        if !self.segment.speaker().is_some_and(|speaker| speaker.conn == conn && *speaker.name == *name) {
            self.close_segment(others);
            let Some((room, _)) = self.seat(conn, name) else {
                let message = format!("you are not in the room `{}`: join it first", names::excerpt(name));
                return refuse(ErrorCode::Forbidden, message);
            };
            let nick = self.people.ensure(conn).nick.clone();
            self.segment.open(Speaker { conn, nick, room, name: self.rooms[room].name.clone() });
        }
        let Some(speaker) = self.segment.speaker() else { unreachable!("opened where it was not") };
        let room = &mut self.rooms[speaker.room];
        let message = room.next(now.unix_ms, speaker.nick.clone(), body);
        if room.members.len() > 1 {
            self.segment.append(&message);
        }
        let reply = Reply::Said { room: room.name.clone(), seq: message.seq, at: message.at };
        self.said += 1;
        room.spoken = self.said;
        room.unsaved = true;
        self.unsaved.changed = true;
        let before = room.history.bytes();
        room.history.push(message, self.config.history);
        self.kept = self.kept - before + room.history.bytes();
        if self.kept > self.config.history_bytes {
            self.forget();
        }
        if self.segment.is_full() {
            self.flush(others);
        }
        Ok(reply)
    }

    /// Drops kept messages of the rooms silent longest, until there is some
    /// room again: a search through all rooms should serve many messages.
    fn forget(&mut self) {
        let enough = self.config.history_bytes - self.config.history_bytes / 16;
        while self.kept > enough {
            let silent = self.rooms.iter().filter(|(_, room)| !room.history.is_empty());
            let Some((id, _)) = silent.min_by_key(|(_, room)| room.spoken) else { return };
            let room = &mut self.rooms[id];
            self.kept -= room.history.bytes();
            while self.kept + room.history.bytes() > enough && room.history.drop_oldest() {}
            self.kept += room.history.bytes();
            room.unsaved = true;
            self.unsaved.changed = true;
            self.remove_if_void(id);
        }
    }

    fn begin(&mut self, name: Arc<str>) -> Result<usize, Refused> {
        if self.rooms.len() >= MAX_ROOMS {
            let empty = self.rooms.iter().filter(|(_, room)| room.members.is_empty());
            let Some((silent, _)) = empty.min_by_key(|(_, room)| room.spoken) else {
                let message =
                    format!("there are {MAX_ROOMS} rooms with members, the most there may be: join one of them");
                return refuse(ErrorCode::Limit, message);
            };
            self.remove(silent);
        }
        let room = Room {
            name: name.clone(),
            epoch: self.new_epoch(),
            seq: 0,
            members: Vec::new(),
            history: History::default(),
            spoken: self.said,
            unsaved: false,
            saved: 0,
        };
        let id = self.rooms.insert(room);
        self.by_name.insert(name, id);
        Ok(id)
    }

    fn new_epoch(&mut self) -> Arc<str> {
        self.begun += 1;
        format!("{}-{}", self.config.epoch_seed, self.begun).into()
    }

    fn remove_if_void(&mut self, id: usize) {
        if self.rooms[id].is_void() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: usize) {
        let room = self.rooms.remove(id);
        self.kept -= room.history.bytes();
        self.by_name.remove(&room.name);
        if room.saved > 0 {
            self.unsaved.end(room.name);
        }
    }

    fn tell(
        &mut self,
        now: Now,
        conn: ConnId,
        to: &str,
        body: &[u8],
        others: &mut impl Deliver,
    ) -> Result<Reply, Refused> {
        let Some(bearer) = self.people.bearer(to) else {
            return refuse(ErrorCode::NotFound, format!("nobody here is called `{}`", names::excerpt(to)));
        };
        let from = &self.people.ensure(conn).nick;
        let event = ChatEvent::Tell { from, at: now.unix_ms, size: body.len() };
        let frames = frame::encode(&event, body).into();
        others.deliver(bearer, &Delivery { room: None, frames });
        Ok(Reply::Done)
    }

    /// The rooms, those without members too whose messages are kept, as many
    /// as a body holds.
    fn list(&self) -> Reply {
        #[derive(Serialize)]
        struct Listed<'a> {
            room: &'a str,
            members: usize,
        }
        let rooms = self.rooms.iter().map(|(_, room)| Listed { room: &room.name, members: room.members.len() });
        Reply::Listed(json_array(rooms))
    }

    fn who(&self, name: &str) -> Result<Reply, Refused> {
        let room = &self.rooms[self.existing(name)?];
        Ok(Reply::Listed(json_array(room.members.iter().map(|member| &*member.nick))))
    }

    fn page(&self, name: &str, after: Option<u64>, before: Option<u64>, limit: Option<u64>) -> Result<Reply, Refused> {
        let room = &self.rooms[self.existing(name)?];
        let limit = limit.map_or(DEFAULT_REPLAY, |n| usize::try_from(n).unwrap_or(usize::MAX).min(MAX_PAGE));
        Ok(Reply::History { kept: room.history.page(after, before, limit) })
    }
}
