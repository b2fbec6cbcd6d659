//! The operator's console: somebody at the server's own terminal, or on its
//! standard input and output, who takes part in the chat and looks after it.
//!
//! The console runs in threads of its own. A driver holds a [`Port`]: it
//! answers what the console asks and hands it what the rooms deliver to
//! [`ConnId::OPERATOR`](crate::proto::ConnId::OPERATOR), and never waits for it.
//!
//! - [`port`]: the driver's side, and the values that pass.
//! - [`desk`]: the conversation as a state machine.

pub mod desk;
pub mod port;

pub use port::Port;

use crate::logging::LogGuard;
use crate::talk::command::{self, Role};
use crate::talk::editor::{self, Editor, Printer, Words};
use crate::talk::inbox::{Inbox, Next, Typed};
use crate::talk::reader::{self, View};
use crate::talk::screen::{Pipe, Screen};
use desk::{Desk, Output};
use port::{Event, Request};
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is taken before the screen is brought up to date.
const BATCH: usize = 256;

/// How long the console may take to end after the server.
const END_TIME: Duration = Duration::from_secs(1);

/// A console that runs.
#[derive(Debug)]
pub struct Console {
    thread: JoinHandle<()>,
}

impl Console {
    /// Starts the console. `wake` makes the driver look at its port. At a
    /// terminal, the log is printed above the line that is being typed, too.
    pub fn start(wake: impl Fn() + Send + 'static, log: &LogGuard) -> io::Result<(Console, Port)> {
        let inbox = Arc::new(Inbox::default());
        let (port, requests) = Port::new(inbox.clone());
        let words = Words { commands: command::names(Role::Operator).map(str::to_owned).collect(), nicks: Vec::new() };
        let desk = Desk::new();
        let view = View { current: desk.current().unwrap_or_default().to_owned(), rooms: desk.rooms() };
        let (words, view) = (Arc::new(Mutex::new(words)), Arc::new(Mutex::new(view)));
        let (screen, printer) = if editor::is_possible() {
            let (editor, printer) = Editor::new(words.clone(), None)?;
            log.print_above(printer.clone());
            let (inbox, view) = (inbox.clone(), view.clone());
            let read = move || reader::read_terminal(editor, Role::Operator, &inbox, &view);
            std::thread::Builder::new().name("editor".into()).spawn(read)?;
            (Screen::terminal(printer.clone()), Some(printer))
        } else {
            let inbox = inbox.clone();
            let read = move || reader::read_pipe(io::stdin(), &inbox);
            std::thread::Builder::new().name("input".into()).spawn(read)?;
            (Screen::pipe(Pipe::default()), None)
        };
        let mut runner = Runner { desk, inbox, requests, wake, screen, words, view };
        let run = move || {
            runner.run();
            end(runner, printer.as_ref());
        };
        let thread = std::thread::Builder::new().name("console".into()).spawn(run)?;
        Ok((Console { thread }, port))
    }

    /// Waits until the console has ended, which it does soon after its port
    /// was dropped; the terminal is then as it was before.
    pub fn wait(self) {
        let give_up = Instant::now() + END_TIME;
        while !self.thread.is_finished() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Gives the terminal back, and then tells the driver that nobody asks any more.
fn end<W: Fn()>(runner: Runner<W>, printer: Option<&Printer>) {
    if let Some(printer) = printer {
        printer.finish();
    }
    let Runner { requests, wake, .. } = runner;
    drop(requests);
    wake();
}

struct Runner<W> {
    desk: Desk,
    inbox: Arc<Inbox<Event>>,
    requests: SyncSender<Request>,
    wake: W,
    screen: Screen,
    words: Arc<Mutex<Words>>,
    view: Arc<Mutex<View>>,
}

impl<W: Fn()> Runner<W> {
    fn run(&mut self) {
        let mut over = self.carry_out();
        while !over {
            let next = self.inbox.next(self.desk.wants_lines(), None);
            self.take(next);
            over = self.carry_out();
            // A burst is shown at once.
            for _ in 0..BATCH {
                if over {
                    break;
                }
                match self.inbox.next(self.desk.wants_lines(), Some(Instant::now())) {
                    Next::Timeout => break,
                    next => self.take(next),
                }
                over = self.carry_out();
            }
            self.publish();
            if let Err(e) = self.screen.flush() {
                log::warn!("the console ends: {e}");
                return;
            }
        }
    }

    fn take(&mut self, next: Next<Event>) {
        match next {
            Next::Timeout => {}
            Next::Event(event) => self.desk.handle_event(event),
            Next::Typed(Typed::Line { room, text, echo }) => self.desk.handle_line(room.as_deref(), &text, echo),
            Next::Typed(Typed::Bad(why)) => self.desk.handle_bad_line(&why),
            Next::Typed(Typed::Interrupt) => self.desk.handle_interrupt(Instant::now()),
            Next::Typed(Typed::End) => self.desk.handle_end(),
        }
    }

    /// Does what the desk says; whether the console is over.
    fn carry_out(&mut self) -> bool {
        while let Some(output) = self.desk.poll_output() {
            match output {
                Output::Show(entry, current) => self.screen.show(&entry, current.as_deref()),
                Output::Ask(request) => {
                    // Where the driver is gone, it has said so in the inbox.
                    if self.requests.send(request).is_ok() {
                        (self.wake)();
                    }
                }
                Output::Finish => return true,
            }
        }
        false
    }

    /// Lets the one who types see how things are.
    fn publish(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.current = self.desk.current().unwrap_or_default().to_owned();
        view.rooms = self.desk.rooms();
        drop(view);
        self.words.lock().unwrap_or_else(PoisonError::into_inner).nicks = self.desk.neighbours();
    }
}
