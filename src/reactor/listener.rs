//! Accepting: what an attempt brings, and which errors mean what.

use mio::net::{TcpListener, TcpStream};
use rustix::io::Errno;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// What an attempt to accept brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Connection(TcpStream, SocketAddr),
    /// Nobody is waiting; an event will say when.
    Blocked,
    /// That attempt failed, the next may not.
    Failed(io::Error),
    /// There is no descriptor or no memory for another connection.
    Exhausted(io::Error),
}

/// Accepts once.
pub fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((stream, peer)) => Accepted::Connection(stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Accepted::Blocked,
        Err(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted(e),
            // Errors of the one connection that is gone already (accept(2)).
            _ => Accepted::Failed(e),
        },
    }
}
