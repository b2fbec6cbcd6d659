//! Runs a conversation: takes what comes, does what the model says, shows what
//! there is to show.

use super::line::{self, Writer};
use super::model::{Model, Output, Settings};
use super::send;
use crate::client::config::Config;
use crate::client::connection::Welcome;
use crate::client::error::{ClientError, Result};
use crate::client::files::link::jitter;
use crate::client::halves::Sender;
use crate::talk::editor::Words;
use crate::talk::event::Incoming;
use crate::talk::inbox::{Inbox, Next, Typed};
use crate::talk::reader::View;
use crate::talk::screen::Screen;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What is taken before the screen is brought up to date.
const BATCH: usize = 256;

/// Something from the network.
#[derive(Debug)]
pub enum Event {
    /// A greeted connection: its sending half and the greeting's answer.
    Connected(Box<(Sender, Welcome)>),
    /// A frame.
    Frame(Box<Incoming>),
    /// The connection ended, or did not come about.
    Lost(ClientError),
    /// An upload for that room ended, with the file's name on the server.
    Uploaded(String, Result<String>),
}

/// A conversation and its threads.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    model: Model,
    inbox: Arc<Inbox<Event>>,
    writer: Option<Writer>,
    view: Arc<Mutex<View>>,
    words: Arc<Mutex<Words>>,
}

impl Engine {
    /// A conversation over a first connection.
    pub fn start(config: Config, settings: Settings) -> Result<Engine> {
        let connection = line::open(&config)?;
        let inbox = Arc::new(Inbox::default());
        let view = View { current: settings.room.clone(), rooms: vec![settings.room.clone()] };
        std::thread::spawn({
            let inbox = inbox.clone();
            move || line::follow(connection, &inbox)
        });
        Ok(Engine {
            config,
            model: Model::new(settings),
            inbox,
            writer: None,
            view: Arc::new(Mutex::new(view)),
            words: Arc::default(),
        })
    }

    /// Where typed lines go.
    pub fn inbox(&self) -> Arc<Inbox<Event>> {
        self.inbox.clone()
    }

    /// What the one who types sees.
    pub fn view(&self) -> Arc<Mutex<View>> {
        self.view.clone()
    }

    /// What can be completed.
    pub fn words(&self) -> Arc<Mutex<Words>> {
        self.words.clone()
    }

    /// Converses until the end, which has an exit status. `patient` where who
    /// types cannot be held up, and so all lines are taken at once.
    ///
    /// # Errors
    /// Those of the screen.
    pub fn run(mut self, screen: &mut Screen, patient: bool) -> Result<u8> {
        loop {
            let next = self.inbox.next(patient || self.model.wants_lines(), self.model.poll_timeout());
            self.take(next);
            let mut finished = self.carry_out(screen);
            // A burst is shown at once.
            for _ in 0..BATCH {
                if finished.is_some() {
                    break;
                }
                match self.inbox.next(patient || self.model.wants_lines(), Some(Instant::now())) {
                    Next::Timeout => break,
                    next => self.take(next),
                }
                finished = self.carry_out(screen);
            }
            self.publish();
            screen.flush().map_err(output_error)?;
            if let Some(status) = finished {
                return Ok(status);
            }
        }
    }

    fn take(&mut self, next: Next<Event>) {
        let now = Instant::now();
        match next {
            Next::Timeout => self.model.handle_timeout(now),
            Next::Event(event) => self.event(now, event),
            Next::Typed(Typed::Line { room, text, echo }) => {
                self.model.handle_line(now, room.as_deref(), &text, echo);
            }
            Next::Typed(Typed::Bad(why)) => self.model.handle_bad_line(&why),
            Next::Typed(Typed::Interrupt) => self.model.handle_interrupt(now),
            Next::Typed(Typed::End) => self.model.handle_end(),
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected(connected) => {
                let (sender, welcome) = *connected;
                match Writer::start(sender) {
                    Ok(writer) => {
                        self.writer = Some(writer);
                        self.model.handle_connected(now, &welcome.nick);
                    }
                    // The reading side is gone with it, and tells the loss.
                    Err(error) => log::debug!("{error}"),
                }
            }
            Event::Frame(frame) => self.model.handle_frame(now, &frame),
            Event::Lost(error) => {
                self.writer = None;
                self.model.handle_lost(&error, jitter());
            }
            Event::Uploaded(room, result) => self.model.handle_uploaded(now, room, result),
        }
    }

    /// Does what the model says; the exit status where it is over.
    fn carry_out(&mut self, screen: &mut Screen) -> Option<u8> {
        while let Some(output) = self.model.poll_output() {
            match output {
                Output::Show(entry, current) => screen.show(&entry, current.as_deref()),
                Output::Send(frame) => {
                    if let Some(writer) = &self.writer {
                        writer.send(frame);
                    }
                }
                Output::Connect { wait, nick } => line::reconnect(&self.config, nick, wait, &self.inbox),
                Output::Hangup => {
                    if let Some(writer) = &self.writer {
                        writer.hang_up();
                    }
                }
                Output::Upload { room, path } => self.upload(room, path),
                Output::Finish(status) => return Some(status),
            }
        }
        None
    }

    fn upload(&self, room: String, path: String) {
        let (config, inbox) = (self.config.clone(), self.inbox.clone());
        std::thread::spawn(move || {
            let result = send::send(&config, &path);
            inbox.push(0, Event::Uploaded(room, result));
        });
    }

    /// Lets the one who types see how things are.
    fn publish(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.current = self.model.current().unwrap_or_default().to_owned();
        view.rooms = self.model.rooms();
        drop(view);
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.nicks = self.model.neighbours().map(str::to_owned).collect();
    }
}

fn output_error(error: std::io::Error) -> ClientError {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => ClientError::BrokenPipe,
        _ => ClientError::local("cannot write to standard output", error),
    }
}
