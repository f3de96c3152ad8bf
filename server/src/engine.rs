//! The engine behind the door of `backend.rs`: opens the checkpoint, and turns its tokens into text one by one.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeOptions, FinishReason as EngineFinish, Message, Model, Sampling, Strategy,
    StreamDecoder, Tokenizer, Workspace,
    batch::{Batch, BatchOptions, Text as BatchText},
    checkpoint,
    compare::Way,
    decode::adaptive::Pace,
};

use cllm_crds::status_page::MeasuredSpeedup;

use crate::{
    args::{Args, StrategyName},
    backend::{Backend, Description, Finish, FinishReason, Forwards, KvMemory, LoadError, LoadedModel, Step, Text},
    capacity,
    gate::{Ruling, rule},
    kv_memory::kv_memory,
    measure::{Prompts, measure},
};

/// A model with the memory of the one thread that runs it.
pub struct Engine {
    model: Model,
    workspace: Workspace,
    tokenizer: Tokenizer,
    strategy: Strategy,
    batch: Batch,
}

/// One answer of the engine.
pub struct Generation {
    text: BatchText,
    decoder: StreamDecoder,
    /// Tokens that the decoder has seen.
    decoded: usize,
}

/// Loads the checkpoint of the command line, and measures what Jacobi decoding gains on it and what it delivers with all slots in use. The
/// error is for whoever wrote that command line.
pub fn load(args: &Args, folder: &Path) -> Result<LoadedModel<Engine>, LoadError> {
    let opened = Checkpoint::open(folder).map_err(|error| error.to_string())?;
    let asked_context = context_length(args, opened.config().max_position_embeddings)?;
    let digest = checkpoint::digest(folder).map_err(|error| error.to_string())?;
    check_digest(args.digest.as_deref(), &digest)?;
    let threads = args.threads.map_or(0, usize::from);
    let options = ComputeOptions { threads, ..ComputeOptions::on(args.device) };
    let model = Model::load(&opened, options).map_err(|error| error.to_string())?;
    let (pool, context_length) = kv_memory(args, &model, asked_context)?;
    let tokenizer = opened.tokenizer().clone();
    let mut workspace = Workspace::new(&model);
    let asked = strategy(args);
    let mut way = Way { strategy: asked, pace: pace(args, &model, asked) };
    let prompts = prompts(args, &tokenizer)?;
    let speedup = measured(&model, &mut workspace, &mut way, &prompts)?;
    let bar = args.min_speedup.as_deref().filter(|_| is_measured(asked));
    let Ruling { verdict, falls_back } = rule(bar, args.on_missed_gate, speedup.as_ref());
    let Way { strategy, pace } = if falls_back { Strategy::Autoregressive.into() } else { way };
    let hardware = model.hardware();
    let description = Description {
        digest,
        parameters: opened.parameters(),
        context_length,
        strategy: strategy_name(strategy).as_str().to_owned(),
        block_size: rows(strategy) as u32,
        instruction_set: hardware.instruction_set.to_owned(),
        hardware: format!("{}, threads: {}, {}", hardware.processor, hardware.threads, hardware.instruction_set),
        speedup,
        gate: verdict,
    };
    let text = EngineText { tokenizer: tokenizer.clone(), vocabulary_size: opened.config().vocab_size };
    // each prompt is computed, however often it comes
    let batch = Batch::new(pool, BatchOptions { pace, prefix_cache: false });
    let mut backend = Engine { model, workspace, tokenizer, strategy, batch };
    let capacity = measured_capacity(args, &mut backend, &prompts, context_length);
    Ok(LoadedModel { backend: backend.renewed(args.prefix_cache), text: Arc::new(text), description, capacity })
}

/// The checkpoint is the one that was asked for.
fn check_digest(pinned: Option<&str>, found: &str) -> Result<(), String> {
    match pinned {
        Some(pinned) if pinned != found => Err(format!(
            "its digest is {found}, but {pinned} was asked for. Correct the digest (spec.model.digest, --digest), or name the place \
             that holds that checkpoint"
        )),
        _ => Ok(()),
    }
}

/// With one row a forward there is nothing to compare.
fn is_measured(strategy: Strategy) -> bool {
    rows(strategy) > 1
}

/// Times the forwards of an adaptive server.
fn pace(args: &Args, model: &Model, strategy: Strategy) -> Option<Pace> {
    let texts = usize::from(args.max_concurrent_requests);
    (args.adaptive && is_measured(strategy)).then(|| Pace::timed(model, rows(strategy), texts)).flatten()
}

/// What is measured with.
fn prompts(args: &Args, tokenizer: &Tokenizer) -> Result<Prompts, LoadError> {
    match &args.prompts {
        Some(path) => Prompts::read(path, tokenizer).map_err(LoadError::Prompts),
        None => Ok(Prompts::built_in(tokenizer)),
    }
}

fn measured(
    model: &Model,
    workspace: &mut Workspace,
    way: &mut Way,
    prompts: &Prompts,
) -> Result<Option<MeasuredSpeedup>, LoadError> {
    if !is_measured(way.strategy) {
        return Ok(None);
    }
    let measured = measure(model, workspace, way, prompts)?;
    if let Some(figures) = &measured {
        let MeasuredSpeedup { over_own_autoregressive, tokens_per_forward, prompts, prompts_from, .. } = figures;
        tracing::info!(over_own_autoregressive, tokens_per_forward, prompts, prompts_from, "measured the speed-up");
    } else {
        tracing::warn!("no prompt fits the context and has an answer of two tokens: no speed-up is measured");
    }
    Ok(measured)
}

/// That it cannot be measured is no reason not to serve.
fn measured_capacity(args: &Args, backend: &mut Engine, prompts: &Prompts, context_length: usize) -> Option<f64> {
    let slots = usize::from(args.max_concurrent_requests);
    match capacity::measure(backend, prompts.tokens(), slots, context_length) {
        Ok(Some(tokens_per_second)) => {
            tracing::info!(tokens_per_second, slots, "measured the capacity");
            Some(tokens_per_second)
        }
        Ok(None) => {
            tracing::warn!("no prompt fits the context: no capacity is measured");
            None
        }
        Err(problem) => {
            tracing::warn!(problem, "the capacity could not be measured");
            None
        }
    }
}

fn context_length(args: &Args, largest: usize) -> Result<usize, String> {
    match args.context_length {
        Some(asked) if asked as usize > largest => Err(format!(
            "--context-length is {asked}, but the checkpoint has {largest} positions. Ask for at most {largest}, or leave it away"
        )),
        Some(asked) => Ok(asked as usize),
        None => Ok(largest),
    }
}

fn strategy(args: &Args) -> Strategy {
    match args.strategy {
        StrategyName::Autoregressive => Strategy::Autoregressive,
        StrategyName::Jacobi => {
            let block_size = NonZeroUsize::new(args.block_size as usize).unwrap_or(NonZeroUsize::MIN);
            Strategy::Jacobi { block_size, lookup: args.lookup }
        }
    }
}

fn strategy_name(strategy: Strategy) -> StrategyName {
    match strategy {
        Strategy::Autoregressive => StrategyName::Autoregressive,
        Strategy::Jacobi { .. } => StrategyName::Jacobi,
    }
}

/// Of a forward, at most.
fn rows(strategy: Strategy) -> usize {
    match strategy {
        Strategy::Autoregressive => 1,
        Strategy::Jacobi { block_size, .. } => block_size.get(),
    }
}

impl Engine {
    /// With the same memory and what was learned about rows, but nothing remembered and nothing counted.
    fn renewed(self, prefix_cache: bool) -> Self {
        let pool = self.batch.pool().clone();
        let batch = Batch::new(pool, BatchOptions { pace: self.batch.into_pace(), prefix_cache });
        Self { batch, ..self }
    }

    /// The text of the tokens that were found since the last step.
    fn tell(&self, Generation { text, decoder, decoded }: &mut Generation) -> Step {
        let reason = text.finish_reason();
        let found = &text.tokens()[*decoded..];
        *decoded += found.len();
        // the end of sequence has no text, whether or not the tokenizer calls it special
        let spoken = if reason == Some(EngineFinish::Stop) { found.len().saturating_sub(1) } else { found.len() };
        let mut pieces: Vec<String> = found[..spoken].iter().map(|&token| decoder.push(&[token])).collect();
        pieces.resize(found.len(), String::new());
        let finish = reason.map(|reason| Finish {
            reason: match reason {
                EngineFinish::Stop => FinishReason::Stop,
                EngineFinish::Length => FinishReason::Length,
            },
            tail: std::mem::replace(decoder, StreamDecoder::new(&self.tokenizer)).finish(),
        });
        Step { pieces, finish }
    }
}

impl Backend for Engine {
    type Generation = Generation;

    fn start(&mut self, prompt: &[u32], max_tokens: usize, sampling: &Sampling) -> Result<Generation, String> {
        let options = DecodeOptions { strategy: self.strategy, max_new_tokens: max_tokens, stop_at_eos: true };
        let text = self.batch.start(&self.model, prompt, options, sampling.clone());
        let text = text.map_err(|error| error.to_string())?;
        Ok(Generation { text, decoder: StreamDecoder::new(&self.tokenizer), decoded: 0 })
    }

    fn step(&mut self, generations: &mut [&mut Generation]) -> Result<Vec<Step>, String> {
        let mut texts: Vec<&mut BatchText> = generations.iter_mut().map(|generation| &mut generation.text).collect();
        self.batch.step(&self.model, &mut self.workspace, &mut texts).map_err(|error| error.to_string())?;
        Ok(generations.iter_mut().map(|generation| self.tell(generation)).collect())
    }

    fn end(&mut self, generation: &Generation) {
        self.batch.finish(&generation.text);
    }

    fn forwards(&self, generation: &Generation) -> Forwards {
        let statistics = generation.text.statistics();
        Forwards { decode: statistics.decode_forwards as u64, drafted: statistics.drafted_tokens as u64 }
    }

    fn memory(&self) -> KvMemory {
        let (pool, counters) = (self.batch.pool(), self.batch.counters());
        let needed = pool.used_pages().saturating_sub(self.batch.remembered_pages());
        KvMemory {
            usage: needed as f64 / pool.pages() as f64,
            asked_tokens: counters.asked_tokens,
            remembered_tokens: counters.remembered_tokens,
            preemptions: counters.preemptions,
        }
    }
}

/// The tokenizer, beside the engine thread.
struct EngineText {
    tokenizer: Tokenizer,
    vocabulary_size: usize,
}

impl Text for EngineText {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode(text).map_err(|error| error.to_string())
    }

    fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        let prompt = self.tokenizer.chat_prompt(messages).map_err(|error| error.to_string())?;
        self.tokenizer.encode_without_special_tokens(&prompt).map_err(|error| error.to_string())
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }
}
