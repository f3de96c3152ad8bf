//! What the processes of a run say to each other, over anything that reads and writes. No sockets, no time.
//!
//! Whoever connects begins with eight bytes and a [`Hello`]. Everything else is frames: a kind (one byte), the length of the payload
//! in bytes (eight, little endian) and the payload: nothing in a sign of life, JSON in a message, little-endian f32 in values. A sign
//! of life may come between any two frames. Lengths are checked before there is memory for them.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Of the protocol; processes of different versions refuse each other.
pub(super) const VERSION: u32 = 3;
const GREETING: [u8; 8] = *b"cllm-run";
const ALIVE: u8 = 0;
const MESSAGE: u8 = 1;
const VALUES: u8 = 2;
/// Settings name every shard of the trajectories, so a message may be long.
const MESSAGE_LIMIT: u64 = 16 << 20;
/// Values that are converted at a time.
const CHUNK: usize = 1 << 14;

/// How a process introduces itself to process 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Processes of the run, as this one was told.
    pub processes: u32,
    /// Which of them this is.
    pub index: u32,
    /// Everything that decides over the result, as JSON text: numbers are compared as they are written.
    pub settings: String,
}

/// Everything else. Process 0 sends all but `Ready`, `Checksum` and `Goodbye`; both sides send `Sum`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// This process does not fit into the run.
    Refused {
        /// A sentence for people.
        reason: String,
    },
    /// All are here. Followed by values thrice: weights, means of gradients, means of squared gradients.
    State {
        /// Updates done.
        step: u64,
    },
    /// The next steps learn from trajectories that were refreshed. Followed by their columns, whose numbers are the bits of values.
    Refreshed {
        /// Names and lengths of the columns.
        columns: Vec<(String, usize)>,
    },
    /// Compute the gradients of the next step.
    Step,
    /// They are computed, and the sum of the processes before can come.
    Ready {
        /// SIGTERM or SIGINT has come.
        interrupted: bool,
    },
    /// Followed by the values of a sum of gradients.
    Sum {
        /// Bits of the terms of the loss: JSON could not carry all numbers.
        terms: [u64; 2],
    },
    /// Say the checksum of the weights.
    Verify,
    /// Of the weights.
    Checksum {
        /// See [`checksum`].
        checksum: String,
    },
    /// The output is complete.
    Finished,
    /// The end is heard.
    Goodbye,
    /// The run was interrupted and its state saved.
    Interrupted,
    /// The run ends for another reason.
    Stopped {
        /// A sentence for people.
        reason: String,
    },
    /// The run ends, and would end in the same way if it were started again.
    Failed {
        /// A sentence for people.
        reason: String,
    },
}

/// The first words of whoever connects.
pub(super) fn write_hello(writer: &mut impl Write, hello: &Hello) -> Result<()> {
    writer.write_all(&GREETING)?;
    write_json(writer, hello)
}

/// Fails at the first bytes of anything that is no process of a run.
pub(super) fn read_hello(reader: &mut impl Read) -> Result<Hello> {
    let mut greeting = [0; GREETING.len()];
    reader.read_exact(&mut greeting)?;
    match (greeting == GREETING).then(|| read_header(reader)).transpose()? {
        Some((MESSAGE, length)) => read_json(reader, length),
        _ => Err(invalid("it is no process of a run".to_owned())),
    }
}

/// A message.
pub(super) fn write_message(writer: &mut impl Write, message: &Message) -> Result<()> {
    write_json(writer, message)
}

/// The next message; none where a sign of life came instead.
pub(super) fn read_next(reader: &mut impl Read) -> Result<Option<Message>> {
    match read_header(reader)? {
        (ALIVE, 0) => Ok(None),
        (MESSAGE, length) => read_json(reader, length).map(Some),
        (kind, length) => Err(invalid(format!("a frame of kind {kind} and length {length} is no message"))),
    }
}

/// The next message, past all signs of life.
pub(super) fn read_message(reader: &mut impl Read) -> Result<Message> {
    loop {
        if let Some(message) = read_next(reader)? {
            return Ok(message);
        }
    }
}

/// A sign of life.
pub(super) fn write_alive(writer: &mut impl Write) -> Result<()> {
    writer.write_all(&header(ALIVE, 0))
}

/// Values of every variable.
pub(super) fn write_values(writer: &mut impl Write, values: &[Vec<f32>]) -> Result<()> {
    writer.write_all(&header(VALUES, length(values)))?;
    let mut buffer = vec![0_u8; 4 * CHUNK];
    for chunk in values.iter().flat_map(|values| values.chunks(CHUNK)) {
        let bytes = &mut buffer[..4 * chunk.len()];
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
            *bytes = value.to_le_bytes();
        }
        writer.write_all(bytes)?;
    }
    Ok(())
}

/// Combines every value, given first, with the one that comes for it. Fails where not exactly as many come.
pub(super) fn read_values(
    reader: &mut impl Read,
    values: &mut [Vec<f32>],
    combine: impl Fn(f32, f32) -> f32,
) -> Result<()> {
    let expected = length(values);
    let found = loop {
        match read_header(reader)? {
            (ALIVE, 0) => {}
            found => break found,
        }
    };
    if found != (VALUES, expected) {
        let (kind, length) = found;
        return Err(invalid(format!(
            "expected {expected} bytes of values, found a frame of kind {kind} and length {length}"
        )));
    }
    let mut buffer = vec![0_u8; 4 * CHUNK];
    for chunk in values.iter_mut().flat_map(|values| values.chunks_mut(CHUNK)) {
        let bytes = &mut buffer[..4 * chunk.len()];
        reader.read_exact(bytes)?;
        for (value, bytes) in chunk.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = combine(*value, f32::from_le_bytes(*bytes));
        }
    }
    Ok(())
}

/// `sha256:<hex>` of values as they are sent.
pub(super) fn checksum(values: &[Vec<f32>]) -> Result<String> {
    let mut hash = Sha256::new();
    write_values(&mut hash, values)?;
    Ok(format!("sha256:{:x}", hash.finalize()))
}

/// What came is known but not expected now.
pub(super) fn out_of_turn(message: &Message) -> Error {
    invalid(format!("it says {message:?} out of turn"))
}

fn length(values: &[Vec<f32>]) -> u64 {
    4 * values.iter().map(Vec::len).sum::<usize>() as u64
}

fn header(kind: u8, length: u64) -> [u8; 9] {
    let mut header = [kind; 9];
    header[1..].copy_from_slice(&length.to_le_bytes());
    header
}

fn read_header(reader: &mut impl Read) -> Result<(u8, u64)> {
    let mut header = [0; 9];
    reader.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    Ok((kind, u64::from_le_bytes(length)))
}

fn write_json(writer: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let payload = serde_json::to_vec(value)?;
    let frame = [&header(MESSAGE, payload.len() as u64)[..], &payload].concat();
    writer.write_all(&frame)
}

fn read_json<T: DeserializeOwned>(reader: &mut impl Read, length: u64) -> Result<T> {
    if length > MESSAGE_LIMIT {
        return Err(invalid(format!(
            "a message of {length} bytes is longer than the {MESSAGE_LIMIT} that are allowed"
        )));
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload)?;
    serde_json::from_slice(&payload).map_err(|error| invalid(format!("a message cannot be read: {error}")))
}

fn invalid(problem: String) -> Error {
    Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives a few bytes at a time, as a network may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let some = buffer.len().min(self.1);
            self.0.read(&mut buffer[..some])
        }
    }

    fn hello() -> Hello {
        Hello { version: VERSION, processes: 4, index: 3, settings: "{\"seed\":1}".to_owned() }
    }

    fn messages() -> Vec<Message> {
        vec![
            Message::Refused { reason: "ö\"".to_owned() },
            Message::State { step: u64::MAX },
            Message::Refreshed { columns: vec![("states".to_owned(), 7), ("tokens".to_owned(), 0)] },
            Message::Step,
            Message::Ready { interrupted: true },
            Message::Sum { terms: [f64::NAN.to_bits(), 0.1_f64.to_bits()] },
            Message::Verify,
            Message::Checksum { checksum: "sha256:0".to_owned() },
            Message::Finished,
            Message::Goodbye,
            Message::Interrupted,
            Message::Stopped { reason: String::new() },
            Message::Failed { reason: "a".to_owned() },
        ]
    }

    fn bits(values: &[Vec<f32>]) -> Vec<Vec<u32>> {
        values.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
    }

    fn some_values() -> impl Strategy<Value = Vec<Vec<f32>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..40), 0..6)
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let mut sent = Vec::new();
        write_hello(&mut sent, &hello()).unwrap();
        for message in messages() {
            write_alive(&mut sent).unwrap();
            write_message(&mut sent, &message).unwrap();
        }
        let mut reader = Dribble(&sent, 3);
        assert_eq!(read_hello(&mut reader).unwrap(), hello());
        for message in messages() {
            assert_eq!(read_message(&mut reader).unwrap(), message);
        }
        assert_eq!(read_message(&mut reader).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn values_arrive_bit_for_bit(values in some_values(), at_a_time in 1_usize..20) {
            let mut sent = Vec::new();
            write_alive(&mut sent).unwrap();
            write_values(&mut sent, &values).unwrap();
            let mut found: Vec<Vec<f32>> = values.iter().map(|values| vec![1.0; values.len()]).collect();
            read_values(&mut Dribble(&sent, at_a_time), &mut found, |_, new| new).unwrap();
            prop_assert_eq!(bits(&found), bits(&values));
        }

        #[test]
        fn what_is_cut_short_is_an_error(values in some_values(), cut in 0.0..1.0) {
            let mut sent = Vec::new();
            write_values(&mut sent, &values).unwrap();
            let kept = (sent.len() as f64 * cut) as usize;
            let mut found = values.clone();
            prop_assert!(read_values(&mut &sent[..kept], &mut found, |_, new| new).is_err());
        }

        #[test]
        fn garbage_is_an_error(mut garbage in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(read_hello(&mut garbage.as_slice()).is_err());
            prop_assert!(read_values(&mut garbage.as_slice(), &mut [vec![0.0; 30]], |_, new| new).is_err());
            if let Some(kind) = garbage.first_mut() {
                *kind |= 2;
            }
            prop_assert!(read_next(&mut garbage.as_slice()).is_err());
        }
    }

    #[test]
    fn lengths_are_refused_before_anything_is_read() {
        for (kind, length, problem) in
            [(MESSAGE, MESSAGE_LIMIT + 1, "longer than"), (MESSAGE, u64::MAX, "longer than"), (ALIVE, 1, "no message")]
        {
            let said = read_next(&mut header(kind, length).as_slice()).unwrap_err().to_string();
            assert!(said.contains(problem), "{said}");
        }
        for length in [4, 12, u64::MAX] {
            let said = read_values(&mut header(VALUES, length).as_slice(), &mut [vec![0.0; 2]], |_, new| new);
            assert!(said.unwrap_err().to_string().contains("expected 8 bytes of values"), "{length}");
        }
    }

    #[test]
    fn a_checksum_sees_every_bit() {
        let values = vec![vec![0.0, 1.0], vec![2.0]];
        let negative = vec![vec![-0.0, 1.0], vec![2.0]];
        assert_eq!(checksum(&values).unwrap(), checksum(&values.clone()).unwrap());
        assert_ne!(checksum(&values).unwrap(), checksum(&negative).unwrap());
    }
}
