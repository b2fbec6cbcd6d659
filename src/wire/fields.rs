//! The fields of a header: scanned once, typed when the command is known.
//!
//! Which fields count depends on `cmd`, which may stand anywhere in the object.
//! So one pass finds each field's text without interpreting it, and the typed
//! struct of the command is then built from those texts alone. serde's derive
//! refuses a known field that stands twice or has the wrong type, and skips
//! unknown ones unread.
//!
//! Nearly every header is of one plain shape, and headers are most of what a
//! small request costs. [`Fields::scan_plain`] takes just that shape; whatever
//! is not of it, right or wrong, is left to serde_json, which alone decides
//! what JSON is. A property test holds the two to the same result.

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// A text borrowed where it holds no escapes; serde's own `Cow` always copies.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// One field that stands at most once, as its JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Once<'a> {
    #[default]
    Absent,
    Given(&'a [u8]),
    Repeated,
}

impl<'a> Once<'a> {
    fn put(&mut self, value: &'a [u8]) {
        *self = match self {
            Once::Absent => Once::Given(value),
            _ => Once::Repeated,
        };
    }

    /// The field as a `T`: `Ok(None)` where absent, otherwise a sentence that
    /// says what stood there.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Result<Option<T>, String> {
        match self {
            Once::Absent => Ok(None),
            Once::Repeated => Err("stands more than once".into()),
            Once::Given(raw) => match serde_json::from_slice(raw) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(format!("is {}", excerpt(&String::from_utf8_lossy(raw)))),
            },
        }
    }

    /// The field as a whole number; see [`Once::read`].
    pub(super) fn read_integer(self) -> Result<Option<u64>, String> {
        match self {
            Once::Given(raw) if raw.len() <= PLAIN_DIGITS && raw.iter().all(u8::is_ascii_digit) => {
                Ok(Some(raw.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))))
            }
            other => other.read(),
        }
    }

    /// The field as a string; see [`Once::read`].
    pub(super) fn read_text(self) -> Result<Option<Cow<'a, str>>, String> {
        if let Once::Given(raw) = self
            && let Some(text) = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""))
            && !text.contains(&b'\\')
            && let Ok(text) = std::str::from_utf8(text)
        {
            return Ok(Some(Cow::Borrowed(text)));
        }
        Ok(self.read::<Text<'a>>()?.map(|Text(text)| text))
    }
}

/// Digits of a number that is read without further ado; no 64-bit overflow.
const PLAIN_DIGITS: usize = 16;

/// At most 40 characters of `text`, for an error message.
pub(super) fn excerpt(text: &str) -> String {
    cut(text, 40)
}

/// What serde found wrong, at most 200 characters of it: it repeats the value
/// at hand, whole and with escapes that are longer than what they stand for.
pub(super) fn reason(error: &serde_json::Error) -> String {
    cut(&error.to_string(), 200)
}

fn cut(text: &str, shown: usize) -> String {
    match text.char_indices().nth(shown) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// A field's name and its JSON text.
type Field<'a> = (Cow<'a, [u8]>, &'a [u8]);

/// What one pass over a header finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) cmd: Once<'a>,
    pub(super) id: Once<'a>,
    pub(super) size: Once<'a>,
    pub(super) rest: SmallVec<[Field<'a>; 6]>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(key)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    let key = match key {
                        Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
                        Cow::Owned(key) => Cow::Owned(key.into_bytes()),
                    };
                    fields.put(key, value.get().as_bytes());
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'a> Fields<'a> {
    /// Reads a header into fields that are empty: they are not small, and
    /// handing them back by value would move them with each request. The error
    /// is a sentence.
    pub(super) fn read(&mut self, header: &'a [u8]) -> Result<(), String> {
        if self.scan_plain(header).is_none() {
            let text = std::str::from_utf8(header).map_err(|e| e.to_string())?;
            *self = serde_json::from_str(text).map_err(|e| reason(&e))?;
        }
        Ok(())
    }

    fn put(&mut self, key: Cow<'a, [u8]>, value: &'a [u8]) {
        match &*key {
            b"cmd" => self.cmd.put(value),
            b"id" => self.id.put(value),
            b"size" => self.size.put(value),
            _ => self.rest.push((key, value)),
        }
    }

    /// Reads an object of ASCII without white space whose keys and values hold
    /// no escapes and whose values are strings and whole numbers. `None` for
    /// anything else, with whatever fields came before that.
    fn scan_plain(&mut self, bytes: &'a [u8]) -> Option<()> {
        if bytes.first() != Some(&b'{') {
            return None;
        }
        let mut at = 1;
        loop {
            let key_end = plain_string(bytes, at)?;
            if bytes.get(key_end) != Some(&b':') {
                return None;
            }
            let value = key_end + 1;
            let value_end = match bytes.get(value)? {
                b'"' => plain_string(bytes, value)?,
                b'0'..=b'9' => plain_number(bytes, value)?,
                _ => return None,
            };
            self.put(Cow::Borrowed(&bytes[at + 1..key_end - 1]), &bytes[value..value_end]);
            match bytes.get(value_end)? {
                b',' => at = value_end + 1,
                b'}' if value_end + 1 == bytes.len() => return Some(()),
                _ => return None,
            }
        }
    }

    /// The command's own fields as its typed struct.
    pub(super) fn typed<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        T::deserialize(FieldsDeserializer { rest: self.rest.iter(), pending: None })
    }
}

/// The end of the string that begins at `at`, behind its closing quote.
fn plain_string(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let length = bytes[at + 1..].iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f | 0x80..))?;
    let quote = at + 1 + length;
    (bytes[quote] == b'"').then_some(quote + 1)
}

/// The end of the whole number that begins at `at`.
fn plain_number(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes[at..].iter().position(|b| !b.is_ascii_digit())?;
    let zero_led = bytes[at] == b'0' && length > 1;
    (!zero_led && length <= PLAIN_DIGITS && !matches!(bytes[at + length], b'.' | b'e' | b'E')).then_some(at + length)
}

struct FieldsDeserializer<'de> {
    rest: std::slice::Iter<'de, Field<'de>>,
    pending: Option<(&'de [u8], &'de [u8])>,
}

impl<'de> Deserializer<'de> for FieldsDeserializer<'de> {
    type Error = serde_json::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_map(self)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for FieldsDeserializer<'de> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.pending = Some((key, value));
        seed.deserialize(de::value::BorrowedBytesDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let (key, raw) = self.pending.take().expect("a value follows its key");
        seed.deserialize(&mut serde_json::Deserializer::from_slice(raw)).map_err(|e| {
            // serde_json adds a position inside the one value, which says nothing here.
            let why = e.to_string();
            let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
            serde_json::Error::custom(format!("field `{}`: {}", excerpt(&String::from_utf8_lossy(key)), cut(why, 100)))
        })
    }
}

/// For optional fields: what stands there must be a `T`; `null` is none.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// For optional nested fields: an object, and not the array that serde's
/// derive would take in its place.
pub(super) fn present_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(d)?;
    if !raw.get().starts_with('{') {
        return Err(D::Error::custom(format!("expected an object, found {}", excerpt(raw.get()))));
    }
    serde_json::from_str(raw.get()).map(Some).map_err(D::Error::custom)
}

/// For maps of texts: no key twice.
pub(super) fn unique_map<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = std::collections::HashSet::new();
            let mut pairs = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if !seen.insert(key.clone()) {
                    return Err(A::Error::custom(format!("`{}` stands more than once", excerpt(&key))));
                }
                pairs.push((key, value));
            }
            Ok(pairs)
        }
    }
    d.deserialize_map(Pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Texts that are nearly of the plain shape.
    fn nearly_plain() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            ",",
            ":",
            "\"",
            "cmd",
            "id",
            "size",
            "room",
            "echo",
            "0",
            "1",
            "12",
            "007",
            "9007199254740993",
            "-",
            ".",
            "e5",
            "true",
            "null",
            " ",
            "\n",
            "\\",
            "\\u0041",
            "[",
            "]",
            "é",
            "\u{1}",
            "\"cmd\":",
            "\"id\":",
            "\"size\":",
            "\"a\"",
            ",\"x\":",
        ]);
        let field = prop::sample::select(vec![
            "\"cmd\":\"echo\"",
            "\"id\":7",
            "\"id\":00",
            "\"size\":12345678901234567",
            "\"room\":\"l\\n\"",
            "\"x\":\"é\"",
            "\"size\":0",
            "\"x\":1.5",
            "\"x\":1e3",
            "\"cmd\":\"say\"",
            "\"x\":{}",
            "\"x\": 1",
            "\"x\":1 ",
        ]);
        prop_oneof![
            prop::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(","))),
            prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn the_scan_agrees_with_serde_json(text in nearly_plain()) {
            let slow = serde_json::from_str::<Fields<'_>>(&text).ok();
            let mut fast = Fields::default();
            if fast.scan_plain(text.as_bytes()).is_some() {
                prop_assert_eq!(Some(&fast), slow.as_ref());
                prop_assert_eq!(fast.id.read_integer(), fast.id.read::<u64>());
                prop_assert_eq!(fast.cmd.read_text(), fast.cmd.read::<Text<'_>>().map(|t| t.map(|Text(t)| t)));
            }
        }
    }

    #[test]
    fn what_clients_send_is_of_the_plain_shape() {
        for text in [
            r#"{"cmd":"echo","id":1,"size":64}"#,
            r#"{"cmd":"say","room":"lobby","size":64}"#,
            r#"{"cmd":"data","id":9007199254740991,"size":262144}"#,
        ] {
            assert!(Fields::default().scan_plain(text.as_bytes()).is_some(), "{text}");
        }
    }
}
