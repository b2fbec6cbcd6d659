//! Request and reply: C connections, P requests in flight on each.

use super::figures::{Figures, Latencies};
use super::line::{Buffer, Line, poll, wait};
use super::payload::Payloads;
use super::peer::Peer;
use super::progress::Progress;
use super::{End, STUCK, stuck, wrong};
use crate::client::error::Result;
use mio::{Events, Poll};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each, at most.
    pub pipeline: usize,
    /// Bytes of a payload.
    pub size: usize,
    /// When to stop.
    pub end: End,
    /// Requests a second, all connections together; as many as possible
    /// where there is none.
    pub rate: Option<f64>,
}

#[derive(Debug)]
struct Asking {
    line: Line,
    /// The next request's id; it counts from 0.
    next: u64,
    /// When each request in flight was meant to be sent.
    meant: VecDeque<Instant>,
}

/// Greeted connections, ready to ask.
#[derive(Debug)]
pub struct Lines {
    poll: Poll,
    events: Events,
    buffer: Buffer,
    lines: Vec<Asking>,
}

/// Connects, asks and ends the connections.
pub fn run(peer: &mut (impl Peer + ?Sized), work: &Echo, progress: &mut Progress) -> Result<Figures> {
    Lines::open(peer, work.connections, progress)?.run(peer, work, progress)
}

impl Lines {
    /// Opens so many connections, one after the other.
    pub fn open(peer: &mut (impl Peer + ?Sized), connections: usize, progress: &mut Progress) -> Result<Lines> {
        let poll = poll()?;
        let mut lines = Vec::with_capacity(connections);
        for n in 0..connections {
            let mut line = Line::greeted(peer, n)?;
            line.register(&poll, n)?;
            lines.push(Asking { line, next: 0, meant: VecDeque::new() });
            progress.tick(Instant::now(), n as u64, "connections");
        }
        Ok(Lines { poll, events: Events::with_capacity(1_024), buffer: Buffer::default(), lines })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Asks and checks every answer; the connections stay open.
    ///
    /// # Errors
    /// `Wrong` where an answer is not the right one or does not come.
    pub fn run(&mut self, peer: &mut (impl Peer + ?Sized), work: &Echo, progress: &mut Progress) -> Result<Figures> {
        let payloads = Payloads::new(work.size);
        let mut latencies = Latencies::default();
        let (mut asked, mut done) = (0, 0);
        let began = Instant::now();
        let mut answered = began;
        let mut paced = work.rate.map(|rate| Paced::new(rate, began, work.end));
        if paced.is_none() {
            for (n, asking) in self.lines.iter_mut().enumerate() {
                for _ in 0..work.pipeline {
                    let now = Instant::now();
                    if work.end.allows(asked, began, now) {
                        asking.ask(peer, n, &payloads, now);
                        asked += 1;
                    }
                }
                asking.line.flush()?;
            }
        }
        loop {
            let mut now = Instant::now();
            if let Some(paced) = &mut paced {
                asked += paced.ask(peer, &mut self.lines, work.pipeline, &payloads, now)?;
            }
            let pause = paced.as_ref().and_then(|paced| paced.pause(now));
            if done == asked && pause.is_none() {
                break;
            }
            progress.tick(now, done, "answers");
            let came = wait(&mut self.poll, &mut self.events, pause)?;
            now = Instant::now();
            if !came && done < asked && now.saturating_duration_since(answered.max(began)) >= STUCK {
                return Err(stuck(done, asked));
            }
            for event in &self.events {
                let n = event.token().0;
                let Asking { line, next, meant } = &mut self.lines[n];
                if event.is_readable() || event.is_read_closed() {
                    let before = done;
                    line.receive(&mut self.buffer, |input| {
                        now = Instant::now();
                        let mut at = 0;
                        loop {
                            at += peer.unasked(&input[at..]);
                            if at == input.len() {
                                break;
                            }
                            let Some(&begun) = meant.front() else {
                                return Err(wrong(format_args!(
                                    "connection {n} got an answer that it did not ask for"
                                )));
                            };
                            let id = *next - meant.len() as u64;
                            let Some(taken) = peer.echoed(n, id, payloads.of(n, id), &input[at..])? else { break };
                            at += taken;
                            meant.pop_front();
                            latencies.record(begun, now);
                            done += 1;
                        }
                        Ok(at)
                    })?;
                    if done > before {
                        answered = now;
                    }
                }
                if paced.is_none() {
                    let asking = &mut self.lines[n];
                    while asking.meant.len() < work.pipeline && work.end.allows(asked, began, now) {
                        asking.ask(peer, n, &payloads, now);
                        asked += 1;
                    }
                }
                self.lines[n].line.flush()?;
            }
        }
        Ok(Figures::new(done, done * work.size as u64, answered - began, &latencies))
    }
}

impl Asking {
    fn ask(&mut self, peer: &mut (impl Peer + ?Sized), n: usize, payloads: &Payloads, meant: Instant) {
        peer.echo(n, self.next, payloads.of(n, self.next), &mut self.line.out);
        self.next += 1;
        self.meant.push_back(meant);
    }
}

/// Requests at a rate, one connection after the other. What is due is asked
/// late where every pipeline is full, and its latency counts from when it was
/// due.
#[derive(Debug)]
struct Paced {
    began: Instant,
    rate: f64,
    total: u64,
    asked: u64,
    /// Every pipeline is full; an answer makes room.
    full: bool,
    turn: usize,
}

impl Paced {
    fn new(rate: f64, began: Instant, end: End) -> Paced {
        let total = match end {
            End::Count(count) => count,
            End::Time(time) => (time.as_secs_f64() * rate).ceil() as u64,
        };
        Paced { began, rate, total, asked: 0, full: false, turn: 0 }
    }

    fn due(&self) -> Instant {
        self.began + Duration::from_secs_f64(self.asked as f64 / self.rate)
    }

    /// How long there is nothing to ask; `None` where all is asked.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let pause = if self.full { STUCK } else { self.due().saturating_duration_since(now) };
        (self.asked < self.total).then_some(pause)
    }

    fn ask(
        &mut self,
        peer: &mut (impl Peer + ?Sized),
        lines: &mut [Asking],
        pipeline: usize,
        payloads: &Payloads,
        now: Instant,
    ) -> Result<u64> {
        let before = self.asked;
        while self.asked < self.total && self.due() <= now {
            let turns = (self.turn..self.turn + lines.len()).map(|turn| turn % lines.len());
            let free = turns.into_iter().find(|n| lines[*n].meant.len() < pipeline);
            self.full = free.is_none();
            let Some(n) = free else { break };
            lines[n].ask(peer, n, payloads, self.due());
            lines[n].line.flush()?;
            self.turn = n + 1;
            self.asked += 1;
        }
        Ok(self.asked - before)
    }
}
