//! How the other servers are spoken to. Their protocols are documented at
//! redis.io/docs/latest/develop/reference/protocol-spec and
//! docs.nats.io/reference/reference-protocols/nats-protocol.

use reactord::client::bench::payload::Payload;
use reactord::client::bench::peer::{Peer, Publishing, Received, Taken};
use reactord::client::{ClientError, Result};
use std::net::SocketAddr;

fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(ClientError::Wrong(what.into()))
}

/// Takes `expected` from the front of `input`.
fn literal(input: &[u8], expected: &[u8]) -> Taken {
    let common = input.len().min(expected.len());
    if input[..common] != expected[..common] {
        return wrong(format!("{:?} where {:?} was due", text(input), text(expected)));
    }
    Ok((common == expected.len()).then_some(common))
}

/// Takes `head`, the payload and the end of the line from the front of `input`.
fn framed(input: &[u8], head: &[u8], payload: Payload<'_>) -> Taken {
    let Some(at) = literal(input, head)? else { return Ok(None) };
    let end = at + payload.len();
    let Some(rest) = input.get(end..) else { return Ok(None) };
    if !payload.is(&input[at..end]) {
        return wrong("an answer came with other bytes");
    }
    Ok(literal(rest, b"\r\n")?.map(|n| end + n))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

/// The line at the front of `input`, and where the next one begins.
fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&input[..end], end + 2))
}

fn number(text: &[u8]) -> Result<usize> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.map_or_else(|| wrong(format!("{:?} is no number", self::text(text))), Ok)
}

/// The bare loop: the payload alone, both ways.
pub struct Bare(pub SocketAddr);

impl Peer for Bare {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn greet(&mut self, _: usize, _: &mut Vec<u8>) {}

    fn greeted(&mut self, _: usize, _: &[u8]) -> Taken {
        Ok(Some(0))
    }

    fn echo(&mut self, _: usize, _: u64, payload: Payload<'_>, out: &mut Vec<u8>) {
        payload.append(out);
    }

    fn echoed(&mut self, _: usize, _: u64, payload: Payload<'_>, input: &[u8]) -> Taken {
        match input.get(..payload.len()) {
            None => Ok(None),
            Some(bytes) if payload.is(bytes) => Ok(Some(bytes.len())),
            Some(_) => wrong("an answer came with other bytes"),
        }
    }
}

/// Redis: ECHO, SUBSCRIBE and PUBLISH.
pub struct Redis(pub SocketAddr);

impl Peer for Redis {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn greet(&mut self, _: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn greeted(&mut self, _: usize, input: &[u8]) -> Taken {
        literal(input, b"+PONG\r\n")
    }

    fn echo(&mut self, _: usize, _: u64, payload: Payload<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*2\r\n$4\r\nECHO\r\n${}\r\n", payload.len()).as_bytes());
        payload.append(out);
        out.extend_from_slice(b"\r\n");
    }

    fn echoed(&mut self, _: usize, _: u64, payload: Payload<'_>, input: &[u8]) -> Taken {
        framed(input, format!("${}\r\n", payload.len()).as_bytes(), payload)
    }
}

impl Publishing for Redis {
    fn subscribe(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SUBSCRIBE room\r\n");
    }

    fn subscribed(&mut self, input: &[u8]) -> Taken {
        literal(input, b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n")
    }

    fn prepare(&mut self, _: &mut Vec<u8>) {}

    fn ready(&mut self, _: &[u8]) -> Taken {
        Ok(Some(0))
    }

    fn publish(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n${}\r\n", payload.len()).as_bytes());
        payload.append(out);
        out.extend_from_slice(b"\r\n");
    }

    fn published(&mut self, input: &[u8]) -> Taken {
        match line(input) {
            None => Ok(None),
            Some((line, next)) if line.starts_with(b":") => Ok(Some(next)),
            Some((line, _)) => wrong(format!("{:?} for a PUBLISH", text(line))),
        }
    }

    fn received(&mut self, input: &[u8]) -> Result<Option<Received>> {
        let Some(at) = literal(input, b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$")? else { return Ok(None) };
        let Some((length, next)) = line(&input[at..]) else { return Ok(None) };
        let begin = at + next;
        let end = begin + number(length)?;
        let whole = input.len() >= end + 2;
        Ok(whole.then(|| Received { length: end + 2, message: Some((None, begin..end)) }))
    }
}

/// NATS: an echo is a message to a subject of the connection's own.
pub struct Nats(pub SocketAddr);

/// Bytes of PINGs at the front, which a server sends to see who is there; a
/// run is over before it gives anybody up.
fn pings(input: &[u8]) -> usize {
    const PING: &[u8] = b"PING\r\n";
    let mut at = 0;
    while input[at..].starts_with(PING) {
        at += PING.len();
    }
    at
}

fn pong(input: &[u8]) -> Taken {
    const PONG: &[u8] = b"PONG\r\n";
    Ok(input.windows(PONG.len()).position(|bytes| bytes == PONG).map(|at| at + PONG.len()))
}

impl Peer for Nats {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn greet(&mut self, n: usize, out: &mut Vec<u8>) {
        let hello = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB me{n} 1\r\nPING\r\n");
        out.extend_from_slice(hello.as_bytes());
    }

    fn greeted(&mut self, _: usize, input: &[u8]) -> Taken {
        pong(input)
    }

    fn echo(&mut self, n: usize, _: u64, payload: Payload<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB me{n} {}\r\n", payload.len()).as_bytes());
        payload.append(out);
        out.extend_from_slice(b"\r\n");
    }

    fn echoed(&mut self, n: usize, _: u64, payload: Payload<'_>, input: &[u8]) -> Taken {
        framed(input, format!("MSG me{n} 1 {}\r\n", payload.len()).as_bytes(), payload)
    }

    fn unasked(&mut self, input: &[u8]) -> usize {
        pings(input)
    }
}

impl Publishing for Nats {
    fn subscribe(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SUB room 2\r\nPING\r\n");
    }

    fn subscribed(&mut self, input: &[u8]) -> Taken {
        pong(input)
    }

    fn prepare(&mut self, _: &mut Vec<u8>) {}

    fn ready(&mut self, _: &[u8]) -> Taken {
        Ok(Some(0))
    }

    fn publish(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB room {}\r\n", payload.len()).as_bytes());
        payload.append(out);
        out.extend_from_slice(b"\r\n");
    }

    fn published(&mut self, input: &[u8]) -> Taken {
        match line(input) {
            Some((line, _)) if line.starts_with(b"-ERR") => wrong(text(line)),
            found => Ok(found.map(|(_, next)| next)),
        }
    }

    fn received(&mut self, input: &[u8]) -> Result<Option<Received>> {
        let skipped = pings(input);
        if skipped > 0 {
            return Ok(Some(Received { length: skipped, message: None }));
        }
        let Some(at) = literal(input, b"MSG room 2 ")? else { return Ok(None) };
        let Some((length, next)) = line(&input[at..]) else { return Ok(None) };
        let begin = at + next;
        let end = begin + number(length)?;
        let whole = input.len() >= end + 2;
        Ok(whole.then(|| Received { length: end + 2, message: Some((None, begin..end)) }))
    }
}
