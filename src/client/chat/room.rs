//! What a conversation has seen of one room, and what it does not have yet.

use crate::client::error::Result;
use crate::client::frame::request;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Messages that are known again where a room is numbered anew; no less than
/// servers keep of one by default.
const MAX_PRINTS: usize = 10_000;

#[derive(Serialize)]
struct Join<'a> {
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<u64>,
}

/// How far a room is on the connection as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not asked for yet.
    Away,
    /// Asked for with this id.
    Asked(u64),
    /// So many messages of the replay with this id are still to come.
    Replaying(u64, u64),
    /// In.
    Live,
}

/// What was seen of a room: messages up to `last` under that numbering.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    epoch: String,
    last: u64,
}

/// A message as it may come again: its number, when it was said, by whom, what.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Print<'a> {
    /// Its number.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// Who said it.
    pub from: &'a str,
    /// What was said.
    pub text: &'a str,
}

/// What an answer to `join` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// For the first time.
    First,
    /// Again, and so many messages in between are no longer kept.
    Again {
        /// How many.
        missing: u64,
    },
    /// Again, but the server lost the end of what was seen.
    Receded {
        /// How many messages.
        lost: u64,
    },
    /// Another numbering has begun: ask anew, for all that is kept.
    Anew,
}

/// A room that we are in, or want to be in.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its name, as the server writes it once it was entered.
    pub name: String,
    /// Who is in.
    pub members: BTreeSet<String>,
    seen: Option<Seen>,
    phase: Phase,
    /// The messages seen last, as hashes, oldest first.
    prints: VecDeque<u64>,
    /// Set while a replay under a new numbering may repeat what was seen under
    /// the old one: a server that lost its last messages keeps the others.
    repeats: HashSet<u64>,
    anew: bool,
}

impl Room {
    /// A room to be entered.
    pub fn new(name: &str) -> Room {
        Room {
            name: name.to_owned(),
            members: BTreeSet::new(),
            seen: None,
            phase: Phase::Away,
            prints: VecDeque::new(),
            repeats: HashSet::new(),
            anew: false,
        }
    }

    /// The request to enter it; `history` messages where it is the first time.
    pub fn enter(&mut self, id: u64, history: Option<u64>) -> Result<Vec<u8>> {
        self.phase = Phase::Asked(id);
        let after = self.seen.as_ref().map(|seen| seen.last);
        let history = history.filter(|_| after.is_none());
        request("join", Some(id), Join { room: &self.name, after, history }, &[])
    }

    /// The connection is gone.
    pub fn lose(&mut self) {
        self.phase = Phase::Away;
    }

    /// Whether it was asked for with this id.
    pub fn awaits(&self, id: Option<u64>) -> bool {
        id.is_some_and(|id| self.phase == Phase::Asked(id))
    }

    /// Whether nothing is under way about it.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Takes the answer to `join`: the last number used, how many messages will
    /// be replayed, and the numbering's name.
    pub fn entered(&mut self, id: u64, seq: u64, count: u64, epoch: &str) -> Entered {
        let base = seq.saturating_sub(count);
        let before = self.seen.replace(Seen { epoch: epoch.to_owned(), last: base });
        self.phase = if count == 0 { Phase::Live } else { Phase::Replaying(count, id) };
        match before {
            None => Entered::First,
            Some(_) if self.anew => {
                self.anew = false;
                self.repeats = self.prints.iter().copied().collect();
                Entered::Again { missing: 0 }
            }
            Some(before) if before.epoch != epoch && seq > 0 => {
                // The old number hid messages of the new numbering.
                self.seen = Some(Seen { epoch: epoch.to_owned(), last: 0 });
                self.anew = true;
                Entered::Anew
            }
            Some(before) if before.epoch != epoch => Entered::Again { missing: 0 },
            Some(before) if seq < before.last => Entered::Receded { lost: before.last - seq },
            Some(before) => Entered::Again { missing: base.saturating_sub(before.last) },
        }
    }

    /// Whether the message, which belongs to the replay with that id, is new;
    /// if so, how many are missing before it.
    pub fn take(&mut self, message: Print<'_>, replay: Option<u64>) -> Option<u64> {
        let seq = message.seq;
        match self.phase {
            Phase::Away | Phase::Asked(_) => return None,
            Phase::Replaying(left, id) if replay == Some(id) => {
                self.phase = if left <= 1 { Phase::Live } else { Phase::Replaying(left - 1, id) };
            }
            Phase::Replaying(..) | Phase::Live => {}
        }
        let seen = self.seen.as_mut()?;
        if seq <= seen.last {
            return None;
        }
        let missing = seq - seen.last - 1;
        seen.last = seq;
        let print = BuildHasherDefault::<DefaultHasher>::default().hash_one(message);
        if self.repeats.remove(&print) {
            return None;
        }
        if self.phase == Phase::Live {
            self.repeats = HashSet::new();
        }
        if self.prints.len() == MAX_PRINTS {
            self.prints.pop_front();
        }
        self.prints.push_back(print);
        Some(missing)
    }
}
