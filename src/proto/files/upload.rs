//! The uploads of one connection: bytes gathered into batches for the disk,
//! and what is remembered of uploads that failed.

use super::{Checksum, Create, DiskDone, DiskOp, FileHandle, MAX_KEY, Ticket, Tickets, no_upload};
use crate::proto::{Outbox, paths};
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::request::Put;
use std::collections::HashMap;

/// At this many bytes that wait for the disk a connection's input is not read:
/// a few batches, so that a worker always has the next one and finds it in the
/// processor's cache. More of them were slower.
pub(super) const MAX_WAITING: usize = 1 << 20;

/// The most bytes in one write: few enough to stay in a core's cache from the
/// copy through the checksum to the write, and enough to make those few.
const BATCH: usize = 256 << 10;

/// The most buffers kept for reuse. A buffer's memory is touched already, and
/// a fresh one's page faults cost about as much as the copy into it.
const SPARE: usize = 4;

/// The most failed uploads that are remembered; of older ones the `data` and
/// `end` are answered as if they had never been opened.
const MAX_FAILED: usize = 1_024;

/// The longest file, in bytes: what an offset of the kernel can hold (off_t).
const MAX_LENGTH: u64 = i64::MAX as u64;

/// Checks a `put`'s fields.
pub(super) fn create(put: Put) -> Result<Create, Refusal> {
    paths::check(&put.path)?;
    if put.length > MAX_LENGTH {
        let message = format!("field `length` is {}: expected at most {MAX_LENGTH}", put.length);
        return Err(Refusal::new(ErrorCode::TooLarge, message));
    }
    if let Some(key) = &put.resume
        && (key.is_empty() || key.len() > MAX_KEY)
    {
        let message = format!("field `resume` is {} bytes long: expected 1 to {MAX_KEY}", key.len());
        return Err(Refusal::new(ErrorCode::BadRequest, message));
    }
    Ok(Create {
        path: put.path,
        length: put.length,
        exists: put.exists,
        parents: put.parents,
        key: put.resume,
        mtime_ms: put.mtime_ms,
        mode: put.mode.map(|mode| mode & 0o777),
        blake3: put.blake3.as_deref().map(checksum).transpose()?,
    })
}

/// A checksum as the client wrote it.
pub(super) fn checksum(text: &str) -> Result<Checksum, Refusal> {
    let mut bytes = Checksum::default();
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Refusal::new(ErrorCode::BadRequest, "field `blake3`: expected 64 hexadecimal digits")),
    }
}

/// An upload that takes data.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) file: FileHandle,
    pub(super) path: String,
    pub(super) length: u64,
    /// Bytes that came, those of earlier attempts included.
    pub(super) received: u64,
    batch: Vec<u8>,
    /// Writes at the disk.
    writing: usize,
}

#[derive(Debug)]
struct Failed {
    refusal: Refusal,
    /// Whether the `data` at hand is still to be answered with it.
    unanswered: bool,
    /// Rises from one failed upload to the next.
    order: u64,
}

#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: HashMap<u64, Upload>,
    failed: HashMap<u64, Failed>,
    failures: u64,
    /// What is at the disk: for each write the upload and its bytes.
    writes: HashMap<Ticket, (FileHandle, usize)>,
    /// Bytes gathered or at the disk.
    waiting: usize,
    spare: Vec<Vec<u8>>,
}

impl Uploads {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn wants_input(&self) -> bool {
        self.waiting < MAX_WAITING
    }

    /// Bytes gathered or at the disk.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn begin(&mut self, id: u64, file: FileHandle, path: String, length: u64, received: u64) {
        self.open.insert(id, Upload { file, path, length, received, batch: Vec::new(), writing: 0 });
    }

    pub(super) fn data(&mut self, id: u64, mut bytes: &[u8], tickets: &mut Tickets, out: &mut Outbox) {
        let Some(upload) = self.open.get_mut(&id) else { return };
        if bytes.len() as u64 > upload.length - upload.received {
            let message =
                format!("{}: more bytes than the {} that the put announced", paths::shown(&upload.path), upload.length);
            return self.fail(id, Refusal::new(ErrorCode::TooLarge, message), true, tickets, out);
        }
        self.waiting += bytes.len();
        while !bytes.is_empty() {
            if upload.batch.capacity() == 0 {
                let left = (upload.length - upload.received).min(BATCH as u64) as usize;
                upload.batch = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(left));
            }
            let room = upload.batch.capacity().min(BATCH) - upload.batch.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            upload.batch.extend_from_slice(now);
            upload.received += now.len() as u64;
            bytes = later;
            if upload.batch.len() >= upload.batch.capacity().min(BATCH) {
                write(upload, &mut self.writes, tickets, out);
            }
        }
    }

    /// What a `data` that is complete is answered with, where it failed.
    pub(super) fn data_end(&mut self, id: u64, tickets: &mut Tickets, out: &mut Outbox) -> Result<(), Refusal> {
        if let Some(upload) = self.open.get_mut(&id) {
            // While the disk is busy with this upload, more is gathered.
            if upload.writing == 0 {
                write(upload, &mut self.writes, tickets, out);
            }
            return Ok(());
        }
        let Some(failed) = self.failed.get_mut(&id) else { return Err(no_upload(id)) };
        if std::mem::take(&mut failed.unanswered) { Err(failed.refusal.clone()) } else { Ok(()) }
    }

    pub(super) fn is_writing(&self, ticket: Ticket) -> bool {
        self.writes.contains_key(&ticket)
    }

    /// The disk's answer. Where it refused a write of an upload that takes no
    /// more data: that upload, and why.
    pub(super) fn written(
        &mut self,
        ticket: Ticket,
        result: Result<DiskDone, Refusal>,
        tickets: &mut Tickets,
        out: &mut Outbox,
    ) -> Option<(FileHandle, Refusal)> {
        let (file, length) = self.writes.remove(&ticket)?;
        self.waiting -= length;
        let upload = self.open.iter_mut().find(|(_, upload)| upload.file == file);
        match (result, upload) {
            (Ok(done), upload) => {
                if let DiskDone::Written { mut buffer } = done
                    && self.spare.len() < SPARE
                    && buffer.capacity() >= BATCH
                {
                    buffer.clear();
                    self.spare.push(buffer);
                }
                if let Some((_, upload)) = upload {
                    upload.writing -= 1;
                    if upload.writing == 0 {
                        write(upload, &mut self.writes, tickets, out);
                    }
                }
                self.trim();
                None
            }
            (Err(refusal), Some((&id, _))) => {
                out.refuse(Some("data"), Some(id), &refusal);
                self.fail(id, refusal, false, tickets, out);
                None
            }
            (Err(refusal), None) => Some((file, refusal)),
        }
    }

    /// Takes an upload that gets no more data, with everything that was
    /// gathered for it on its way to the disk.
    pub(super) fn finish(&mut self, id: u64, tickets: &mut Tickets, out: &mut Outbox) -> Option<Upload> {
        let mut upload = self.open.remove(&id)?;
        write(&mut upload, &mut self.writes, tickets, out);
        self.trim();
        Some(upload)
    }

    /// Drops an upload and what was gathered for it.
    pub(super) fn cancel(&mut self, id: u64) -> Option<FileHandle> {
        let upload = self.open.remove(&id)?;
        self.waiting -= upload.batch.len();
        self.trim();
        Some(upload.file)
    }

    fn fail(&mut self, id: u64, refusal: Refusal, unanswered: bool, tickets: &mut Tickets, out: &mut Outbox) {
        if let Some(file) = self.cancel(id) {
            tickets.ask(DiskOp::Release { file, keep: false }, out);
        }
        self.remember_failed(id, refusal, unanswered);
    }

    /// From now on `data` with this id is dropped.
    pub(super) fn remember_failed(&mut self, id: u64, refusal: Refusal, unanswered: bool) {
        if self.failed.len() >= MAX_FAILED
            && let Some(oldest) = self.failed.iter().min_by_key(|(_, failed)| failed.order).map(|(id, _)| *id)
        {
            self.failed.remove(&oldest);
        }
        self.failures += 1;
        self.failed.insert(id, Failed { refusal, unanswered, order: self.failures });
    }

    /// Why the upload with this id failed, where it did; the id is free then.
    pub(super) fn forget_failed(&mut self, id: u64) -> Option<Refusal> {
        self.failed.remove(&id).map(|failed| failed.refusal)
    }

    /// Lets go of every upload; parts with a key are kept.
    pub(super) fn release_all(&mut self, tickets: &mut Tickets, out: &mut Outbox) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            if let Some(upload) = self.finish(id, tickets, out) {
                tickets.ask(DiskOp::Release { file: upload.file, keep: true }, out);
            }
        }
        self.failed = HashMap::new();
    }

    /// A connection without uploads keeps no buffers.
    fn trim(&mut self) {
        if self.open.is_empty() {
            self.spare = Vec::new();
        }
    }
}

/// Sends what was gathered to the disk.
fn write(
    upload: &mut Upload,
    writes: &mut HashMap<Ticket, (FileHandle, usize)>,
    tickets: &mut Tickets,
    out: &mut Outbox,
) {
    if upload.batch.is_empty() {
        return;
    }
    let bytes = std::mem::take(&mut upload.batch);
    let (file, length) = (upload.file, bytes.len());
    let ticket = tickets.ask(DiskOp::Write { file, bytes }, out);
    writes.insert(ticket, (file, length));
    upload.writing += 1;
}
