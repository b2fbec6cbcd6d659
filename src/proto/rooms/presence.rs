//! Coming, going and changing one's name: who sits where, and who hears of it.

use super::people::Seat;
use super::room::{Member, json_array};
use super::{DEFAULT_REPLAY, Deliver, Delivery, MAX_ROOMS_JOINED, Refused, Reply, Rooms, refuse};
use crate::proto::ConnId;
use crate::proto::names::{self, Nick, RoomName};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::frame;
use crate::wire::reply::{ChatEvent, LeaveReason};
use std::sync::Arc;

impl Rooms {
    pub(super) fn join(
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

    pub(super) fn leave(&mut self, conn: ConnId, name: &str, others: &mut impl Deliver) -> Result<Reply, Refused> {
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

    pub(super) fn disconnect(&mut self, conn: ConnId, reason: LeaveReason, others: &mut impl Deliver) -> Reply {
        if let Some(person) = self.people.remove(conn) {
            for seat in person.seats {
                self.vacate(seat, conn, &person.nick, reason, others);
            }
        }
        Reply::Done
    }

    pub(super) fn rename(&mut self, conn: ConnId, nick: &str, others: &mut impl Deliver) -> Result<Arc<str>, Refused> {
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
}
