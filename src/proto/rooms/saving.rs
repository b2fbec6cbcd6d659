//! What of the rooms outlives the server: hands out what changed, and takes
//! back what was saved. The disk itself is the store's.
//!
//! Nothing is queued for the disk: what waits to be saved is what the rooms
//! keep anyway, so a slow disk costs no memory, and a message that was
//! forgotten before its turn came is never written.

use super::room::Room;
use super::{MAX_ROOMS, Message, Rooms};
use crate::proto::history::History;
use crate::proto::names::{Nick, RoomName};
use crate::wire::MAX_MESSAGE;
use std::sync::Arc;

/// The longest epoch that is believed, in bytes; those given out are shorter.
const MAX_EPOCH: usize = 128;

/// What changed since the last time, to be saved in one step.
#[derive(Debug, Default, PartialEq)]
pub struct Unsaved {
    /// Whether all that was saved before is void.
    pub anew: bool,
    /// Rooms that are gone; to be removed before the others are saved.
    pub ended: Vec<Arc<str>>,
    /// Rooms with changes.
    pub rooms: Vec<UnsavedRoom>,
}

/// What changed in a room.
#[derive(Debug, PartialEq)]
pub struct UnsavedRoom {
    /// Its name.
    pub name: Arc<str>,
    /// The text that its numbers belong to.
    pub epoch: Arc<str>,
    /// The last number used.
    pub seq: u64,
    /// The oldest number kept; those before it are to be removed.
    pub first: u64,
    /// Messages said since, oldest first.
    pub messages: Vec<Arc<Message>>,
}

/// A room as it was saved.
#[derive(Debug, PartialEq)]
pub struct SavedRoom {
    /// Its name.
    pub name: String,
    /// The text that its numbers belong to.
    pub epoch: String,
    /// The last number used.
    pub seq: u64,
    /// Kept messages, oldest first.
    pub messages: Vec<SavedMessage>,
}

/// A message as it was saved.
#[derive(Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct SavedMessage {
    pub seq: u64,
    pub at: u64,
    pub from: String,
    pub body: Vec<u8>,
}

impl SavedMessage {
    /// Whether a client may be sent it: the file is no more to be trusted than
    /// whoever can write it.
    fn is_sound(&self) -> bool {
        Nick::parse(&self.from).is_ok()
            && (1..=MAX_MESSAGE).contains(&self.body.len())
            && std::str::from_utf8(&self.body).is_ok()
    }
}

impl Rooms {
    /// Whether [`Rooms::take_unsaved`] has something to give.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved.changed
    }

    /// What changed since the last call, and was not undone since; `None`
    /// where nothing did. From now on it counts as saved.
    pub fn take_unsaved(&mut self) -> Option<Unsaved> {
        if !std::mem::take(&mut self.unsaved.changed) {
            return None;
        }
        let mut rooms = Vec::new();
        for (_, room) in self.rooms.iter_mut().filter(|(_, room)| room.unsaved) {
            room.unsaved = false;
            let messages = room.history.newest(Some(room.saved), usize::MAX);
            room.saved = room.seq;
            let first = room.history.first().unwrap_or(room.seq + 1);
            let (name, epoch) = (room.name.clone(), room.epoch.clone());
            rooms.push(UnsavedRoom { name, epoch, seq: room.seq, first, messages });
        }
        let ended = std::mem::take(&mut self.unsaved.ended);
        Some(Unsaved { anew: std::mem::take(&mut self.unsaved.anew), ended, rooms })
    }

    /// Takes note that what was taken could not be saved: everything is to be
    /// saved anew.
    pub fn save_anew(&mut self) {
        self.unsaved.changed = true;
        self.unsaved.anew = true;
        self.unsaved.ended.clear();
        for (_, room) in &mut self.rooms {
            room.saved = 0;
            room.unsaved = room.seq > 0;
        }
    }

    /// Takes back saved rooms, at the start. Where the last server did not end
    /// in good order (`intact` is false), numbers it gave out may be lost with
    /// their messages and will be given out again: the rooms get new epochs, by
    /// which clients know.
    pub fn restore(&mut self, mut saved: Vec<SavedRoom>, intact: bool) {
        // As silent as their last message is old.
        saved.sort_by_key(|room| room.messages.last().map_or(0, |newest| newest.at));
        let surplus = saved.len().saturating_sub(MAX_ROOMS);
        for room in saved.drain(..surplus) {
            self.unsaved.end(room.name.into());
        }
        for room in saved {
            match RoomName::parse(&room.name) {
                Ok(name) if name.as_str() == room.name && !self.by_name.contains_key(name.as_str()) => {
                    self.restore_room(room, intact);
                }
                _ => self.unsaved.end(room.name.into()),
            }
        }
        if self.kept > self.config.history_bytes {
            self.forget();
        }
    }

    fn restore_room(&mut self, saved: SavedRoom, intact: bool) {
        let name: Arc<str> = saved.name.into();
        let keeps_epoch = intact && (1..=MAX_EPOCH).contains(&saved.epoch.len());
        let epoch = if keeps_epoch { saved.epoch.into() } else { self.new_epoch() };
        // Only what reaches without a gap to the last number is history.
        let sound = saved.messages.iter().rev().zip((1..=saved.seq).rev());
        let sound = sound.take_while(|(message, seq)| message.seq == *seq && message.is_sound()).count();
        let (was, whole) = (saved.messages.len(), sound == saved.messages.len());
        let mut history = History::default();
        for message in saved.messages.into_iter().skip(was - sound) {
            let SavedMessage { seq, at, from, body } = message;
            let message = Message { room: name.clone(), seq, at, from: from.into(), body: body.into() };
            history.push(Arc::new(message), self.config.history);
        }
        self.said += 1;
        self.kept += history.bytes();
        let unsaved = !keeps_epoch || !whole || history.len() < was;
        self.unsaved.changed |= unsaved;
        let room = Room {
            name: name.clone(),
            epoch,
            seq: saved.seq,
            members: Vec::new(),
            history,
            spoken: self.said,
            unsaved,
            saved: saved.seq,
        };
        let void = room.is_void();
        let id = self.rooms.insert(room);
        self.by_name.insert(name, id);
        if void {
            self.remove(id);
        }
    }
}

/// What waits to be saved, beside what the rooms themselves know.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) changed: bool,
    anew: bool,
    /// Rooms that were saved and are gone: never more than were saved in one
    /// go, or restored.
    ended: Vec<Arc<str>>,
}

impl Pending {
    pub(super) fn end(&mut self, name: Arc<str>) {
        self.changed = true;
        self.ended.push(name);
    }
}
