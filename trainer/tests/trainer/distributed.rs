//! Runs over several processes on loopback: the result of one, whatever happens to them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::resume::wait_for_steps;
use crate::support::{Workshop, digest, fail, succeed};

const STEPS: u32 = 60;

/// Makes a command that of a process of a run at this port.
pub(crate) fn member(mut command: Command, port: u16, processes: usize, index: usize) -> Command {
    command.args([format!("--processes={processes}"), format!("--coordinator=127.0.0.1:{port}")]);
    command.arg("--threads=1").env("JOB_COMPLETION_INDEX", index.to_string());
    command
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a process whose log is read at its end.
pub(crate) fn start(mut command: Command) -> Child {
    command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// Starts all processes of a run.
pub(crate) fn start_all(command: impl Fn() -> Command, port: u16, processes: usize) -> Vec<Child> {
    (0..processes).map(|index| start(member(command(), port, processes, index))).collect()
}

/// Waits for processes; all must end with this exit code. Gives what each said.
pub(crate) fn end_all(children: Vec<Child>, code: i32) -> Vec<String> {
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let said: Vec<_> = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
    assert!(outputs.iter().all(|output| output.status.code() == Some(code)), "not all ended with {code}: {said:#?}");
    said
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn any_number_of_processes_gives_the_same_losses_and_weights() {
    let workshop = Workshop::new();
    workshop.init();
    // the second has more micro-batches than a batch has parts
    for (name, batch_size, steps, counts) in [("long", 8, 200, [2, 4]), ("wide", 256, 3, [2, 3])] {
        let command = |output: &str| {
            let mut command = workshop.adapt_command(output, &format!("{output}-state"), steps);
            command.arg(format!("--batch-size={batch_size}"));
            command
        };
        succeed(&mut command(name));
        let history = |output: &str| fs::read_to_string(workshop.path(output).join("history.json")).unwrap();
        for processes in counts {
            let output = format!("{name}-{processes}");
            end_all(start_all(|| command(&output), free_port(), processes), 0);
            assert_eq!(history(&output), history(name), "{output}");
            assert_eq!(digest(&workshop.path(&output)), digest(&workshop.path(name)), "{output}");
        }
    }
}

#[test]
fn a_run_that_loses_a_process_or_is_told_to_stop_goes_on_to_the_same_weights() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut workshop.train_command("whole", "whole-state", STEPS));
    let port = free_port();
    for (name, sent, part) in [("lost", Signal::SIGKILL, "is lost"), ("stopped", Signal::SIGTERM, "interrupted")] {
        let state = format!("{name}-state");
        let command = || workshop.train_command(name, &state, STEPS);
        let mut children = start_all(command, port, 3);
        wait_for_steps(&mut children[0], &workshop.path(&state));
        signal(&children[1], sent);
        let sent_to = children.remove(1).wait_with_output().unwrap();
        assert_eq!(sent_to.status.code(), (sent == Signal::SIGTERM).then_some(75), "{name}");
        for said in end_all(children, 75) {
            assert!(said.contains(part), "{said}");
        }
        assert!(!workshop.path(name).exists());
        let said = end_all(start_all(command, port, 3), 0);
        assert!(said[0].contains("continuing after step"), "{}", said[0]);
        assert_eq!(digest(&workshop.path(name)), digest(&workshop.path("whole")), "{name}");
    }
}

#[test]
fn a_run_without_process_0_ends_and_goes_on_with_any_number() {
    let workshop = Workshop::new();
    workshop.init();
    succeed(&mut workshop.adapt_command("whole", "whole-state", STEPS));
    let command = || {
        let mut command = workshop.adapt_command("target", "state", STEPS);
        command.arg("--checkpoint-every-steps=1");
        command
    };
    let mut children = start_all(command, free_port(), 2);
    wait_for_steps(&mut children[0], &workshop.path("state"));
    signal(&children[0], Signal::SIGKILL);
    children.remove(0).wait().unwrap();
    let said = end_all(children, 75);
    assert!(said[0].contains("process 0 is lost"), "{}", said[0]);
    let said = succeed(&mut command());
    assert!(said.contains("continuing after step"), "{said}");
    assert_eq!(digest(&workshop.path("target")), digest(&workshop.path("whole")));
}

#[test]
fn a_run_that_does_not_learn_any_more_ends_for_all_its_processes() {
    let workshop = Workshop::new();
    workshop.init();
    let command = || {
        let mut command = workshop.adapt_command("target", "state", 40);
        command.arg("--learning-rate=1e30");
        command
    };
    let said = end_all(start_all(command, free_port(), 2), 2);
    assert!(said[1].contains("process 0 has ended the run") && said[1].contains("not a finite number"), "{}", said[1]);
}

#[test]
fn others_need_neither_state_nor_output_and_hear_when_all_is_done() {
    let workshop = Workshop::new();
    workshop.init();
    let port = free_port();
    let run = || {
        let leader = member(workshop.adapt_command("target", "state", 4), port, 2, 0);
        let worker = member(workshop.adapt_command("nowhere", "nowhere-state", 4), port, 2, 1);
        end_all(vec![start(leader), start(worker)], 0)
    };
    run();
    let whole = digest(&workshop.path("target"));
    let said = run();
    assert!(said.iter().all(|said| said.contains("is complete already")), "{said:#?}");
    assert_eq!(digest(&workshop.path("target")), whole);
    assert!(!workshop.path("nowhere").exists() && !workshop.path("nowhere-state").exists());
}

#[test]
fn strangers_are_dropped_and_other_settings_refused() {
    let workshop = Workshop::new();
    workshop.init();
    let port = free_port();
    let process = |index| member(workshop.adapt_command("target", "state", 4), port, 2, index);
    let leader = start(process(0));
    let too_long = [b"cllm-run\x01".as_slice(), &[0xff; 8]].concat();
    for said in [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(), &[0; 4096], b"", &too_long] {
        let mut stranger = connect(port);
        stranger.write_all(said).unwrap();
        let _ = stranger.shutdown(std::net::Shutdown::Write);
        // the end, or a reset because not all was read
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer);
        assert!(answer.is_empty(), "a stranger is told nothing: {answer:?}");
    }
    let other = fail(process(1).arg("--learning-rate=5e-3"), 2);
    assert!(other.contains("different: `learning_rate`"), "{other}");
    let other = fail(process(1).arg("--processes=3"), 2);
    assert!(other.contains("--processes=3 and process 0 with --processes=2"), "{other}");
    let said = end_all(vec![leader, start(process(1))], 0);
    assert_eq!(said[0].matches("dropping the connection").count(), 6, "{}", said[0]);
    succeed(&mut workshop.adapt_command("alone", "alone-state", 4));
    assert_eq!(digest(&workshop.path("target")), digest(&workshop.path("alone")));
}

fn connect(port: u16) -> TcpStream {
    let mut tries = 0;
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            return stream;
        }
        tries += 1;
        assert!(tries < 1200, "process 0 never listened");
        std::thread::sleep(Duration::from_millis(25));
    }
}

#[test]
fn who_is_not_found_is_named() {
    let workshop = Workshop::new();
    workshop.init();
    let port = free_port();
    for (index, part) in [(0, "process 1, 2 of 3 did not come within 1 seconds"), (2, "process 0 was not reached")] {
        let mut command = member(workshop.adapt_command("target", "state", 4), port, 3, index);
        let said = fail(command.arg("--join-timeout-seconds=1"), 1);
        assert!(said.contains(part), "{said}");
    }
    let said = fail(workshop.adapt_command("target", "state", 4).arg("--processes=2"), 2);
    assert!(said.contains("--process-index (or JOB_COMPLETION_INDEX)"), "{said}");
    let said = fail(workshop.adapt_command("target", "state", 4).args(["--processes=2", "--process-index=1"]), 2);
    assert!(said.contains("need --coordinator=HOST:PORT"), "{said}");
    assert!(!workshop.path("target").exists());
}
