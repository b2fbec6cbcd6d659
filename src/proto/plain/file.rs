//! Files for clients that know next to no frames: a length, a JSON header and
//! raw bytes, no identifiers, and no answer to a `put`.
//!
//! A driver treats it as a session: the same inputs, effects and questions.
//! This module cuts the input into requests; `transfer` carries them out,
//! one after the other.

mod transfer;

use crate::proto::files::DiskReply;
use crate::proto::outbox::HIGH_WATER;
use crate::proto::session::Wants;
use crate::proto::{Input, Outbox};
use crate::wire::{FrameDecoder, Limits, MAX_HEADER, Piece};
use transfer::{Request, Transfer};

/// What a client may send: bodies are passed on as they come, whatever their length.
const LIMITS: Limits = Limits { header: MAX_HEADER, body: usize::MAX };

/// The files of one plain client, one at a time.
#[derive(Debug)]
pub struct PlainFile {
    decoder: FrameDecoder,
    /// Input that came while it was not wanted; the part before `taken` is used up.
    input: Vec<u8>,
    taken: usize,
    transfer: Transfer,
    ended: bool,
    failed: bool,
}

impl Default for PlainFile {
    fn default() -> Self {
        PlainFile {
            decoder: FrameDecoder::new(LIMITS),
            input: Vec::new(),
            taken: 0,
            transfer: Transfer::default(),
            ended: false,
            failed: false,
        }
    }
}

impl PlainFile {
    /// Takes what happened; never fails.
    pub fn handle_input(&mut self, input: Input<'_>, out: &mut Outbox) {
        let mut fresh = &[][..];
        match input {
            Input::Bytes(bytes) => fresh = bytes,
            Input::Eof => self.ended = true,
            Input::Disk(DiskReply { ticket, result }) => self.transfer.disk(ticket, result, out),
            // The client must not take the zeros in its place for the file.
            Input::FileShrank(_) => {
                out.queue.clear();
                self.fail(out);
                self.transfer.close_download(out);
            }
            Input::SlowConsumer => {
                out.queue.drop_unsent_frames();
                self.fail(out);
            }
            Input::Kicked | Input::Shutdown => self.fail(out),
            Input::Gone => {
                self.fail(out);
                self.transfer.close_download(out);
            }
            // Room in the queue; nothing else was asked for.
            _ => {}
        }
        if self.failed {
            return;
        }
        self.take_input(fresh, out);
        while self.transfer.pump(out) {
            self.take_input(b"", out);
        }
        if self.ended && self.input.is_empty() && !self.transfer.is_waiting() {
            // What was to come never will.
            self.transfer.drop_upload(out);
        }
    }

    fn take_input(&mut self, fresh: &[u8], out: &mut Outbox) {
        let mut kept = std::mem::take(&mut self.input);
        let mut rest = fresh;
        if !kept.is_empty() {
            kept.extend_from_slice(fresh);
            rest = &kept[self.taken..];
        }
        self.take_requests(&mut rest, out);
        if self.failed || rest.is_empty() {
            self.taken = 0;
        } else if kept.is_empty() {
            self.input = rest.to_vec();
        } else {
            self.taken = kept.len() - rest.len();
            self.input = kept;
        }
    }

    fn take_requests(&mut self, input: &mut &[u8], out: &mut Outbox) {
        while !self.is_paused(out) {
            match self.decoder.next(input) {
                Ok(None) => return,
                Ok(Some(Piece::Header(header))) => {
                    let request = Request::parse(header);
                    let length = match &request {
                        Some(Request::Put { length, .. }) => usize::try_from(*length).ok(),
                        _ => Some(0),
                    };
                    let (Some(request), Some(length)) = (request, length) else { return self.fail(out) };
                    self.decoder.expect_body(length);
                    self.transfer.begin(request, out);
                }
                Ok(Some(Piece::Body(bytes))) => self.transfer.data(bytes, out),
                Ok(Some(Piece::End)) => self.transfer.end(out),
                Err(_) => return self.fail(out),
            }
        }
    }

    /// Ends the connection. Stretches of a download that are queued need
    /// their file until they are sent.
    fn fail(&mut self, out: &mut Outbox) {
        self.failed = true;
        self.input = Vec::new();
        self.transfer.drop_upload(out);
        self.transfer.forget_answers();
    }

    fn is_paused(&self, out: &Outbox) -> bool {
        self.failed || self.transfer.is_waiting() || out.queue.len() >= HIGH_WATER
    }

    /// What the driver should read.
    pub fn wants(&self, out: &Outbox) -> Wants {
        let reads = !self.ended && self.input.is_empty() && !self.is_paused(out);
        Wants { socket_read: reads, child_read: false }
    }

    /// Whether [`Input::Drained`] would let something go on.
    pub fn wants_drained(&self) -> bool {
        !self.failed && (!self.input.is_empty() || self.transfer.is_sending())
    }

    /// Whether everything is done, answered and sent.
    pub fn is_finished(&self, out: &Outbox) -> bool {
        let idle = self.input.is_empty() && self.transfer.is_idle();
        out.queue.is_empty() && (self.failed || (self.ended && idle))
    }

    /// Whether the server ended the connection; its driver then drains what
    /// still comes.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests;
