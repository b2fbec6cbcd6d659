//! Questions to the server: ping, rooms, who, stats, jobs; and kill.

use crate::args::Ping;
use crate::output::Output;
use reactord::client::frame::{Nothing, json_body};
use reactord::client::{ClientError, Connection, Result, signals, text};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Bytes of one echo.
const PING_BODY: [u8; 56] = [b'.'; 56];

#[derive(Serialize)]
struct Pong {
    seq: u32,
    ms: f64,
}

#[derive(Serialize)]
struct Pongs {
    count: u32,
    min_ms: f64,
    mean_ms: f64,
    max_ms: f64,
}

pub(crate) fn ping(connection: &mut Connection, out: &mut Output, ping: &Ping) -> Result<()> {
    let host = connection.host().to_string();
    let (mut min, mut sum, mut max) = (f64::INFINITY, 0.0, 0.0_f64);
    for seq in 1..=ping.count {
        if seq > 1 {
            std::thread::sleep(Duration::from_secs_f64(ping.interval));
        }
        let start = Instant::now();
        let (_, body) = connection.call_with::<Nothing>("echo", "echo", Nothing {}, &PING_BODY)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if body != PING_BODY {
            return Err(ClientError::Protocol("an echo with other bytes".to_owned()));
        }
        (min, sum, max) = (min.min(ms), sum + ms, max.max(ms));
        if out.json {
            out.object(&Pong { seq, ms })?;
        } else if !out.quiet {
            out.line(format_args!("{} bytes from {host}: seq={seq} time={ms:.3} ms", PING_BODY.len()))?;
        }
        out.finish()?;
    }
    let pongs = Pongs { count: ping.count, min_ms: min, mean_ms: sum / f64::from(ping.count), max_ms: max };
    if out.json {
        return out.object(&pongs);
    }
    let Pongs { count, min_ms, mean_ms, max_ms } = pongs;
    out.line(format_args!("{count} round trips: min {min_ms:.3}, mean {mean_ms:.3}, max {max_ms:.3} ms"))
}

#[derive(Deserialize, Serialize)]
struct Room {
    room: String,
    members: u64,
}

pub(crate) fn rooms(connection: &mut Connection, out: &mut Output) -> Result<()> {
    let (_, body) = connection.call::<Nothing>("rooms", "rooms", Nothing {})?;
    for room in json_body::<Vec<Room>>("rooms", body)? {
        if out.json {
            out.object(&room)?;
        } else {
            out.line(format_args!("{:>5}  {}", room.members, room.room))?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Who<'a> {
    room: &'a str,
}

#[derive(Serialize)]
struct Member {
    nick: String,
}

pub(crate) fn who(connection: &mut Connection, out: &mut Output, room: &str) -> Result<()> {
    let what = format!("who \"{}\"", text::visible(room));
    let (_, body) = connection.call::<Nothing>(&what, "who", Who { room })?;
    for nick in json_body::<Vec<String>>("who", body)? {
        if out.json {
            out.object(&Member { nick })?;
        } else {
            out.line(nick)?;
        }
    }
    Ok(())
}

pub(crate) fn stats(connection: &mut Connection, out: &mut Output) -> Result<()> {
    let (_, body) = connection.call::<Nothing>("stats", "stats", Nothing {})?;
    let stats: Value = json_body("stats", body)?;
    if out.json {
        return out.object(&stats);
    }
    print_value(out, "", &stats, 0)
}

/// Objects within the server's counters that are followed, one in another.
const MAX_NESTING: usize = 8;

/// One line for each value, under the names that lead to it.
fn print_value(out: &mut Output, name: &str, value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Object(fields) if depth < MAX_NESTING => fields.iter().try_for_each(|(key, value)| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            print_value(out, &name, value, depth + 1)
        }),
        Value::String(text) => out.line(format_args!("{name} {text}")),
        value => out.line(format_args!("{name} {value}")),
    }
}

#[derive(Deserialize, Serialize)]
struct Job {
    job: u64,
    pid: u32,
    nick: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<String>,
    started_ms: i64,
    #[serde(default)]
    mine: bool,
}

pub(crate) fn jobs(connection: &mut Connection, out: &mut Output) -> Result<()> {
    let (_, body) = connection.call::<Nothing>("jobs", "jobs", Nothing {})?;
    let jobs = json_body::<Vec<Job>>("jobs", body)?;
    if !out.json && !out.quiet && !jobs.is_empty() {
        out.line(format_args!("{:>6} {:>8} {} {:20} COMMAND", "JOB", "PID", text::fit("NICK", 16), "STARTED (UTC)"))?;
    }
    for job in jobs {
        if out.json {
            out.object(&job)?;
            continue;
        }
        let command = job.shell.unwrap_or_else(|| job.argv.unwrap_or_default().join(" "));
        let (nick, started) = (text::fit(&job.nick, 16), text::utc(job.started_ms));
        out.line(format_args!("{:>6} {:>8} {nick} {started:20} {command}", job.job, job.pid))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Kill {
    job: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
}

pub(crate) fn kill(connection: &mut Connection, job: u64, signal: Option<&str>) -> Result<()> {
    let fields = Kill { job, signal: signal.map(signals::wire_name) };
    connection.call::<Nothing>(&format!("kill {job}"), "kill", fields).map(|_| ())
}
