//! Whole files, up and down, a thread for each connection; contents are made
//! up and compared in memory.

use super::figures::{Figures, Latencies};
use super::frames::{Header, Reactord, parse};
use super::line::{lost, open};
use super::payload::Content;
use super::peer::Peer;
use super::progress::Progress;
use super::{End, wrong};
use crate::client::error::{ClientError, Result, reason};
use crate::wire::frame::{Limits, encode_header};
use crate::wire::{FrameDecoder, MAX_DATA, Piece};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes asked of a socket at once.
const READ: usize = 512 << 10;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Connections, each with a thread.
    pub connections: usize,
    /// Bytes of the file.
    pub size: u64,
    /// When to stop; a request is a whole file.
    pub end: End,
}

/// Puts a file there, lets every connection get it again and again, and
/// removes it. Every byte is compared.
pub fn get(peer: &mut Reactord, work: &Transfer, progress: &mut Progress) -> Result<Figures> {
    let content = Content::new(work.size);
    let blake3 = content.blake3();
    let path = format!("bench-{}", std::process::id());
    let mut owner = Talk::open(peer)?;
    owner.put(&path, &content, &blake3)?;
    let figures = parallel(work, progress, peer, |talk, _| talk.get(&path, &content));
    owner.call(json!({"cmd": "remove", "path": path}))?;
    figures
}

/// Lets every connection put a file again and again, under a name of its own
/// that is removed in the end. The server's checksum must be that of what was sent.
pub fn put(peer: &mut Reactord, work: &Transfer, progress: &mut Progress) -> Result<Figures> {
    let content = Content::new(work.size);
    let blake3 = content.blake3();
    let path = |n| format!("bench-{}-{n}", std::process::id());
    let figures = parallel(work, progress, peer, |talk, n| talk.put(&path(n), &content, &blake3));
    let mut owner = Talk::open(peer)?;
    for n in 0..work.connections {
        match owner.call(json!({"cmd": "remove", "path": path(n)})) {
            Err(ClientError::Refused { error, .. }) if error.is(crate::wire::ErrorCode::NotFound) => {}
            removed => removed.map(drop)?,
        }
    }
    figures
}

/// Lets `once` happen on every connection until the work is done.
pub(super) fn parallel(
    work: &Transfer,
    progress: &mut Progress,
    peer: &mut Reactord,
    once: impl Fn(&mut Talk, usize) -> Result<()> + Sync,
) -> Result<Figures> {
    let mut talks = (0..work.connections).map(|_| Talk::open(peer)).collect::<Result<Vec<_>>>()?;
    let (asked, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let (once, asked, done) = (&once, &asked, &done);
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = talks
            .iter_mut()
            .enumerate()
            .map(|(n, talk)| {
                scope.spawn(move || {
                    let mut latencies = Latencies::default();
                    loop {
                        let start = Instant::now();
                        if !work.end.allows(asked.fetch_add(1, Ordering::Relaxed), began, start) {
                            return Ok(latencies);
                        }
                        once(talk, n)?;
                        latencies.record(start, Instant::now());
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(1));
            progress.tick(Instant::now(), done.load(Ordering::Relaxed), "done");
        }
        let mut all = Latencies::default();
        for thread in threads {
            let one: Result<Latencies> = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.merge(&one?);
        }
        Ok(all)
    })?;
    let done = done.load(Ordering::Relaxed);
    Ok(Figures::new(done, done * work.size, began.elapsed(), &latencies))
}

/// A greeted, blocking connection that hands out frames in place.
#[derive(Debug)]
pub(super) struct Talk {
    address: SocketAddr,
    socket: TcpStream,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
    unread: std::ops::Range<usize>,
    next: u64,
}

/// What a frame's reader is given: the header, and then its body in pieces
/// with the offset of each.
pub(super) enum Part<'a> {
    Header(&'a Header),
    Body(usize, &'a [u8]),
}

impl Talk {
    pub(super) fn open(peer: &mut Reactord) -> Result<Talk> {
        let mut hello = Vec::new();
        peer.greet(0, &mut hello);
        let address = peer.address();
        let socket = open(address, &hello, |input| peer.greeted(0, input))?;
        socket.set_read_timeout(Some(super::STUCK)).map_err(|e| lost(address, reason(&e)))?;
        let decoder = FrameDecoder::new(Limits::FULL);
        Ok(Talk { address, socket, decoder, buffer: vec![0; READ], unread: 0..0, next: 0 })
    }

    pub(super) fn take_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn send(&mut self, header: &serde_json::Value, body: &[u8]) -> Result<()> {
        let mut out = Vec::with_capacity(256);
        encode_header(header, &mut out);
        let written = self.socket.write_all(&out).and_then(|()| self.socket.write_all(body));
        written.map_err(|e| lost(self.address, reason(&e)))
    }

    /// Reads one frame and returns its header.
    pub(super) fn receive(&mut self, mut part: impl FnMut(Part<'_>) -> Result<()>) -> Result<Header> {
        let mut header = Header::default();
        let mut came = 0;
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let piece = self.decoder.next(&mut input).map_err(wrong)?;
            self.unread.start = self.unread.end - input.len();
            match piece {
                Some(Piece::Header(text)) => {
                    header = parse(text)?;
                    self.decoder.expect_body(header.size);
                    part(Part::Header(&header))?;
                }
                Some(Piece::Body(bytes)) => {
                    part(Part::Body(came, bytes))?;
                    came += bytes.len();
                }
                Some(Piece::End) => return Ok(header),
                None => match self.socket.read(&mut self.buffer) {
                    Ok(0) => return Err(lost(self.address, "the server closed it")),
                    Ok(n) => self.unread = 0..n,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(lost(self.address, reason(&e))),
                },
            }
        }
    }

    /// Sends a request and returns the header of its answer.
    pub(super) fn call(&mut self, mut request: serde_json::Value) -> Result<Header> {
        let id = self.take_id();
        request["id"] = id.into();
        self.send(&request, b"")?;
        self.answer(id)
    }

    fn answer(&mut self, id: u64) -> Result<Header> {
        let header = self.receive(|_| Ok(()))?;
        match header.id == Some(id) && header.re.is_some() {
            true => Ok(header),
            false => Err(wrong(format_args!("{header:?} where the answer to request {id} was due"))),
        }
    }

    fn get(&mut self, path: &str, content: &Content) -> Result<()> {
        let id = self.take_id();
        self.send(&json!({"cmd": "get", "id": id, "path": path}), b"")?;
        let announced = self.answer(id)?;
        if announced.length != Some(content.length()) {
            return Err(wrong(format_args!("{announced:?} for a file of {} bytes", content.length())));
        }
        let mut offset = 0;
        loop {
            let header = self.receive(|part| match part {
                Part::Body(at, bytes) if !content.holds(offset + at as u64, bytes) => {
                    Err(wrong(format_args!("the file came with other bytes behind {}", offset + at as u64)))
                }
                Part::Header(header) if header.id != Some(id) => Err(wrong(format_args!("{header:?} in file {id}"))),
                _ => Ok(()),
            })?;
            offset += header.size as u64;
            match header.event.as_deref() {
                Some("data") => {}
                Some("end") if offset == content.length() && header.length == Some(offset) => return Ok(()),
                _ => return Err(wrong(format_args!("{header:?} after {offset} of {} bytes", content.length()))),
            }
        }
    }

    fn put(&mut self, path: &str, content: &Content, blake3: &str) -> Result<()> {
        let id = self.take_id();
        let length = content.length();
        self.send(&json!({"cmd": "put", "id": id, "path": path, "length": length, "exists": "replace"}), b"")?;
        let mut offset = 0;
        while offset < length {
            let bytes = content.at(offset, MAX_DATA);
            self.send(&json!({"cmd": "data", "id": id, "size": bytes.len()}), bytes)?;
            offset += bytes.len() as u64;
        }
        self.send(&json!({"cmd": "end", "id": id, "blake3": blake3}), b"")?;
        self.answer(id)?;
        let stored = self.answer(id)?;
        match stored.length == Some(length) && stored.blake3.as_deref() == Some(blake3) {
            true => Ok(()),
            false => Err(wrong(format_args!("{stored:?} for a file of {length} bytes with checksum {blake3}"))),
        }
    }
}
