//! One greeted connection: requests go out, whole frames come in.
//!
//! [`Connection::call`] is for a request with one answer. Who streams uses
//! [`Connection::send`] and [`Connection::receive`], or takes the two halves
//! apart with [`Connection::split`] and uses each in a thread of its own.

use crate::client::config::{Config, Host};
use crate::client::error::{ClientError, Result, ServerError, reason};
use crate::client::frame::Frame;
use crate::client::halves::{Receiver, Sender, lost};
use crate::wire::{self, ErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one address may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to answer the greeting.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Silence after which the system asks whether the server is still there; with
/// the probes below, a dead line is noticed within a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 5;

/// The server's answer to the greeting.
#[derive(Clone, Debug, Deserialize)]
pub struct Welcome {
    /// The server's name and version.
    pub server: String,
    /// Our nick.
    pub nick: String,
    /// What is enabled, of "chat", "exec" and "file".
    pub services: Vec<String>,
}

#[derive(Serialize)]
struct Hello<'a> {
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<&'a str>,
    client: &'static str,
}

/// A connection whose greeting succeeded.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
    welcome: Welcome,
    next_id: u64,
}

impl Connection {
    /// Connects and greets.
    ///
    /// # Errors
    /// `Connect`, `Unauthorized`, `Lost`, `Fatal`, `Protocol`; `Refused` where
    /// the nick cannot be had.
    pub fn open(config: &Config) -> Result<Connection> {
        let stream = connect(&config.host)?;
        let host = &config.host;
        let prepared = prepare(&stream).and_then(|()| stream.try_clone());
        let writing = prepared.map_err(|e| lost(host, &e))?;
        let sender = Sender::new(writing, host.clone());
        let receiver = Receiver::new(stream, host.clone());
        let welcome = Welcome { server: String::new(), nick: String::new(), services: Vec::new() };
        let mut connection = Connection { sender, receiver, welcome, next_id: 1 };
        connection.greet(config)?;
        connection.receiver.stream.set_read_timeout(None).map_err(|e| lost(host, &e))?;
        Ok(connection)
    }

    fn greet(&mut self, config: &Config) -> Result<()> {
        let hello = Hello {
            version: wire::PROTOCOL_VERSION,
            token: config.token.secret.as_deref(),
            nick: config.nick.as_deref(),
            client: concat!("reactorctl/", env!("CARGO_PKG_VERSION")),
        };
        let what = match &config.nick {
            Some(nick) => format!("the greeting as \"{}\"", crate::client::text::visible(nick)),
            None => "the greeting".to_owned(),
        };
        let id = Some(self.take_id());
        let max = wire::MAX_HEADER_UNAUTHENTICATED;
        let answer = self.sender.send("hello", id, hello, &[], max).and_then(|()| self.answer(&what, "hello", id));
        let unauthorized = |error: ServerError| ClientError::Unauthorized { error, token: config.token.origin.clone() };
        self.welcome = match answer {
            Ok((welcome, _)) => welcome,
            Err(ClientError::Fatal(e)) if e.is(ErrorCode::Unauthorized) => return Err(unauthorized(e)),
            Err(ClientError::Refused { error, .. }) if error.is(ErrorCode::Unauthorized) => {
                return Err(unauthorized(error));
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// The server's answer to the greeting.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The server's address.
    pub fn host(&self) -> &Host {
        &self.receiver.host
    }

    /// A second handle to the socket, to shut it down from elsewhere.
    pub fn socket(&self) -> Result<TcpStream> {
        self.receiver.stream.try_clone().map_err(|e| lost(&self.receiver.host, &e))
    }

    /// An id that was not used on this connection.
    pub fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Sends one request and waits for nothing.
    pub fn send(&mut self, cmd: &str, id: Option<u64>, fields: impl Serialize, body: &[u8]) -> Result<()> {
        match self.sender.send(cmd, id, fields, body, wire::MAX_HEADER) {
            Err(error @ ClientError::Lost { .. }) => Err(self.receiver.last_words(error)),
            sent => sent,
        }
    }

    /// The next frame of any kind.
    pub fn receive(&mut self) -> Result<Frame<'_>> {
        self.receiver.receive()
    }

    /// Whether a frame, or the beginning of one, has come.
    pub fn ready(&self) -> Result<bool> {
        self.receiver.ready()
    }

    /// Sends a request and waits for its answer; other frames that come
    /// meanwhile are dropped, so nothing else may be under way. `what` names
    /// the request in an error.
    pub fn call<A: DeserializeOwned>(&mut self, what: &str, cmd: &str, fields: impl Serialize) -> Result<(A, &[u8])> {
        self.call_with(what, cmd, fields, &[])
    }

    /// [`Connection::call`] for a request that goes on after its answer, with
    /// the id that the rest will carry.
    pub fn begin<A: DeserializeOwned>(&mut self, what: &str, cmd: &str, fields: impl Serialize) -> Result<(A, u64)> {
        let id = self.take_id();
        self.send(cmd, Some(id), fields, &[])?;
        let (answer, _) = self.answer(what, cmd, Some(id))?;
        Ok((answer, id))
    }

    /// [`Connection::call`] with a body.
    pub fn call_with<A: DeserializeOwned>(
        &mut self,
        what: &str,
        cmd: &str,
        fields: impl Serialize,
        body: &[u8],
    ) -> Result<(A, &[u8])> {
        let id = Some(self.take_id());
        self.send(cmd, id, fields, body)?;
        self.answer(what, cmd, id)
    }

    fn answer<A: DeserializeOwned>(&mut self, what: &str, cmd: &str, id: Option<u64>) -> Result<(A, &[u8])> {
        loop {
            let frame = self.receiver.receive()?;
            // An answer without an id is to a header that could not be read.
            if frame.envelope.re.is_none() || (frame.envelope.id.is_some() && frame.envelope.id != id) {
                continue;
            }
            if let Some(error) = frame.refusal() {
                return Err(ClientError::Refused { what: what.to_owned(), error });
            }
            if frame.answers(cmd) {
                let fields = frame.fields()?;
                return Ok((fields, &self.receiver.body));
            }
        }
    }

    /// The two halves, for threads of their own.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

fn connect(host: &Host) -> Result<TcpStream> {
    let failed = |e: &io::Error| ClientError::Connect {
        host: host.to_string(),
        kind: e.kind(),
        message: reason(e).trim_start_matches("failed to lookup address information: ").to_owned(),
    };
    let addresses = (host.name.as_str(), host.port).to_socket_addrs().map_err(|e| failed(&e))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(failed(&last))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
