//! Connect, greet, one request, close: again and again.

use super::figures::{Figures, Latencies};
use super::line::{Buffer, Line, poll, wait};
use super::payload::Payloads;
use super::peer::Peer;
use super::progress::Progress;
use super::{End, STUCK, stuck};
use crate::client::error::Result;
use mio::{Events, Poll};
use std::time::Instant;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of the one request's payload.
    pub size: usize,
    /// When to stop; a request is a whole connection.
    pub end: End,
}

#[derive(Debug)]
struct Visit {
    line: Line,
    id: u64,
    began: Instant,
    greeted: bool,
    done: bool,
}

/// Lets connections come and go. A latency is from the attempt to connect to
/// the answer.
pub fn run(peer: &mut (impl Peer + ?Sized), work: &Churn, progress: &mut Progress) -> Result<Figures> {
    let payloads = Payloads::new(work.size);
    let mut poll = poll()?;
    let mut events = Events::with_capacity(1_024);
    let mut buffer = Buffer::default();
    let mut latencies = Latencies::default();
    let (mut begun, mut done) = (0, 0);
    let began = Instant::now();
    let mut last = began;
    let mut visits: Vec<Option<Visit>> = Vec::new();
    visits.resize_with(work.connections, || None);
    loop {
        for (n, visit) in visits.iter_mut().enumerate() {
            if visit.is_none() && work.end.allows(begun, began, Instant::now()) {
                *visit = Some(begin(peer, &poll, n, begun, &payloads)?);
                begun += 1;
            }
        }
        if done == begun {
            break;
        }
        progress.tick(Instant::now(), done, "connections");
        if !wait(&mut poll, &mut events, None)? && last.elapsed() >= STUCK {
            return Err(stuck(done, begun));
        }
        for event in &events {
            let n = event.token().0;
            // An event of the connection that was closed in this place.
            let Some(visit) = &mut visits[n] else { continue };
            visit.line.flush()?;
            let Visit { line, id, greeted, done: answered, .. } = visit;
            line.receive(&mut buffer, |input| {
                let mut at = 0;
                if !*greeted {
                    let Some(taken) = peer.greeted(n, input)? else { return Ok(0) };
                    (at, *greeted) = (taken, true);
                }
                let taken = peer.echoed(n, *id, payloads.of(n, *id), &input[at..])?;
                *answered = taken.is_some();
                Ok(at + taken.unwrap_or(0))
            })?;
            if visit.done {
                last = Instant::now();
                latencies.record(visit.began, last);
                done += 1;
                visits[n] = None;
            }
        }
    }
    Ok(Figures::new(done, done * work.size as u64, last - began, &latencies))
}

fn begin(peer: &mut (impl Peer + ?Sized), poll: &Poll, n: usize, id: u64, payloads: &Payloads) -> Result<Visit> {
    let began = Instant::now();
    let mut line = Line::connect(peer.address())?;
    line.register(poll, n)?;
    peer.greet(n, &mut line.out);
    peer.echo(n, id, payloads.of(n, id), &mut line.out);
    Ok(Visit { line, id, began, greeted: false, done: false })
}
