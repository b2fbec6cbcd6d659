//! The server: from a command line to a running driver.

use clap::Parser;
use reactord::blocking::Blocking;
use reactord::config::{self, Config, Mode};
use reactord::console::Console;
use reactord::listen::{self, Address, ListenError};
use reactord::proto::Kind;
use reactord::proto::session::Services;
use reactord::reactor::Reactor;
use reactord::{logging, process, signals, system, token};
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Chat, remote commands and files for a LAN, over one TCP port.
///
/// Without options it serves this machine alone, on port 8899. Clients find
/// the token that lets them in by themselves: try `reactorctl ping`.
#[derive(Parser)]
#[command(name = "reactord", version, max_term_width = 100)]
struct Cli {
    /// The port to listen on; 0 takes any free one [default: 8899]
    #[arg(long, value_name = "N")]
    port: Option<u16>,

    /// An address to listen on, HOST:PORT or HOST (repeatable) [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR")]
    bind: Vec<String>,

    /// The directory it serves; made when missing [default: files, in the state directory]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Where the token and whatever else outlives a restart is kept
    /// [default: $XDG_STATE_HOME/reactord, else ~/.local/state/reactord]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// What lets a client in: the token of the state directory, or nothing (on loopback alone)
    #[arg(long, value_enum, default_value_t = Auth::Token)]
    auth: Auth,

    /// Which services are on
    #[arg(long, value_enum, value_delimiter = ',', default_value = "chat,exec,file")]
    services: Vec<Service>,

    /// One event loop, or a thread for each connection, for comparison
    #[arg(long, value_enum, default_value_t = Mode::Reactor)]
    mode: Mode,

    /// Lets clients run commands though --auth none lets anybody on this machine in
    #[arg(long)]
    allow_exec: bool,

    /// Listens on other addresses than loopback though nothing is encrypted
    #[arg(long)]
    insecure_remote: bool,

    /// The most connections at once, as far as the descriptor limit allows
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_MAX_CONNECTIONS, value_parser = positive)]
    max_connections: usize,

    /// The most commands at once
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_MAX_JOBS, value_parser = positive)]
    max_jobs: usize,

    /// Ends connections that were idle for S seconds; 0 never does
    #[arg(long, value_name = "S", default_value_t = 0)]
    idle_timeout: u64,

    /// The most bytes that may be queued for a client that reads too slowly, and a quarter of it
    /// that may be for longer than 60 s
    #[arg(long, value_name = "BYTES", default_value_t = config::DEFAULT_OUTPUT_LIMIT, value_parser = output_limit)]
    output_limit: usize,

    /// The most bytes that all queues and histories may hold [default: an eighth of the machine's memory]
    #[arg(long, value_name = "BYTES", value_parser = positive)]
    memory_limit: Option<usize>,

    /// Chat as plain text on this loopback address, HOST:PORT: for netcat and telnet
    #[arg(long, value_name = "ADDR")]
    plain_chat: Option<String>,

    /// Commands as plain text on this loopback address, HOST:PORT: whoever is on this machine may
    /// run them
    #[arg(long, value_name = "ADDR")]
    plain_exec: Option<String>,

    /// Files on this loopback address, HOST:PORT: whoever is on this machine may put and get them
    #[arg(long, value_name = "ADDR")]
    plain_file: Option<String>,

    /// Lets the operator take part in the chat from this terminal, or on standard input and output
    #[arg(long)]
    console: bool,

    /// Messages kept for each chat room
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_HISTORY)]
    history: usize,

    /// Chat messages that one client may send each second in the long run, and twenty times as many
    /// at once; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_MESSAGE_RATE)]
    message_rate: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Auth {
    Token,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Service {
    Chat,
    Exec,
    File,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".into()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}: expected a whole number")),
    }
}

fn output_limit(text: &str) -> Result<usize, String> {
    let limit = positive(text)?;
    if limit < config::MIN_OUTPUT_LIMIT {
        return Err(format!("expected at least {} bytes", config::MIN_OUTPUT_LIMIT));
    }
    Ok(limit)
}

/// Why the server did not start, or ended: what it says, with its exit status.
enum Failure {
    Usage(String),
    Start(String),
}

impl From<ListenError> for Failure {
    fn from(e: ListenError) -> Self {
        match e {
            ListenError::Usage(why) => Failure::Usage(why),
            other => Failure::Start(other.to_string()),
        }
    }
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == process::warden::ARGUMENT) {
        return process::warden::main();
    }
    let cli = Cli::parse();
    let (why, status) = match run(cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => (why, 2),
        Err(Failure::Start(why)) => (why, 1),
    };
    eprintln!("reactord: {why}");
    ExitCode::from(status)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let start = |what: &str, e: &dyn std::fmt::Display| Failure::Start(format!("{what}: {e}"));
    let addresses = addresses(&cli)?;
    let plain = plain_addresses(&cli)?;
    let log = logging::start().map_err(|e| start("cannot start the log", &e))?;
    process::restore_defaults().map_err(|e| start("cannot restore the handling of signals", &e))?;
    // Handlers first: a signal that comes while starting must not be lost.
    let stop = signals::install().map_err(|e| start("cannot handle signals", &e))?;
    let descriptors = system::raise_descriptor_limit();
    let (console, mode) = (cli.console, cli.mode);
    if console && mode == Mode::Blocking {
        return Err(Failure::Usage("--console takes part in the event loop: it needs --mode reactor".into()));
    }
    let config = configure(cli, descriptors)?;
    if console && !config.services.chat {
        return Err(Failure::Usage("--console takes part in the chat: it needs --services chat".into()));
    }
    let mut listeners: Vec<_> = listen::bind_all(&addresses)?.into_iter().map(|bound| (Kind::Framed, bound)).collect();
    for (kind, addresses) in plain {
        log::warn!("{}: whoever is on this machine may use it, without authentication", kind.name());
        listeners.extend(listen::bind_all(&addresses)?.into_iter().map(|bound| (kind, bound)));
    }
    let announced = announcement(&listeners).map_err(|e| start("cannot read a socket's address", &e))?;
    let ready = || {
        let mut stdout = std::io::stdout();
        let written = stdout.write_all(announced.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|e| start("cannot write to standard output", &e))
    };
    let ended = match mode {
        Mode::Reactor => {
            let mut reactor = Reactor::new(config, listeners, stop).map_err(|e| start("cannot start", &e))?;
            ready()?;
            let console = if console {
                let (console, port) =
                    Console::start(reactor.waker(), &log).map_err(|e| start("cannot start the console", &e))?;
                reactor.attach_console(port);
                Some(console)
            } else {
                None
            };
            let ended = reactor.run().map_err(|e| start("the event loop failed", &e));
            drop(reactor);
            if let Some(console) = console {
                console.wait();
            }
            ended
        }
        Mode::Blocking => {
            let mut blocking = Blocking::new(config, listeners, stop).map_err(|e| start("cannot start", &e))?;
            ready()?;
            blocking.run().map_err(|e| start("the driver of threads failed", &e))
        }
    };
    log::info!("stopped");
    drop(log);
    ended
}

/// Where to listen, and whether that is allowed.
fn addresses(cli: &Cli) -> Result<Vec<Address>, Failure> {
    const DEFAULT_PORT: u16 = 8899;
    let port = cli.port.unwrap_or(DEFAULT_PORT);
    if cli.bind.is_empty() {
        return Ok(listen::default_addresses(port));
    }
    let mut addresses = Vec::new();
    for text in &cli.bind {
        addresses.extend(listen::parse(text, port)?);
    }
    if let Some(port) = cli.port
        && let Some(other) = addresses.iter().find(|address| address.socket.port() != port)
    {
        let why = format!("--port {port} and --bind {}: name the port once", other.socket);
        return Err(Failure::Usage(why));
    }
    let remote = addresses.iter().find(|address| !listen::is_loopback(address.socket.ip()));
    match remote {
        Some(address) if cli.auth == Auth::None => Err(Failure::Usage(format!(
            "--auth none serves loopback alone, and {} is reachable from elsewhere: use --auth token",
            address.socket
        ))),
        Some(address) if !cli.insecure_remote => Err(Failure::Usage(format!(
            "{} is reachable from elsewhere and nothing is encrypted: use a tunnel, or say --insecure-remote",
            address.socket
        ))),
        _ => Ok(addresses),
    }
}

/// Where to listen for clients that know no frames.
fn plain_addresses(cli: &Cli) -> Result<Vec<(Kind, Vec<Address>)>, Failure> {
    let services = services(cli);
    let asked = [
        (Kind::PlainChat, &cli.plain_chat, services.chat, "chat", ""),
        (Kind::PlainExec, &cli.plain_exec, services.exec, "exec", ", and with --auth none say --allow-exec"),
        (Kind::PlainFile, &cli.plain_file, services.file, "file", ""),
    ];
    let mut plain = Vec::new();
    for (kind, text, is_on, service, more) in asked {
        let Some(text) = text else { continue };
        let name = kind.name();
        if !is_on {
            let why = format!("--{name} needs the {service} service, which is off: add it to --services{more}");
            return Err(Failure::Usage(why));
        }
        let addresses = listen::parse(text, 0)?;
        if let Some(address) = addresses.iter().find(|address| !listen::is_loopback(address.socket.ip())) {
            let why =
                format!("--{name} asks for no authentication, and {} is reachable from elsewhere", address.socket);
            return Err(Failure::Usage(why + ": expected a loopback address"));
        }
        plain.push((kind, addresses));
    }
    Ok(plain)
}

/// The services that are on. Commands are not, where anybody may come in.
fn services(cli: &Cli) -> Services {
    Services {
        chat: cli.services.contains(&Service::Chat),
        exec: cli.services.contains(&Service::Exec) && (cli.auth == Auth::Token || cli.allow_exec),
        file: cli.services.contains(&Service::File),
    }
}

fn configure(cli: Cli, descriptors: usize) -> Result<Config, Failure> {
    let services = services(&cli);
    if cli.services.contains(&Service::Exec) && !services.exec {
        log::warn!("commands are off: with --auth none they need --allow-exec");
    }
    let state_dir = match cli.state_dir {
        Some(dir) => dir,
        None => system::default_state_dir()
            .ok_or_else(|| Failure::Usage("no home directory is known: say --state-dir DIR".into()))?,
    };
    system::create_private_dir(&state_dir)
        .map_err(|e| Failure::Start(format!("state directory {}: {e}", state_dir.display())))?;
    let token = match cli.auth {
        Auth::None => None,
        Auth::Token => {
            Some(token::load_or_create(&state_dir.join("token")).map_err(|e| Failure::Start(e.to_string()))?)
        }
    };
    let max_connections = cli.max_connections.min(system::connections_for(descriptors));
    log::info!("up to {descriptors} descriptors and {max_connections} connections");
    Ok(Config {
        root: cli.root.unwrap_or_else(|| state_dir.join("files")),
        state_dir,
        token,
        services,
        max_connections,
        max_jobs: cli.max_jobs,
        idle_timeout: (cli.idle_timeout > 0).then(|| Duration::from_secs(cli.idle_timeout)),
        output_limit: cli.output_limit,
        memory_limit: cli.memory_limit.unwrap_or_else(system::default_memory_limit),
        history: cli.history,
        message_rate: cli.message_rate,
    })
}

/// What the server says once it serves, for scripts and tests.
fn announcement(listeners: &[(Kind, TcpListener)]) -> std::io::Result<String> {
    let mut text = String::new();
    for (kind, listener) in listeners {
        let address = listener.local_addr()?;
        text += &match kind {
            Kind::Framed => format!("reactord listening on {address}\n"),
            plain => format!("reactord {} listening on {address}\n", plain.name()),
        };
    }
    Ok(text + "reactord ready\n")
}
