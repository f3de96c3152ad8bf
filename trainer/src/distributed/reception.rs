//! How process 0 hears who the others are: it refuses what does not fit, and drops strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::arguments::{Meeting, Place};
use super::connection::{Connection, explained};
use super::coordinator::Coordinator;
use super::protocol::{self, Hello, Message, VERSION};
use crate::failure::{Failure, Result};
use crate::progress::Reporter;
use crate::run_state::differences;

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Whoever connects says hello at once.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// Connections to the processes 1, 2, … of the run.
pub(super) fn gather(
    place: &Place,
    meeting: &Meeting,
    settings: &Value,
    reporter: &Reporter,
) -> Result<Vec<Connection>> {
    let reception = Reception::open(place, meeting, settings)?;
    let all: BTreeSet<u32> = (1..place.processes).collect();
    reporter.note(&format!("waiting at {} for process {}", meeting.address(), list(&all)));
    let mut present = BTreeMap::new();
    match reception.wait_for(&all, &mut present, reporter) {
        Ok(()) => {
            reporter.note(&format!("all {} processes are here", place.processes));
            Ok(present.into_values().collect())
        }
        Err(failure) => {
            Coordinator::new(present.into_values().collect()).stop(&failure);
            Err(failure)
        }
    }
}

/// Tells the missing processes that the output is complete. It is no failure if they do not come.
pub(super) fn dismiss(place: &Place, settings: &Value, mut missing: BTreeSet<u32>, reporter: &Reporter) -> Result<()> {
    let Some(meeting) = place.meeting.as_ref().filter(|_| !missing.is_empty()) else { return Ok(()) };
    let reception = Reception::open(place, meeting, settings)?;
    reporter.note(&format!("waiting at {} to tell process {} that all is done", meeting.address(), list(&missing)));
    while !missing.is_empty() {
        let Some((index, mut connection)) = reception.next(reporter)? else {
            tracing::warn!("process {} did not come to hear that the output is complete", list(&missing));
            return Ok(());
        };
        if say_finished(&mut connection).is_ok() {
            missing.remove(&index);
        }
    }
    Ok(())
}

/// Tells a process that the output is complete, and waits until it has heard.
pub(super) fn say_finished(connection: &mut Connection) -> std::io::Result<()> {
    connection.send(&Message::Finished)?;
    match connection.receive()? {
        Message::Goodbye => Ok(()),
        other => Err(protocol::out_of_turn(&other)),
    }
}

struct Reception {
    listener: TcpListener,
    deadline: Instant,
    patience: Duration,
    processes: u32,
    settings: String,
}

impl Reception {
    fn open(place: &Place, meeting: &Meeting, settings: &Value) -> Result<Self> {
        let listener = listen(meeting).map_err(|error| {
            Failure::Apart(format!(
                "cannot listen at {}: {error}; choose another port in --coordinator for all processes, or end what uses this one",
                meeting.address()
            ))
        })?;
        let patience = meeting.patience;
        let deadline = Instant::now() + patience;
        Ok(Self { listener, deadline, patience, processes: place.processes, settings: settings.to_string() })
    }

    /// A process that comes again replaces itself: it was started anew.
    fn wait_for(
        &self,
        all: &BTreeSet<u32>,
        present: &mut BTreeMap<u32, Connection>,
        reporter: &Reporter,
    ) -> Result<()> {
        while present.len() < all.len() {
            let Some((index, connection)) = self.next(reporter)? else {
                let missing = all.iter().copied().filter(|index| !present.contains_key(index)).collect();
                return Err(Failure::Apart(format!(
                    "process {} of {} did not come within {} seconds; start all processes, or allow more with --join-timeout-seconds",
                    list(&missing),
                    self.processes,
                    self.patience.as_secs()
                )));
            };
            present.insert(index, connection);
        }
        Ok(())
    }

    /// The next process that comes and fits; none after the deadline.
    fn next(&self, reporter: &Reporter) -> Result<Option<(u32, Connection)>> {
        while Instant::now() < self.deadline {
            reporter.check_interruption()?;
            match self.listener.accept() {
                Ok((stream, from)) => {
                    if let Some(found) = self.admit(stream, from) {
                        return Ok(Some(found));
                    }
                }
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        tracing::warn!("a connection was not accepted: {error}");
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
        Ok(None)
    }

    fn admit(&self, stream: TcpStream, from: SocketAddr) -> Option<(u32, Connection)> {
        let admitted = self.hear(&stream).and_then(|index| Ok((index, Connection::new(stream)?)));
        admitted.inspect_err(|problem| tracing::warn!("dropping the connection from {from}: {problem}")).ok()
    }

    fn hear(&self, mut stream: &TcpStream) -> std::io::Result<u32> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HELLO_WITHIN))?;
        stream.set_write_timeout(Some(HELLO_WITHIN))?;
        let hello = protocol::read_hello(&mut stream).map_err(explained)?;
        match objection(self.processes, &self.settings, &hello) {
            None => Ok(hello.index),
            Some(reason) => {
                protocol::write_message(&mut stream, &Message::Refused { reason: reason.clone() })?;
                Err(Error::other(reason))
            }
        }
    }
}

/// All interfaces, because a process of a cluster does not know which of its addresses its name stands for.
fn listen(meeting: &Meeting) -> std::io::Result<TcpListener> {
    let everywhere = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, meeting.port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, meeting.port)),
    ];
    let listener = if meeting.is_loopback() {
        TcpListener::bind((meeting.host.as_str(), meeting.port))?
    } else {
        TcpListener::bind(everywhere.as_slice())?
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Why a process does not belong to a run of so many processes with these settings.
fn objection(processes: u32, settings: &str, hello: &Hello) -> Option<String> {
    let index = hello.index;
    if hello.version != VERSION {
        return Some(format!(
            "process {index} speaks version {} of the protocol and process 0 version {VERSION}; give all the same cllm-trainer",
            hello.version
        ));
    }
    if hello.processes != processes {
        return Some(format!(
            "process {index} was started with --processes={} and process 0 with --processes={processes}; give all the same",
            hello.processes
        ));
    }
    if !(1..processes).contains(&index) {
        return Some(format!(
            "there is no process {index} beside process 0 among {processes}; --process-index is wrong"
        ));
    }
    (hello.settings != settings).then(|| {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        format!(
            "process {index} has other settings than process 0 (different: {}); give all processes the same command",
            differences(&parsed(&hello.settings), &parsed(settings))
        )
    })
}

fn list(indexes: &BTreeSet<u32>) -> String {
    indexes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let settings = r#"{"seed":1,"steps":9}"#;
        let fitting = Hello { version: VERSION, processes: 3, index: 2, settings: settings.to_owned() };
        assert_eq!(objection(3, settings, &fitting), None);
        let other = |settings: &str| Hello { settings: settings.to_owned(), ..fitting.clone() };
        for (hello, part) in [
            (Hello { version: 9, ..fitting.clone() }, "version 9"),
            (Hello { processes: 2, ..fitting.clone() }, "--processes=2 and process 0 with --processes=3"),
            (Hello { index: 0, ..fitting.clone() }, "no process 0"),
            (Hello { index: 3, ..fitting.clone() }, "no process 3"),
            (other(r#"{"seed":2,"steps":9}"#), "different: `seed`"),
            (other(r#"{"seed":1}"#), "different: `steps`"),
            (other(r#"{"seed":1,"steps":9,"more":0}"#), "different: `more`"),
            (other("no JSON"), "different: `seed`, `steps`"),
        ] {
            let said = objection(3, settings, &hello).unwrap_or_default();
            assert!(said.contains(part), "{said}");
        }
    }
}
