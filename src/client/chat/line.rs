//! The threads of one connection after another: one that connects and then
//! reads, one that writes, so that neither waits for who shows or types.

use super::engine::Event;
use crate::client::config::Config;
use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::frame::Frame;
use crate::client::halves::Sender;
use crate::client::outbox::Outbox;
use crate::talk::event::Incoming;
use crate::talk::inbox::Inbox;
use crate::wire::ErrorCode;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The service that a conversation needs.
const SERVICE: &str = "chat";

/// Opens a connection for a conversation.
///
/// # Errors
/// Those of [`Connection::open`]; `Usage` where the server serves no chat.
pub fn open(config: &Config) -> Result<Connection> {
    let connection = Connection::open(config)?;
    if !connection.welcome().services.iter().any(|service| service == SERVICE) {
        return Err(ClientError::Local(format!("{} serves no chat: start it with --services chat", config.host)));
    }
    Ok(connection)
}

/// Tells `inbox` of the connection and of all that comes over it, in this
/// thread, until it ends.
pub fn follow(connection: Connection, inbox: &Inbox<Event>) {
    let welcome = connection.welcome().clone();
    let (sender, mut receiver) = connection.split();
    inbox.push(0, Event::Connected(Box::new((sender, welcome))));
    loop {
        match receiver.receive().and_then(|frame| incoming(&frame)) {
            Ok(frame) => inbox.push(frame.cost(), Event::Frame(Box::new(frame))),
            Err(error) => return inbox.push(0, Event::Lost(error)),
        }
    }
}

/// Copies what is of use out of a receiver's buffers.
fn incoming(frame: &Frame<'_>) -> Result<Incoming> {
    Ok(Incoming { header: frame.fields()?, body: frame.body.to_vec() })
}

/// Waits, connects again under `nick`, and then follows the connection, in a
/// thread of its own.
pub fn reconnect(config: &Config, nick: String, wait: Duration, inbox: &Arc<Inbox<Event>>) {
    let inbox = inbox.clone();
    let mut config = Config { nick: Some(nick), ..config.clone() };
    std::thread::spawn(move || {
        std::thread::sleep(wait);
        let opened = match open(&config) {
            // The server may not have noticed yet that the old connection is gone.
            Err(error) if error.is_refusal(ErrorCode::Exists) => {
                config.nick = None;
                open(&config)
            }
            opened => opened,
        };
        match opened {
            Ok(connection) => follow(connection, &inbox),
            Err(error) => inbox.push(0, Event::Lost(error)),
        }
    });
}

/// What writes to a connection.
#[derive(Debug)]
pub struct Writer {
    outbox: Arc<Outbox>,
    socket: TcpStream,
}

impl Writer {
    /// Starts to write what comes to `sender`'s connection.
    pub fn start(mut sender: Sender) -> Result<Writer> {
        let socket = sender.socket()?;
        let outbox = Arc::new(Outbox::default());
        let queue = outbox.clone();
        std::thread::spawn(move || {
            while let Some(frame) = queue.pop() {
                // The reading side tells how the connection ended.
                if sender.write(&frame).is_err() {
                    queue.close();
                }
            }
        });
        Ok(Writer { outbox, socket })
    }

    /// Queues a request. What is queued for a broken connection is dropped;
    /// its loss will be told.
    pub fn send(&self, frame: Vec<u8>) {
        self.outbox.push(frame);
    }

    /// Ends the connection; its reading side will tell.
    pub fn hang_up(&self) {
        // It fails only where the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.close();
        self.hang_up();
    }
}
