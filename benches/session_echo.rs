//! What an echo costs the session alone: from the bytes of the request to the
//! bytes of the answer, without a socket.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactord::proto::session::Services;
use reactord::proto::{Input, Now, Outbox, Session, SessionConfig};
use reactord::wire::frame::encode;
use serde_json::json;
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn session_echo(c: &mut Criterion) {
    let mut group = c.benchmark_group("session_echo");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(30);
    for (pipeline, size) in [(1, 0), (1, 64), (16, 64), (256, 64), (16, 1_024), (1, 65_536)] {
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let config = SessionConfig { token: None, services: Services::ALL, idle_timeout: None, message_rate: 0 };
        let mut session = Session::new(Arc::new(config), now);
        let mut out = Outbox::default();
        let input: Vec<u8> = (0..pipeline)
            .flat_map(|id| encode(&json!({"cmd": "echo", "id": id, "size": size}), &vec![b'x'; size]))
            .collect();
        group.throughput(Throughput::Elements(pipeline));
        group.bench_function(BenchmarkId::new(format!("pipeline_{pipeline}"), size), |b| {
            b.iter(|| {
                session.handle_input(now, Input::Bytes(black_box(&input)), &mut out);
                let mut slices = [IoSlice::new(b""); 64];
                black_box(out.queue.slices(&mut slices));
                let queued = out.queue.len();
                assert!(queued > input.len() / 2, "every request is answered at once");
                out.queue.advance(queued);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, session_echo);
criterion_main!(benches);
