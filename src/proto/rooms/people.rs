//! Who bears which nick, and where each sits.

use crate::proto::ConnId;
use crate::proto::names::{self, Nick};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// A place in a room: the room, and the position among its members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) room: usize,
    pub(super) at: usize,
}

/// A connection with a nick.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) nick: Arc<str>,
    pub(super) seats: Vec<Seat>,
}

/// A suggested nick ends in a number below this one, if such a nick is free.
const SMALL_NUMBERS: u64 = 17;

/// Room for so many is kept when they have gone.
const ROOMY: usize = 1_024;

/// Every connection with a nick.
#[derive(Debug, Default)]
pub(super) struct People {
    by_conn: HashMap<ConnId, Person>,
    by_key: HashMap<Box<str>, ConnId>,
    guests: u64,
}

impl People {
    pub(super) fn len(&self) -> usize {
        self.by_conn.len()
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Person> {
        self.by_conn.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Person> {
        self.by_conn.get_mut(&conn)
    }

    /// Who bears `nick`, in whatever spelling.
    pub(super) fn bearer(&self, nick: &str) -> Option<ConnId> {
        self.by_key.get(names::nick_key(nick).as_str()).copied()
    }

    /// The person at `conn`, who becomes a guest where it has no nick yet.
    pub(super) fn ensure(&mut self, conn: ConnId) -> &mut Person {
        if !self.by_conn.contains_key(&conn) {
            let guest = self.free_guest();
            self.name(conn, &guest);
        }
        self.by_conn.get_mut(&conn).expect("named just now at the latest")
    }

    fn free_guest(&mut self) -> Nick {
        loop {
            self.guests += 1;
            let guest = Nick::guest(self.guests);
            if !self.by_key.contains_key(guest.key().as_str()) {
                return guest;
            }
        }
    }

    /// Gives `nick` to `conn`, or says which free one is like it.
    pub(super) fn claim(&mut self, conn: ConnId, nick: &Nick) -> Result<Arc<str>, Nick> {
        let key = nick.key();
        if key == names::OPERATOR {
            return Err(self.free_guest());
        }
        match self.by_key.get(key.as_str()) {
            Some(bearer) if *bearer != conn => Err(self.free_like(nick)),
            _ => Ok(self.name(conn, nick)),
        }
    }

    /// A free nick like that one. Small numbers first, because people like
    /// them; then one that nobody has unless they chose it: a crowd of one name
    /// must not make each newcomer of it cost a step for each of the others.
    fn free_like(&self, nick: &Nick) -> Nick {
        let beyond = self.by_key.len() as u64 + SMALL_NUMBERS;
        (2..SMALL_NUMBERS)
            .chain(beyond..)
            .map(|n| nick.numbered(n))
            .find(|n| !self.by_key.contains_key(n.key().as_str()))
            .expect("endless")
    }

    /// Gives `conn` a nick that is free or its own.
    pub(super) fn name(&mut self, conn: ConnId, nick: &Nick) -> Arc<str> {
        let shown: Arc<str> = nick.as_str().into();
        match self.by_conn.entry(conn) {
            Entry::Occupied(mut person) => {
                let old = std::mem::replace(&mut person.get_mut().nick, shown.clone());
                self.by_key.remove(names::nick_key(&old).as_str());
            }
            Entry::Vacant(entry) => {
                entry.insert(Person { nick: shown.clone(), seats: Vec::new() });
            }
        }
        self.by_key.insert(nick.key().into(), conn);
        shown
    }

    /// Frees the nick of `conn`, where it has one.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Person> {
        let person = self.by_conn.remove(&conn)?;
        self.by_key.remove(names::nick_key(&person.nick).as_str());
        if self.by_conn.capacity() > ROOMY && self.by_conn.len() < self.by_conn.capacity() / 8 {
            self.by_conn.shrink_to(ROOMY);
            self.by_key.shrink_to(ROOMY);
        }
        Some(person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nick(text: &str) -> Nick {
        Nick::parse(text).unwrap()
    }

    #[test]
    fn a_taken_nick_comes_with_a_free_one() {
        let mut people = People::default();
        people.claim(ConnId(1), &nick("Anna")).unwrap();
        people.claim(ConnId(2), &nick("anna-2")).unwrap();
        assert_eq!(people.claim(ConnId(3), &nick("ANNA")), Err(nick("ANNA-3")));
        assert_eq!(people.claim(ConnId(3), &nick("anna-2")), Err(nick("anna-3")));
        assert_eq!(people.claim(ConnId(1), &nick("ANNA")).as_deref(), Ok("ANNA"));
        assert_eq!(people.bearer("anna"), Some(ConnId(1)));
        people.remove(ConnId(1)).unwrap();
        assert_eq!(people.claim(ConnId(3), &nick("anna")).as_deref(), Ok("anna"));
    }

    #[test]
    fn guests_get_free_nicks() {
        let mut people = People::default();
        people.claim(ConnId(1), &nick("GUEST-1")).unwrap();
        assert_eq!(&*people.ensure(ConnId(2)).nick, "guest-2");
        assert_eq!(&*people.ensure(ConnId(2)).nick, "guest-2");
        assert_eq!(&*people.ensure(ConnId(1)).nick, "GUEST-1");
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_room_behind() {
        let mut people = People::default();
        for n in 0..20_000 {
            people.ensure(ConnId(n));
        }
        for n in 10..20_000 {
            people.remove(ConnId(n)).unwrap();
        }
        assert!(people.by_conn.capacity() < 4 * ROOMY && people.by_key.capacity() < 4 * ROOMY);
        assert_eq!((people.len(), people.bearer("guest-1")), (10, Some(ConnId(0))));
    }

    #[test]
    fn the_operators_nick_is_nobody_elses() {
        let mut people = People::default();
        assert_eq!(people.claim(ConnId(1), &nick("Operator")), Err(nick("guest-1")));
        people.name(ConnId(2), &nick(names::OPERATOR));
        assert_eq!(people.bearer("OPERATOR"), Some(ConnId(2)));
    }
}
