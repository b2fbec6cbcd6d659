//! What a typed line means: words for the room, or a command.

/// Who types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Somebody at `reactorctl chat`.
    Guest,
    /// The operator at the server's console.
    Operator,
}

/// A line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the arguments that `help` names")]
pub enum Command {
    /// Words for the current room.
    Say(String),
    Join(String),
    /// The current room, where none is named.
    Leave(Option<String>),
    Msg {
        to: String,
        text: String,
    },
    Nick(String),
    /// The current room, where none is named.
    Who(Option<String>),
    Rooms,
    /// How many messages of the current room.
    History(Option<u64>),
    /// The path of a local file.
    Send(String),
    Kick(String),
    Clients,
    Stats,
    Help,
    Quit,
}

/// A command's name, its arguments, what it does, and who has it.
type Row = (&'static str, &'static str, &'static str, &'static [Role]);

const BOTH: &[Role] = &[Role::Guest, Role::Operator];
const GUEST: &[Role] = &[Role::Guest];
const OPERATOR: &[Role] = &[Role::Operator];

const TABLE: [Row; 13] = [
    ("/join", "ROOM", "enter a room, and speak there from now on", BOTH),
    ("/leave", "[ROOM]", "leave a room", BOTH),
    ("/msg", "NICK TEXT", "a word to one alone; a nick with spaces in quotes", BOTH),
    ("/nick", "NEW", "another name", GUEST),
    ("/who", "[ROOM]", "who is in a room", BOTH),
    ("/rooms", "", "all rooms", BOTH),
    ("/history", "[N]", "the room's newest messages again", BOTH),
    ("/send", "FILE", "put a file on the server and tell the room its name", GUEST),
    ("/kick", "NICK", "end somebody's connection", OPERATOR),
    ("/clients", "", "all connections", OPERATOR),
    ("/stats", "", "the server's counters", OPERATOR),
    ("/help", "", "this list; a line that begins with // says what follows the first /", BOTH),
    ("/quit", "", "leave; at the console, stop the server", BOTH),
];

fn rows(role: Role) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.3.contains(&role))
}

/// The names of all commands that `role` has.
pub fn names(role: Role) -> impl Iterator<Item = &'static str> {
    rows(role).map(|row| row.0)
}

/// All commands that `role` has, a line each.
pub fn help(role: Role) -> Vec<String> {
    rows(role).map(|(name, args, what, _)| format!("{:<20}{what}", format!("{name} {args}"))).collect()
}

/// The first word of `text`, or what stands in quotes there, and the rest.
fn word(text: &str) -> (&str, &str) {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (first, rest) = quoted.or_else(|| text.split_once(char::is_whitespace)).unwrap_or((text, ""));
    (first, rest.trim_start())
}

impl Command {
    /// Reads a line; `None` for an empty one.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(line: &str, role: Role) -> Result<Option<Command>, String> {
        if line.trim().is_empty() {
            return Ok(None);
        }
        let Some(command) = line.strip_prefix('/') else { return Ok(Some(Command::Say(line.to_owned()))) };
        if command.starts_with('/') {
            return Ok(Some(Command::Say(command.to_owned())));
        }
        let (typed, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let Some((name, args, ..)) = rows(role).find(|row| row.0 == typed) else {
            return Err(format!(
                "there is no command {typed}: /help lists them, and //... says a line that begins with /"
            ));
        };
        let expected = || format!("expected {name} {args}");
        let some = || if rest.is_empty() { Err(expected()) } else { Ok(rest.to_owned()) };
        let optional = || (!rest.is_empty()).then(|| rest.to_owned());
        let none = |command| if rest.is_empty() { Ok(command) } else { Err(format!("{name} takes no argument")) };
        let command = match *name {
            "/join" => Command::Join(some()?),
            "/leave" => Command::Leave(optional()),
            "/msg" => {
                let (to, text) = word(rest);
                if to.is_empty() || text.is_empty() {
                    return Err(expected());
                }
                Command::Msg { to: to.to_owned(), text: text.to_owned() }
            }
            "/nick" => Command::Nick(some()?),
            "/who" => Command::Who(optional()),
            "/history" => match optional().map(|n| n.parse()).transpose() {
                Ok(count) => Command::History(count),
                Err(_) => return Err(format!("{}, with a whole number", expected())),
            },
            "/send" => Command::Send(some()?),
            "/kick" => Command::Kick(some()?),
            "/rooms" => none(Command::Rooms)?,
            "/clients" => none(Command::Clients)?,
            "/stats" => none(Command::Stats)?,
            "/help" => none(Command::Help)?,
            _ => none(Command::Quit)?,
        };
        Ok(Some(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, String> {
        Command::parse(line, Role::Guest)
    }

    #[test]
    fn words_are_said_as_they_were_typed() {
        assert_eq!(parse("  hello /there "), Ok(Some(Command::Say("  hello /there ".into()))));
        assert_eq!(parse("//etc/passwd"), Ok(Some(Command::Say("/etc/passwd".into()))));
        assert_eq!(parse(" \t"), Ok(None));
    }

    #[test]
    fn commands_take_their_arguments() {
        assert_eq!(parse("/join  the room "), Ok(Some(Command::Join("the room".into()))));
        assert_eq!(parse("/leave"), Ok(Some(Command::Leave(None))));
        let msg = |to: &str, text: &str| Ok(Some(Command::Msg { to: to.into(), text: text.into() }));
        assert_eq!(parse("/msg bob  hi there"), msg("bob", "hi there"));
        assert_eq!(parse("/msg \"Mr Bob\" hi"), msg("Mr Bob", "hi"));
        assert_eq!(parse("/history 7"), Ok(Some(Command::History(Some(7)))));
        assert_eq!(parse("/quit"), Ok(Some(Command::Quit)));
    }

    #[test]
    fn what_is_wrong_says_what_was_expected() {
        for (line, expected) in [
            ("/fly", "no command /fly"),
            ("/msg bob", "/msg NICK TEXT"),
            ("/join", "/join ROOM"),
            ("/history x", "whole number"),
            ("/rooms all", "no argument"),
        ] {
            assert!(parse(line).unwrap_err().contains(expected), "{line}");
        }
    }

    #[test]
    fn each_side_has_its_own_commands() {
        assert!(parse("/kick bob").is_err());
        assert_eq!(Command::parse("/kick bob", Role::Operator), Ok(Some(Command::Kick("bob".into()))));
        assert!(Command::parse("/send x", Role::Operator).is_err());
        for role in [Role::Guest, Role::Operator] {
            assert_eq!(names(role).count(), help(role).len());
            for name in names(role) {
                let with_argument = Command::parse(&format!("{name} 1 2"), role);
                assert!(Command::parse(name, role).is_ok() || with_argument.is_ok(), "{name}");
            }
        }
    }
}
