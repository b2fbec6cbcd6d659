//! Load: `reactorctl bench`.

use crate::args::LAST;
use crate::output::{Output, complain};
use clap::{Subcommand, value_parser};
use reactord::client::bench::churn::Churn;
use reactord::client::bench::echo::Echo;
use reactord::client::bench::exec::Exec;
use reactord::client::bench::fanout::Fanout;
use reactord::client::bench::idle::{Idle, Idleness};
use reactord::client::bench::transfer::Transfer;
use reactord::client::bench::{
    End, Figures, MAX_CONNECTIONS, MAX_DURATION, MAX_THREADS, Progress, Reactord, churn, echo, exec, fanout, idle,
    target, transfer,
};
use reactord::client::{Config, Result};
use reactord::system::raise_descriptor_limit;
use reactord::wire::{MAX_BODY, MAX_MESSAGE};
use serde::Serialize;
use std::time::Duration;

/// How long a load lasts where nothing says otherwise.
const SECONDS: f64 = 5.0;

/// The largest file, in MiB.
const MAX_MIB: u64 = 16 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Put a server under load that is not on this machine; it must be yours
    #[arg(long, global = true, display_order = LAST - 1)]
    yes_remote: bool,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Requests that come back: round trips
    #[command(after_help = "Example: reactorctl bench echo --connections 50 --pipeline 16")]
    Echo {
        #[command(flatten)]
        many: Many,
        /// Requests in flight on each connection
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(10_000))]
        pipeline: u64,
        /// Bytes of a request
        #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = value_parser!(u64).range(..=MAX_BODY as u64))]
        size: u64,
        /// Requests a second, all connections together; as many as possible otherwise
        #[arg(long, value_name = "N", value_parser = rate)]
        rate: Option<f64>,
        #[command(flatten)]
        until: Until,
    },
    /// One speaks in a room, many listen
    #[command(after_help = "Example: reactorctl bench fanout --subscribers 100 --rate 1000")]
    Fanout {
        /// Who listens
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(MAX_CONNECTIONS as u64))]
        subscribers: u64,
        /// Who joined and never reads
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u64).range(..=MAX_CONNECTIONS as u64))]
        stalled: u64,
        /// Bytes of a message
        #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = count(MAX_MESSAGE as u64))]
        size: u64,
        /// How many are said
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count(100_000_000))]
        messages: u64,
        /// Messages a second; as many as the window allows otherwise
        #[arg(long, value_name = "N", value_parser = rate)]
        rate: Option<f64>,
        /// Messages that the slowest listener may be behind
        #[arg(long, value_name = "N", default_value_t = 128, value_parser = count(1_000_000))]
        window: u64,
    },
    /// One file, fetched again and again
    #[command(after_help = "Example: reactorctl bench get --connections 8 --size 64")]
    Get(Files),
    /// Files stored again and again, each durable when it is answered
    #[command(after_help = "Example: reactorctl bench put --size 16")]
    Put(Files),
    /// Commands run again and again
    #[command(after_help = "Example: reactorctl bench exec --connections 4")]
    Exec {
        /// Commands at once
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(MAX_THREADS as u64))]
        connections: u64,
        #[command(flatten)]
        until: Until,
    },
    /// Connections that do nothing, and then still answer
    #[command(after_help = "Example: reactorctl bench idle --connections 10000 --pid $(pidof reactord)")]
    Idle {
        #[command(flatten)]
        many: Many,
        /// How long they are silent, in seconds
        #[arg(long, value_name = "S", default_value_t = SECONDS, value_parser = seconds)]
        hold: f64,
        /// The server's process, to tell what each connection costs it
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
    },
    /// Connections that come, ask once and go
    #[command(after_help = "Example: reactorctl bench churn --connections 50 --requests 10000")]
    Churn {
        #[command(flatten)]
        many: Many,
        #[command(flatten)]
        until: Until,
    },
}

#[derive(Debug, clap::Args)]
struct Many {
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = count(MAX_CONNECTIONS as u64))]
    connections: u64,
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(MAX_THREADS as u64))]
    connections: u64,
    /// The file's length
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = count(MAX_MIB))]
    size: u64,
    #[command(flatten)]
    until: Until,
}

#[derive(Debug, clap::Args)]
struct Until {
    /// Stop after so many, all connections together
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = count(u64::MAX))]
    requests: Option<u64>,
    /// Stop after so long, in seconds [default: 5]
    #[arg(long, value_name = "S", value_parser = seconds)]
    duration: Option<f64>,
}

impl Until {
    fn end(&self) -> End {
        match self.requests {
            Some(requests) => End::Count(requests),
            None => End::Time(Duration::from_secs_f64(self.duration.unwrap_or(SECONDS))),
        }
    }
}

impl Files {
    fn work(&self) -> Transfer {
        Transfer { connections: self.connections as usize, size: self.size << 20, end: self.until.end() }
    }
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    value_parser!(u64).range(1..=most)
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let most = MAX_DURATION.as_secs_f64();
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= most => Ok(seconds),
        _ => Err(format!("expected a number of seconds, more than 0 and at most {most}")),
    }
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number of requests a second, from 0.1 to 10000000".to_owned()),
    }
}

/// A run's figures as a JSON object.
#[derive(Serialize)]
struct Run<'a, T> {
    work: &'a str,
    #[serde(flatten)]
    figures: T,
}

/// `bench WORK`.
pub(crate) fn bench(config: &Config, out: &mut Output, bench: &Bench) -> Result<()> {
    let address = target::resolve(&config.host, bench.yes_remote)?;
    let descriptors = raise_descriptor_limit();
    let mut peer = Reactord::new(address, config.token.secret.clone());
    let mut progress = Progress::new(!out.quiet && !out.json);
    let name = bench.work.name();
    let wanted = bench.work.connections();
    if wanted >= descriptors && !out.quiet {
        complain(format_args!("{wanted} connections need more than this process's {descriptors} descriptors"));
    }
    let peer = &mut peer;
    let figures = match &bench.work {
        Work::Echo { many, pipeline, size, rate, until } => {
            let (connections, pipeline, size) = (many.connections as usize, *pipeline as usize, *size as usize);
            let work = Echo { connections, pipeline, size, end: until.end(), rate: *rate };
            echo::run(peer, &work, &mut progress)
        }
        Work::Fanout { subscribers, stalled, size, messages, rate, window } => {
            let (subscribers, stalled, size) = (*subscribers as usize, *stalled as usize, *size as usize);
            let (messages, window, rate) = (*messages, *window, *rate);
            let work = Fanout { subscribers, stalled, size, messages, rate, window };
            fanout::run(peer, &work, &mut progress)
        }
        Work::Get(files) => transfer::get(peer, &files.work(), &mut progress),
        Work::Put(files) => transfer::put(peer, &files.work(), &mut progress),
        Work::Exec { connections, until } => {
            let work = Exec { connections: *connections as usize, end: until.end() };
            exec::run(peer, &work, &mut progress)
        }
        Work::Idle { many, hold, pid } => {
            let connections = many.connections as usize;
            let work = Idle { connections, hold: Duration::from_secs_f64(*hold), pid: *pid };
            let idleness = idle::run(peer, &work, &mut progress)?;
            drop(progress);
            return show_idle(out, name, &idleness);
        }
        Work::Churn { many, until } => {
            let work = Churn { connections: many.connections as usize, size: 64, end: until.end() };
            churn::run(peer, &work, &mut progress)
        }
    }?;
    // The live line goes before anything else is printed.
    drop(progress);
    if out.json {
        return out.object(&Run { work: name, figures: &figures });
    }
    show(out, bench.work.unit(), &figures)
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Work::Echo { .. } => "echo",
            Work::Fanout { .. } => "fanout",
            Work::Get(_) => "get",
            Work::Put(_) => "put",
            Work::Exec { .. } => "exec",
            Work::Idle { .. } => "idle",
            Work::Churn { .. } => "churn",
        }
    }

    /// What is counted.
    fn unit(&self) -> &'static str {
        match self {
            Work::Echo { .. } | Work::Idle { .. } => "answers",
            Work::Fanout { .. } => "deliveries",
            Work::Get(_) | Work::Put(_) => "files",
            Work::Exec { .. } => "commands",
            Work::Churn { .. } => "connections",
        }
    }

    fn connections(&self) -> usize {
        let connections = match self {
            Work::Echo { many, .. } | Work::Idle { many, .. } | Work::Churn { many, .. } => many.connections,
            Work::Fanout { subscribers, stalled, .. } => subscribers + stalled + 1,
            Work::Get(files) | Work::Put(files) => files.connections + 1,
            Work::Exec { connections, .. } => *connections,
        };
        connections as usize
    }
}

fn show(out: &mut Output, unit: &str, figures: &Figures) -> Result<()> {
    let Figures { count, seconds, per_s, mib_s, p50_us, p99_us, p999_us, max_us } = figures;
    out.line(format_args!("{count} {unit} in {seconds:.2} s, all as they must be"))?;
    out.line(format_args!("  throughput  {per_s:.0}/s, {mib_s:.1} MiB/s"))?;
    out.line(format_args!("  latency     p50 {p50_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0} µs"))
}

fn show_idle(out: &mut Output, name: &str, idleness: &Idleness) -> Result<()> {
    if out.json {
        return out.object(&Run { work: name, figures: idleness });
    }
    let Idleness { connections, connect_s, bytes_each, figures } = idleness;
    out.line(format_args!("{connections} connections, greeted one after the other in {connect_s:.2} s"))?;
    if let Some(bytes) = bytes_each {
        out.line(format_args!("  memory      {bytes:.0} bytes each"))?;
    }
    show(out, "answers after the silence", figures)
}
