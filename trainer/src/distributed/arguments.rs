//! Which process of a run this is, and where the processes meet.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::storage::FolderLock;

/// For a run over several processes. All get the same command but for the index.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessArguments {
    /// Processes that share the work of the run; the result is the same on any number of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub processes: u32,
    /// Which of them this is, from 0; of no meaning where there is one.
    #[arg(long, env = "JOB_COMPLETION_INDEX")]
    pub process_index: Option<u32>,
    /// Where process 0 listens and the others find it. Other machines reach it unless the host is a loopback address.
    #[arg(long, value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// Longest time in which the processes must have found each other.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub join_timeout_seconds: u64,
}

/// Which process of a run this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 0.
    pub(super) index: u32,
    /// In all.
    pub(super) processes: u32,
    /// Where they meet; none where there is one.
    pub(super) meeting: Option<Meeting>,
}

/// Where and how long the processes of a run look for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meeting {
    /// A name or an address.
    pub host: String,
    /// Not 0.
    pub port: u16,
    /// Longest time.
    pub patience: Duration,
}

impl ProcessArguments {
    /// Fails where they contradict each other.
    pub(crate) fn place(&self) -> Result<Place> {
        let processes = self.processes;
        if processes == 1 {
            return Ok(Place { index: 0, processes, meeting: None });
        }
        let index = self.process_index.filter(|index| *index < processes).ok_or_else(|| {
            Failure::BadInput(format!(
                "--process-index (or JOB_COMPLETION_INDEX) must say which of the {processes} processes this is, from 0 to {}{}",
                processes - 1,
                self.process_index.map_or_else(String::new, |index| format!("; found {index}"))
            ))
        })?;
        let address = self.coordinator.as_deref().unwrap_or_default();
        let (host, port) = host_and_port(address).ok_or_else(|| {
            Failure::BadInput(format!(
                "{processes} processes need --coordinator=HOST:PORT, where process 0 listens; found {address:?}"
            ))
        })?;
        let patience = Duration::from_secs(self.join_timeout_seconds);
        Ok(Place { index, processes, meeting: Some(Meeting { host, port, patience }) })
    }
}

impl Place {
    /// Whether this process keeps the state, measures, reports and writes the output.
    pub(crate) fn leads(&self) -> bool {
        self.index == 0
    }

    /// The lock of the folder of the state, which only process 0 writes.
    pub(crate) fn lock(&self, folder: &Path) -> Result<Option<FolderLock>> {
        self.leads().then(|| FolderLock::take(folder)).transpose()
    }
}

impl Meeting {
    /// Whether only processes of this machine meet there.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// As it was given.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::PARTS;

    fn arguments(processes: u32, process_index: Option<u32>, coordinator: Option<&str>) -> ProcessArguments {
        let coordinator = coordinator.map(str::to_owned);
        ProcessArguments { processes, process_index, coordinator, join_timeout_seconds: 7 }
    }

    #[test]
    fn a_place_is_found_or_what_is_missing_named() {
        for (processes, index, coordinator, expected) in [
            (1, None, None, Ok(None)),
            (1, Some(5), None, Ok(None)),
            (2, Some(1), Some("train-0.train:7000"), Ok(Some(("train-0.train", 7000)))),
            (2, Some(0), Some("[::1]:7000"), Ok(Some(("::1", 7000)))),
            (2, None, Some("a:1"), Err("from 0 to 1")),
            (2, Some(2), Some("a:1"), Err("found 2")),
            (2, Some(0), None, Err("need --coordinator")),
            (2, Some(0), Some("a"), Err("found \"a\"")),
            (2, Some(0), Some("a:0"), Err("found \"a:0\"")),
            (2, Some(0), Some(":70"), Err("found \":70\"")),
            (2, Some(0), Some("a:70000"), Err("found \"a:70000\"")),
        ] {
            let found = arguments(processes, index, coordinator).place();
            match (found, expected) {
                (Ok(place), Ok(meeting)) => {
                    let found = place.meeting.as_ref().map(|meeting| (meeting.host.as_str(), meeting.port));
                    assert_eq!(found, meeting);
                    assert_eq!(place.leads(), place.index == 0);
                }
                (Err(failure), Err(part)) => assert!(failure.to_string().contains(part), "{failure}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn only_loopback_hosts_stay_on_this_machine() {
        for (host, expected) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("10.0.0.1", false), ("a", false)]
        {
            let meeting = Meeting { host: host.to_owned(), port: 1, patience: Duration::ZERO };
            assert_eq!(meeting.is_loopback(), expected, "{host}");
        }
    }

    #[test]
    fn there_are_as_many_processes_as_parts_at_most() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            processes: ProcessArguments,
        }
        let parse =
            |count: usize| <Line as clap::Parser>::try_parse_from(["line".to_owned(), format!("--processes={count}")]);
        assert_eq!(parse(PARTS).ok().map(|line| line.processes.processes as usize), Some(PARTS));
        assert!(parse(PARTS + 1).is_err() && parse(0).is_err());
    }
}
