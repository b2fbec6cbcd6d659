//! Bytes a second through the frame decoder, by the frames' size and by how
//! the bytes come: in reads as large as the loop's, in packets, in crumbs.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactord::wire::frame::encode;
use reactord::wire::{FrameDecoder, Limits, Piece, RequestHeader};
use serde_json::json;
use std::hint::black_box;
use std::time::Duration;

/// About how many bytes one iteration decodes.
const STREAM: usize = 256 << 10;

/// How many bytes come at once: the loop's read, a packet of Ethernet, and
/// less than a header.
const CHUNKS: [usize; 3] = [64 << 10, 1_448, 16];

/// Decodes `stream` in chunks; the number of frames. With `parse` the headers
/// are read as requests, as the session does, and otherwise not at all.
fn decode(stream: &[u8], chunk: usize, size: usize, parse: bool) -> usize {
    let mut decoder = FrameDecoder::new(Limits::FULL);
    let mut frames = 0;
    for mut input in stream.chunks(chunk) {
        while let Some(piece) = decoder.next(&mut input).unwrap() {
            match piece {
                Piece::Header(header) if parse => {
                    let header = RequestHeader::parse(header, Limits::FULL).unwrap();
                    decoder.expect_body(black_box(header).size);
                }
                Piece::Header(header) => {
                    black_box(header);
                    decoder.expect_body(size);
                }
                Piece::Body(body) => {
                    black_box(body);
                }
                Piece::End => frames += 1,
            }
        }
    }
    frames
}

fn decoder(c: &mut Criterion) {
    for (name, parse) in [("decoder", false), ("decoder_and_header", true)] {
        let mut group = c.benchmark_group(name);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(20);
        for size in [0, 64, 1_024, 65_536] {
            let frame = encode(&json!({"cmd": "echo", "id": 1_234, "size": size}), &vec![b'x'; size]);
            let stream = frame.repeat((STREAM / frame.len()).max(1));
            group.throughput(Throughput::Bytes(stream.len() as u64));
            for chunk in CHUNKS {
                group.bench_function(BenchmarkId::new(format!("body_{size}"), format!("chunk_{chunk}")), |b| {
                    b.iter(|| decode(black_box(&stream), chunk, size, parse));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, decoder);
criterion_main!(benches);
