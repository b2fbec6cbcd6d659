//! Where a conversation is shown: above the line that is being typed, or as
//! lines on a pipe.

use super::editor::Printer;
use super::entry::{self, Entry, Style};
use crate::text::visible;
use std::io::{self, Write};

/// How a pipe is written to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipe {
    /// One JSON object a line, for everything.
    pub json: bool,
    /// Without what the program itself has to say, errors excepted.
    pub quiet: bool,
    /// What the program itself has to say goes to standard error, after this
    /// name.
    pub program: Option<&'static str>,
}

enum Sink {
    Terminal(Printer),
    Pipe(Pipe),
}

/// Shows entries; those taken since the last [`Screen::flush`] at once.
pub struct Screen {
    sink: Sink,
    style: Style,
    /// Whole lines.
    lines: String,
}

impl Screen {
    /// Above the line that is being typed.
    pub fn terminal(printer: Printer) -> Screen {
        Screen { sink: Sink::Terminal(printer), style: Style::terminal(), lines: String::new() }
    }

    /// On standard output.
    pub fn pipe(pipe: Pipe) -> Screen {
        Screen { sink: Sink::Pipe(pipe), style: Style::plain(), lines: String::new() }
    }

    /// Takes an entry, as seen from the room `current`.
    pub fn show(&mut self, entry: &Entry, current: Option<&str>) {
        match (&self.sink, entry) {
            (Sink::Pipe(pipe), Entry::Note { .. }) if pipe.quiet => return,
            (Sink::Pipe(pipe), entry) if pipe.json => self.lines += &entry::json(entry),
            (Sink::Pipe(Pipe { program: Some(name), .. }), Entry::Note { text } | Entry::Error { text }) => {
                // Where standard error fails, there is nothing left to say so on.
                let _ = writeln!(io::stderr(), "{name}: {}", visible(text));
                return;
            }
            (_, entry) => self.lines += &self.style.line(entry, current),
        }
        self.lines.push('\n');
    }

    /// Everything taken so far becomes visible.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(lines) = self.lines.strip_suffix('\n') else { return Ok(()) };
        let shown = match &self.sink {
            Sink::Terminal(printer) => printer.print(lines),
            Sink::Pipe(_) => {
                let mut out = io::stdout().lock();
                out.write_all(self.lines.as_bytes()).and_then(|()| out.flush())
            }
        };
        self.lines.clear();
        shown
    }
}
