//! From what is typed to what is asked: lines, the queue in which they wait,
//! and the one request that is out.

use super::{
    Action, ClientError, Command, EXIT_INTERRUPTED, Flight, INSIST, Instant, MAX_QUEUE, MAX_UPLOADS, Model, Output,
    Role, Room,
};
use crate::talk::command;
use crate::wire::MAX_MESSAGE;

impl Model {
    /// A line came that is none.
    pub fn handle_bad_line(&mut self, why: &str) {
        self.error(why);
    }

    /// Somebody pressed Ctrl-C.
    pub fn handle_interrupt(&mut self, now: Instant) {
        if self.interrupted.is_some_and(|last| now < last + INSIST) {
            return self.finish(EXIT_INTERRUPTED);
        }
        self.interrupted = Some(now);
        self.note("Ctrl-C again, or /quit, leaves");
    }

    /// Somebody typed `line` for `room`, or for the current one. `echo` says
    /// whether words are to be shown again once they are said.
    pub fn handle_line(&mut self, now: Instant, room: Option<&str>, line: &str, echo: bool) {
        match Command::parse(line, Role::Guest) {
            Ok(None) => {}
            Ok(Some(command)) => {
                let room = room.map(str::to_owned).or_else(|| self.current.clone());
                self.command(command, room, echo);
            }
            Err(why) => self.error(why),
        }
        self.go_on(now);
    }

    fn command(&mut self, command: Command, room: Option<String>, echo: bool) {
        let action = match command {
            Command::Help => return command::help(Role::Guest).into_iter().for_each(|line| self.note(line)),
            Command::Quit => return self.handle_end(),
            Command::Join(name) => {
                self.current = Some(name.clone());
                Action::Join(name)
            }
            Command::Msg { to, text } => Action::Tell { to, text },
            Command::Nick(nick) => Action::Nick { nick, again: false },
            Command::Rooms => Action::Rooms,
            Command::Leave(Some(room)) => Action::Leave(room),
            Command::Who(Some(room)) => Action::Who(room),
            other => {
                let Some(room) = room else { return self.error("you are in no room: /join one") };
                match other {
                    Command::Leave(_) => Action::Leave(room),
                    Command::Who(_) => Action::Who(room),
                    Command::History(limit) => Action::History { room, limit },
                    Command::Send(path) => return self.upload(room, path),
                    Command::Say(text) => Action::Say { room, text, echo, unsure: None },
                    _ => return self.error("that is the operator's"),
                }
            }
        };
        let leaves = if let Action::Leave(room) = &action { Some(room.clone()) } else { None };
        self.enqueue(action);
        if let Some(room) = leaves {
            self.left(&room);
        }
    }

    pub(super) fn enqueue(&mut self, action: Action) {
        if let Action::Say { text, .. } | Action::Tell { text, .. } = &action
            && text.len() > MAX_MESSAGE
        {
            let length = text.len();
            return self.error(format!("a message of {length} bytes was not sent: at most {MAX_MESSAGE} can be"));
        }
        if self.queue.len() >= MAX_QUEUE {
            return self.error(format!("{MAX_QUEUE} lines wait already; not sent: {}", action.name()));
        }
        if self.lost.is_some() {
            self.note(format!("not connected; kept until we are: {}", action.name()));
        }
        self.queue.push_back(action);
    }

    fn upload(&mut self, room: String, path: String) {
        if self.uploads >= MAX_UPLOADS {
            return self.error(format!("{MAX_UPLOADS} files are on their way: wait for one before /send {path}"));
        }
        self.uploads += 1;
        self.note(format!("sending {path}"));
        self.out.push_back(Output::Upload { room, path });
    }

    /// An upload ended: with the file's name on the server, or not.
    pub fn handle_uploaded(&mut self, now: Instant, room: String, result: Result<String, ClientError>) {
        self.uploads -= 1;
        match result {
            Ok(name) => {
                let text = format!("sent a file: {name} (reactorctl get {name})");
                self.enqueue(Action::Say { room, text, echo: true, unsure: None });
            }
            Err(error) => self.error(error.to_string()),
        }
        self.go_on(now);
    }

    /// Sends the next line where the last one was answered.
    pub(super) fn go_on(&mut self, now: Instant) {
        while self.flight.is_none() && self.is_settled() && self.pause.is_none() {
            if self.lost.take().is_some() {
                let kept = self.queue.len();
                let nick = &self.nick;
                let also = if kept > 0 { format!("; sending what was kept ({kept})") } else { String::new() };
                self.note(format!("connected again as {nick}{also}"));
            }
            self.tries = 0;
            let Some(action) = self.queue.pop_front() else { break };
            self.start(now, action);
        }
        self.finish_if_done();
    }

    fn start(&mut self, now: Instant, action: Action) {
        if let Action::Join(name) = &action {
            if self.room(name).is_none() {
                self.rooms.push(Room::new(name));
                self.enter(self.rooms.len() - 1);
            }
            return;
        }
        let id = self.take_id();
        match action.encode(id) {
            Some(Ok(bytes)) => {
                self.out.push_back(Output::Send(bytes));
                self.flight = Some(Flight { id, action, since: now, left: None });
            }
            Some(Err(error)) => self.error(error.to_string()),
            None => {}
        }
    }
}
