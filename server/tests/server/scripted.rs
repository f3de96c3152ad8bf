//! A backend whose answers follow from the prompt, so that tests decide what happens and when. One token is one byte.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cllm_server::backend::{
    Backend, ChatMessage, Description, Finish, FinishReason, Forwards, KvMemory, LoadedModel, Sampling, Step, Text,
};

/// Tokens of a decode forward.
pub(crate) const PER_FORWARD: usize = 3;
pub(crate) const CONTEXT: usize = 100_000;
/// Tokens per second that it says were measured.
pub(crate) const CAPACITY: f64 = 1e9;

/// Answers with the prompt itself, except for the prompts below.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    released: Arc<AtomicBool>,
}

/// Goes on with one `x` a forward until [`Scripted::release`].
pub(crate) const HOLD: &str = "hold";
/// The engine panics in the second forward.
pub(crate) const PANIC: &str = "panic";
/// The engine fails in the second forward.
pub(crate) const FAIL: &str = "fail";
/// The engine panics at the start.
pub(crate) const PANIC_AT_START: &str = "panic at start";
/// The engine refuses the prompt.
pub(crate) const FAIL_AT_START: &str = "fail at start";

impl Scripted {
    /// Ends all generations with [`HOLD`].
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    pub(crate) fn model(&self) -> LoadedModel<Self> {
        let description = Description {
            digest: format!("sha256:{}", "0".repeat(64)),
            parameters: 12,
            context_length: CONTEXT,
            strategy: "Jacobi".to_owned(),
            block_size: 4,
            instruction_set: "scripted".to_owned(),
            hardware: "none".to_owned(),
            speedup: None,
            gate: None,
        };
        LoadedModel { backend: self.clone(), text: Arc::new(Bytes), description, capacity: Some(CAPACITY) }
    }
}

pub(crate) struct Script {
    answer: Vec<u8>,
    given: usize,
    pending: Vec<u8>,
    max_tokens: usize,
    forwards: Forwards,
}

impl Script {
    fn is(&self, prompt: &str) -> bool {
        self.answer == prompt.as_bytes()
    }

    /// The text of a token, once its character is complete.
    fn piece(&mut self, byte: u8) -> String {
        self.pending.push(byte);
        match String::from_utf8(self.pending.clone()) {
            Ok(text) => {
                self.pending.clear();
                text
            }
            Err(_) => String::new(),
        }
    }

    fn take(&mut self, count: usize) -> Step {
        let end = (self.given + count).min(self.answer.len()).min(self.max_tokens);
        let bytes = self.answer[self.given..end].to_vec();
        self.given = end;
        let pieces = bytes.into_iter().map(|byte| self.piece(byte)).collect();
        let reason = match () {
            () if end == self.answer.len() => Some(FinishReason::Stop),
            () if end == self.max_tokens => Some(FinishReason::Length),
            () => None,
        };
        let tail = String::from_utf8_lossy(&self.pending).into_owned();
        Step { pieces, finish: reason.map(|reason| Finish { reason, tail }) }
    }
}

impl Scripted {
    fn step_one(&self, script: &mut Script) -> Step {
        if script.given == 0 {
            return script.take(1);
        }
        script.forwards.decode += 1;
        script.forwards.drafted += PER_FORWARD as u64;
        if !script.is(HOLD) {
            return script.take(PER_FORWARD);
        }
        let released = self.released.load(Ordering::Relaxed);
        let finish = released.then(|| Finish { reason: FinishReason::Stop, tail: String::new() });
        Step { pieces: vec!["x".to_owned()], finish }
    }
}

impl Backend for Scripted {
    type Generation = Script;

    fn start(&mut self, prompt: &[u32], max_tokens: usize, _: &Sampling) -> Result<Script, String> {
        let answer: Vec<u8> = prompt.iter().map(|&token| token as u8).collect();
        let script = Script { answer, given: 0, pending: Vec::new(), max_tokens, forwards: Forwards::default() };
        assert!(!script.is(PANIC_AT_START), "as scripted");
        if script.is(FAIL_AT_START) { Err("as scripted".to_owned()) } else { Ok(script) }
    }

    fn step(&mut self, scripts: &mut [&mut Script]) -> Result<Vec<Step>, String> {
        let begun = || scripts.iter().filter(|script| script.given > 0);
        assert!(!begun().any(|script| script.is(PANIC)), "as scripted");
        if begun().any(|script| script.is(FAIL)) {
            return Err("as scripted".to_owned());
        }
        if begun().any(|script| script.is(HOLD)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(scripts.iter_mut().map(|script| self.step_one(script)).collect())
    }

    fn end(&mut self, _: &Script) {}

    fn memory(&self) -> KvMemory {
        KvMemory::default()
    }

    fn forwards(&self, script: &Script) -> Forwards {
        script.forwards
    }
}

struct Bytes;

impl Text for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, String> {
        self.encode(&messages.last().ok_or("no message")?.content)
    }

    fn vocabulary_size(&self) -> usize {
        256
    }
}
