//! The file service of one connection: which transfers are under way and how
//! far each is. Disks are the driver's.
//!
//! A request waits for the disk and holds up the later ones, except that the
//! data of a `get` and the answer to a `hash` come when they come.
//!
//! ```text
//!   get     Open ........ answer, data..., (all sent) Check ... end, Close
//!   put     Create ...... answer
//!   data    Write                    (answered only where it fails)
//!   end     Finish ...... answer
//!   cancel  Release ..... answer
//!   others  one operation, one answer
//! ```

mod download;
mod ops;
mod upload;
mod waiting;

pub use ops::{Checksum, Create, DiskDone, DiskOp, DiskReply, DiskRequest, FileHandle, Ticket};

use super::{Effect, Outbox, paths};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::reply::Plain;
use crate::wire::request::{Get, List, Put, Request};
use download::Downloads;
use upload::{Uploads, checksum};
use waiting::{Then, Waiting, answer};

/// The most uploads of a connection at a time.
pub const MAX_UPLOADS: usize = 64;

/// The most downloads of a connection at a time.
pub const MAX_DOWNLOADS: usize = 64;

/// The most checksums that a connection has computed at a time.
pub const MAX_HASHES: usize = 16;

/// The most entries in the answer to a `list`.
pub const MAX_LIST: usize = 1_000;

/// The longest key of a resumable upload, in bytes.
pub const MAX_KEY: usize = 256;

/// Numbers a connection's disk operations.
#[derive(Debug, Default)]
pub(super) struct Tickets(u64);

impl Tickets {
    pub(super) fn ask(&mut self, op: DiskOp, out: &mut Outbox) -> Ticket {
        self.0 += 1;
        let ticket = Ticket(self.0);
        out.effect(Effect::Disk(DiskRequest { ticket, op }));
        ticket
    }
}

/// The file service of one connection.
#[derive(Debug, Default)]
pub struct Files {
    tickets: Tickets,
    waiting: Option<Waiting>,
    downloads: Downloads,
    uploads: Uploads,
    /// Running `hash` requests, by their disk operation.
    hashes: Vec<(Ticket, u64)>,
    /// Nothing is answered any more.
    abandoned: bool,
}

impl Files {
    /// Carries out `get`, `put`, `end`, `cancel`, `list`, `stat`, `hash`,
    /// `mkdir`, `remove` and `rename`. `id` is there where the protocol
    /// requires it.
    pub fn request(&mut self, id: Option<u64>, request: Request, out: &mut Outbox) {
        let cmd = request.command();
        let result = match (request, id) {
            (Request::Get(get), Some(id)) => self.get(id, get, out),
            (Request::Put(put), Some(id)) => return self.put(id, *put, out),
            (Request::End(end), Some(id)) => self.end(id, end.blake3.as_deref(), out),
            (Request::Cancel, Some(id)) => self.cancel(id, out),
            (Request::Hash(hash), Some(id)) => self.hash(id, hash.path, out),
            (Request::List(list), id) => self.list(id, list, out),
            (Request::Stat(stat), id) => paths::check_or_root(&stat.path)
                .map(|()| self.wait(cmd, id, DiskOp::Stat { path: stat.path }, Then::Answer, out)),
            (Request::Mkdir(mkdir), id) => paths::check(&mkdir.path).map(|()| {
                let op = DiskOp::Mkdir { path: mkdir.path, parents: mkdir.parents };
                self.wait(cmd, id, op, Then::Answer, out);
            }),
            (Request::Remove(remove), id) => paths::check(&remove.path)
                .map(|()| self.wait(cmd, id, DiskOp::Remove { path: remove.path }, Then::Answer, out)),
            (Request::Rename(rename), id) => {
                paths::check(&rename.path).and_then(|()| paths::check(&rename.to)).map(|()| {
                    let op = DiskOp::Rename { path: rename.path, to: rename.to, exists: rename.exists };
                    self.wait(cmd, id, op, Then::Answer, out);
                })
            }
            // The session sends no other request here, and none without the id it needs.
            (other, _) => {
                Err(Refusal::new(ErrorCode::UnknownCommand, format!("{} is no file command", other.command())))
            }
        };
        if let Err(refusal) = result {
            out.refuse(Some(cmd), id, &refusal);
        }
    }

    fn get(&mut self, id: u64, get: Get, out: &mut Outbox) -> Result<(), Refusal> {
        paths::check(&get.path)?;
        if self.downloads.len() >= MAX_DOWNLOADS {
            return Err(too_many("downloads", MAX_DOWNLOADS));
        }
        let then = Then::Download { id, offset: get.offset.unwrap_or(0), length: get.length };
        self.wait("get", Some(id), DiskOp::Open { path: get.path }, then, out);
        Ok(())
    }

    fn put(&mut self, id: u64, put: Put, out: &mut Outbox) {
        self.uploads.forget_failed(id);
        let full = self.uploads.len() >= MAX_UPLOADS;
        match upload::create(put).and_then(|put| if full { Err(too_many("uploads", MAX_UPLOADS)) } else { Ok(put) }) {
            Ok(create) => {
                let then = Then::Upload { id, path: create.path.clone(), length: create.length };
                self.wait("put", Some(id), DiskOp::Create(Box::new(create)), then, out);
            }
            Err(refusal) => {
                out.refuse(Some("put"), Some(id), &refusal);
                self.uploads.remember_failed(id, refusal, false);
            }
        }
    }

    /// A `put` was refused before it came here; its data may be on the way.
    pub fn put_failed(&mut self, id: u64, refusal: Refusal) {
        if !self.is_live(id) {
            self.uploads.remember_failed(id, refusal, false);
        }
    }

    fn end(&mut self, id: u64, blake3: Option<&str>, out: &mut Outbox) -> Result<(), Refusal> {
        if let Some(refusal) = self.uploads.forget_failed(id) {
            return Err(refusal);
        }
        if !self.uploads.is_open(id) {
            return Err(no_upload(id));
        }
        // Checked before the upload is touched: after a malformed request it goes on.
        let blake3 = blake3.map(checksum).transpose()?;
        let Some(upload) = self.uploads.finish(id, &mut self.tickets, out) else { return Err(no_upload(id)) };
        let (file, missing) = (upload.file, upload.length - upload.received);
        if missing > 0 {
            let message = format!(
                "{}: {missing} of {} bytes are missing: send them all before end",
                paths::shown(&upload.path),
                upload.length
            );
            let refusal = Refusal::new(ErrorCode::Conflict, message);
            self.wait("end", Some(id), DiskOp::Release { file, keep: true }, Then::Refuse(refusal), out);
            return Ok(());
        }
        let then = Then::Finish { file, path: upload.path, length: upload.length, failed: false };
        self.wait("end", Some(id), DiskOp::Finish { file, blake3 }, then, out);
        Ok(())
    }

    fn cancel(&mut self, id: u64, out: &mut Outbox) -> Result<(), Refusal> {
        if let Some(file) = self.uploads.cancel(id) {
            self.wait("cancel", Some(id), DiskOp::Release { file, keep: false }, Then::Answer, out);
        } else if let Some(at) = self.hashes.iter().position(|(_, hash)| *hash == id) {
            let (ticket, _) = self.hashes.remove(at);
            self.tickets.ask(DiskOp::StopHash { ticket }, out);
            out.answer("cancel", Some(id), Plain {});
            out.refuse(Some("hash"), Some(id), &cancelled());
        } else if self.downloads.is_live(id) {
            out.answer("cancel", Some(id), Plain {});
            self.downloads.cancel(id, &mut self.tickets, out);
        } else if self.uploads.forget_failed(id).is_some() {
            out.answer("cancel", Some(id), Plain {});
        } else {
            let message = format!("no get, put or hash with id {id} is under way: it may have ended already");
            return Err(Refusal::new(ErrorCode::NotFound, message));
        }
        Ok(())
    }

    fn hash(&mut self, id: u64, path: String, out: &mut Outbox) -> Result<(), Refusal> {
        paths::check(&path)?;
        if self.hashes.len() >= MAX_HASHES {
            return Err(too_many("checksums", MAX_HASHES));
        }
        let ticket = self.tickets.ask(DiskOp::Hash { path }, out);
        self.hashes.push((ticket, id));
        Ok(())
    }

    fn list(&mut self, id: Option<u64>, list: List, out: &mut Outbox) -> Result<(), Refusal> {
        paths::check_or_root(&list.path)?;
        let limit = list.limit.map_or(MAX_LIST, |limit| limit.min(MAX_LIST as u64) as usize);
        self.wait("list", id, DiskOp::List { path: list.path, after: list.after, limit }, Then::Answer, out);
        Ok(())
    }

    /// The next bytes of a `data`; errors are answered by [`Files::data_end`].
    pub fn data(&mut self, id: u64, bytes: &[u8], out: &mut Outbox) {
        self.uploads.data(id, bytes, &mut self.tickets, out);
    }

    /// A `data` is complete.
    pub fn data_end(&mut self, id: u64, out: &mut Outbox) {
        if let Err(refusal) = self.uploads.data_end(id, &mut self.tickets, out) {
            out.refuse(Some("data"), Some(id), &refusal);
        }
    }

    /// The disk's answer.
    pub fn disk(&mut self, reply: DiskReply, out: &mut Outbox) {
        let DiskReply { ticket, result } = reply;
        if self.waiting.as_ref().is_some_and(|waiting| waiting.ticket == ticket)
            && let Some(waiting) = self.waiting.take()
        {
            return self.waited(waiting, result, out);
        }
        if let Some(at) = self.hashes.iter().position(|(hash, _)| *hash == ticket) {
            let (_, id) = self.hashes.remove(at);
            return answer("hash", Some(id), result, out);
        }
        if self.uploads.is_writing(ticket) {
            let failure = self.uploads.written(ticket, result, &mut self.tickets, out);
            // Only the first failure of an upload is answered; its `end` repeats it.
            if let Some((file, refusal)) = failure
                && let Some(Waiting { id, then: Then::Finish { file: finishing, failed, .. }, .. }) = &mut self.waiting
                && *finishing == file
                && !std::mem::replace(failed, true)
            {
                out.refuse(Some("data"), *id, &refusal);
            }
            return;
        }
        self.downloads.checked(ticket, result.map(drop));
        self.downloads.pump(&mut self.tickets, out);
    }

    /// A queued stretch of that file could not be sent whole.
    pub fn file_shrank(&mut self, file: FileHandle) {
        self.downloads.shrank(file);
    }

    /// Queues more of the downloads, a fair share each, while the queue is low.
    ///
    /// A download ends only after its last byte was sent, so this must be
    /// called when the queue fell below its low-water mark, and once more when
    /// it is empty.
    pub fn pump(&mut self, out: &mut Outbox) {
        self.downloads.pump(&mut self.tickets, out);
    }

    /// The client ended its sending side: drops incomplete uploads (or keeps
    /// their parts, where they can be resumed); downloads and hashes go on.
    pub fn end_of_input(&mut self, out: &mut Outbox) {
        self.uploads.release_all(&mut self.tickets, out);
    }

    /// Nobody listens any more: lets go of everything. What is at the disk
    /// just then is let go of when its answer comes.
    pub fn abandon(&mut self, out: &mut Outbox) {
        self.abandoned = true;
        self.uploads.release_all(&mut self.tickets, out);
        self.downloads.close_all(&mut self.tickets, out);
        for (ticket, _) in std::mem::take(&mut self.hashes) {
            self.tickets.ask(DiskOp::StopHash { ticket }, out);
        }
    }

    /// Whether a request waits for the disk, and later ones with it.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether that id belongs to a transfer or hash for which a new request
    /// with it would be a conflict.
    pub fn is_live(&self, id: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.id == Some(id))
            || self.uploads.is_open(id)
            || self.downloads.is_live(id)
            || self.hashes.iter().any(|(_, hash)| *hash == id)
    }

    /// Whether nothing is under way that will still send something.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.hashes.is_empty() && self.downloads.len() == 0
    }

    /// Whether the connection's input may be read: little enough of its
    /// uploads waits for the disk.
    pub fn wants_input(&self) -> bool {
        self.uploads.wants_input()
    }

    /// Bytes of its uploads that are gathered or at the disk.
    pub fn waiting(&self) -> usize {
        self.uploads.waiting()
    }
}

fn too_many(what: &str, limit: usize) -> Refusal {
    Refusal::new(
        ErrorCode::Limit,
        format!("this connection has {limit} {what} under way, the most: wait for one to end"),
    )
}

fn no_upload(id: u64) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("no put with id {id} is under way: expected one that was answered"))
}

fn cancelled() -> Refusal {
    Refusal::new(ErrorCode::Cancelled, "cancelled, as the client asked")
}

#[cfg(test)]
mod tests;
