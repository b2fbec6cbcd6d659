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
mod room;
mod segment;
#[cfg(test)]
pub(super) mod tests;
mod values;

use super::history;
use super::names::{self, Nick, RoomName};
use super::{ConnId, Now};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::frame;
use crate::wire::reply::{ChatEvent, LeaveReason};
use bytes::Bytes;
use people::{People, Seat};
use room::{Member, Room, json_array};
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
            self.remove_if_void(id);
        }
    }

    fn join(
        &mut self,
        conn: ConnId,
        name: &str,
        history: Option<u64>,
        after: Option<u64>,
        others: &mut impl Deliver,
    ) -> Result<Reply, Refused> {
        let id = match self.seat(conn, name) {
            Some((id, _)) => id,
            None => self.enter(conn, name, others)?,
        };
        let room = &self.rooms[id];
        // Who says what was seen last misses nothing that is kept.
        let default = if after.is_some() { usize::MAX } else { DEFAULT_REPLAY };
        let limit = history.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(Reply::Joined {
            room: room.name.clone(),
            seq: room.seq,
            epoch: room.epoch.clone(),
            members: json_array(room.members.iter().map(|member| &*member.nick)),
            kept: room.history.newest(after, limit),
        })
    }

    fn enter(&mut self, conn: ConnId, name: &str, others: &mut impl Deliver) -> Result<usize, Refused> {
        let id = match self.find(name) {
            Some(id) => {
                self.check_seats(conn)?;
                id
            }
            None => {
                let name = RoomName::parse(name)?;
                self.check_seats(conn)?;
                self.begin(name.as_str().into())?
            }
        };
        let person = self.people.ensure(conn);
        let room = &mut self.rooms[id];
        room.announce(&ChatEvent::Joined { room: &room.name, nick: &person.nick }, conn, others);
        person.seats.push(Seat { room: id, at: room.members.len() });
        room.members.push(Member { conn, nick: person.nick.clone() });
        Ok(id)
    }

    fn check_seats(&self, conn: ConnId) -> Result<(), Refused> {
        if self.people.get(conn).is_some_and(|person| person.seats.len() >= MAX_ROOMS_JOINED) {
            let message = format!("you are in {MAX_ROOMS_JOINED} rooms, the most there may be: leave one first");
            return refuse(ErrorCode::Limit, message);
        }
        Ok(())
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
        self.begun += 1;
        let epoch = format!("{}-{}", self.config.epoch_seed, self.begun).into();
        let room = Room {
            name: name.clone(),
            epoch,
            seq: 0,
            members: Vec::new(),
            history: history::History::default(),
            spoken: self.said,
        };
        let id = self.rooms.insert(room);
        self.by_name.insert(name, id);
        Ok(id)
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

    fn leave(&mut self, conn: ConnId, name: &str, others: &mut impl Deliver) -> Result<Reply, Refused> {
        let Some((room, index)) = self.seat(conn, name) else {
            return refuse(ErrorCode::NotFound, format!("you are not in the room `{}`", names::excerpt(name)));
        };
        let person = self.people.ensure(conn);
        let nick = person.nick.clone();
        let seat = person.seats.swap_remove(index);
        debug_assert_eq!(seat.room, room);
        self.vacate(seat, conn, &nick, LeaveReason::Left, others);
        Ok(Reply::Done)
    }

    fn disconnect(&mut self, conn: ConnId, reason: LeaveReason, others: &mut impl Deliver) -> Reply {
        if let Some(person) = self.people.remove(conn) {
            for seat in person.seats {
                self.vacate(seat, conn, &person.nick, reason, others);
            }
        }
        Reply::Done
    }

    /// Takes a seat, given up already by its person, out of its room.
    fn vacate(&mut self, seat: Seat, conn: ConnId, nick: &str, reason: LeaveReason, others: &mut impl Deliver) {
        let room = &mut self.rooms[seat.room];
        room.members.swap_remove(seat.at);
        if let Some(moved) = room.members.get(seat.at)
            && let Some(person) = self.people.get_mut(moved.conn)
        {
            person.seats.iter_mut().filter(|s| s.room == seat.room).for_each(|s| s.at = seat.at);
        }
        room.announce(&ChatEvent::Left { room: &room.name, nick, reason }, conn, others);
        self.remove_if_void(seat.room);
    }

    fn rename(&mut self, conn: ConnId, nick: &str, others: &mut impl Deliver) -> Result<Arc<str>, Refused> {
        let nick = Nick::parse(nick)?;
        let old = self.nick(conn).cloned();
        let new = match self.people.claim(conn, &nick) {
            Ok(new) => new,
            Err(free) => {
                let message = format!("the nick `{}` is taken: choose another", nick.as_str());
                return Err(Refused(Refusal::new(ErrorCode::Exists, message), Some(free.as_str().to_owned())));
            }
        };
        let Some(old) = old.filter(|old| *old != new) else { return Ok(new) };
        let seats = &self.people.ensure(conn).seats;
        let mut neighbours = Vec::new();
        for seat in seats {
            let members = &mut self.rooms[seat.room].members;
            members[seat.at].nick = new.clone();
            neighbours.extend(members.iter().map(|member| member.conn).filter(|other| *other != conn));
        }
        // Whoever shares several rooms hears it once.
        if seats.len() > 1 {
            neighbours.sort_unstable();
            neighbours.dedup();
        }
        let event = ChatEvent::Renamed { old: &old, new: &new };
        let delivery = Delivery { room: None, frames: frame::encode(&event, b"").into() };
        neighbours.into_iter().for_each(|other| others.deliver(other, &delivery));
        Ok(new)
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
