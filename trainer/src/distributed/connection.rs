//! A connection between two processes of a run. A thread sends signs of life while the process computes, so that silence means that
//! the other one is lost, however long a step takes.

use std::io::{Error, ErrorKind, Result};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::protocol::{self, Message};
use crate::parallel::Sums;

/// Between two signs of life.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// Without a byte for so long, the other one is lost; a network may lose a few signs of life and come back.
const SILENCE: Duration = Duration::from_secs(45);

/// After the hello.
#[derive(Debug)]
pub(super) struct Connection {
    reader: TcpStream,
    writer: Arc<Mutex<TcpStream>>,
    /// Dropped with the connection, which ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Connection {
    /// Over a stream on which the hello was said.
    pub(super) fn new(reader: TcpStream) -> Result<Self> {
        reader.set_nodelay(true)?;
        reader.set_read_timeout(Some(SILENCE))?;
        reader.set_write_timeout(Some(SILENCE))?;
        let writer = Arc::new(Mutex::new(reader.try_clone()?));
        let (alive, ended) = mpsc::channel();
        let shared = Arc::clone(&writer);
        std::thread::Builder::new().name("alive".to_owned()).spawn(move || show_life(&shared, &ended))?;
        Ok(Self { reader, writer, _alive: alive })
    }

    /// Sends a message.
    pub(super) fn send(&self, message: &Message) -> Result<()> {
        self.write(|writer| protocol::write_message(writer, message))
    }

    /// Sends values of every variable. The other one must be about to read them, or it counts as lost after a while.
    pub(super) fn send_values(&self, values: &[Vec<f32>]) -> Result<()> {
        self.write(|writer| protocol::write_values(writer, values))
    }

    /// Sends gradients and terms; see [`Self::send_values`].
    pub(super) fn send_sum(&self, sum: &Sums) -> Result<()> {
        self.send(&Message::Sum { terms: sum.terms.map(f64::to_bits) })?;
        self.send_values(&sum.gradients)
    }

    /// Waits for a message.
    pub(super) fn receive(&mut self) -> Result<Message> {
        protocol::read_message(&mut self.reader).map_err(explained)
    }

    /// Waits for a message, or for a sign of life, which gives none.
    pub(super) fn receive_next(&mut self) -> Result<Option<Message>> {
        protocol::read_next(&mut self.reader).map_err(explained)
    }

    /// Waits for values and combines each that is there, given first, with the one that came for it.
    pub(super) fn receive_values(&mut self, values: &mut [Vec<f32>], combine: impl Fn(f32, f32) -> f32) -> Result<()> {
        protocol::read_values(&mut self.reader, values, combine).map_err(explained)
    }

    fn write(&self, write: impl FnOnce(&mut TcpStream) -> Result<()>) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut writer).map_err(explained)
    }
}

fn show_life(writer: &Mutex<TcpStream>, ended: &Receiver<()>) {
    while ended.recv_timeout(ALIVE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if protocol::write_alive(&mut *writer).is_err() {
            // half a frame may be out: nothing may follow it
            let _ = writer.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// What the system says about lost peers, in words.
pub(super) fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new(ErrorKind::TimedOut, "it was silent for too long"),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Error::new(error.kind(), "it has closed the connection"),
        _ => error,
    }
}
