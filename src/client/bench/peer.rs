//! How one kind of server is spoken to, and what its answers must be.
//!
//! The generator is the same for every server, so that servers can be compared
//! by one clock; what differs is here. An implementation reads from the front
//! of what has arrived and says how many bytes an answer took, `None` where it
//! is not complete yet, and an error where it is not the right one.

use crate::client::bench::payload::Payload;
use crate::client::error::Result;
use std::net::SocketAddr;
use std::ops::Range;

/// How many bytes an answer took; `None` where more must come first.
pub type Taken = Result<Option<usize>>;

/// A server that can be asked for the same bytes back.
pub trait Peer {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Appends what connection `line` sends first.
    fn greet(&mut self, line: usize, out: &mut Vec<u8>);

    /// Reads the answer to that.
    fn greeted(&mut self, line: usize, input: &[u8]) -> Taken;

    /// Appends request `id` of connection `line`; ids count from 0.
    fn echo(&mut self, line: usize, id: u64, payload: Payload<'_>, out: &mut Vec<u8>);

    /// Reads the answer to that, which comes in the requests' order.
    fn echoed(&mut self, line: usize, id: u64, payload: Payload<'_>, input: &[u8]) -> Taken;

    /// Bytes at the front that are whole and answer nothing: what a server
    /// says by itself.
    fn unasked(&mut self, _input: &[u8]) -> usize {
        0
    }
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it all.
    pub length: usize,
    /// A message: its number, where the server numbers them, and where its
    /// payload stands. `None` for whatever else a server tells subscribers.
    pub message: Option<(Option<u64>, Range<usize>)>,
}

/// A server that hands one client's message to many.
pub trait Publishing: Peer {
    /// Appends what a greeted subscriber sends.
    fn subscribe(&mut self, out: &mut Vec<u8>);

    /// Reads the answer to that.
    fn subscribed(&mut self, input: &[u8]) -> Taken;

    /// Appends what the greeted publisher sends before its first message;
    /// [`Publishing::ready`] reads the answer.
    fn prepare(&mut self, out: &mut Vec<u8>);

    /// Reads the answer to that.
    fn ready(&mut self, input: &[u8]) -> Taken;

    /// Appends one message.
    fn publish(&mut self, payload: Payload<'_>, out: &mut Vec<u8>);

    /// Reads whatever the publisher gets back for its messages.
    fn published(&mut self, input: &[u8]) -> Taken;

    /// Reads what a subscriber gets.
    fn received(&mut self, input: &[u8]) -> Result<Option<Received>>;
}
