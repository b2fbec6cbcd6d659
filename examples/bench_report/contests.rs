//! The comparisons: who takes part, what is asked, and what must come out.

use crate::Result;
use crate::copy;
use crate::document::Document;
use crate::plots::{self, Legend, Line};
use crate::series::{Series, median, table, thousands, verdict};
use crate::servers::{self, BARE, BLOCKING, COPY, DURABLE_COPY, NATS, NGINX, REACTOR, REDIS, Server, Servers};
use reactord::client::bench::echo::{self, Echo, Lines};
use reactord::client::bench::fanout::{self, Fanout};
use reactord::client::bench::idle::{self, Idle};
use reactord::client::bench::payload::Content;
use reactord::client::bench::transfer::{self, Transfer};
use reactord::client::bench::{End, Figures, Progress, Reactord};
use std::path::PathBuf;
use std::time::Duration;

/// How much is done for each figure.
pub struct Effort {
    pub rounds: u32,
    pub turn: Duration,
    /// Descriptors that this process may have.
    pub descriptors: usize,
    /// Where plots go.
    pub plots: PathBuf,
}

/// Bytes of a request and of a message.
const SIZE: usize = 64;

/// Connections of the plots.
const CONNECTIONS: [usize; 5] = [1, 10, 100, 1_000, 5_000];

/// Idle connections of the memory table, and those beside which requests are
/// measured.
const IDLE: [usize; 3] = [100, 1_000, 10_000];

/// Descriptors that are not connections of the load.
const SPARE: usize = 100;

/// A thread has a stack, a guard and more: so many connections are enough to
/// see what they cost the blocking mode.
const MOST_THREADED: usize = 1_000;

/// Bytes of the downloaded file.
const FILE: u64 = 64 << 20;

/// Messages of the first turn; later ones have as many as the pace allows.
const MESSAGES: u64 = 200;

/// How many messages a publisher may be ahead.
const WINDOW: u64 = 128;

fn ask(server: &mut Server, connections: usize, pipeline: usize, end: End) -> Result<Figures> {
    let work = Echo { connections, pipeline, size: SIZE, end, rate: None };
    let figures = echo::run(server.peer(), &work, &mut Progress::hidden());
    figures.map_err(|e| format!("{}: {e}", server.name).into())
}

/// Everybody in turn, as often as there are rounds; a short turn of each
/// before, which does not count.
fn rounds(
    servers: &mut Servers,
    effort: &Effort,
    mut turn: impl FnMut(&mut Server, Duration) -> Result<Option<Figures>>,
) -> Result<Vec<Series>> {
    let mut series: Vec<Series> = servers.running.iter().map(|server| Series::new(server.name)).collect();
    for server in &mut servers.running {
        turn(server, effort.turn / 10)?;
    }
    for _ in 0..effort.rounds {
        for (server, series) in servers.running.iter_mut().zip(&mut series) {
            if let Some(figures) = turn(server, effort.turn)? {
                series.add(&figures);
            }
        }
    }
    series.retain(|one| !one.throughput.is_empty());
    Ok(series)
}

/// Echo on 50 connections, one and sixteen requests in flight.
pub fn echo(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    for (name, pipeline) in [("echo", 1), ("echo-pipelined", 16)] {
        let series = rounds(servers, effort, |server, time| ask(server, 50, pipeline, End::Time(time)).map(Some))?;
        let mut text = table(&series, "requests/s") + "\n";
        if pipeline == 1 {
            text += &verdict(&series, &[BARE], 0.85);
        } else {
            text += &verdict(&series, &[REDIS], 1.2);
            text += &verdict(&series, &[NATS], 1.2);
        }
        document.set(name, text);
    }
    Ok(())
}

/// Echo over the number of connections, as tables and plots.
pub fn connections(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    let mut throughput: Vec<Line> = Vec::new();
    let mut latency: Vec<Line> = Vec::new();
    let mut text = String::new();
    for connections in CONNECTIONS.into_iter().filter(|n| n + SPARE <= effort.descriptors) {
        let series = rounds(servers, effort, |server, time| ask(server, connections, 1, End::Time(time)).map(Some))?;
        text += &format!("{} connections:\n\n{}\n", thousands(connections as f64), table(&series, "requests/s"));
        if connections == 1_000 {
            text += &verdict(&series, &[BLOCKING], 1.5);
            text += &verdict(&series, &[REDIS], 1.0);
            text += "\n";
        }
        for one in &series {
            add(&mut throughput, &one.name, connections, one.median());
            add(&mut latency, &one.name, connections, median(&one.p99));
        }
    }
    document.set("connections", text);
    plots::draw(
        &effort.plots.join("throughput.svg"),
        "Echo, one request in flight",
        "requests/s",
        &throughput,
        Legend::LowerRight,
    )?;
    plots::draw(&effort.plots.join("p99.svg"), "Echo, 99th percentile", "µs", &latency, Legend::LowerRight)
}

fn add(lines: &mut Vec<Line>, name: &str, connections: usize, value: f64) {
    let point = (connections as f64, value);
    match lines.iter_mut().find(|line| line.name == name) {
        Some(line) => line.points.push(point),
        None => lines.push(Line { name: name.to_owned(), points: vec![point] }),
    }
}

/// One publisher, 100 and 1,000 subscribers.
pub fn fanout(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    let mut text = String::new();
    for subscribers in [100, 1_000] {
        // Enough messages for a turn at the pace of the one before.
        let mut pace = vec![0.0_f64; servers.running.len()];
        let names: Vec<&str> = servers.running.iter().map(|server| server.name).collect();
        let series = rounds(servers, effort, |server, time| {
            let n = names.iter().position(|name| *name == server.name).unwrap_or_default();
            let Some(peer) = server.publishing() else { return Ok(None) };
            let messages = ((pace[n] * time.as_secs_f64()) as u64).max(MESSAGES);
            let work = Fanout { subscribers, stalled: 0, size: SIZE, messages, rate: None, window: WINDOW };
            let figures =
                fanout::run(peer, &work, &mut Progress::hidden()).map_err(|e| format!("{}: {e}", names[n]))?;
            pace[n] = figures.per_s / subscribers as f64;
            Ok(Some(figures))
        })?;
        text += &format!("{} subscribers:\n\n{}\n", thousands(subscribers as f64), table(&series, "deliveries/s"));
        text += &verdict(&series, &[REDIS, NATS], 2.0);
        text += &verdict(&series, &[BLOCKING], 3.0);
        text += "\n";
    }
    document.set("fanout", text);
    Ok(())
}

/// Whole downloads on one and on eight connections.
pub fn files(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    let content = Content::new(FILE);
    if let Some(web) = &servers.web {
        web.store(&content)?;
    }
    let mut text = String::new();
    for connections in [1, 8] {
        let mut series: Vec<Series> = Vec::new();
        for round in 0..=effort.rounds {
            let mut add = |name: &str, figures: Figures| {
                if series.iter().all(|one| one.name != name) {
                    series.push(Series::new(name));
                }
                // The first round brings the files into memory and does not count.
                if let Some(one) = series.iter_mut().find(|one| one.name == name && round > 0) {
                    one.add_with(&figures, figures.mib_s);
                }
            };
            for server in &servers.running {
                let Some((address, token)) = &server.reactord else { continue };
                let mut peer = Reactord::new(*address, Some(token.clone()));
                let work = Transfer { connections, size: FILE, end: End::Time(effort.turn) };
                let figures = transfer::get(&mut peer, &work, &mut Progress::hidden())
                    .map_err(|e| format!("{}: {e}", server.name))?;
                add(server.name, figures);
            }
            if let Some(web) = &servers.web {
                add(NGINX, web.get(&content, connections, effort.turn)?);
            }
        }
        text +=
            &format!("{connections} at once:\n\n{}\n{}\n", table(&series, "MiB/s"), verdict(&series, &[NGINX], 1.0));
    }
    document.set("files", text);
    Ok(())
}

/// Whole uploads on one connection, against a plain copy.
pub fn uploads(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    let content = Content::new(FILE);
    let copiers = [copy::start(COPY, "copy")?, copy::start(DURABLE_COPY, "durable-copy")?];
    let mut series: Vec<Series> = copiers.iter().map(|copier| Series::new(copier.name)).collect();
    let reactords = servers.running.iter().filter_map(|server| Some((server.name, server.reactord.as_ref()?)));
    series.extend(reactords.clone().map(|(name, _)| Series::new(name)));
    for round in 0..=effort.rounds {
        let mut all = Vec::new();
        for copier in &copiers {
            all.push(copier.put(&content, effort.turn)?);
        }
        for (name, (address, token)) in reactords.clone() {
            let mut peer = Reactord::new(*address, Some(token.clone()));
            let work = Transfer { connections: 1, size: FILE, end: End::Time(effort.turn) };
            let figures = transfer::put(&mut peer, &work, &mut Progress::hidden());
            all.push(figures.map_err(|e| format!("{name}: {e}"))?);
        }
        // The first round does not count.
        for (one, figures) in series.iter_mut().zip(&all).filter(|_| round > 0) {
            one.add_with(figures, figures.mib_s);
        }
    }
    let verdicts = verdict(&series, &[COPY], 0.7) + &verdict(&series, &[DURABLE_COPY], 0.7);
    document.set("uploads", format!("{}\n{verdicts}", table(&series, "MiB/s")));
    Ok(())
}

/// What an idle connection costs a fresh server, and how long it still answers.
pub fn memory(_: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    let counts: Vec<usize> = IDLE.into_iter().filter(|n| n + SPARE <= effort.descriptors).collect();
    let mut lines: Vec<Line> = Vec::new();
    let mut text = String::from("| server | connections | resident bytes for each | all answer once more in ms |\n");
    text += "| --- | ---: | ---: | ---: |\n";
    let mut own = None;
    for (name, start) in servers::ALL.into_iter().filter(|(name, _)| *name != BARE) {
        for &connections in counts.iter().filter(|n| name != BLOCKING || **n <= MOST_THREADED) {
            let Ok(mut server) = start() else { continue };
            let pid = Some(server.process.pid());
            let work = Idle { connections, hold: Duration::from_millis(500), pid };
            let idleness = idle::run(server.peer(), &work, &mut Progress::hidden())
                .map_err(|e| format!("{name}, {connections} idle connections: {e}"))?;
            let bytes = idleness.bytes_each.unwrap_or(f64::NAN);
            let ms = idleness.figures.seconds * 1e3;
            let (count, each) = (thousands(connections as f64), thousands(bytes));
            text += &format!("| {name} | {count} | {each} | {ms:.0} |\n");
            add(&mut lines, name, connections, bytes);
            if name == REACTOR {
                own = Some((connections, bytes));
            }
        }
    }
    if let Some((connections, bytes)) = own {
        let met = if bytes <= 1_024.0 { "met" } else { "missed" };
        let (count, each) = (thousands(connections as f64), thousands(bytes));
        text += &format!("\n- {each} bytes for each of {count} (goal: at most 1,024): **{met}**\n");
    }
    document.set("memory", text);
    plots::draw(
        &effort.plots.join("memory.svg"),
        "Resident memory for each idle connection",
        "bytes",
        &lines,
        Legend::MiddleMiddle,
    )
}

/// What a request costs while more and more connections idle beside it.
pub fn beside(servers: &mut Servers, effort: &Effort, document: &mut Document) -> Result<()> {
    /// Connections that ask.
    const BUSY: usize = 50;
    let counts: Vec<usize> = IDLE.into_iter().filter(|n| n + BUSY + SPARE <= effort.descriptors).collect();
    let mut text = String::from("| server | idle beside | requests/s | cost of one, against the fewest |\n");
    text += "| --- | ---: | ---: | ---: |\n";
    let mut own = f64::NAN;
    for server in servers.running.iter_mut().filter(|server| server.name != BARE) {
        let name = server.name;
        let mut first = None;
        for &idle in counts.iter().filter(|n| name != BLOCKING || **n <= MOST_THREADED) {
            let lines = Lines::open(server.peer(), idle, &mut Progress::hidden())
                .map_err(|e| format!("{}, {idle} idle connections: {e}", server.name))?;
            let mut rates = Vec::new();
            for _ in 0..effort.rounds {
                rates.push(ask(server, BUSY, 1, End::Time(effort.turn))?.per_s);
            }
            drop(lines);
            let rate = median(&rates);
            let cost = *first.get_or_insert(rate) / rate;
            text += &format!("| {} | {} | {} | {cost:.2} × |\n", server.name, thousands(idle as f64), thousands(rate));
            if server.name == REACTOR {
                own = cost;
            }
        }
    }
    let met = if own <= 1.1 { "met" } else { "missed" };
    text += &format!("\n- {own:.2} × (goal: at most 1.10): **{met}**\n");
    document.set("beside", text);
    Ok(())
}
