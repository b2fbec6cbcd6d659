//! What a session has to say: a queue of bytes to send, and effects to carry out.
//!
//! Small frames are gathered in contiguous buffers; large bodies and fan-out
//! frames stay where they are and are shared; stretches of files are only
//! named, and the driver sends them from the kernel's cache. An empty queue
//! holds no memory.

use super::Effect;
use super::files::FileHandle;
use crate::wire::error::{ErrorCode, Refusal};
use crate::wire::frame;
use crate::wire::reply::{Answer, FatalError, Refused, Size, write_sized_answer};
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Above this many queued bytes a session takes no more requests and its
/// driver reads no more command output.
pub const HIGH_WATER: usize = 256 << 10;

/// Below this many queued bytes they go on.
pub const LOW_WATER: usize = 64 << 10;

/// A gathering buffer is not grown beyond this, so that none is ever moved
/// far and what was sent is given back early.
const GATHER: usize = 64 << 10;

/// What a gathering buffer begins with: room for a few small frames.
const FIRST_GATHER: usize = 1 << 10;

/// Shared bytes up to this length are copied rather than kept as a chunk of
/// their own: a copy of a few cache lines is cheaper than another reference,
/// another vector element and, for the kernel, another segment.
const COPY_LIMIT: usize = 4 << 10;

/// A stretch of the queue.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes of this queue alone.
    Owned(Vec<u8>),
    /// Bytes that other queues may hold too.
    Shared(Bytes),
    /// Bytes of an open file.
    File {
        /// The file, as its driver knows it.
        file: FileHandle,
        /// Where the stretch begins.
        offset: u64,
        /// How long it is.
        length: usize,
    },
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Owned(bytes) => bytes.len(),
            Chunk::Shared(bytes) => bytes.len(),
            Chunk::File { length, .. } => *length,
        }
    }
}

#[derive(Debug)]
struct Queued {
    chunk: Chunk,
    /// Whether a frame begins at the chunk's first byte.
    starts_frame: bool,
}

/// The bytes waiting for one peer, oldest first.
#[derive(Debug, Default)]
pub struct SendQueue {
    chunks: VecDeque<Queued>,
    /// How much of the first chunk is sent.
    sent: usize,
    /// Bytes still to send.
    len: usize,
    /// How many of them are a file's.
    file_len: usize,
}

impl SendQueue {
    /// Bytes still to send.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a frame; its body is copied.
    pub fn frame(&mut self, header: &impl Serialize, body: &[u8]) {
        if body.len() > COPY_LIMIT {
            return self.frame_shared(header, Bytes::copy_from_slice(body));
        }
        self.gather_frame(body, |out| frame::encode_header(header, out));
    }

    /// Queues the positive answer to `cmd` that has a body and nothing else;
    /// the body is copied.
    pub fn sized_answer(&mut self, cmd: &'static str, id: Option<u64>, body: &[u8]) {
        if body.len() > COPY_LIMIT {
            return self.frame_shared(&Answer::new(cmd, id, Size { size: body.len() }), Bytes::copy_from_slice(body));
        }
        self.gather_frame(body, |out| {
            frame::encode_header_with(out, |out| write_sized_answer(cmd, id, body.len(), out));
        });
    }

    fn gather_frame(&mut self, body: &[u8], header: impl FnOnce(&mut Vec<u8>)) {
        let gather = self.gather(body.len());
        let before = gather.len();
        header(gather);
        gather.extend_from_slice(body);
        self.len += gather.len() - before;
    }

    /// Queues a frame whose body is not copied where it is long.
    pub fn frame_shared(&mut self, header: &impl Serialize, body: Bytes) {
        if body.len() <= COPY_LIMIT {
            return self.frame(header, &body);
        }
        self.frame(header, b"");
        self.push(Chunk::Shared(body), false);
    }

    /// Queues a frame whose body is a stretch of a file.
    pub fn frame_file(&mut self, header: &impl Serialize, file: FileHandle, offset: u64, length: usize) {
        self.frame(header, b"");
        self.file(file, offset, length);
    }

    /// Queues a stretch of a file as it is: more of what stands before it.
    pub fn file(&mut self, file: FileHandle, offset: u64, length: usize) {
        if length > 0 {
            self.push(Chunk::File { file, offset, length }, false);
        }
    }

    /// Queues whole frames that are encoded already.
    pub fn encoded(&mut self, frames: &Bytes) {
        if frames.len() > COPY_LIMIT {
            return self.push(Chunk::Shared(frames.clone()), true);
        }
        self.gather(frames.len()).extend_from_slice(frames);
        self.len += frames.len();
    }

    /// Queues bytes as they are, for listeners that know no frames.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.gather(bytes.len()).extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push(&mut self, chunk: Chunk, starts_frame: bool) {
        self.len += chunk.len();
        if matches!(chunk, Chunk::File { .. }) {
            self.file_len += chunk.len();
        }
        self.chunks.push_back(Queued { chunk, starts_frame });
    }

    /// The buffer to which small things are appended.
    fn gather(&mut self, more: usize) -> &mut Vec<u8> {
        let fits = match self.chunks.back() {
            Some(Queued { chunk: Chunk::Owned(bytes), .. }) => bytes.len() + more <= GATHER,
            _ => false,
        };
        if !fits {
            let bytes = Vec::with_capacity(FIRST_GATHER.max(more));
            self.chunks.push_back(Queued { chunk: Chunk::Owned(bytes), starts_frame: true });
        }
        match self.chunks.back_mut() {
            Some(Queued { chunk: Chunk::Owned(bytes), .. }) => bytes,
            _ => unreachable!("the last chunk was just made sure of"),
        }
    }

    /// The first chunk where it is a file: the file, offset and length of what
    /// is unsent of it.
    pub fn front_file(&self) -> Option<(FileHandle, u64, usize)> {
        match self.chunks.front()?.chunk {
            Chunk::File { file, offset, length } => Some((file, offset + self.sent as u64, length - self.sent)),
            _ => None,
        }
    }

    /// How many of the bytes still to send are a file's.
    pub fn file_len(&self) -> usize {
        self.file_len
    }

    /// Whether a stretch of `file` is still to be sent.
    pub fn has_file(&self, file: FileHandle) -> bool {
        self.chunks.iter().any(|queued| matches!(queued.chunk, Chunk::File { file: queued, .. } if queued == file))
    }

    /// Fills `slices` with the unsent bytes up to the first file and returns
    /// how many it filled, and whether something stands behind those.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, bool) {
        let mut sent = self.sent;
        let mut filled = 0;
        for queued in &self.chunks {
            let bytes = match &queued.chunk {
                Chunk::Owned(bytes) => &bytes[..],
                Chunk::Shared(bytes) => &bytes[..],
                Chunk::File { .. } => return (filled, true),
            };
            if filled == slices.len() {
                return (filled, true);
            }
            slices[filled] = IoSlice::new(&bytes[sent..]);
            filled += 1;
            sent = 0;
        }
        (filled, false)
    }

    /// Takes note that `n` bytes more were sent.
    pub fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.len);
        self.len -= n;
        let mut n = n;
        while let Some(front) = self.chunks.front() {
            let left = front.chunk.len() - self.sent;
            if matches!(front.chunk, Chunk::File { .. }) {
                self.file_len -= n.min(left);
            }
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.sent = 0;
            self.chunks.pop_front();
        }
        // An idle connection keeps no buffer.
        self.chunks = VecDeque::new();
    }

    /// Puts zeros in the place of what is unsent of the file in front, which
    /// shrank under the transfer, so that the frame that announced it ends
    /// where it said.
    pub fn replace_front_file_by_zeros(&mut self) {
        let Some((_, _, left)) = self.front_file() else { return };
        self.file_len -= left;
        self.chunks[0].chunk = Chunk::Owned(vec![0; left]);
        self.sent = 0;
    }

    /// Drops every frame of which no byte was sent yet, to make room for last
    /// words. A chunk that was begun stays whole.
    pub fn drop_unsent_frames(&mut self) {
        let keep = match self.chunks.front() {
            None => 0,
            Some(front) if self.sent == 0 && front.starts_frame => 0,
            Some(_) => 1 + self.chunks.iter().skip(1).take_while(|queued| !queued.starts_frame).count(),
        };
        for dropped in self.chunks.drain(keep..) {
            self.len -= dropped.chunk.len();
            if matches!(dropped.chunk, Chunk::File { .. }) {
                self.file_len -= dropped.chunk.len();
            }
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = SendQueue::default();
    }

    /// The unsent bytes that keep memory of this process busy; a shared chunk
    /// is counted in each queue that holds it.
    pub fn memory(&self) -> usize {
        self.len - self.file_len
    }
}

/// What a session wants sent and done.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes for the peer.
    pub queue: SendQueue,
    /// Effects for the driver, oldest first.
    pub effects: VecDeque<Effect>,
}

impl Outbox {
    /// Queues the positive answer to `cmd`.
    pub fn answer(&mut self, cmd: &str, id: Option<u64>, fields: impl Serialize) {
        self.queue.frame(&Answer::new(cmd, id, fields), b"");
    }

    /// Queues the positive answer to `cmd`, with nothing but a body.
    pub fn answer_body(&mut self, cmd: &str, id: Option<u64>, body: Bytes) {
        self.queue.frame_shared(&Answer::new(cmd, id, Size { size: body.len() }), body);
    }

    /// Queues the refusal of `cmd`.
    pub fn refuse(&mut self, cmd: Option<&str>, id: Option<u64>, refusal: &Refusal) {
        self.queue.frame(&Refused::new(cmd, id, refusal), b"");
    }

    /// Queues the last words before the connection ends.
    pub fn fatal(&mut self, code: ErrorCode, message: &str) {
        self.queue.frame(&FatalError { error: code, message }, b"");
    }

    /// Queues an effect.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply::Plain;
    use proptest::prelude::*;

    fn unsent(queue: &SendQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(b""); 8];
        let (n, _) = queue.slices(&mut slices);
        slices[..n].iter().flat_map(|s| s.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn every_sequence_of_partial_writes_sends_the_same_bytes(
            bodies in prop::collection::vec(0usize..20_000, 1..6),
            steps in prop::collection::vec(1usize..9_000, 1..400),
        ) {
            let mut queue = SendQueue::default();
            let mut expected = Vec::new();
            for (i, size) in bodies.iter().enumerate() {
                let body = vec![i as u8; *size];
                queue.frame_shared(&Size { size: *size }, Bytes::from(body.clone()));
                expected.extend(frame::encode(&Size { size: *size }, &body));
            }
            let mut sent = Vec::new();
            for step in steps.iter().cycle() {
                prop_assert_eq!(queue.len(), expected.len() - sent.len());
                let bytes = unsent(&queue);
                if bytes.is_empty() {
                    break;
                }
                let n = (*step).min(bytes.len());
                sent.extend_from_slice(&bytes[..n]);
                queue.advance(n);
            }
            prop_assert_eq!(sent, expected);
            prop_assert!(queue.is_empty() && queue.chunks.capacity() == 0);
        }
    }

    #[test]
    fn slices_stop_at_a_file() {
        let mut queue = SendQueue::default();
        queue.frame_file(&Plain {}, FileHandle(1), 100, 50);
        queue.frame(&Plain {}, b"tail");
        let mut slices = [IoSlice::new(b""); 8];
        assert_eq!(queue.slices(&mut slices), (1, true));
        queue.advance(6 + 20);
        assert_eq!(queue.front_file(), Some((FileHandle(1), 120, 30)));
        assert_eq!((queue.memory(), queue.file_len()), (10, 30));
        queue.replace_front_file_by_zeros();
        assert_eq!(unsent(&queue), [&[0; 30][..], b"\x02\0\0\0{}tail"].concat());
        assert_eq!((queue.len(), queue.memory()), (30 + 10, 30 + 10));
    }

    #[test]
    fn dropping_unsent_frames_keeps_the_begun_one_whole() {
        let mut queue = SendQueue::default();
        queue.frame_shared(&Plain {}, Bytes::from(vec![1; 10_000]));
        queue.encoded(&Bytes::from(vec![2; 10_000]));
        queue.frame(&Plain {}, b"x");
        queue.advance(8);
        queue.drop_unsent_frames();
        assert_eq!(unsent(&queue), vec![1; 9_998]);
        queue.advance(9_998);
        queue.frame(&Plain {}, b"y");
        queue.drop_unsent_frames();
        assert!(queue.is_empty());
    }
}
