//! Between the console and a driver: what the console asks, what it is told,
//! and the driver's side of both.

use crate::proto::rooms::{Delivery, Op, Reply};
use crate::talk::inbox::Inbox;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Requests that may wait for the driver.
const MAX_REQUESTS: usize = 64;

/// What a delivery costs beside its bytes, in bytes.
const OVERHEAD: usize = 64;

/// The most connections that one answer lists.
pub const MAX_CLIENTS: usize = 200;

/// What the console asks of its driver. Each is answered by exactly one
/// [`Event`], in order; [`Request::Stop`] by none.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A room operation of the operator's; answered by [`Event::Room`].
    Room(Op),
    /// End the connection of whoever bears that nick; answered by
    /// [`Event::Kicked`].
    Kick(String),
    /// List the connections; answered by [`Event::Clients`].
    Clients,
    /// The counters; answered by [`Event::Stats`].
    Stats,
    /// Stop the server.
    Stop,
}

/// What the driver tells the console.
#[derive(Debug)]
pub enum Event {
    /// The rooms' answer.
    Room(Reply),
    /// Whether there was somebody of that nick.
    Kicked(bool),
    /// Connections, [`MAX_CLIENTS`] at most, and how many there are.
    Clients(Vec<Client>, usize),
    /// The counters, as a JSON object.
    Stats(Vec<u8>),
    /// Frames from a room or a nick.
    Frames(Bytes),
    /// More came than the console took: something was left out here.
    Lost,
    /// The server stops.
    Stopping,
}

/// What the operator may know of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its nick; `None` where it has none yet.
    pub nick: Option<String>,
    /// The other side's address.
    pub address: String,
    /// The rooms that it is in.
    pub rooms: Vec<String>,
    /// Bytes queued for it.
    pub queued: usize,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// A driver's side of the console. Nothing here ever waits.
#[derive(Debug)]
pub struct Port {
    requests: Receiver<Request>,
    events: Arc<Inbox<Event>>,
    /// Whether something was left out since the console was last told.
    lost: bool,
}

impl Port {
    pub(super) fn new(events: Arc<Inbox<Event>>) -> (Port, SyncSender<Request>) {
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        (Port { requests, events, lost: false }, sender)
    }

    /// The next request; an error where the console has ended.
    pub fn poll(&self) -> Result<Option<Request>, ConsoleEnded> {
        match self.requests.try_recv() {
            Ok(request) => Ok(Some(request)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ConsoleEnded),
        }
    }

    /// Answers a request.
    pub fn answer(&mut self, event: Event) {
        self.events.force_push(event);
    }

    /// Hands on what the rooms deliver to the operator; what the console does
    /// not take is left out, and it is told so.
    pub fn deliver(&mut self, delivery: &Delivery) {
        if self.lost && !self.events.try_push(OVERHEAD, Event::Lost) {
            return;
        }
        let frames = delivery.frames.clone();
        self.lost = !self.events.try_push(frames.len() + OVERHEAD, Event::Frames(frames));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.events.force_push(Event::Stopping);
    }
}

/// The console has ended, and will ask nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleEnded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::talk::inbox::Next;
    use std::time::Instant;

    fn next(events: &Inbox<Event>) -> Option<Event> {
        match events.next(false, Some(Instant::now())) {
            Next::Event(event) => Some(event),
            _ => None,
        }
    }

    #[test]
    fn a_console_that_takes_nothing_loses_deliveries_but_no_answer_and_hears_of_it() {
        let events = Arc::new(Inbox::default());
        let (mut port, _requests) = Port::new(events.clone());
        let delivery = Delivery { room: None, frames: Bytes::from(vec![0; 1 << 20]) };
        for _ in 0..100 {
            port.deliver(&delivery);
        }
        port.answer(Event::Kicked(true));
        let mut taken = 0;
        while let Some(Event::Frames(_)) = next(&events) {
            taken += 1;
        }
        assert!(taken < 10, "{taken} MiB waited; the answer came after them");
        port.deliver(&delivery);
        assert!(matches!(next(&events), Some(Event::Lost)));
        assert!(matches!(next(&events), Some(Event::Frames(_))));
        drop(port);
        assert!(matches!(next(&events), Some(Event::Stopping)));
    }

    #[test]
    fn the_end_of_the_console_is_told_after_its_last_request() {
        let (port, requests) = Port::new(Arc::default());
        requests.send(Request::Clients).unwrap();
        drop(requests);
        assert_eq!(port.poll(), Ok(Some(Request::Clients)));
        assert_eq!(port.poll(), Err(ConsoleEnded));
    }
}
