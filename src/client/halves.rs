//! The two halves of a connection, each fit for a thread of its own.

use crate::client::config::Host;
use crate::client::error::{ClientError, Result, reason};
use crate::client::frame::{Envelope, Frame, encode_request};
use crate::wire::{self, FrameDecoder, Limits, Piece};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a refused writer waits for the server to say why.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes asked of the socket at once.
const READ_BUFFER: usize = 256 * 1024;

/// What an error on the socket means.
pub(super) fn lost(host: &Host, error: &io::Error) -> ClientError {
    let message = match error.kind() {
        // How a socket's time-out shows is the platform's choice: socket(7).
        io::ErrorKind::WouldBlock => "the server did not answer in time".to_owned(),
        _ => reason(error),
    };
    ClientError::Lost { host: host.to_string(), message }
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    host: Host,
    out: Vec<u8>,
}

impl Sender {
    pub(super) fn new(stream: TcpStream, host: Host) -> Sender {
        Sender { stream, host, out: Vec::new() }
    }

    /// A second handle to the socket, to shut it down from elsewhere.
    pub fn socket(&self) -> Result<TcpStream> {
        self.stream.try_clone().map_err(|e| lost(&self.host, &e))
    }

    /// Writes bytes that [`request`](crate::client::frame::request) made; blocks while the server does not
    /// read.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|e| lost(&self.host, &e))
    }

    /// Sends one request whose header has at most `max` bytes.
    pub(super) fn send(
        &mut self,
        cmd: &str,
        id: Option<u64>,
        fields: impl Serialize,
        body: &[u8],
        max: usize,
    ) -> Result<()> {
        self.out.clear();
        encode_request(cmd, id, fields, body, max, &mut self.out)?;
        self.stream.write_all(&self.out).map_err(|e| lost(&self.host, &e))
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    pub(super) stream: TcpStream,
    pub(super) host: Host,
    decoder: FrameDecoder,
    buffer: Box<[u8]>,
    /// What of `buffer` was read from the socket and is not decoded yet.
    unread: std::ops::Range<usize>,
    header: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Receiver {
    pub(super) fn new(stream: TcpStream, host: Host) -> Receiver {
        Receiver {
            stream,
            host,
            decoder: FrameDecoder::new(Limits::FULL),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            unread: 0..0,
            header: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The next frame; blocks until it is whole. A fatal error event is an
    /// error here, and so is the end of the connection.
    pub fn receive(&mut self) -> Result<Frame<'_>> {
        self.body.clear();
        let mut envelope = Envelope::default();
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let piece = self.decoder.next(&mut input).map_err(|e| ClientError::Protocol(e.to_string()))?;
            self.unread.start = self.unread.end - input.len();
            match piece {
                None => self.fill()?,
                Some(Piece::Header(header)) => {
                    self.header.clear();
                    self.header.extend_from_slice(header);
                    envelope = serde_json::from_slice(&self.header)
                        .map_err(|e| ClientError::Protocol(format!("a header: {e}")))?;
                    if envelope.size > wire::MAX_BODY {
                        return Err(ClientError::Protocol(format!("a body of {} bytes", envelope.size)));
                    }
                    self.decoder.expect_body(envelope.size);
                }
                Some(Piece::Body(bytes)) => self.body.extend_from_slice(bytes),
                Some(Piece::End) => break,
            }
        }
        let frame = Frame { envelope, header: &self.header, body: &self.body };
        match frame.is_event("error").then(|| frame.refusal()).flatten() {
            Some(error) => Err(ClientError::Fatal(error)),
            None => Ok(frame),
        }
    }

    fn fill(&mut self) -> Result<()> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => {
                    let message = match self.decoder.is_between_frames() {
                        true => "the server closed it",
                        false => "it ended in the middle of a frame",
                    };
                    return Err(ClientError::Lost { host: self.host.to_string(), message: message.to_owned() });
                }
                Ok(n) => {
                    self.unread = 0..n;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(&self.host, &e)),
            }
        }
    }

    /// Whether something came that [`Receiver::receive`] would begin with.
    pub fn ready(&self) -> Result<bool> {
        if !self.unread.is_empty() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        match poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(n) => Ok(n > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(lost(&self.host, &e.into())),
        }
    }

    /// What the server said before it stopped listening, where it said
    /// something; otherwise `error`, which the writer saw.
    pub fn last_words(&mut self, error: ClientError) -> ClientError {
        if self.stream.set_read_timeout(Some(LAST_WORDS_TIMEOUT)).is_err() {
            return error;
        }
        let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
        while Instant::now() < deadline {
            match self.receive() {
                Ok(_) => {}
                Err(fatal @ ClientError::Fatal(_)) => return fatal,
                Err(_) => break,
            }
        }
        error
    }
}
