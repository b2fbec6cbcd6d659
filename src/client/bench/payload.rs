//! Bytes that no two requests share, made and checked without being kept.

/// Digits at the front of a payload that name its request.
const STAMP: usize = 16;

/// How far apart two payloads may begin in the noise.
const OFFSETS: usize = 251;

/// Payloads of one length.
#[derive(Debug)]
pub struct Payloads {
    noise: Vec<u8>,
    size: usize,
}

/// One request's payload: digits of its own, and noise from a place of its own.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    stamp: [u8; STAMP],
    stamped: usize,
    rest: &'a [u8],
}

impl Payloads {
    /// Payloads of `size` bytes, of text, because some requests carry text.
    pub fn new(size: usize) -> Self {
        let noise = noise(size + OFFSETS).into_iter().map(|byte| b'a' + byte % 26).collect();
        Payloads { noise, size }
    }

    /// Bytes of each.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The payload of request `id` on connection `line`.
    pub fn of(&self, line: usize, id: u64) -> Payload<'_> {
        // A bijection, so that no two have the same digits; the finalizer of
        // splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
        let mut number = ((line as u64) << 40) ^ id;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^= number >> 31;
        let mut stamp = [0; STAMP];
        for (digit, place) in stamp.iter_mut().zip(0..) {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
        }
        let stamped = STAMP.min(self.size);
        let from = number as usize % OFFSETS;
        Payload { stamp, stamped, rest: &self.noise[from..from + self.size - stamped] }
    }
}

impl Payload<'_> {
    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.stamped + self.rest.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends it.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp[..self.stamped]);
        out.extend_from_slice(self.rest);
    }

    /// Whether `bytes` are this payload.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len()
            && bytes[..self.stamped] == self.stamp[..self.stamped]
            && bytes[self.stamped..] == *self.rest
    }
}

/// Bytes without a pattern, always the same ones.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"reactorctl bench").finalize_xof().fill(&mut bytes);
    bytes
}

/// A file's content, known at every offset though only a part of it is kept.
#[derive(Debug)]
pub struct Content {
    noise: Vec<u8>,
    length: u64,
}

/// Prime, so that no chunk of a common size stands at two places.
const PERIOD: usize = 1_048_573;

impl Content {
    /// A file of `length` bytes.
    pub fn new(length: u64) -> Self {
        Content { noise: noise(PERIOD), length }
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The stretch from `offset` on, of at most `most` bytes; shorter where the
    /// kept part ends.
    pub fn at(&self, offset: u64, most: usize) -> &[u8] {
        let from = (offset % PERIOD as u64) as usize;
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = most.min(left).min(PERIOD - from);
        &self.noise[from..from + most]
    }

    /// Whether `bytes` stand at `offset`.
    pub fn holds(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.at(offset, bytes.len());
            if expected.is_empty() || bytes[..expected.len()] != *expected {
                return false;
            }
            offset += expected.len() as u64;
            bytes = &bytes[expected.len()..];
        }
        true
    }

    /// Its BLAKE3 checksum, in hexadecimal.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < self.length {
            let bytes = self.at(offset, PERIOD);
            hasher.update(bytes);
            offset += bytes.len() as u64;
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(payload: Payload<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        payload.append(&mut out);
        out
    }

    #[test]
    fn a_payload_is_itself_and_no_other() {
        for size in [0, 1, 15, 16, 17, 64, 5_000] {
            let payloads = Payloads::new(size);
            let mut own = bytes(payloads.of(3, 7));
            assert_eq!(own.len(), size);
            assert!(payloads.of(3, 7).is(&own) && own.is_ascii());
            if size >= STAMP {
                assert!(!payloads.of(3, 8).is(&own) && !payloads.of(4, 7).is(&own));
            }
            if let Some(last) = own.last_mut() {
                *last ^= 1;
                assert!(!payloads.of(3, 7).is(&own));
            }
        }
    }

    #[test]
    fn content_is_known_at_every_offset() {
        let content = Content::new(3_000_000);
        let whole: Vec<u8> = (0..3).flat_map(|_| noise(PERIOD)).take(3_000_000).collect();
        assert_eq!(content.blake3(), blake3::hash(&whole).to_hex().to_string());
        let at = PERIOD - 10;
        assert!(content.holds(at as u64, &whole[at..at + 500_000]));
        assert!(!content.holds(at as u64 + 1, &whole[at..at + 500_000]));
        assert!(!content.holds(2_999_999, b"xy"), "longer than the file");
        assert!(content.at(3_000_000, 1).is_empty());
    }
}
