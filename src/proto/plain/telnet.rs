//! Telnet commands, which a telnet client mixes into its text: stripped, and
//! never answered, which means that no option is agreed on (RFC 854, RFC 855).

/// What part of a telnet command came last (RFC 854).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Telnet {
    /// Text.
    #[default]
    Text,
    /// The byte that begins a command.
    Begun,
    /// A command that an option follows.
    Negotiating,
    /// Inside a subnegotiation.
    Sub,
    /// There, the byte that may end it.
    SubBegun,
}

impl Telnet {
    const SE: u8 = 240;
    const SB: u8 = 250;
    const WILL: u8 = 251;
    const DONT: u8 = 254;
    const IAC: u8 = 255;

    /// Appends to `text` what of `bytes` is no telnet command. None of their
    /// first bytes occurs in UTF-8, so no text is lost.
    pub(super) fn strip(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        for byte in bytes.iter().copied() {
            *self = match (&*self, byte) {
                (Telnet::Text, Self::IAC) => Telnet::Begun,
                (Telnet::Text, _) => {
                    text.push(byte);
                    Telnet::Text
                }
                (Telnet::Begun, Self::WILL..=Self::DONT) => Telnet::Negotiating,
                (Telnet::Begun, Self::SB) => Telnet::Sub,
                (Telnet::Begun | Telnet::Negotiating, _) => Telnet::Text,
                (Telnet::Sub, Self::IAC) => Telnet::SubBegun,
                (Telnet::SubBegun, Self::SE) => Telnet::Text,
                (Telnet::Sub | Telnet::SubBegun, _) => Telnet::Sub,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_stripped_wherever_the_bytes_are_cut() {
        let bytes = b"a\xff\xfb\x1fb\xff\xfa\x1f\x00P\xff\xff\n\xff\xf0c\xff\xffd\xff\xf1e\xff\xfe";
        for cut in 0..=bytes.len() {
            let (mut telnet, mut text) = (Telnet::default(), Vec::new());
            telnet.strip(&bytes[..cut], &mut text);
            telnet.strip(&bytes[cut..], &mut text);
            assert_eq!(text, b"abcde", "cut at {cut}");
            assert_eq!(telnet, Telnet::Negotiating);
        }
    }
}
