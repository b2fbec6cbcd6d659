//! What a run measured.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// The longest latency that is told apart: a run is stuck long before.
const LONGEST: Duration = Duration::from_secs(600);

/// Latencies of one run, with a bounded memory (about 300 KiB).
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        Latencies(Histogram::new_with_bounds(1, longest, DIGITS).expect("the bounds are constants and tested"))
    }
}

impl Latencies {
    /// Takes note of one that was meant to begin at `meant` and ended at `now`.
    pub fn record(&mut self, meant: Instant, now: Instant) {
        self.0.saturating_record(now.saturating_duration_since(meant).as_nanos() as u64);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Throughput and latency. Times are in seconds and microseconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "each field is what its name says")]
pub struct Figures {
    pub count: u64,
    pub seconds: f64,
    pub per_s: f64,
    /// Payload alone, in 2^20 bytes for each second.
    pub mib_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Figures {
    /// The figures of `count` answers with `bytes` of payload in `took`.
    pub fn new(count: u64, bytes: u64, took: Duration, latencies: &Latencies) -> Figures {
        let seconds = took.as_secs_f64().max(1e-9);
        Figures {
            count,
            seconds,
            per_s: count as f64 / seconds,
            mib_s: bytes as f64 / seconds / f64::from(1 << 20),
            p50_us: latencies.at(0.5),
            p99_us: latencies.at(0.99),
            p999_us: latencies.at(0.999),
            max_us: latencies.0.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let begin = Instant::now();
        let mut latencies = Latencies::default();
        for us in 1..=1_000 {
            latencies.record(begin, begin + Duration::from_micros(us));
        }
        latencies.merge(&latencies.clone());
        let figures = Figures::new(2_000, 4 << 20, Duration::from_secs(2), &latencies);
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.002;
        assert!(near(figures.p50_us, 500.0) && near(figures.p99_us, 990.0) && near(figures.max_us, 1_000.0));
        assert_eq!((figures.per_s, figures.mib_s), (1_000.0, 2.0));
        latencies.record(begin, begin + LONGEST * 2);
        assert!(Figures::new(1, 0, Duration::ZERO, &latencies).max_us >= 5.9e8, "what is too long is kept as such");
    }
}
