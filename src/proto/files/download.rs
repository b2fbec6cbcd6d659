//! The downloads of one connection: files queued a stretch at a time, several
//! in turn, and checked when the last byte was sent.

use super::{DiskOp, FileHandle, Ticket, Tickets, cancelled};
use crate::proto::Outbox;
use crate::proto::outbox::{HIGH_WATER, LOW_WATER};
use crate::wire::MAX_DATA;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::reply::StreamEvent;
use std::collections::VecDeque;

#[derive(Debug)]
struct Download {
    id: u64,
    file: FileHandle,
    /// The next byte to queue, and where to stop.
    next: u64,
    stop: u64,
    /// Bytes queued.
    queued: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Data is being queued, or sent.
    Sending,
    /// Everything was sent; the disk looks whether the file is what it was.
    Checking(Ticket),
    /// How it ends, as soon as nothing of the file is queued any more.
    Ending(Result<(), Refusal>),
    /// It has ended for the client; a stretch of the file is still queued.
    Closing,
}

/// The downloads of one connection, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Downloads(VecDeque<Download>);

impl Downloads {
    /// How many hold a file open.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_live(&self, id: u64) -> bool {
        self.0.iter().any(|download| download.is_live(id))
    }

    pub(super) fn begin(&mut self, id: u64, file: FileHandle, begin: u64, length: u64) {
        let stop = begin + length;
        self.0.push_back(Download { id, file, next: begin, stop, queued: 0, stage: Stage::Sending });
    }

    /// Queues a stretch of each in turn while the queue is low, and ends those
    /// of which everything was sent.
    pub(super) fn pump(&mut self, tickets: &mut Tickets, out: &mut Outbox) {
        if out.queue.len() < LOW_WATER {
            // Each turn queues something or takes one out of the round.
            let mut idle = 0;
            while out.queue.len() < HIGH_WATER && idle < self.0.len() {
                idle = if self.0[0].queue_stretch(out) { 0 } else { idle + 1 };
                self.0.rotate_left(1);
            }
        }
        self.0.retain_mut(|download| {
            let over = download.settle(tickets, out);
            if over {
                tickets.ask(DiskOp::Close { file: download.file }, out);
            }
            !over
        });
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    /// The disk's answer to a check.
    pub(super) fn checked(&mut self, ticket: Ticket, result: Result<(), Refusal>) {
        let checking = |download: &&mut Download| matches!(download.stage, Stage::Checking(t) if t == ticket);
        if let Some(download) = self.0.iter_mut().find(checking) {
            download.stage = Stage::Ending(result);
        }
    }

    /// Ends the download with `cancelled`.
    pub(super) fn cancel(&mut self, id: u64, tickets: &mut Tickets, out: &mut Outbox) {
        if let Some(download) = self.0.iter_mut().find(|download| download.is_live(id)) {
            download.end(&Err(cancelled()), out);
            download.stage = Stage::Closing;
        }
        self.pump(tickets, out);
    }

    /// The file ended before a queued stretch did: what was announced of that
    /// frame went out as zeros, and nothing more comes.
    pub(super) fn shrank(&mut self, file: FileHandle) {
        let shrunk = self.0.iter_mut().find(|download| download.file == file);
        if let Some(download) = shrunk.filter(|download| !matches!(download.stage, Stage::Closing)) {
            let message = "the file became shorter while it was sent; what is missing was sent as zeros";
            download.stop = download.next;
            download.stage = Stage::Ending(Err(Refusal::new(ErrorCode::Changed, message)));
        }
    }

    /// Closes every file.
    pub(super) fn close_all(&mut self, tickets: &mut Tickets, out: &mut Outbox) {
        for download in std::mem::take(&mut self.0) {
            tickets.ask(DiskOp::Close { file: download.file }, out);
        }
    }
}

impl Download {
    fn is_live(&self, id: u64) -> bool {
        self.id == id && !matches!(self.stage, Stage::Closing)
    }

    fn queue_stretch(&mut self, out: &mut Outbox) -> bool {
        if !matches!(self.stage, Stage::Sending) || self.next == self.stop {
            return false;
        }
        let size = (self.stop - self.next).min(MAX_DATA as u64) as usize;
        out.queue.frame_file(&StreamEvent::Data { id: self.id, size }, self.file, self.next, size);
        self.next += size as u64;
        self.queued += size as u64;
        true
    }

    /// Moves on as far as possible; says whether the file is needed no more.
    fn settle(&mut self, tickets: &mut Tickets, out: &mut Outbox) -> bool {
        // What the check finds holds for all of the data only when all was sent.
        if self.next < self.stop && matches!(self.stage, Stage::Sending) || out.queue.has_file(self.file) {
            return false;
        }
        match std::mem::replace(&mut self.stage, Stage::Closing) {
            Stage::Sending => {
                self.stage = Stage::Checking(tickets.ask(DiskOp::Check { file: self.file }, out));
                false
            }
            Stage::Checking(ticket) => {
                self.stage = Stage::Checking(ticket);
                false
            }
            Stage::Ending(result) => {
                self.end(&result, out);
                true
            }
            Stage::Closing => true,
        }
    }

    fn end(&self, result: &Result<(), Refusal>, out: &mut Outbox) {
        let refusal = result.as_ref().err();
        let event = StreamEvent::End {
            id: self.id,
            ok: refusal.is_none(),
            error: refusal.map(|refusal| refusal.code),
            message: refusal.map(|refusal| refusal.message.as_str()),
            length: self.queued,
        };
        out.queue.frame(&event, b"");
    }
}
