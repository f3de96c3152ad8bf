//! A process of a run beside process 0: it does what it is told, and sees its end as its own.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::arguments::{Meeting, Place};
use super::connection::Connection;
use super::protocol::{self, Hello, Message, VERSION};
use super::{Group, Member, lost};
use crate::failure::{Failure, Result};
use crate::optimizer::{OptimizerState, Values};
use crate::parallel::{PartSums, Share, Sums, Terms, add_terms};
use crate::progress::Reporter;
use crate::run_output;
use crate::trajectories::NamedColumns;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What process 0 wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// That the next steps learn from this.
    TakeRefreshed(NamedColumns),
    /// The gradients of the next step.
    Step,
    /// The checksum of the weights.
    Verify,
    /// Nothing: the output is complete.
    Finish,
}

/// A process that follows process 0.
#[derive(Debug)]
pub(crate) struct Worker {
    connection: Connection,
    index: u32,
    processes: u32,
    /// Where the run goes on.
    step: u64,
    interrupted: Arc<AtomicBool>,
}

/// Tries to reach process 0 until it answers, and waits until all others are there.
pub(super) fn join(
    place: &Place,
    meeting: &Meeting,
    settings: &Value,
    output: &Path,
    reporter: &Reporter,
) -> Result<Group> {
    let (index, processes) = (place.index, place.processes);
    let hello = Hello { version: VERSION, processes, index, settings: settings.to_string() };
    let (deadline, mut pause) = (Instant::now() + meeting.patience, FIRST_PAUSE);
    loop {
        reporter.check_interruption()?;
        let problem = match greet(meeting, &hello, reporter) {
            Ok(Some((connection, answer))) => return welcome(place, connection, answer, reporter),
            Ok(None) => return Err(Failure::Interrupted),
            Err(problem) => problem,
        };
        if Instant::now() >= deadline {
            return not_reached(meeting, settings, output, &problem, reporter);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Gives the first answer after the hello; none where this process is told to stop before it comes.
fn greet(meeting: &Meeting, hello: &Hello, reporter: &Reporter) -> std::io::Result<Option<(Connection, Message)>> {
    let mut stream = connect(meeting)?;
    stream.set_write_timeout(Some(CONNECT_WITHIN))?;
    protocol::write_hello(&mut stream, hello)?;
    let mut connection = Connection::new(stream)?;
    while !reporter.is_interrupted() {
        if let Some(message) = connection.receive_next()? {
            return Ok(Some((connection, message)));
        }
    }
    Ok(None)
}

fn connect(meeting: &Meeting) -> std::io::Result<TcpStream> {
    let mut problem = std::io::Error::other("the host has no address");
    for address in (meeting.host.as_str(), meeting.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn welcome(place: &Place, connection: Connection, answer: Message, reporter: &Reporter) -> Result<Group> {
    let (index, processes) = (place.index, place.processes);
    match answer {
        Message::State { step } => {
            reporter.note(&format!("working as process {index} of {processes} after step {step}"));
            let interrupted = reporter.interruption();
            Ok(Group::Worker(Worker { connection, index, processes, step, interrupted }))
        }
        Message::Finished => {
            reporter.note("the output is complete already, says process 0");
            say_goodbye(&connection);
            Ok(Group::Complete)
        }
        Message::Refused { reason } => Err(Failure::BadInput(format!("process 0 refuses this process: {reason}"))),
        other => Err(end(&other)),
    }
}

/// Process 0 is gone for good when the output is complete. This process sees that only where it can see the output.
fn not_reached(
    meeting: &Meeting,
    settings: &Value,
    output: &Path,
    problem: &std::io::Error,
    reporter: &Reporter,
) -> Result<Group> {
    if matches!(run_output::is_done(output, settings), Ok(true)) {
        reporter.note(&format!("{} is complete already", output.display()));
        return Ok(Group::Complete);
    }
    Err(Failure::Apart(format!(
        "process 0 was not reached at {} within {} seconds: {problem}; start it, check --coordinator, or allow more with --join-timeout-seconds",
        meeting.address(),
        meeting.patience.as_secs()
    )))
}

impl Worker {
    /// Takes the state of process 0.
    pub(crate) fn receive_state(&mut self, state: &mut OptimizerState) -> Result<()> {
        state.step = self.step;
        for values in [&mut state.weights, &mut state.first, &mut state.second] {
            self.receive_values(values, |_, new| new)?;
        }
        Ok(())
    }

    /// Waits for what process 0 wants next. Fails where the run ends before it is done.
    pub(crate) fn next_order(&mut self) -> Result<Order> {
        match self.receive()? {
            Message::Refreshed { columns } => self.receive_refreshed(columns).map(Order::TakeRefreshed),
            Message::Step => Ok(Order::Step),
            Message::Verify => Ok(Order::Verify),
            Message::Finished => {
                say_goodbye(&self.connection);
                Ok(Order::Finish)
            }
            other => Err(end(&other)),
        }
    }

    /// Answers [`Order::Verify`].
    pub(crate) fn tell_checksum(&mut self, weights: &Values) -> Result<()> {
        let checksum = protocol::checksum(weights).map_err(Failure::engine)?;
        self.connection.send(&Message::Checksum { checksum }).map_err(|error| lost(0, &error))
    }

    fn receive(&mut self) -> Result<Message> {
        self.connection.receive().map_err(|error| lost(0, &error))
    }

    fn receive_values(&mut self, values: &mut Values, combine: impl Fn(f32, f32) -> f32) -> Result<()> {
        self.connection.receive_values(values, combine).map_err(|error| lost(0, &error))
    }

    fn receive_refreshed(&mut self, columns: Vec<(String, usize)>) -> Result<NamedColumns> {
        let mut bits: Values = columns.iter().map(|(_, length)| vec![0.0; *length]).collect();
        self.receive_values(&mut bits, |_, new| new)?;
        let numbers = bits.into_iter().map(|bits| bits.into_iter().map(f32::to_bits).collect());
        Ok(columns.into_iter().map(|(name, _)| name).zip(numbers).collect())
    }

    fn receive_terms(&mut self) -> Result<Terms> {
        match self.receive()? {
            Message::Sum { terms } => Ok(terms.map(f64::from_bits)),
            other => Err(end(&other)),
        }
    }
}

impl Member for Worker {
    fn share(&self) -> Share {
        Share::of(self.index as usize, self.processes as usize)
    }

    fn exchange(&mut self, mut own: PartSums) -> Result<Sums> {
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        self.connection.send(&Message::Ready { interrupted }).map_err(|error| lost(0, &error))?;
        let before = self.receive_terms()?;
        own.first.terms = add_terms(before, own.first.terms);
        self.receive_values(&mut own.first.gradients, |own, before| before + own)?;
        let mut sum = own.total();
        self.connection.send_sum(&sum).map_err(|error| lost(0, &error))?;
        // the last one has made the total
        if self.index + 1 < self.processes {
            sum.terms = self.receive_terms()?;
            self.receive_values(&mut sum.gradients, |_, total| total)?;
        }
        Ok(sum)
    }
}

/// Process 0 looks for those that did not hear its last words, so it need not have heard this.
fn say_goodbye(connection: &Connection) {
    let _ = connection.send(&Message::Goodbye);
}

/// Why process 0 ends the run.
fn end(message: &Message) -> Failure {
    match message {
        Message::Interrupted => Failure::Interrupted,
        Message::Stopped { reason } => Failure::Lost(format!("process 0 has stopped: {reason}")),
        Message::Failed { reason } => Failure::BadInput(format!("process 0 has ended the run: {reason}")),
        other => lost(0, &protocol::out_of_turn(other)),
    }
}
