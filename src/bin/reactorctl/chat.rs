//! Chat: at a terminal with a line editor, on a pipe with plain lines.

use crate::output::{Output, complain};
use reactord::client::chat::engine::{Engine, Screen, View};
use reactord::client::chat::inbox::{Inbox, Typed};
use reactord::client::chat::model::Settings;
use reactord::client::{ClientError, Config, Result, signals, stdio};
use reactord::system;
use reactord::talk::command::{self, Command, Role};
use reactord::talk::editor::{self, Editor, Printer};
use reactord::talk::entry::{self, Entry, Style};
use reactord::talk::lines::{Line, Lines};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Messages that a terminal shows on entering a room.
const TERMINAL_HISTORY: u64 = 50;

/// `chat [ROOM]`.
pub(crate) fn chat(config: Config, out: &Output, room: String, history: Option<u64>) -> Result<u8> {
    if editor::is_possible() && !out.json {
        let history = history.unwrap_or(TERMINAL_HISTORY);
        at_terminal(Engine::start(config, Settings { room, history, interactive: true })?)
    } else {
        let history = history.unwrap_or(0);
        on_pipe(Engine::start(config, Settings { room, history, interactive: false })?, out)
    }
}

fn at_terminal(engine: Engine) -> Result<u8> {
    let (inbox, view, words) = (engine.inbox(), engine.view(), engine.words());
    words.lock().unwrap_or_else(PoisonError::into_inner).commands =
        command::names(Role::Guest).map(str::to_owned).collect();
    let failed = |e| ClientError::local("cannot use the terminal", e);
    let (editor, printer) = Editor::new(words, history_file()).map_err(failed)?;
    give_back_on_signals(printer.clone()).map_err(failed)?;
    std::thread::spawn(move || read_lines(editor, &inbox, &view));
    let mut screen = Terminal { printer, style: Style::terminal(), lines: String::new() };
    let ended = engine.run(&mut screen, true);
    screen.printer.finish();
    ended
}

/// The file that keeps what was typed, beside the server's default state. A
/// directory that cannot be made is not worth a conversation.
fn history_file() -> Option<PathBuf> {
    let dir = system::default_state_dir()?;
    match system::create_private_dir(&dir) {
        Ok(()) => Some(dir.join("chat_history")),
        Err(e) => {
            complain(format_args!("what you type is not kept: {}: {e}", dir.display()));
            None
        }
    }
}

/// Ends as by the signal, with the terminal as it was before.
fn give_back_on_signals(printer: Printer) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            printer.restore();
            signals::by_default(signal);
        }
    });
    Ok(())
}

/// The editor's thread: reads lines until there are no more.
fn read_lines(mut editor: Editor, inbox: &Inbox, view: &Mutex<View>) {
    loop {
        let room = view.lock().unwrap_or_else(PoisonError::into_inner).current.clone();
        let typed = match editor.read(&room) {
            editor::Typed::Line(text) => {
                let command = Command::parse(&text, Role::Guest);
                // What is said comes back as a message, with its time; a
                // command stays where it was typed.
                let echo = matches!(command, Ok(Some(Command::Say(_)))) && editor.erase(&room, &text);
                foresee(&command, &room, view);
                Typed::Line { room: Some(room).filter(|room| !room.is_empty()), text, echo }
            }
            editor::Typed::Interrupt => Typed::Interrupt,
            editor::Typed::End => Typed::End,
        };
        let ended = typed == Typed::End;
        if let Err(Typed::Line { text, .. }) = inbox.try_type(typed) {
            complain(format_args!("too many lines wait; not sent: {text}"));
        }
        if ended {
            return;
        }
    }
}

/// The next line belongs to the room that this command leads to, though the
/// conversation has not taken it yet.
fn foresee(command: &std::result::Result<Option<Command>, String>, room: &str, view: &Mutex<View>) {
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    match command {
        Ok(Some(Command::Join(name))) => view.current.clone_from(name),
        Ok(Some(Command::Leave(left))) if left.as_deref().is_none_or(|left| left == room) => {
            view.rooms.retain(|name| name != room);
            view.current = view.rooms.last().cloned().unwrap_or_default();
        }
        _ => {}
    }
}

/// Prints above the line that is being typed.
struct Terminal {
    printer: Printer,
    style: Style,
    lines: String,
}

impl Screen for Terminal {
    fn show(&mut self, entry: &Entry, current: Option<&str>) {
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        self.lines += &self.style.line(entry, current);
    }

    fn flush(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let printed = self.printer.print(&self.lines);
        self.lines.clear();
        printed.map_err(|e| ClientError::local("cannot write to the terminal", e))
    }
}

fn on_pipe(engine: Engine, out: &Output) -> Result<u8> {
    let inbox = engine.inbox();
    std::thread::spawn(move || pipe_lines(&inbox));
    let mut screen = Pipe { json: out.json, quiet: out.quiet, style: Style::plain(), lines: Vec::new() };
    engine.run(&mut screen, false)
}

/// The thread that reads standard input where that is no terminal to edit on.
fn pipe_lines(inbox: &Arc<Inbox>) {
    let mut lines = Lines::new(stdio::stdin());
    loop {
        let typed = match lines.read() {
            Line::Text(text) => Typed::Line { room: None, text, echo: true },
            Line::Bad(why) => Typed::Bad(why),
            Line::End => Typed::End,
        };
        let ended = typed == Typed::End;
        inbox.type_in(typed);
        if ended {
            return;
        }
    }
}

/// Writes lines: what happens in the chat to standard output, what the program
/// has to say to standard error; with `--json`, all of it to standard output.
struct Pipe {
    json: bool,
    quiet: bool,
    style: Style,
    lines: Vec<u8>,
}

impl Screen for Pipe {
    fn show(&mut self, entry: &Entry, current: Option<&str>) {
        let line = match entry {
            Entry::Note { .. } if self.quiet => return,
            entry if self.json => entry::json(entry),
            Entry::Note { text } | Entry::Error { text } => return complain(reactord::text::visible(text)),
            entry => self.style.line(entry, current),
        };
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
    }

    fn flush(&mut self) -> Result<()> {
        let written = stdio::stdout().write_all(&self.lines);
        self.lines.clear();
        written.map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => ClientError::BrokenPipe,
            _ => ClientError::local("cannot write to standard output", e),
        })
    }
}
