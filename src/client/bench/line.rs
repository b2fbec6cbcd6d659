//! One connection without blocking, and many of them under one poll.

use super::peer::{Peer, Taken};
use super::{STUCK, wrong};
use crate::client::error::{ClientError, Result, reason};
use crate::wire::{MAX_BODY, MAX_HEADER};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes asked of a socket at once.
const READ: usize = 256 << 10;

/// The longest answer that a line may hold unfinished, in bytes.
const LONGEST: usize = 4 + MAX_HEADER + MAX_BODY;

/// How long one connection may take to come about, and to be greeted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Below this a poll's timeout, which is in milliseconds, is too coarse, and
/// the loop goes round without sleeping.
pub(super) const COARSE: Duration = Duration::from_millis(1);

pub(super) fn lost(address: SocketAddr, message: impl Into<String>) -> ClientError {
    ClientError::Lost { host: address.to_string(), message: message.into() }
}

/// A connection, with what it has still to send and what of an answer came.
#[derive(Debug)]
pub struct Line {
    socket: TcpStream,
    address: SocketAddr,
    /// What is to be sent; the part before `sent` is.
    pub out: Vec<u8>,
    sent: usize,
    tail: Vec<u8>,
}

/// One buffer for all lines, so that a line without traffic has none.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Buffer(vec![0; LONGEST + READ])
    }
}

impl Line {
    /// A connection on its way.
    pub fn connect(address: SocketAddr) -> Result<Line> {
        let socket = TcpStream::connect(address).map_err(|e| failed(address, &e))?;
        Ok(Line { socket, address, out: Vec::new(), sent: 0, tail: Vec::new() })
    }

    /// A connection that has said `first` and was answered as `answered` wants.
    pub fn open(address: SocketAddr, first: &[u8], answered: impl FnMut(&[u8]) -> Taken) -> Result<Line> {
        let socket = open(address, first, answered)?;
        socket.set_nonblocking(true).map_err(|e| failed(address, &e))?;
        let socket = TcpStream::from_std(socket);
        Ok(Line { socket, address, out: Vec::new(), sent: 0, tail: Vec::new() })
    }

    /// A greeted connection.
    pub fn greeted(peer: &mut (impl Peer + ?Sized), line: usize) -> Result<Line> {
        let mut hello = Vec::new();
        peer.greet(line, &mut hello);
        Line::open(peer.address(), &hello, |input| peer.greeted(line, input))
    }

    /// Registers the line under `token`, edge-triggered, for both directions.
    pub fn register(&mut self, poll: &Poll, token: usize) -> Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = poll.registry().register(&mut self.socket, Token(token), interest);
        registered.map_err(|e| failed(self.address, &e))
    }

    /// Bytes that came and belong to an answer that is not complete.
    pub fn unfinished(&self) -> usize {
        self.tail.len()
    }

    /// Sends as much as the socket takes.
    pub fn flush(&mut self) -> Result<()> {
        while self.sent < self.out.len() {
            match self.socket.write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Not yet connected is for the next event, too: connect(2).
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(e) => return Err(failed(self.address, &e)),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads until nothing more is there. `take` gets what has arrived and is
    /// not taken yet, and says how much of it from the front it took.
    pub fn receive(&mut self, buffer: &mut Buffer, mut take: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        loop {
            let kept = self.tail.len();
            if kept > LONGEST {
                return Err(wrong(format_args!("an answer of more than {LONGEST} bytes")));
            }
            let space = &mut buffer.0[..kept + READ];
            let n = match self.socket.read(&mut space[kept..]) {
                Ok(0) => return Err(lost(self.address, "the server closed it")),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(e) => return Err(failed(self.address, &e)),
            };
            space[..kept].copy_from_slice(&self.tail);
            let arrived = &space[..kept + n];
            let taken = take(arrived)?;
            self.tail.clear();
            self.tail.extend_from_slice(&arrived[taken..]);
            if self.tail.is_empty() {
                self.tail = Vec::new();
            }
            if n < READ {
                // A short read: an edge announces whatever comes later (epoll(7)).
                return Ok(());
            }
        }
    }
}

fn failed(address: SocketAddr, error: &io::Error) -> ClientError {
    let hint = match error.kind() {
        ErrorKind::AddrNotAvailable => "; no local port is free: make fewer connections, or wait a minute",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "; raise the limit with ulimit -n, or make fewer connections"
        }
        _ => "",
    };
    lost(address, format!("{}{hint}", reason(error)))
}

/// A blocking connection that has said `first` and was answered as `answered`
/// wants. Nothing may come behind that answer unasked.
pub fn open(
    address: SocketAddr,
    first: &[u8],
    mut answered: impl FnMut(&[u8]) -> Taken,
) -> Result<std::net::TcpStream> {
    let failed = |e: io::Error| failed(address, &e);
    let mut socket = std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
        .map_err(|e| ClientError::Connect { host: address.to_string(), kind: e.kind(), message: reason(&e) })?;
    socket.set_nodelay(true).map_err(failed)?;
    socket.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(failed)?;
    socket.write_all(first).map_err(failed)?;
    let (mut input, mut chunk) = (Vec::new(), [0; 4_096]);
    while answered(&input)?.is_none() {
        if input.len() > LONGEST {
            return Err(wrong("a greeting without an end"));
        }
        match socket.read(&mut chunk) {
            Ok(0) => return Err(lost(address, "the server closed it")),
            Ok(n) => input.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(socket)
}

/// Waits for events, at most until a run counts as stuck. False where none came.
pub fn wait(poll: &mut Poll, events: &mut Events, most: Option<Duration>) -> Result<bool> {
    let timeout = most.map_or(STUCK, |most| if most < COARSE { Duration::ZERO } else { most.min(STUCK) });
    match poll.poll(events, Some(timeout)) {
        Ok(()) => Ok(!events.is_empty()),
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
        Err(e) => Err(ClientError::local("cannot wait for events", e)),
    }
}

/// A poll.
pub fn poll() -> Result<Poll> {
    Poll::new().map_err(|e| ClientError::local("cannot make a poll", e))
}
