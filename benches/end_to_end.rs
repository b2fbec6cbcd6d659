//! An echo over loopback as connections grow: the event loop against a thread
//! for each connection. One iteration is one answer; every connection has one
//! request in flight.
//!
//! The load is in this process, and nothing is pinned: docs/BENCHMARKS.md has
//! the figures with a core for each side.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Options, Server};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactord::client::bench::echo::{Echo, Lines};
use reactord::client::bench::{End, Progress, Reactord};
use reactord::system::raise_descriptor_limit;
use std::time::Duration;

/// Bytes of one request.
const SIZE: usize = 64;

/// A server of that mode, or why there is none.
fn serve(mode: &str) -> Result<Server, String> {
    let server = Options::new().args(&["--mode", mode]).try_start()?;
    match server.stats()["mode"] == mode {
        true => Ok(server),
        false => Err("this server has no such mode".to_owned()),
    }
}

fn end_to_end(c: &mut Criterion) {
    let descriptors = raise_descriptor_limit();
    let mut group = c.benchmark_group("end_to_end");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500)).sample_size(10);
    group.throughput(Throughput::Elements(1));
    for mode in ["reactor", "blocking"] {
        for connections in [1, 10, 100, 1_000, 5_000] {
            if connections + 100 > descriptors {
                eprintln!("end_to_end/{mode}/{connections} is skipped: only {descriptors} descriptors");
                continue;
            }
            // A server for each, so that none inherits another's memory.
            let server = match serve(mode) {
                Ok(server) => server,
                Err(why) => {
                    eprintln!("end_to_end/{mode} is skipped: {}", why.trim());
                    break;
                }
            };
            let mut peer = Reactord::new(server.address, Some(server.token.clone()));
            let mut lines = Lines::open(&mut peer, connections, &mut Progress::hidden()).unwrap();
            group.bench_function(BenchmarkId::new(mode, connections), |b| {
                b.iter_custom(|iterations| {
                    let end = End::Count(iterations);
                    let work = Echo { connections, pipeline: 1, size: SIZE, end, rate: None };
                    let figures = lines.run(&mut peer, &work, &mut Progress::hidden()).unwrap();
                    Duration::from_secs_f64(figures.seconds)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
