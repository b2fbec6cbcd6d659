//! The ceiling: an event loop that sends back what came, with no frames, no
//! sessions and no limits. What it does is what the sockets alone cost.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;

const LISTENER: Token = Token(usize::MAX);

/// Serves until it is killed; prints its address first.
pub fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let mut connections: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let slot = &mut connections[event.token().0];
            if let Some((socket, unsent)) = slot
                && !echo(socket, unsent, &mut buffer)
            {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<(TcpStream, Vec<u8>)>>) -> io::Result<()> {
    while let Ok((mut socket, _)) = listener.accept() {
        socket.set_nodelay(true)?;
        let slot = connections.iter().position(Option::is_none).unwrap_or(connections.len());
        if slot == connections.len() {
            connections.push(None);
        }
        poll.registry().register(&mut socket, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        connections[slot] = Some((socket, Vec::new()));
    }
    Ok(())
}

/// Reads to the end of what is there, then writes; false where the connection is over.
fn echo(socket: &mut TcpStream, unsent: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    loop {
        match socket.read(buffer) {
            Ok(0) => return false,
            Ok(n) => {
                unsent.extend_from_slice(&buffer[..n]);
                if n < buffer.len() {
                    break;
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    while !unsent.is_empty() {
        match socket.write(unsent) {
            Ok(n) => drop(unsent.drain(..n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    true
}
