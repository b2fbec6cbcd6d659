//! One connection of the network: bytes under way, the kernel's two buffers,
//! and the edges that an edge-triggered poll reports (epoll(7)): one when
//! bytes or an end arrive, one when there is room again after a write met none.

/// Readiness as one event reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub error: bool,
}

/// What a read of the server brings.
pub enum Read {
    Bytes(Vec<u8>),
    Eof,
    Blocked,
    Broken,
}

/// A connection.
#[derive(Default)]
pub struct Socket {
    /// Sent by the client and not arrived.
    pub under_way: Vec<u8>,
    pub end_under_way: bool,
    arrived: Vec<u8>,
    end_arrived: bool,
    /// Sent by the server and not taken by the client.
    pub sent: Vec<u8>,
    /// How much of that the kernel holds, in bytes.
    capacity: usize,
    pub shut: bool,
    /// Broken by the client, or closed by the server.
    pub broken: bool,
    pub closed: bool,
    /// Closed by the server before everything was sent.
    pub cut: bool,
    wants_room: bool,
    pub event: Event,
}

impl Socket {
    /// A connection on which the server's kernel holds so many bytes to be sent.
    pub fn new(capacity: usize) -> Self {
        Socket { capacity, ..Socket::default() }
    }

    /// Up to `n` bytes arrive at the server, or the end behind them.
    pub fn arrive(&mut self, n: usize) {
        if self.under_way.is_empty() && self.end_under_way && !self.end_arrived {
            self.end_arrived = true;
            self.event.read_closed = true;
            self.event.readable = true;
        } else if !self.under_way.is_empty() {
            let n = n.min(self.under_way.len());
            self.arrived.extend(self.under_way.drain(..n));
            self.event.readable = true;
        }
    }

    /// Whether more can arrive.
    pub fn has_under_way(&self) -> bool {
        !self.broken && (!self.under_way.is_empty() || self.end_under_way && !self.end_arrived)
    }

    /// Bytes that the client has sent and the server not read.
    pub fn unread(&self) -> usize {
        self.under_way.len() + self.arrived.len()
    }

    /// The client takes up to `n` bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let taken = self.sent.drain(..n.min(self.sent.len())).collect();
        if self.wants_room && self.room() > 0 {
            self.wants_room = false;
            self.event.writable = true;
        }
        taken
    }

    /// The client breaks the connection.
    pub fn reset(&mut self) {
        self.broken = true;
        self.arrived.clear();
        self.under_way.clear();
        self.sent.clear();
        self.event = Event { error: true, ..self.event };
    }

    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.sent.len())
    }

    /// The server reads.
    pub fn read(&mut self, budget: usize) -> Read {
        if self.broken {
            return Read::Broken;
        }
        if self.arrived.is_empty() {
            return if self.end_arrived { Read::Eof } else { Read::Blocked };
        }
        Read::Bytes(self.arrived.drain(..budget.min(self.arrived.len())).collect())
    }

    /// Whether a read would bring something.
    pub fn can_be_read(&self) -> bool {
        self.broken || !self.arrived.is_empty() || self.end_arrived
    }

    /// The server writes what there is room for; it must ask for [`Socket::room`] first.
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room() && !self.shut);
        self.sent.extend_from_slice(bytes);
    }

    /// A write of the server met no room.
    pub fn blocked(&mut self) {
        self.wants_room = true;
    }
}
