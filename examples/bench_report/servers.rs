//! The contestants: started with what makes them comparable, or absent with
//! the reason.

use crate::peers::{Bare, Nats, Redis};
use crate::process::{Process, find, free_address};
use crate::{Result, web};
use reactord::client::bench::{Peer, Publishing, Reactord};
use reactord::client::config::{Host, Token};
use reactord::client::frame::{Nothing, json_body};
use reactord::client::{Config, Connection};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What may be queued for a subscriber, so that no server ends one: the load
/// is about throughput.
const OUTPUT_LIMIT: &str = "1000000000";

/// The names in tables and plots.
pub const REACTOR: &str = "reactord";
pub const BLOCKING: &str = "reactord, blocking mode";
pub const REDIS: &str = "Redis";
pub const NATS: &str = "NATS";
pub const NGINX: &str = "nginx";
pub const BARE: &str = "bare mio loop";
pub const COPY: &str = "plain copy";
pub const DURABLE_COPY: &str = "plain copy with fsync";

/// How the load speaks to a server.
pub enum Speaks {
    Echo(Box<dyn Peer>),
    Publishing(Box<dyn Publishing>),
}

/// A server that runs.
pub struct Server {
    pub name: &'static str,
    pub version: String,
    pub process: Process,
    pub speaks: Speaks,
    /// A reactord's address and token, for its files.
    pub reactord: Option<(SocketAddr, String)>,
    /// Its home, which goes with it.
    _home: TempDir,
}

impl Server {
    pub fn peer(&mut self) -> &mut dyn Peer {
        match &mut self.speaks {
            Speaks::Echo(peer) => &mut **peer,
            Speaks::Publishing(peer) => &mut **peer,
        }
    }

    pub fn publishing(&mut self) -> Option<&mut dyn Publishing> {
        match &mut self.speaks {
            Speaks::Echo(_) => None,
            Speaks::Publishing(peer) => Some(&mut **peer),
        }
    }
}

/// All that run, and why the others do not.
pub struct Servers {
    pub running: Vec<Server>,
    pub web: Option<web::Web>,
    pub absent: Vec<(&'static str, String)>,
}

/// How a contestant is started.
pub type Start = fn() -> Result<Server>;

/// Those that answer requests.
pub const ALL: [(&str, Start); 5] =
    [(BARE, bare), (REACTOR, reactor), (BLOCKING, blocking), (REDIS, redis), (NATS, nats)];

impl Servers {
    /// Starts everything that is installed.
    pub fn start() -> Result<Servers> {
        let mut servers = Servers { running: Vec::new(), web: None, absent: Vec::new() };
        for (name, start) in ALL {
            match start() {
                Ok(server) => servers.running.push(server),
                // Without it there is nothing to report.
                Err(why) if name == REACTOR => return Err(why),
                Err(why) => servers.absent.push((name, why.to_string())),
            }
        }
        match web::start() {
            Ok(web) => servers.web = Some(web),
            Err(why) => servers.absent.push((NGINX, why.to_string())),
        }
        for (name, why) in &servers.absent {
            eprintln!("bench_report: without {name}: {why}");
        }
        Ok(servers)
    }
}

/// The program beside this one: an example lies in a directory of its own
/// below the binaries.
fn reactord_path() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().and_then(|examples| examples.parent()).map(|dir| dir.join("reactord"));
    let path = path.filter(|path| path.is_file());
    path.ok_or_else(|| "reactord is not built: run this with make bench-report".into())
}

fn reactor() -> Result<Server> {
    reactord(REACTOR, "reactor")
}

fn blocking() -> Result<Server> {
    reactord(BLOCKING, "blocking")
}

fn reactord(name: &'static str, mode: &str) -> Result<Server> {
    let home = tempfile::tempdir()?;
    let log = home.path().join("log");
    let mut command = Command::new(reactord_path()?);
    command.args(["--port", "0", "--bind", "127.0.0.1", "--mode", mode]);
    // One publisher speaks as fast as it can, which a server for people forbids.
    command.args(["--output-limit", OUTPUT_LIMIT, "--message-rate", "0"]);
    command.arg("--state-dir").arg(home.path()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
    command.env_remove("RUST_LOG");
    let mut process = Process::spawn(&mut command)?;
    let mut address = None;
    let stdout = process.stdout().ok_or("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(found) = line.strip_prefix("reactord listening on ") {
            address = Some(found.parse::<SocketAddr>()?);
        }
        if line == "reactord ready" {
            break;
        }
    }
    let Some(address) = address else { return Err(std::fs::read_to_string(&log)?.trim().into()) };
    let token = std::fs::read_to_string(home.path().join("token"))?.trim().to_owned();
    let stats = stats(address, &token)?;
    if stats["mode"] != mode {
        return Err(format!("this reactord has no {mode} mode yet").into());
    }
    let version = format!("reactord {}", stats["version"].as_str().unwrap_or_default());
    let speaks = Speaks::Publishing(Box::new(Reactord::new(address, Some(token.clone()))));
    Ok(Server { name, version, process, speaks, reactord: Some((address, token)), _home: home })
}

fn stats(address: SocketAddr, token: &str) -> Result<Value> {
    let host = Host { name: address.ip().to_string(), port: address.port() };
    let token = Token { secret: Some(token.to_owned()), origin: "the report".to_owned() };
    let mut connection = Connection::open(&Config { host, token, nick: None })?;
    let (_, body) = connection.call::<Nothing>("stats", "stats", Nothing {})?;
    Ok(json_body("stats", body)?)
}

fn bare() -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = Process::spawn(command.args(["--role", "echo"]).stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(process.stdout().ok_or("no standard output")?).read_line(&mut line)?;
    let speaks = Speaks::Echo(Box::new(Bare(line.trim().parse()?)));
    let version = "an epoll loop without frames, in this report".to_owned();
    Ok(Server { name: BARE, version, process, speaks, reactord: None, _home: tempfile::tempdir()? })
}

fn redis() -> Result<Server> {
    let program = find("redis-server").ok_or("redis-server is not installed")?;
    let (home, address) = (tempfile::tempdir()?, free_address()?);
    let mut command = Command::new(&program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.args(["--maxclients", "20000", "--client-output-buffer-limit", "pubsub 0 0 0"]);
    let process = quiet(command, &home, address)?;
    let speaks = Speaks::Publishing(Box::new(Redis(address)));
    Ok(Server { name: REDIS, version: version(&program)?, process, speaks, reactord: None, _home: home })
}

fn nats() -> Result<Server> {
    let program = find("nats-server").ok_or("nats-server is not installed")?;
    let (home, address) = (tempfile::tempdir()?, free_address()?);
    let mut command = Command::new(&program);
    // One core, and told so: a scheduler that thinks it has more only loses.
    command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]).env("GOMAXPROCS", "1");
    let process = quiet(command, &home, address)?;
    let speaks = Speaks::Publishing(Box::new(Nats(address)));
    Ok(Server { name: NATS, version: version(&program)?, process, speaks, reactord: None, _home: home })
}

/// Starts a server in a directory of its own that says nothing.
pub fn quiet(mut command: Command, home: &TempDir, address: SocketAddr) -> Result<Process> {
    command.current_dir(home.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command)?;
    process.wait_for(address)?;
    Ok(process)
}

/// What a program says of its version, in one line.
pub fn version(program: &std::path::Path) -> Result<String> {
    // nginx knows only the short form, and says it on standard error.
    let flag = if program.ends_with("nginx") { "-v" } else { "--version" };
    let said = Command::new(program).arg(flag).output()?;
    let text = [said.stdout, said.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}
