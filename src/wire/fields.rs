//! The fields of a header: scanned once, typed when the command is known.
//!
//! Which fields count depends on `cmd`, which may stand anywhere in the object.
//! So one pass finds each field's text without interpreting it, and the typed
//! struct of the command is then built from those texts alone. serde's derive
//! refuses a known field that stands twice or has the wrong type, and skips
//! unknown ones unread.

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

/// One field that stands at most once.
#[derive(Clone, Copy, Default)]
pub(super) enum Once<'a> {
    #[default]
    Absent,
    Given(&'a RawValue),
    Repeated,
}

impl<'a> Once<'a> {
    fn put(&mut self, value: &'a RawValue) {
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
            Once::Given(raw) => match serde_json::from_str(raw.get()) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(format!("is {}", excerpt(raw.get()))),
            },
        }
    }
}

/// At most 40 characters of `text`, for an error message.
pub(super) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// What one pass over a header finds.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) cmd: Once<'a>,
    pub(super) id: Once<'a>,
    pub(super) size: Once<'a>,
    pub(super) rest: SmallVec<[(Cow<'a, str>, &'a RawValue); 6]>,
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
                    match &*key {
                        "cmd" => fields.cmd.put(value),
                        "id" => fields.id.put(value),
                        "size" => fields.size.put(value),
                        _ => fields.rest.push((key, value)),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl Fields<'_> {
    /// The command's own fields as its typed struct.
    pub(super) fn typed<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        T::deserialize(FieldsDeserializer { rest: self.rest.iter(), pending: None })
    }
}

struct FieldsDeserializer<'de> {
    rest: std::slice::Iter<'de, (Cow<'de, str>, &'de RawValue)>,
    pending: Option<(&'de str, &'de RawValue)>,
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
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let (key, raw) = self.pending.take().expect("a value follows its key");
        seed.deserialize(raw).map_err(|e| {
            // serde_json adds a position inside the one value, which says nothing here.
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or(&why);
            serde_json::Error::custom(format!("field `{}`: {why}", excerpt(key)))
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
