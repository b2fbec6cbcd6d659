//! One publisher, S subscribers: every message must reach each of them, in
//! order and unchanged.
//!
//! The first subscriber that gets a message has it taken apart and checked.
//! What a server sends to all is then nearly always the same bytes, so the
//! others' are compared with those; where they differ, they are taken apart
//! and checked as the first was.

use super::figures::{Figures, Latencies};
use super::line::{Buffer, Line, poll, wait};
use super::payload::Payloads;
use super::peer::Publishing;
use super::progress::Progress;
use super::{STUCK, stuck, wrong};
use crate::client::error::Result;
use mio::{Events, Poll};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The connection number that the publisher's payloads carry.
const PUBLISHER: usize = 0;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// Subscribers that read.
    pub subscribers: usize,
    /// Subscribers that never do.
    pub stalled: usize,
    /// Bytes of a message.
    pub size: usize,
    /// How many are published.
    pub messages: u64,
    /// Messages a second; as many as the window allows where there is none.
    pub rate: Option<f64>,
    /// How far the publisher may be ahead of the slowest subscriber, in
    /// messages.
    pub window: u64,
}

/// A message on its way.
#[derive(Debug)]
struct Sent {
    meant: Instant,
    /// Subscribers that have not got it.
    missing: usize,
    /// Its bytes as the first subscriber got them; empty before that.
    bytes: Vec<u8>,
}

/// What is published and not yet everywhere.
#[derive(Debug)]
struct Flight {
    payloads: Payloads,
    /// The number of the oldest message in flight; they count from 0.
    floor: u64,
    sent: VecDeque<Sent>,
    /// The server's number of message 0, once it is known.
    first: Option<u64>,
    latencies: Latencies,
    delivered: u64,
}

impl Flight {
    /// Reads what a subscriber got, of which message `next` is next; returns
    /// how many bytes were taken.
    fn take(
        &mut self,
        peer: &mut (impl Publishing + ?Sized),
        next: &mut u64,
        input: &[u8],
        now: Instant,
    ) -> Result<usize> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if let Some(sent) = self.sent.get((*next - self.floor) as usize)
                && !sent.bytes.is_empty()
                && rest.starts_with(&sent.bytes)
            {
                at += sent.bytes.len();
            } else {
                let Some(received) = peer.received(rest)? else { break };
                let bytes = &rest[..received.length];
                at += received.length;
                let Some((number, payload)) = received.message else { continue };
                self.check(*next, number, &bytes[payload])?;
                self.sent[(*next - self.floor) as usize].bytes = bytes.to_vec();
            }
            self.arrived(*next, now);
            *next += 1;
        }
        Ok(at)
    }

    fn check(&mut self, next: u64, number: Option<u64>, payload: &[u8]) -> Result<()> {
        if next >= self.floor + self.sent.len() as u64 {
            return Err(wrong("a subscriber got a message that was not published"));
        }
        if let Some(number) = number {
            let expected = *self.first.get_or_insert(number.wrapping_sub(next)) + next;
            if number != expected {
                return Err(wrong(format_args!("a subscriber got message {number} where {expected} was due")));
            }
        }
        match self.payloads.of(PUBLISHER, next).is(payload) {
            true => Ok(()),
            false => Err(wrong(format_args!("message {next} came with other bytes"))),
        }
    }

    fn arrived(&mut self, next: u64, now: Instant) {
        let sent = &mut self.sent[(next - self.floor) as usize];
        sent.missing -= 1;
        self.latencies.record(sent.meant, now);
        self.delivered += 1;
        while self.sent.front().is_some_and(|sent| sent.missing == 0) {
            self.sent.pop_front();
            self.floor += 1;
        }
    }
}

/// Everybody who takes part.
#[derive(Debug)]
struct Party {
    poll: Poll,
    events: Events,
    buffer: Buffer,
    publisher: Line,
    /// Each with the number of the message that is next for it.
    subscribers: Vec<(Line, u64)>,
    flight: Flight,
}

/// Subscribes, publishes, checks what everybody gets, and ends the connections.
///
/// # Errors
/// `Wrong` where a message is missing, out of order or not what was sent.
pub fn run(peer: &mut (impl Publishing + ?Sized), work: &Fanout, progress: &mut Progress) -> Result<Figures> {
    let poll = poll()?;
    let mut subscribers = Vec::with_capacity(work.subscribers);
    let mut asleep = Vec::with_capacity(work.stalled);
    for n in 0..work.subscribers + work.stalled {
        let line = greeted(peer, n, |peer, out| peer.subscribe(out), |peer, input| peer.subscribed(input))?;
        if n < work.subscribers {
            subscribers.push((line, 0));
        } else {
            asleep.push(line);
        }
        progress.tick(Instant::now(), n as u64, "subscribers");
    }
    let n = work.subscribers;
    let mut publisher = greeted(peer, n, |peer, out| peer.prepare(out), |peer, input| peer.ready(input))?;
    publisher.register(&poll, n)?;
    for (n, (line, _)) in subscribers.iter_mut().enumerate() {
        line.register(&poll, n)?;
    }
    let payloads = Payloads::new(work.size);
    let (sent, latencies) = (VecDeque::new(), Latencies::default());
    let flight = Flight { payloads, floor: 0, sent, first: None, latencies, delivered: 0 };
    let events = Events::with_capacity(4_096);
    let mut party = Party { poll, events, buffer: Buffer::default(), publisher, subscribers, flight };
    // Whoever came early was told of each that came later. That is behind
    // everybody once a first message has come, which does not count.
    party.publish(peer, &Fanout { messages: 1, rate: None, ..*work }, progress)?;
    party.flight.latencies = Latencies::default();
    let took = party.publish(peer, work, progress)?;
    let delivered = party.flight.delivered;
    Ok(Figures::new(delivered, delivered * work.size as u64, took, &party.flight.latencies))
}

impl Party {
    /// Publishes, and returns how long it took until everybody had everything.
    fn publish(
        &mut self,
        peer: &mut (impl Publishing + ?Sized),
        work: &Fanout,
        progress: &mut Progress,
    ) -> Result<Duration> {
        let Party { poll, events, buffer, publisher, subscribers, flight } = self;
        let of = work.messages * subscribers.len() as u64;
        flight.delivered = 0;
        let first = flight.floor;
        let mut published = 0;
        let began = Instant::now();
        let mut last = began;
        while flight.delivered < of {
            let now = Instant::now();
            let mut pause = None;
            while published < work.messages && first + published < flight.floor + work.window {
                let meant = match work.rate {
                    Some(rate) => began + Duration::from_secs_f64(published as f64 / rate),
                    None => now,
                };
                if meant > now {
                    pause = Some(meant - now);
                    break;
                }
                peer.publish(flight.payloads.of(PUBLISHER, first + published), &mut publisher.out);
                flight.sent.push_back(Sent { meant, missing: subscribers.len(), bytes: Vec::new() });
                published += 1;
            }
            publisher.flush()?;
            progress.tick(now, flight.delivered, "deliveries");
            if !wait(poll, events, pause)? && last.elapsed() >= STUCK {
                return Err(stuck(flight.delivered, of));
            }
            for event in &*events {
                let Some((line, next)) = subscribers.get_mut(event.token().0) else {
                    publisher.receive(buffer, |input| {
                        let mut at = 0;
                        while let Some(taken) = peer.published(&input[at..])? {
                            at += taken;
                        }
                        Ok(at)
                    })?;
                    publisher.flush()?;
                    continue;
                };
                line.receive(buffer, |input| {
                    last = Instant::now();
                    flight.take(peer, next, input, last)
                })?;
            }
        }
        Ok(last - began)
    }
}

/// A connection that has greeted and then said and been answered one thing more.
fn greeted<P: Publishing + ?Sized>(
    peer: &mut P,
    n: usize,
    say: impl FnOnce(&mut P, &mut Vec<u8>),
    answered: impl Fn(&mut P, &[u8]) -> super::peer::Taken,
) -> Result<Line> {
    let mut first = Vec::new();
    peer.greet(n, &mut first);
    say(peer, &mut first);
    let mut greeted = None;
    Line::open(peer.address(), &first, |input| {
        if greeted.is_none() {
            greeted = peer.greeted(n, input)?;
        }
        match greeted {
            Some(at) => answered(peer, &input[at..]),
            None => Ok(None),
        }
    })
}
