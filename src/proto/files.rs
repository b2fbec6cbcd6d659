//! The file service of one connection: which transfers are under way and how
//! far each is. Disks are the driver's.

use super::Outbox;
use crate::wire::request;

/// An open file, as its driver knows it; no two of a server are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileHandle(pub u64);

/// Pairs an answer of the disk with its request; chosen by the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A disk operation.
#[derive(Debug)]
pub struct DiskRequest {
    /// Comes back with the answer.
    pub ticket: Ticket,
}

/// The answer to a disk operation.
#[derive(Debug)]
pub struct DiskReply {
    /// The request's.
    pub ticket: Ticket,
}

/// The file service of one connection.
#[derive(Debug, Default)]
pub struct Files {}

impl Files {
    /// Carries out `get`, `put`, `end`, `cancel`, `list`, `stat`, `hash`,
    /// `mkdir`, `remove` and `rename`. `id` is there where the protocol
    /// requires it.
    pub fn request(&mut self, id: Option<u64>, request: request::Request, out: &mut Outbox) {
        unreachable!("{id:?} {request:?} {out:?}")
    }

    /// The next bytes of a `data`; errors are answered by [`Files::data_end`].
    pub fn data(&mut self, id: u64, bytes: &[u8], out: &mut Outbox) {
        unreachable!("{id:?} {bytes:?} {out:?}")
    }

    /// A `data` is complete.
    pub fn data_end(&mut self, id: u64, out: &mut Outbox) {
        unreachable!("{id:?} {out:?}")
    }

    /// The disk's answer.
    pub fn disk(&mut self, reply: DiskReply, out: &mut Outbox) {
        unreachable!("{reply:?} {out:?}")
    }

    /// A queued stretch of that file could not be sent whole.
    pub fn file_shrank(&mut self, file: FileHandle) {
        unreachable!("{file:?}")
    }

    /// Queues more of the downloads, a fair share each, while the queue is low.
    pub fn pump(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// The client ended its sending side: drops incomplete uploads (or keeps
    /// their parts, where they can be resumed); downloads and hashes go on.
    pub fn end_of_input(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// Nobody listens any more: lets go of everything.
    pub fn abandon(&mut self, out: &mut Outbox) {
        let _ = out;
    }

    /// Whether a request waits for the disk, and later ones with it.
    pub fn is_waiting(&self) -> bool {
        false
    }

    /// Whether that id belongs to a transfer or hash for which a new request
    /// with it would be a conflict.
    pub fn is_live(&self, id: u64) -> bool {
        let _ = id;
        false
    }

    /// Whether nothing is under way that will still send something.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Whether the connection's input may be read: little enough of its
    /// uploads waits for the disk.
    pub fn wants_input(&self) -> bool {
        true
    }
}
