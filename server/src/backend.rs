//! The narrow door between the server and whatever generates tokens. The engine is one side (`engine.rs`), scripted
//! generations of tests are the other. Synchronous: nothing here awaits.

use std::sync::Arc;

use cllm_crds::status_page::{GateVerdict, MeasuredSpeedup};

/// How tokens are drawn.
pub use cllm_engine::Sampling;

/// One message of a conversation: a role (`system`, `user` or `assistant`) and its text.
pub use cllm_engine::Message as ChatMessage;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The end of sequence or a stop string.
    Stop,
    /// The tokens that were asked for, or the end of the context.
    Length,
}

impl FinishReason {
    /// The `finish_reason` of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What one forward gave one generation. Empty where its prompt is still being computed, or where it waits for memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The text of each new token, in order. A token may have no text yet: characters are never split.
    pub pieces: Vec<String>,
    /// Set with the last token.
    pub finish: Option<Finish>,
}

/// The end of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Text that was held back because its last character was incomplete.
    pub tail: String,
}

/// Counts of one generation, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// Forwards after the prefill.
    pub decode: u64,
    /// Guessed tokens that these forwards checked.
    pub drafted: u64,
}

impl Forwards {
    /// What came after an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { decode: self.decode - earlier.decode, drafted: self.drafted - earlier.drafted }
    }
}

/// Text to tokens. Errors are sentences without their full stop.
pub trait Text: Send + Sync + 'static {
    /// The tokens of a text, as a prompt.
    fn encode(&self, text: &str) -> Result<Vec<u32>, String>;
    /// The tokens of a conversation, up to where the answer begins.
    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, String>;
    /// Token ids are below this.
    fn vocabulary_size(&self) -> usize;
}

/// The memory for keys and values, and what became of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvMemory {
    /// Share that generations need now, of 1.
    pub usage: f64,
    /// Tokens of prompts that began, and of generations that came back.
    pub asked_tokens: u64,
    /// Those of them that were not computed again.
    pub remembered_tokens: u64,
    /// Generations that had to give their memory to older ones for a while.
    pub preemptions: u64,
}

/// Generates tokens, one forward after the other. Errors are sentences without their full stop.
pub trait Backend: Send + 'static {
    /// The state of one generation.
    type Generation;
    /// Takes a prompt that is not empty and fits the context together with `max_tokens` ≥ 1 tokens, drawn as `sampling` says. An error
    /// concerns this generation only.
    fn start(&mut self, prompt: &[u32], max_tokens: usize, sampling: &Sampling) -> Result<Self::Generation, String>;
    /// One forward for all of them, oldest first: a step for each, in their order. The oldest always gets on. After an error, or a
    /// panic, any of them can be tried again.
    fn step(&mut self, generations: &mut [&mut Self::Generation]) -> Result<Vec<Step>, String>;
    /// A generation ended, or was given up.
    fn end(&mut self, generation: &Self::Generation);
    /// Forwards so far.
    fn forwards(&self, generation: &Self::Generation) -> Forwards;
    /// The memory now.
    fn memory(&self) -> KvMemory;
}

/// What the server says about the model it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Number of weights.
    pub parameters: u64,
    /// Tokens of prompt and answer together.
    pub context_length: usize,
    /// `Jacobi` or `Autoregressive`.
    pub strategy: String,
    /// Most rows of a forward.
    pub block_size: u32,
    /// The kernels in use: tokens are reproducible within one build and instruction set.
    pub instruction_set: String,
    /// Processor, threads and instruction set.
    pub hardware: String,
    /// What it measured of itself.
    pub speedup: Option<MeasuredSpeedup>,
    /// What its gate said to that.
    pub gate: Option<GateVerdict>,
}

/// Why there is no model. Sentences without their full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The checkpoint is gone, damaged or another one: it will be so next time.
    Checkpoint(String),
    /// The prompts to measure with cannot be used: somebody may correct them.
    Prompts(String),
}

impl From<String> for LoadError {
    fn from(sentence: String) -> Self {
        Self::Checkpoint(sentence)
    }
}

/// A model in memory.
pub struct LoadedModel<B> {
    /// Generates.
    pub backend: B,
    /// Encodes.
    pub text: Arc<dyn Text>,
    /// Describes.
    pub description: Description,
    /// Generated tokens per second with all slots in use, as it was measured; absent where that was not possible.
    pub capacity: Option<f64>,
}
