//! A cursor over bytes that never reads beyond them.

use super::GgufError;

/// Longest string: chat templates are the longest ones in use.
const MAXIMUM_STRING: u64 = 1 << 24;

#[derive(Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The bytes from here to where a clone of this reader has got.
    pub(super) fn until(&self, later: &Self) -> &'a [u8] {
        &self.bytes[self.position..later.position]
    }

    /// The next `count` bytes; `what` they are is told if they are not there.
    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let Some(taken) = taken else {
            return Err(GgufError::Truncated { what, offset: self.position, needed: count, left: rest.len() });
        };
        self.position += taken.len();
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length of 64 bits and as many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        if length > MAXIMUM_STRING {
            return Err(GgufError::TooLong { what, found: length, allowed: MAXIMUM_STRING });
        }
        let offset = self.position;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| GgufError::NotUtf8 { what, offset })
    }
}
