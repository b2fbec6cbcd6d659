//! What a message costs the rooms, and what a member costs a segment: one
//! author's messages gathered and handed to many, without sockets.
//!
//! `deliver` queues the frames as a session does. Once copied into each queue
//! and once shared: which is better turns at a few KiB.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactord::proto::rooms::{Config, Deliver, Delivery, Op, Rooms};
use reactord::proto::{ConnId, Now, SendQueue};
use std::hint::black_box;
use std::time::Instant;

/// Messages between two flushes.
const BURST: usize = 64;

struct Queues(Vec<SendQueue>);

impl Deliver for Queues {
    fn deliver(&mut self, to: ConnId, delivery: &Delivery) {
        self.0[to.0 as usize].encoded(&delivery.frames);
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 }
}

fn full_room(members: usize) -> (Rooms, Queues) {
    let mut rooms = Rooms::new(Config::default());
    let mut queues = Queues((0..=members).map(|_| SendQueue::default()).collect());
    for conn in 0..=members as u64 {
        rooms.apply(now(), ConnId(conn), Op::Join { room: "lobby".into(), history: Some(0), after: None }, &mut queues);
    }
    queues.0.iter_mut().for_each(SendQueue::clear);
    (rooms, queues)
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout_encode");
    for (members, size) in [(0, 64), (1, 64), (100, 64), (1_000, 64), (100, 1_024), (1_000, 1_024)] {
        let (mut rooms, mut queues) = full_room(members);
        let body = vec![b'x'; size];
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::new(format!("{size}_bytes"), members), |b| {
            b.iter(|| {
                for _ in 0..BURST {
                    let op = Op::Say { room: "lobby".into(), body: Bytes::copy_from_slice(&body) };
                    black_box(rooms.apply(now(), ConnId(0), op, &mut queues));
                }
                rooms.flush(&mut queues);
                queues.0.iter_mut().for_each(SendQueue::clear);
            });
        });
    }
    group.finish();
}

fn copy_or_share(c: &mut Criterion) {
    let mut group = c.benchmark_group("copy_or_share");
    for size in [256, 1_024, 4_096, 16_384, 65_536] {
        let frames = Bytes::from(vec![b'x'; size]);
        group.bench_function(BenchmarkId::new("copy", size), |b| {
            b.iter(|| {
                let mut queue = SendQueue::default();
                queue.raw(black_box(&frames));
                queue
            });
        });
        group.bench_function(BenchmarkId::new("share", size), |b| b.iter(|| black_box(&frames).clone()));
    }
    group.finish();
}

criterion_group!(benches, fanout, copy_or_share);
criterion_main!(benches);
