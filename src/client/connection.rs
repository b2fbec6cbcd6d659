//! One greeted connection: requests go out, whole frames come in.
//!
//! [`Connection::call`] is for a request with one answer. Who streams uses
//! [`Connection::send`] and [`Connection::receive`], or takes the two halves
//! apart with [`Connection::split`] and uses each in a thread of its own.

use crate::client::config::{Config, Host};
use crate::client::error::{ClientError, Result, ServerError, reason};
use crate::wire::frame::encode_header;
use crate::wire::{self, ErrorCode, FrameDecoder, Limits, Piece};
use rustix::event::{PollFd, PollFlags, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one address may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to answer the greeting.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How long a refused writer waits for the server to say why.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence after which the system asks whether the server is still there; with
/// the probes below, a dead line is noticed within a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 5;

/// Bytes asked of the socket at once.
const READ_BUFFER: usize = 256 * 1024;

/// The fields that a frame of any kind may have.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Envelope {
    /// The command that this answers.
    #[serde(default)]
    pub re: Option<String>,
    /// The event's name.
    #[serde(default)]
    pub event: Option<String>,
    /// The request that this belongs to.
    #[serde(default)]
    pub id: Option<u64>,
    /// Whether the request succeeded.
    #[serde(default)]
    pub ok: Option<bool>,
    /// Bytes of the body.
    #[serde(default)]
    size: usize,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// One frame of the server's, borrowed from the receiver's buffers.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What every frame may have.
    pub envelope: Envelope,
    header: &'a [u8],
    /// The raw bytes after the header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Whether this is an event called `name`.
    pub fn is_event(&self, name: &str) -> bool {
        self.envelope.event.as_deref() == Some(name)
    }

    /// Whether this answers `cmd`.
    pub fn answers(&self, cmd: &str) -> bool {
        self.envelope.re.as_deref() == Some(cmd)
    }

    /// What the server says was wrong, where it does.
    pub fn refusal(&self) -> Option<ServerError> {
        if self.envelope.ok != Some(false) && !self.is_event("error") {
            return None;
        }
        let code = self.envelope.error.clone().unwrap_or_else(|| ErrorCode::Io.as_str().to_owned());
        let message = self.envelope.message.clone().unwrap_or_else(|| "no reason was given".to_owned());
        Some(ServerError { code, message })
    }

    /// The header's other fields as a `T`.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.header).map_err(|e| ClientError::Protocol(format!("a header: {e}")))
    }
}

/// A JSON body as a `T`; `what` names it in the error.
pub fn json_body<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| ClientError::Protocol(format!("the body of {what}: {e}")))
}

/// No fields, or none that matter.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Nothing {}

#[derive(Serialize)]
struct Request<'a, T> {
    cmd: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(flatten)]
    fields: T,
}

/// Appends a request to `out`, body included; `max` is the longest header.
///
/// # Errors
/// `Local` where what the user gave does not fit into a header.
fn encode_request(
    cmd: &str,
    id: Option<u64>,
    fields: impl Serialize,
    body: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let size = (!body.is_empty()).then_some(body.len());
    let header = serde_json::value::to_raw_value(&Request { cmd, id, size, fields })
        .map_err(|e| ClientError::Local(format!("{cmd}: cannot be written as JSON: {e}")))?;
    let length = header.get().len();
    if length > max {
        return Err(ClientError::Local(format!(
            "{cmd}: the request is {length} bytes long; at most {max} can be sent"
        )));
    }
    encode_header(&header, out);
    out.extend_from_slice(body);
    Ok(())
}

/// One request as bytes, for who sends them later.
///
/// # Errors
/// `Local` where what the user gave does not fit into a header.
pub fn request(cmd: &str, id: Option<u64>, fields: impl Serialize, body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + 128);
    encode_request(cmd, id, fields, body, wire::MAX_HEADER, &mut out)?;
    Ok(out)
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    host: Host,
    out: Vec<u8>,
}

impl Sender {
    /// A second handle to the socket, to shut it down from elsewhere.
    pub fn socket(&self) -> Result<TcpStream> {
        self.stream.try_clone().map_err(|e| lost(&self.host, &e))
    }

    /// Writes bytes that [`request`] made; blocks while the server does not
    /// read.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|e| lost(&self.host, &e))
    }

    fn send(&mut self, cmd: &str, id: Option<u64>, fields: impl Serialize, body: &[u8], max: usize) -> Result<()> {
        self.out.clear();
        encode_request(cmd, id, fields, body, max, &mut self.out)?;
        self.stream.write_all(&self.out).map_err(|e| lost(&self.host, &e))
    }
}

fn lost(host: &Host, error: &io::Error) -> ClientError {
    let message = match error.kind() {
        // How a socket's time-out shows is the platform's choice: socket(7).
        io::ErrorKind::WouldBlock => "the server did not answer in time".to_owned(),
        _ => reason(error),
    };
    ClientError::Lost { host: host.to_string(), message }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    host: Host,
    decoder: FrameDecoder,
    buffer: Box<[u8]>,
    /// What of `buffer` was read from the socket and is not decoded yet.
    unread: std::ops::Range<usize>,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Receiver {
    /// The next frame; blocks until it is whole. A fatal error event is an
    /// error here, and so is the end of the connection.
    pub fn receive(&mut self) -> Result<Frame<'_>> {
        self.body.clear();
        let mut envelope = Envelope::default();
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let piece = self.decoder.next(&mut input).map_err(|e| ClientError::Protocol(e.to_string()))?;
            self.unread.start = self.unread.end - input.len();
            match piece {
                None => self.fill()?,
                Some(Piece::Header(header)) => {
                    self.header.clear();
                    self.header.extend_from_slice(header);
                    envelope = serde_json::from_slice(&self.header)
                        .map_err(|e| ClientError::Protocol(format!("a header: {e}")))?;
                    if envelope.size > wire::MAX_BODY {
                        return Err(ClientError::Protocol(format!("a body of {} bytes", envelope.size)));
                    }
                    self.decoder.expect_body(envelope.size);
                }
                Some(Piece::Body(bytes)) => self.body.extend_from_slice(bytes),
                Some(Piece::End) => break,
            }
        }
        let frame = Frame { envelope, header: &self.header, body: &self.body };
        match frame.is_event("error").then(|| frame.refusal()).flatten() {
            Some(error) => Err(ClientError::Fatal(error)),
            None => Ok(frame),
        }
    }

    fn fill(&mut self) -> Result<()> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => {
                    let message = match self.decoder.is_between_frames() {
                        true => "the server closed it",
                        false => "it ended in the middle of a frame",
                    };
                    return Err(ClientError::Lost { host: self.host.to_string(), message: message.to_owned() });
                }
                Ok(n) => {
                    self.unread = 0..n;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(&self.host, &e)),
            }
        }
    }

    /// Whether something came that [`Receiver::receive`] would begin with.
    pub fn ready(&self) -> Result<bool> {
        if !self.unread.is_empty() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        match poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(n) => Ok(n > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(lost(&self.host, &e.into())),
        }
    }

    /// What the server said before it stopped listening, where it said
    /// something; otherwise `error`, which the writer saw.
    pub fn last_words(&mut self, error: ClientError) -> ClientError {
        if self.stream.set_read_timeout(Some(LAST_WORDS_TIMEOUT)).is_err() {
            return error;
        }
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(fatal @ ClientError::Fatal(_)) => return fatal,
                Err(_) => return error,
            }
        }
    }
}

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
        let sender = Sender { stream: writing, host: host.clone(), out: Vec::new() };
        let receiver = Receiver {
            stream,
            host: host.clone(),
            decoder: FrameDecoder::new(Limits::FULL),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            unread: 0..0,
            header: Vec::new(),
            body: Vec::new(),
        };
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
